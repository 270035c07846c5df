"""Decimal digits of integers of any size, faster than quadratic.

``str`` refuses more than 4,300 digits, and ``Decimal`` of a long int takes a second for a hundred kilobytes. Halves are
converted one by one and put together by Decimal's multiplication, which is fast for long numbers (the way that Python's
own ``_pylong`` goes since 3.12).
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import cache
from typing import Final

_STR_BITS_MAX: Final = 14_000
"""Below 4,300 digits."""
_LEAF_BITS: Final = 2_048
_EXACT: Final = decimal.Context(
    prec=decimal.MAX_PREC,
    Emax=decimal.MAX_EMAX,
    Emin=decimal.MIN_EMIN,
    traps=[decimal.Inexact, decimal.InvalidOperation],
)


def int_digits(value: int) -> str:
    """The digits of an integer, with a sign where it is negative."""
    bits = value.bit_length()
    if bits <= _STR_BITS_MAX:
        return str(value)
    return ("-" if value < 0 else "") + format(_joined(abs(value), bits), "f")


def _joined(value: int, bits: int) -> Decimal:
    if bits <= _LEAF_BITS:
        return Decimal(value)
    low_bits = 1 << (bits - 1).bit_length() - 1  # few different powers are needed, whatever the number
    high, low = value >> low_bits, value & ((1 << low_bits) - 1)
    product = _EXACT.multiply(_joined(high, bits - low_bits), _power(low_bits))
    return _EXACT.add(product, _joined(low, low_bits))


@cache
def _power(bits: int) -> Decimal:
    """2 to a power of two."""
    if bits <= _LEAF_BITS:
        return Decimal(1 << bits)
    half = _power(bits // 2)
    return _EXACT.multiply(half, half)
