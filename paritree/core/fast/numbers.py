"""Kernels that put numbers and times as canonical bytes at each row's cursor (compiled into ``rows``).

Stores are wide: up to 40 bytes after the cursor may be overwritten, which the row's slack allows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast import layout as at
from paritree.core.fast.compiler import inner
from paritree.core.fast.memory import (
    copy_wide,
    float_bits,
    load_64,
    store_8,
    store_16,
    store_64,
    swapped,
    trailing_zeros,
)
from paritree.core.fast.reading import Tile, mark

NIL = 0xC0
_INT64_MIN, _INT64_MAX = -(1 << 63), (1 << 63) - 1
_DAY_US = 86_400_000_000
_FLOAT_EXACT = 1 << 53
_SIGN_BIT = -(1 << 63)
_INFINITY_BITS = 0x7FF0000000000000
_NAN_BITS = 0x7FF8000000000000
_ASCII_ZEROS = 0x3030303030303030
_MINUS, _DOT = 0x2D, 0x2E
_EXT_NUMBER = 1
_DIVISIBLE_MAX = 18
"""Largest power of ten in :data:`_POWERS`; ten to the 19th does not fit a signed word."""
_POWERS = np.array([10**i for i in range(_DIVISIBLE_MAX + 1)], np.uint64)
_ONE, _TWO, _TEN = np.uint64(1), np.uint64(2), np.uint64(10)
_E4, _E8 = np.uint64(10**4), np.uint64(10**8)
_HEADS = np.array([{1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}.get(i, 0) for i in range(32)], np.int64)
"""The head byte of an ext of that length, 0 where it is written with a length byte."""


@inner
def put_bools(tile: Tile) -> None:
    values, valid, cursor, n = tile.values, tile.valid, tile.cursor, tile.n
    for i in range(n):
        store_8(cursor[i], 0xC2 + values[i] if valid[i] else NIL)
        cursor[i] += 1


@inner
def put_ints(tile: Tile, unsigned: bool) -> None:
    """MessagePack integers in their shortest form: no byte for the value in the head, or 1, 2, 4, 8 after it."""
    values, valid, cursor, n = tile.values, tile.valid, tile.cursor, tile.n
    for i in range(n):
        value, place = values[i], cursor[i]
        magnitude = value ^ (value >> 63)
        if value >= 0:
            size = (magnitude > 0x7F) + (magnitude > 0xFF) + (magnitude > 0xFFFF) + (magnitude > 0xFFFFFFFF)
            head = 0xCB + size
        elif unsigned:
            size = 4
            head = 0xCF
        else:
            size = (magnitude > 0x1F) + (magnitude > 0x7F) + (magnitude > 0x7FFF) + (magnitude > 0x7FFFFFFF)
            head = 0xCF + size
        width = (1 << size) >> 1
        head = head if size else value & 0xFF
        store_8(place, head if valid[i] else NIL)
        store_64(place + 1, swapped(value << ((64 - 8 * width) & 63)))
        cursor[i] = place + (1 + width if valid[i] else 1)


@inner
def put_floats(column: Any, tile: Tile) -> None:
    """The bits of 64-bit floats, or integers that a float holds exactly; other integers are marked."""
    values, valid, cursor, n = tile.values, tile.valid, tile.cursor, tile.n
    if column[at.PUT] == at.PUT_INT_AS_FLOAT:
        for i in range(n):
            if not -_FLOAT_EXACT <= values[i] <= _FLOAT_EXACT and valid[i]:
                mark(column, tile, i)
            values[i] = float_bits(values[i])
    for i in range(n):
        bits, place = values[i], cursor[i]
        bits = _NAN_BITS if bits & _INT64_MAX > _INFINITY_BITS else bits
        bits = 0 if bits == _SIGN_BIT else bits
        store_8(place, 0xCB if valid[i] else NIL)
        store_64(place + 1, swapped(bits))
        cursor[i] = place + (9 if valid[i] else 1)


@inner
def put_fixed(tile: Tile, head: int) -> None:
    """Two bytes of head, then the value as eight bytes."""
    values, valid, cursor, n = tile.values, tile.valid, tile.cursor, tile.n
    for i in range(n):
        place = cursor[i]
        store_16(place, head if valid[i] else NIL)
        store_64(place + 2, swapped(values[i]))
        cursor[i] = place + (10 if valid[i] else 1)


@inner
def round_time(value: int, unit: int, unit_us: int, rounding: int) -> tuple[int, bool]:
    """Ticks to microseconds of the nearest unit, and whether that fits. Ties go away from zero or to the even unit."""
    quotient = value // unit
    rest = value - quotient * unit
    up = False
    if rounding == at.TRUNCATE:
        up = rest != 0 and value < 0
    elif rounding == at.HALF_UP:
        up = 2 * rest > unit or (2 * rest == unit and value >= 0)
    elif rounding == at.HALF_EVEN:
        up = 2 * rest > unit or (2 * rest == unit and quotient & 1 == 1)
    quotient += up
    limit = _INT64_MAX // unit_us
    return quotient * unit_us, -limit <= quotient <= limit


@inner
def round_times(column: Any, tile: Tile) -> None:
    """Ticks of any unit to microseconds at the precision of the profile; what does not fit is marked."""
    n, values, valid = tile.n, tile.values, tile.valid
    times, unit, unit_us = column[at.TIMES], column[at.UNIT], column[at.UNIT_US]
    rounding, kind = column[at.ROUNDING], column[at.KIND]
    if kind == at.ANY:
        return
    limit = _INT64_MAX // times
    for i in range(n):
        value = values[i]
        if kind == at.INSTANT and value in (_INT64_MIN, _INT64_MAX):
            continue
        fits = -limit <= value <= limit and (value != _INT64_MAX or kind == at.FINITE_NS)
        value *= times
        if unit > 1 and fits:
            value, fits = round_time(value, unit, unit_us, rounding)
        low, high = (0, _DAY_US) if kind == at.CLOCK else (_INT64_MIN + 1, _INT64_MAX - 1)
        fits = fits and low <= value <= high
        values[i] = value
        if not fits and valid[i]:
            mark(column, tile, i)


@inner
def put_decimals(column: Any, tile: Tile) -> None:
    """Integers of a scale as decimals. ``digits`` is the address of 64 bytes to work in."""
    n, values, scales, valid, cursor, digits = tile.n, tile.values, tile.scales, tile.valid, tile.cursor, tile.digits
    to, rounding = column[at.SCALE_TO], column[at.ROUNDING]
    for i in range(n):
        place = cursor[i]
        if not valid[i]:
            store_8(place, NIL)
            cursor[i] = place + 1
            continue
        value, scale = values[i], scales[i]
        negative = value < 0
        magnitude = np.uint64(-value if negative else value)
        if 0 <= to < scale:
            if scale - to > _DIVISIBLE_MAX:
                mark(column, tile, i)
            else:
                magnitude = round_decimal(magnitude, negative, _POWERS[scale - to], rounding)
                scale = to
        while scale > 0 and magnitude % _TEN == 0:
            magnitude //= _TEN
            scale -= 1
        cursor[i] = put_decimal(place, magnitude, negative and magnitude != 0, scale, digits)


@inner
def round_decimal(magnitude: Any, negative: bool, unit: Any, rounding: int) -> Any:
    quotient = magnitude // unit
    rest = magnitude - quotient * unit
    if rounding == at.FLOOR:
        up = negative and rest != 0
    elif rounding == at.HALF_UP:
        up = _TWO * rest >= unit
    elif rounding == at.HALF_EVEN:
        up = _TWO * rest > unit or (_TWO * rest == unit and quotient & _ONE == _ONE)
    else:
        up = False
    return quotient + _ONE if up else quotient


@inner
def eight_digits(number: Any) -> Any:
    """A number below 10**8 as eight ASCII digits, the first in the lowest byte; it is halved three times."""
    high = number // _E4
    fours = np.int64(high) | np.int64(number - high * _E4) << 32
    hundreds = (fours * 10486 >> 20) & 0x7F0000007F
    twos = hundreds | (fours - hundreds * 100) << 16
    tens = (twos * 103 >> 10) & 0x000F000F000F000F
    return (tens | (twos - tens * 10) << 8) + _ASCII_ZEROS


@inner
def put_ext_head(place: int, length: int) -> Any:
    """The head of a number of fewer than 32 characters; the address after it."""
    fixed = _HEADS[length]
    if fixed:
        store_16(place, fixed | _EXT_NUMBER << 8)
        return place + 2
    store_16(place, 0xC7 | length << 8)
    store_8(place + 2, _EXT_NUMBER)
    return place + 3


@inner
def put_decimal(place: int, magnitude: Any, negative: bool, scale: int, digits: int) -> Any:
    """The plain text of magnitude / 10**scale without trailing zeros, as an ext; the address after it."""
    if magnitude < _E8 and scale < 8:
        text = eight_digits(magnitude)
        used = max(8 - (trailing_zeros(text ^ _ASCII_ZEROS) >> 3), scale + 1)
        text = text >> (8 * (8 - used))
        whole = used - scale
        end = put_ext_head(place, negative + used + (scale > 0))
        store_8(end, _MINUS)
        end += negative
        store_64(end, text)
        if scale > 0:
            store_8(end + whole, _DOT)
            store_64(end + whole + 1, text >> (8 * whole))
        return end + used + (scale > 0)
    return put_long_decimal(place, magnitude, negative, scale, digits)


@inner
def put_long_decimal(place: int, magnitude: Any, negative: bool, scale: int, digits: int) -> Any:
    """As :func:`put_decimal` for every 64-bit magnitude, by three groups of eight digits in ``digits``."""
    rest = magnitude // _E8
    store_64(digits, eight_digits(rest // _E8))
    store_64(digits + 8, eight_digits(rest % _E8))
    store_64(digits + 16, eight_digits(magnitude % _E8))
    used = 24
    for group in range(3):
        zeros = trailing_zeros(load_64(digits + 8 * group) ^ _ASCII_ZEROS) >> 3
        used -= zeros
        if zeros < 8:
            break
    used = max(used, scale + 1)
    whole = used - scale
    end = put_ext_head(place, negative + used + (scale > 0))
    store_8(end, _MINUS)
    end += negative
    copy_wide(end, digits + 24 - used)
    if scale > 0:
        store_8(end + whole, _DOT)
        copy_wide(end + whole + 1, digits + 24 - scale)
    return end + used + (scale > 0)
