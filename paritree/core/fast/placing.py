"""Kernels that read a tile of values where the source has put them, big-endian (compiled into ``rows``).

Every place has been checked to lie inside the data (``reading.are_spans_sound``). A value of another size than its
form's, or beyond 64 bits, is marked: the source's own decoder then says what it is.
"""

from __future__ import annotations

from typing import Any

from paritree.core.fast import layout as at
from paritree.core.fast.compiler import inner
from paritree.core.fast.memory import (
    load_64,
    load_f32,
    load_i8,
    load_i32,
    load_u8,
    load_u16,
    load_u32,
    store_32,
    swapped,
)
from paritree.core.fast.reading import Tile, mark

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_DAYS_TO_2000 = 10_957
_US_TO_2000 = _DAYS_TO_2000 * 86_400_000_000
_NEGATIVE = 0x4000
_GROUPS_MAX = 4
"""Digits to the base 10,000 that always fit."""
_GROUP_MAX = 9999
_SHOWN_MAX = 0x3FFF


@inner
def read_placed(column: Any, tile: Tile) -> None:
    """Fill the tile's values and scales."""
    read, n, values = column[at.READ], tile.n, tile.values
    tile.scales[:n] = column[at.SCALE]
    if read == at.READ_NUMERIC:
        read_numerics(column, tile)
    elif read == at.READ_VARINT or read == at.READ_SCALED:
        read_varints(column, tile, read == at.READ_SCALED)
    elif read == at.READ_BIG_64 or read == at.READ_US_2000:
        read_big_64(column, tile)
        if read == at.READ_US_2000:
            for i in range(n):
                value = values[i]
                infinite = value in (_INT64_MIN, _INT64_MAX)
                if value >= _INT64_MAX - _US_TO_2000 and not infinite and tile.valid[i]:
                    mark(column, tile, i)
                values[i] = value + (0 if infinite else _US_TO_2000)
    elif read == at.READ_BIG_32 or read == at.READ_DAYS_2000 or read == at.READ_DAYS_CENTERED:
        read_big_32(column, tile)
        if read == at.READ_DAYS_2000:
            for i in range(n):
                value = values[i]
                ends = _INT64_MAX if value == _INT32_MAX else _INT64_MIN
                values[i] = ends if value in (_INT32_MIN, _INT32_MAX) else value + _DAYS_TO_2000
        elif read == at.READ_DAYS_CENTERED:
            for i in range(n):
                values[i] = (values[i] & 0xFFFFFFFF) + _INT32_MIN
    else:
        read_small(column, tile, read)


@inner
def read_big_64(column: Any, tile: Tile) -> None:
    n, values = tile.n, tile.values
    data, places, sizes = column[at.DATA], column[at.OFFSETS] + 4 * tile.first, column[at.SIZES] + 4 * tile.first
    for i in range(n):
        size = load_i32(sizes + 4 * i)
        if size == 8:
            values[i] = swapped(load_64(data + load_i32(places + 4 * i)))
        else:
            values[i] = 0
            if size >= 0:
                mark(column, tile, i)


@inner
def read_big_32(column: Any, tile: Tile) -> None:
    n, values = tile.n, tile.values
    data, places, sizes = column[at.DATA], column[at.OFFSETS] + 4 * tile.first, column[at.SIZES] + 4 * tile.first
    for i in range(n):
        size = load_i32(sizes + 4 * i)
        if size == 4:
            values[i] = swapped(load_u32(data + load_i32(places + 4 * i))) >> 32
        else:
            values[i] = 0
            if size >= 0:
                mark(column, tile, i)


@inner
def read_small(column: Any, tile: Tile, read: int) -> None:
    """Booleans, integers of 8 and 16 bits, 32-bit floats."""
    n, values = tile.n, tile.values
    data, places, sizes = column[at.DATA], column[at.OFFSETS] + 4 * tile.first, column[at.SIZES] + 4 * tile.first
    width = 4 if read == at.READ_BIG_F32 else 2 if read == at.READ_BIG_16 else 1
    for i in range(n):
        size = load_i32(sizes + 4 * i)
        place = data + load_i32(places + 4 * i)
        values[i] = 0
        if size != width:
            if size >= 0:
                mark(column, tile, i)
        elif read == at.READ_BYTE_BOOL:
            values[i] = load_u8(place) != 0
        elif read == at.READ_BIG_8:
            values[i] = load_i8(place)
        elif read == at.READ_BIG_16:
            values[i] = swapped(load_u16(place)) >> 48
        else:
            store_32(tile.digits, swapped(load_u32(place)) >> 32)
            values[i] = load_f32(tile.digits)


@inner
def varint(place: int, size: int, limit: int) -> int:
    """Two's complement of 1 to 8 bytes in a buffer that ends at ``limit``."""
    if place + 8 <= limit:
        return int(swapped(load_64(place)) >> (64 - 8 * size))
    value = load_i8(place)
    for i in range(1, size):
        value = value << 8 | load_u8(place + i)
    return int(value)


@inner
def scale_max(column: Any) -> int:
    """Largest scale that is decided: none where the column's type is int."""
    return 0 if column[at.PUT] == at.PUT_INT else at.SCALE_READ_MAX


@inner
def read_varints(column: Any, tile: Tile, scaled: bool) -> None:
    n, values, scales = tile.n, tile.values, tile.scales
    data, places, sizes = column[at.DATA], column[at.OFFSETS] + 4 * tile.first, column[at.SIZES] + 4 * tile.first
    limit = data + column[at.DATA_BYTES]
    head, most = 4 if scaled else 0, scale_max(column)
    for i in range(n):
        size = load_i32(sizes + 4 * i) - head
        place = data + load_i32(places + 4 * i)
        values[i] = 0
        if not 0 < size <= 8:
            if size >= -head:
                mark(column, tile, i)
            continue
        if scaled:
            scale = swapped(load_u32(place)) >> 32
            if not 0 <= scale <= most:
                mark(column, tile, i)
                continue
            scales[i] = scale
        values[i] = varint(place + head, size, limit)


@inner
def read_numerics(column: Any, tile: Tile) -> None:
    n, values, scales = tile.n, tile.values, tile.scales
    data, places, sizes = column[at.DATA], column[at.OFFSETS] + 4 * tile.first, column[at.SIZES] + 4 * tile.first
    most = scale_max(column)
    for i in range(n):
        size = load_i32(sizes + 4 * i)
        values[i] = 0
        scales[i] = 0
        if size < 0:
            continue
        value, scale = 0, -1
        if size >= 8:
            value, scale = numeric(data + load_i32(places + 4 * i), size)
        if 0 <= scale <= most:
            values[i] = value
            scales[i] = scale
        else:
            mark(column, tile, i)


@inner
def numeric(place: int, size: int) -> tuple[int, int]:
    """(digits as an integer, scale) of a numeric of at least 8 bytes; a scale of -1 where it is not decided."""
    head = swapped(load_64(place))
    count, weight, sign, shown = (head >> 48) & 0xFFFF, (head << 16) >> 48, (head >> 16) & 0xFFFF, head & 0xFFFF
    if count > _GROUPS_MAX or size != 8 + 2 * count or shown > _SHOWN_MAX or (sign != 0 and sign != _NEGATIVE):
        return 0, -1
    value = 0
    for group in range(count):
        digit = swapped(load_u16(place + 8 + 2 * group)) >> 48
        if not 0 <= digit <= _GROUP_MAX:
            return 0, -1
        value = value * 10_000 + digit
    if value == 0:
        return 0, 0
    scale = 4 * (count - 1 - weight)
    if weight >= _GROUPS_MAX:
        return 0, -1
    while scale < 0:
        value *= 10_000
        scale += 4
    if scale > shown + 3:
        return 0, -1
    while scale > shown:
        if value % 10 != 0:
            return 0, -1
        value //= 10
        scale -= 1
    return -value if sign == _NEGATIVE else value, scale
