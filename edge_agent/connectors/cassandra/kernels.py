"""Compiled loops over the bytes of a page. Importing this module loads numba; :mod:`.fast` names its kernels.

Every loop gets its cells from :func:`index_cells`, which checks each length against the end of the page, and reads no
byte outside of a cell. Output arrays have the sizes that :mod:`.fast` computes from the same lengths. Of a bad cell
the plain reader says why it is none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agent.connectors.cassandra.cells import BAD, NULL, VALUE
from paritree.core.fast.compiler import inner, kernel

_PAGE = "Array(uint8, 1, 'C', readonly=True)"
"""A page is a bytes object, which cannot be written; for numba that is a type of its own."""


@inner
def _signed(data: Any, at: Any, size: Any) -> Any:
    """A big-endian two's complement number of 1 to 8 bytes."""
    value = np.int64(np.int8(data[at]))
    for i in range(1, size):
        value = (value << np.int64(8)) | np.int64(data[at + i])
    return value


@kernel(f"int64({_PAGE}, int64, int32[:, ::1], int32[:, ::1])")
def index_cells(data: Any, at: int, starts: Any, lengths: Any) -> int:
    """Offset and length of every cell, as [column, row]; length -1 is null. Returns the end, or -1 past the page."""
    width, rows = starts.shape
    end = data.shape[0]
    if at < 0:
        return -1
    for row in range(rows):
        for column in range(width):
            if end - at < 4:
                return -1
            length: Any = np.int32(
                (np.uint32(data[at]) << np.uint32(24))
                | (np.uint32(data[at + 1]) << np.uint32(16))
                | (np.uint32(data[at + 2]) << np.uint32(8))
                | np.uint32(data[at + 3])
            )
            at += 4
            starts[column, row] = at
            if length < 0:
                lengths[column, row] = -1
                continue
            if end - at < length:
                return -1
            lengths[column, row] = length
            at += length
    return at


@kernel(f"int64({_PAGE}, int32[::1], int32[::1], int64, boolean, uint8[::1], uint8[::1])")
def fixed(data: Any, starts: Any, lengths: Any, size: int, swap: bool, out: Any, state: Any) -> int:
    """Cells of ``size`` bytes side by side in ``out``, byte order swapped or kept. Returns the bad ones."""
    bad = 0
    for row in range(starts.shape[0]):
        at, to = np.int64(starts[row]), row * size
        if lengths[row] == size:
            state[row] = VALUE
            if swap:
                for i in range(size):
                    out[to + i] = data[at + size - 1 - i]
            else:
                for i in range(size):
                    out[to + i] = data[at + i]
        elif lengths[row] < 0:
            state[row] = NULL
        else:
            state[row] = BAD
            bad += 1
    return bad


@kernel(f"int64({_PAGE}, int32[::1], int32[::1], int32[::1], uint8[::1], uint8[::1])")
def variable(data: Any, starts: Any, lengths: Any, offsets: Any, out: Any, state: Any) -> int:
    """Cells of any size one behind the other in ``out``; ``offsets`` (rows + 1) gets where each begins."""
    to = 0
    for row in range(starts.shape[0]):
        offsets[row] = to
        at = np.int64(starts[row])
        length = lengths[row]
        if length < 0:
            state[row] = NULL
            continue
        state[row] = VALUE
        for i in range(length):
            out[to + i] = data[at + i]
        to += length
    offsets[starts.shape[0]] = to
    return 0


@kernel(f"int64({_PAGE}, int32[::1], int32[::1], int64[::1], uint8[::1])")
def varints(data: Any, starts: Any, lengths: Any, out: Any, state: Any) -> int:
    """Whole numbers of up to 8 bytes as int64. Returns the bad ones, or -1 where one is longer."""
    bad = 0
    for row in range(starts.shape[0]):
        length = lengths[row]
        if length < 0:
            state[row] = NULL
        elif length == 0:
            state[row] = BAD
            bad += 1
        elif length > 8:
            return -1
        else:
            state[row] = VALUE
            out[row] = _signed(data, np.int64(starts[row]), length)
    return bad


@kernel(f"int64({_PAGE}, int32[::1], int32[::1], int64, int32[::1], uint8[::1], uint8[::1])")
def decimals(data: Any, starts: Any, lengths: Any, zeros_max: int, offsets: Any, out: Any, state: Any) -> int:
    """Texts of decimals, as ``cells.decimal_text`` writes them. Returns the bad ones, or -1 where one needs the plain
    reader: more than 8 bytes of digits, or a scale that is written as an exponent."""
    bad, to = 0, 0
    digits = np.empty(20, np.uint8)
    for row in range(starts.shape[0]):
        offsets[row] = to
        length = lengths[row]
        if length < 0:
            state[row] = NULL
            continue
        if length < 5:
            state[row] = BAD
            bad += 1
            continue
        if length > 12:
            return -1
        scale = _signed(data, np.int64(starts[row]), 4)
        value = _signed(data, np.int64(starts[row]) + 4, length - 4)
        magnitude = np.uint64(value)
        if value < 0:
            magnitude = np.uint64(0) - magnitude
        count = 0
        while True:
            digits[count] = np.uint8(48) + np.uint8(magnitude % np.uint64(10))
            magnitude //= np.uint64(10)
            count += 1
            if magnitude == 0:
                break
        if scale < 0 or scale > count + zeros_max:
            return -1
        state[row] = VALUE
        if value < 0:
            out[to] = 45
            to += 1
        for place in range(max(count, scale + 1) - 1, -1, -1):
            out[to] = digits[place] if place < count else np.uint8(48)
            to += 1
            if place == scale and scale > 0:
                out[to] = 46
                to += 1
    offsets[starts.shape[0]] = to
    return bad
