"""The kernel that turns columns into byte strings (key bytes, row bytes or locators), tile by tile, and hashes them.

A tile is up to 256 rows, so that its bytes stay in the first caches: every column in turn appends to all rows of the
tile at their cursors, then several rows at a time are hashed, one in each vector lane.

    scratch:  | row 0 bytes ... slack | row 1 bytes ... slack | ...     slot = longest form + slack, in 64-byte steps
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast import layout as at
from paritree.core.fast.compiler import inlined, kernel
from paritree.core.fast.hashing import hash_tile
from paritree.core.fast.layout import WIDE
from paritree.core.fast.memory import copy_wide, store_64, zero_block
from paritree.core.fast.numbers import (
    put_bools,
    put_decimals,
    put_fixed,
    put_floats,
    put_ints,
    round_times,
)
from paritree.core.fast.placing import read_placed
from paritree.core.fast.reading import (
    Tile,
    are_spans_sound,
    read_decimal128,
    read_numbers,
    read_spans,
    read_valid,
    read_words,
    refuse_negative,
)
from paritree.core.fast.texts import put_bytes, put_canonical, put_months, put_sixteens, put_texts, put_uuid_texts

TILE = 256


@inlined
def read_column(column: Any, tile: Tile) -> None:
    """Fill the tile's values and scales, or its spans."""
    read = column[at.READ]
    if read == at.READ_SPAN:
        read_spans(column, tile)
    elif read >= at.READ_BYTE_BOOL:
        read_placed(column, tile)
    elif read >= at.READ_TEXT_INT:
        read_numbers(column, tile)
    elif read == at.READ_DECIMAL128:
        read_decimal128(column, tile)
    elif read == at.READ_NONE:
        tile.values[: tile.n] = 0
    else:
        read_words(column, tile)
    if read == at.READ_U64 and column[at.PUT] != at.PUT_UNSIGNED:
        refuse_negative(column, tile)


@inlined
def put_column(column: Any, tile: Tile, in_key: bool) -> None:
    """Append a column's canonical bytes to every row of the tile. One level of calls: each level costs compile time."""
    put = column[at.PUT]
    read_valid(column, tile, in_key)
    read_column(column, tile)
    if put == at.PUT_TIME:
        round_times(column, tile)
        put_fixed(tile, column[at.HEAD])
    elif put == at.PUT_INT or put == at.PUT_UNSIGNED:
        put_ints(tile, put == at.PUT_UNSIGNED)
    elif put == at.PUT_DECIMAL:
        put_decimals(column, tile)
    elif put == at.PUT_BOOL or put == at.PUT_NIL:
        put_bools(tile)
    elif put == at.PUT_FLOAT or put == at.PUT_INT_AS_FLOAT:
        put_floats(column, tile)
    elif put == at.PUT_TEXT:
        put_texts(column, tile)
    elif put == at.PUT_SIXTEEN:
        put_sixteens(column, tile)
    elif put == at.PUT_CANONICAL:
        put_canonical(column, tile, in_key)
    elif put == at.PUT_BYTES:
        put_bytes(column, tile)
    elif put == at.PUT_UUID_TEXT:
        put_uuid_texts(column, tile)
    else:
        put_months(column, tile)


@inlined
def place_rows(program: Any, tile: Tile, n: int, head_bytes: int, scratch: int, capacity: int) -> int:
    """Give each row its slot of the scratch space; the number of rows that found room (cursor: their slots)."""
    fixed = head_bytes + at.ROW_SLACK + 63
    for c in range(len(program)):
        fixed += program[c, at.BYTES_MAX]
    tile.cursor[:n] = fixed
    for c in range(len(program)):
        if program[c, at.SPAN_COUNTS]:
            read_spans(program[c], tile)
            for i in range(n):
                tile.cursor[i] += tile.lengths[i]
    used = 0
    for i in range(n):
        slot = tile.cursor[i] & -64
        if used + slot > capacity:
            tile.lengths[0] = slot
            return i
        tile.cursor[i] = scratch + used
        used += slot
    return n


@inlined
def keep_rows(tile: Tile, starts: Any, offsets: Any, data: Any, kept: int) -> int:
    """Append the rows' bytes to the kept ones; the bytes kept then, or -1 where there is no room."""
    base = data.ctypes.data
    for i in range(tile.n):
        length = tile.cursor[i] - starts[i]
        if kept + length + WIDE > len(data):
            return -1
        for k in range(0, length, WIDE):
            copy_wide(base + kept + k, starts[i] + k)
        kept += length
        offsets[tile.first + i + 1] = kept
    return kept


@kernel(
    "int64(int64[:, ::1], int64[::1], uint64[::1], uint8[::1], uint8[::1], uint8[::1], uint64[:, ::1],"
    " int64[::1], uint8[::1])"
)
def encode_rows(
    program: Any, call: Any, key_state: Any, scratch: Any, state: Any, flags: Any, digests: Any, offsets: Any, data: Any
) -> Any:
    """Byte strings of ``call[ROWS]`` rows from ``call[FIRST]`` on.

    ``program`` (columns, WORDS) describes the columns in the order of the bytes. ``call`` is described in ``layout``.
    ``digests`` (rows, 2) get the digests under ``key_state`` (8,); ``offsets`` (rows + 1,) and ``data`` get the byte
    strings; ``state`` (rows,) and ``flags`` what was not decided. Returns DONE, or the bytes of scratch space that the
    row at call[FIRST] needs, or a negative number: NO_ROOM for ``data``, BROKEN_SPANS - c for column c.
    """
    rows, options, head_bytes = call[at.ROWS], call[at.OPTIONS], call[at.HEAD_BYTES]
    in_key = options & at.IN_KEY != 0
    for c in range(len(program)):
        if program[c, at.READ] >= at.READ_SPAN and not are_spans_sound(program[c], rows):
            return at.BROKEN_SPANS - c
    values, scales, sources = np.empty(TILE, np.int64), np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    lengths, cursor, starts = np.empty(TILE, np.int64), np.empty(TILE, np.int64), np.empty(TILE, np.int64)
    valid, digits = np.empty(TILE, np.uint8), np.empty(64, np.uint8)
    while call[at.FIRST] < rows:
        first = call[at.FIRST]
        wanted = min(TILE, rows - first)
        everything = Tile(
            first, wanted, values, scales, sources, lengths, valid, cursor, state[first:], flags, digits.ctypes.data
        )
        n = place_rows(program, everything, wanted, head_bytes, scratch.ctypes.data, len(scratch))
        if n == 0:
            return lengths[0]
        tile = Tile(first, n, values, scales, sources, lengths, valid, cursor, state[first:], flags, digits.ctypes.data)
        for i in range(n):
            starts[i] = cursor[i]
            store_64(cursor[i], call[at.HEAD_BYTES_WORD])
            cursor[i] += head_bytes
        for c in range(len(program)):
            put_column(program[c], tile, in_key)
        if options & at.HASH:
            for i in range(n):
                zero_block(cursor[i])
                lengths[i] = cursor[i] - starts[i]
            hash_tile(starts, lengths, n, key_state, digests[first:])
        if options & at.KEEP:
            call[at.KEPT] = keep_rows(tile, starts, offsets, data, call[at.KEPT])
            if call[at.KEPT] < 0:
                return at.NO_ROOM
        call[at.FIRST] += n
    return at.DONE
