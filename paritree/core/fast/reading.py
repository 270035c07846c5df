"""Kernels that read a tile of an Arrow column into 64-bit values or spans of bytes (compiled into ``rows``)."""

from __future__ import annotations

from typing import Any, NamedTuple

from paritree.core.fast import layout as at
from paritree.core.fast.compiler import inlined, inner
from paritree.core.fast.memory import (
    load_64,
    load_f32,
    load_i8,
    load_i16,
    load_i32,
    load_u8,
    load_u16,
    load_u32,
)

_DIGITS_MAX = 18
"""Digits that always fit into 64 bits."""
_MINUS, _PLUS, _DOT, _ZERO, _NINE = 0x2D, 0x2B, 0x2E, 0x30, 0x39


class Tile(NamedTuple):
    """The rows at work: ``n`` rows from ``first`` on, and the arrays of the column at work, one item a row.

    ``values`` and ``scales`` (int64), ``sources`` (int64 addresses) and ``lengths`` of spans, ``valid`` (uint8, 1 where
    there is a value), ``cursor`` (int64 addresses where the row's next byte goes), ``state`` (uint8, see ``layout``),
    ``flags`` (uint8, one a column of the profile), ``digits``: address of 64 bytes to work in.
    """

    first: int
    n: int
    values: Any
    scales: Any
    sources: Any
    lengths: Any
    valid: Any
    cursor: Any
    state: Any
    flags: Any
    digits: int


@inner
def mark(column: Any, tile: Tile, i: int) -> None:
    """A value that the kernel does not decide."""
    tile.state[i] |= at.UNDECIDED
    tile.flags[column[at.NUMBER]] = 1


@inner
def read_valid(column: Any, tile: Tile, in_key: bool) -> None:
    """Which rows have a value; a null in a key is refused."""
    bitmap, valid, n = column[at.VALIDITY], tile.valid, tile.n
    valid[:n] = 1
    if column[at.READ] == at.READ_NONE:
        valid[:n] = 0
    elif bitmap != 0:
        bit = column[at.BIT] + tile.first
        for i in range(n):
            valid[i] = load_u8(bitmap + ((bit + i) >> 3)) >> ((bit + i) & 7) & 1
    elif column[at.SIZES] != 0:
        sizes = column[at.SIZES] + 4 * tile.first
        for i in range(n):
            valid[i] = load_i32(sizes + 4 * i) >= 0
    if in_key and (bitmap != 0 or column[at.SIZES] != 0 or column[at.READ] == at.READ_NONE):
        for i in range(n):
            tile.state[i] |= 0 if valid[i] else at.REFUSED


@inlined
def are_spans_sound(column: Any, rows: int) -> bool:
    """Whether the offsets never go back and stay inside the data, or the places with their sizes do."""
    offsets, width, sizes = column[at.OFFSETS], column[at.WIDTH], column[at.SIZES]
    if sizes != 0:
        outside = 0
        for i in range(rows):
            place = load_i32(offsets + 4 * i)
            outside |= place | (column[at.DATA_BYTES] - place - max(load_i32(sizes + 4 * i), 0))
        return bool(outside >= 0)
    if offsets == 0:
        return bool(rows * width <= column[at.DATA_BYTES])
    backwards = 0
    if width == 4:
        before = load_i32(offsets)
        start = before
        for i in range(1, rows + 1):
            after = load_i32(offsets + 4 * i)
            backwards |= after - before
            before = after
    else:
        before = load_64(offsets)
        start = before
        for i in range(1, rows + 1):
            after = load_64(offsets + 8 * i)
            backwards |= (after - before) | after
            before = after
    return bool(start >= 0 and backwards >= 0 and before <= column[at.DATA_BYTES])


@inner
def read_spans(column: Any, tile: Tile) -> None:
    first, n, sources, lengths = tile.first, tile.n, tile.sources, tile.lengths
    data, offsets, width, sizes = column[at.DATA], column[at.OFFSETS], column[at.WIDTH], column[at.SIZES]
    if sizes != 0:
        for i in range(n):
            sources[i] = data + load_i32(offsets + 4 * (first + i))
            lengths[i] = max(load_i32(sizes + 4 * (first + i)), 0)
    elif offsets == 0:
        for i in range(n):
            sources[i] = data + (first + i) * width
            lengths[i] = width
    elif width == 4:
        offsets += 4 * first
        for i in range(n):
            start = load_i32(offsets + 4 * i)
            sources[i] = data + start
            lengths[i] = load_i32(offsets + 4 * i + 4) - start
    else:
        offsets += 8 * first
        for i in range(n):
            start = load_64(offsets + 8 * i)
            sources[i] = data + start
            lengths[i] = load_64(offsets + 8 * i + 8) - start


@inner
def read_words(column: Any, tile: Tile) -> None:
    """Bits, integers and floats, as 64-bit words; the scale of all of them is the column's."""
    n, values, read = tile.n, tile.values, column[at.READ]
    data = column[at.DATA] + tile.first * column[at.WIDTH]
    if read == at.READ_I64 or read == at.READ_U64:
        for i in range(n):
            values[i] = load_64(data + 8 * i)
    elif read == at.READ_BIT:
        bit = column[at.BIT] + tile.first
        for i in range(n):
            values[i] = load_u8(column[at.DATA] + ((bit + i) >> 3)) >> ((bit + i) & 7) & 1
    elif read == at.READ_I32:
        for i in range(n):
            values[i] = load_i32(data + 4 * i)
    elif read == at.READ_F32:
        for i in range(n):
            values[i] = load_f32(data + 4 * i)
    else:
        read_rare_words(data, read, n, values)
    tile.scales[:n] = column[at.SCALE]


@inner
def read_rare_words(data: int, read: int, n: int, values: Any) -> None:
    """Integers of 8 and 16 bits, and unsigned ones of 32."""
    for i in range(n):
        if read == at.READ_I8:
            values[i] = load_i8(data + i)
        elif read == at.READ_U8:
            values[i] = load_u8(data + i)
        elif read == at.READ_I16:
            values[i] = load_i16(data + 2 * i)
        elif read == at.READ_U16:
            values[i] = load_u16(data + 2 * i)
        else:
            values[i] = load_u32(data + 4 * i)


@inner
def refuse_negative(column: Any, tile: Tile) -> None:
    """Unsigned values that do not fit into int64."""
    n, values, valid = tile.n, tile.values, tile.valid
    for i in range(n):
        if values[i] < 0 and valid[i]:
            mark(column, tile, i)


@inner
def read_decimal128(column: Any, tile: Tile) -> None:
    n, values, valid = tile.n, tile.values, tile.valid
    data = column[at.DATA] + 16 * tile.first
    tile.scales[:n] = column[at.SCALE]
    for i in range(n):
        low = load_64(data + 16 * i)
        values[i] = low
        if load_64(data + 16 * i + 8) != low >> 63 and valid[i]:
            mark(column, tile, i)


@inner
def read_number(source: int, length: int, fraction_allowed: bool) -> tuple[int, int, bool]:
    """(digits as an integer, scale, whether the kernel decides): sign, digits and at most one point."""
    end = source + length
    negative = length > 0 and load_u8(source) == _MINUS
    if negative or (length > 0 and load_u8(source) == _PLUS):
        source += 1
    value, digits, seen, point = 0, 0, 0, -1
    while source < end:
        char = load_u8(source)
        if _ZERO <= char <= _NINE:
            value = value * 10 + (char - _ZERO)
            seen += 1
            digits += value != 0
            if digits > _DIGITS_MAX:
                return 0, 0, False
        elif char == _DOT and point < 0 and fraction_allowed:
            point = seen
        else:
            return 0, 0, False
        source += 1
    scale = seen - point if point >= 0 else 0
    return -value if negative else value, scale, seen > 0 and scale <= at.SCALE_READ_MAX


@inner
def read_numbers(column: Any, tile: Tile) -> None:
    """Decimal text."""
    n, sources, lengths, values, scales, valid = (
        tile.n,
        tile.sources,
        tile.lengths,
        tile.values,
        tile.scales,
        tile.valid,
    )
    fraction_allowed = column[at.READ] == at.READ_TEXT_DECIMAL
    read_spans(column, tile)
    for i in range(n):
        values[i] = 0
        scales[i] = 0
        if valid[i]:
            value, scale, decided = read_number(sources[i], lengths[i], fraction_allowed)
            if decided:
                values[i] = value
                scales[i] = scale
            else:
                mark(column, tile, i)
