"""Compiled loops of fast.py. Importing this module loads numba; :mod:`.fast` names its kernels.

Every place is checked against the bounds of its array before it is read or written: numba does not check by itself.
Argument types are pinned; no kernel holds the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.tuples import Bytes, Places
from paritree.core.fast.compiler import inner, kernel
from paritree.core.fast.memory import load_u16, load_u32, swapped

_COPY_DATA = 100
_MORE, _FULL, _FRAME, _TRAILER, _MALFORMED = range(5)  # as in tuples.py
_SPECIALS = np.frombuffer(b"NaNInfinity-Infinity", np.uint8)


@inner
def _int32_at(data: Bytes, place: Any) -> Any:
    return swapped(load_u32(data.ctypes.data + place)) >> 32


@inner
def _int16_at(data: Bytes, place: Any) -> Any:
    return swapped(load_u16(data.ctypes.data + place)) >> 48


@kernel("UniTuple(int64, 3)(uint8[::1], int64, int64, boolean, int32[:, ::1], int32[:, ::1])")
def locate(data: Bytes, start: int, stop: int, framed: bool, at: Places, size: Places) -> tuple[int, int, int]:
    """See ``tuples.locate``, whose steps these are."""
    columns, room = at.shape
    rows: Any = np.int64(0)
    position = start
    if start < 0 or stop > data.size or size.shape[0] != columns or size.shape[1] != room:
        return rows, position, _MALFORMED
    short = _MALFORMED if framed else _MORE
    while rows < room:
        place = position
        end = stop
        if framed:
            if place + 5 > stop:
                return rows, position, _MORE
            if data[place] != _COPY_DATA:
                return rows, position, _FRAME
            length = _int32_at(data, place + 1)
            if length < 6:
                return rows, position, _MALFORMED
            end = place + 1 + length
            if end > stop:
                return rows, position, _MORE
            place += 5
        if place + 2 > end:
            return rows, position, short
        fields = _int16_at(data, place)
        place += 2
        if fields == -1:
            return rows, position, _MALFORMED if framed and place != end else _TRAILER
        if fields != columns:
            return rows, position, _MALFORMED
        for column in range(columns):
            if place + 4 > end:
                return rows, position, short
            count = _int32_at(data, place)
            place += 4
            if count < -1:
                return rows, position, _MALFORMED
            if count > end - place:
                return rows, position, short
            at[column, rows] = place
            size[column, rows] = count
            place += max(count, 0)
        if framed and place != end:
            return rows, position, _MALFORMED
        position = place
        rows += 1
    return rows, position, _FULL


@inner
def _inside(data: Bytes, at: Places, size: Places, row: int) -> Any:
    return size[row] < 0 or (at[row] >= 0 and np.int64(at[row]) + np.int64(size[row]) <= data.size)


@kernel("boolean(uint8[::1], int32[::1], int32[::1], uint64[::1])")
def words8(data: Bytes, at: Places, size: Places, out: NDArray[np.uint64]) -> bool:
    """Big-endian 8-byte words, 0 for NULL; False where a value has another size."""
    for row in range(out.size):
        if size[row] < 0:
            out[row] = 0
            continue
        if size[row] != 8 or not _inside(data, at, size, row):
            return False
        value = np.uint64(0)
        for byte in range(8):
            value = (value << np.uint64(8)) | np.uint64(data[at[row] + byte])
        out[row] = value
    return True


@kernel("boolean(uint8[::1], int32[::1], int32[::1], uint32[::1])")
def words4(data: Bytes, at: Places, size: Places, out: NDArray[np.uint32]) -> bool:
    """Big-endian 4-byte words, as ``words8``."""
    for row in range(out.size):
        if size[row] < 0:
            out[row] = 0
            continue
        if size[row] != 4 or not _inside(data, at, size, row):
            return False
        out[row] = np.uint32(_int32_at(data, np.int64(at[row])) & 0xFFFFFFFF)
    return True


@kernel("boolean(uint8[::1], int32[::1], int32[::1], uint8[::1], int64)")
def blocks(data: Bytes, at: Places, size: Places, out: Bytes, width: int) -> bool:
    """Values of ``width`` bytes one after the other, zeros for NULL; False where a value has another size."""
    if out.size != at.size * width:
        return False
    for row in range(at.size):
        target = row * width
        if size[row] < 0:
            for byte in range(width):
                out[target + byte] = 0
            continue
        if size[row] != width or not _inside(data, at, size, row):
            return False
        source = np.int64(at[row])
        for byte in range(width):
            out[target + byte] = data[source + byte]
    return True


@kernel("int64(uint8[::1], int32[::1], int32[::1], int32[::1])")
def text_offsets(data: Bytes, at: Places, size: Places, offsets: Places) -> Any:
    """Arrow offsets of values of any size; their total, or -1 where a value is not inside the data."""
    total: Any = np.int64(0)
    offsets[0] = 0
    for row in range(at.size):
        if not _inside(data, at, size, row):
            return -1
        if size[row] > 0:
            total += size[row]
        if total > 0x7FFFFFFF:
            return -1
        offsets[row + 1] = total
    return total


@kernel("void(uint8[::1], int32[::1], int32[::1], uint8[::1])")
def text_bytes(data: Bytes, at: Places, offsets: Places, out: Bytes) -> None:
    """Copy the values to their offsets (from ``text_offsets``, which has checked the places)."""
    for row in range(at.size):
        source, target = np.int64(at[row]), np.int64(offsets[row])
        for byte in range(np.int64(offsets[row + 1]) - target):
            out[target + byte] = data[source + byte]


@kernel("int64(uint8[::1], int32[::1], int32[::1])")
def decimal_room(data: Bytes, at: Places, size: Places) -> Any:
    """Bytes that the texts of these numerics take at most; -1 for a malformed one."""
    total: Any = np.int64(0)
    for row in range(at.size):
        if size[row] < 0:
            continue
        place: Any = np.int64(at[row])
        if size[row] < 8 or not _inside(data, at, size, row):
            return -1
        weight = _int16_at(data, place + 2)
        scale = _int16_at(data, place + 6) & 0xFFFF
        if size[row] != 8 + 2 * (_int16_at(data, place) & 0xFFFF):
            return -1
        total += 12 + scale + 4 * max(weight + 1, 0)
    return total


@inner
def _group(data: Bytes, place: int, count: int, weight: int, power: int) -> Any:
    """The base-10000 digit of 10000 ** power, 0 where the numeric has none."""
    index = weight - power
    if index < 0 or index >= count:
        return 0
    return _int16_at(data, place + 8 + 2 * index) & 0xFFFF


@inner
def _decimal(data: Bytes, place: Any, out: Bytes, target: Any) -> Any:
    count = _int16_at(data, place) & 0xFFFF
    weight = _int16_at(data, place + 2)
    sign = _int16_at(data, place + 4) & 0xFFFF
    scale = _int16_at(data, place + 6) & 0xFFFF
    if sign == 0xC000 or sign == 0xD000 or sign == 0xF000:
        first, last = (0, 3) if sign == 0xC000 else (3, 11) if sign == 0xD000 else (11, 20)
        for byte in range(first, last):
            out[target] = _SPECIALS[byte]
            target += 1
        return target
    if (sign != 0 and sign != 0x4000) or scale > 0x3FFF:
        return -1
    for index in range(count):
        if (_int16_at(data, place + 8 + 2 * index) & 0xFFFF) > 9999:
            return -1
    if sign == 0x4000:
        out[target] = 45  # -
        target += 1
    begun = False
    for power in range(weight, -1, -1):
        group = _group(data, place, count, weight, power)
        for unit in (1000, 100, 10, 1):
            digit = group // unit % 10
            if begun or digit:
                begun = True
                out[target] = 48 + digit
                target += 1
    if not begun:
        out[target] = 48  # 0
        target += 1
    if scale:
        out[target] = 46  # .
        target += 1
    written = 0
    power = -1
    while written < scale:
        group = _group(data, place, count, weight, power)
        for unit in (1000, 100, 10, 1):
            digit = group // unit % 10
            if written < scale:
                out[target] = 48 + digit
                target += 1
                written += 1
            elif digit:
                return -1
        power -= 1
    # Digits below the last group that the scale reaches.
    for index in range(max(weight - power, 0), count):
        if _int16_at(data, place + 8 + 2 * index) != 0:
            return -1
    return target


@kernel("int64(uint8[::1], int32[::1], int32[::1], int32[::1], uint8[::1])")
def decimals(data: Bytes, at: Places, size: Places, offsets: Places, out: Bytes) -> Any:
    """numeric as text, into ``out`` of ``decimal_room`` bytes (which has checked the places); the total, -1 malformed.

    See ``primitives.numeric_text``.
    """
    total: Any = np.int64(0)
    offsets[0] = 0
    for row in range(at.size):
        if size[row] >= 0:
            total = _decimal(data, np.int64(at[row]), out, total)
            if total < 0 or total > 0x7FFFFFFF:
                return -1
        offsets[row + 1] = total
    return total
