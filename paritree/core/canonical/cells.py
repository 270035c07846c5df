"""Cells: what a column with a tolerance t has in its row bytes instead of the value. This is their specification.

          -2t        -t         0         t         2t        3t        4t
    grid    [       cell -1     [       cell 0      [       cell 1      [
    shifted           [      cell 0      [      cell 1       [      cell 2

All values that lie within t of one another share a cell of one of the two grids: for a border of each to lie above the
smallest and not above the largest, these must be more than t apart, as every two borders are t apart or more. Values
2t or more apart share none: a cell is 2t wide and half open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Final

from paritree.core.canonical.numbers import Digits, checked_float, encode_special, encode_whole, ruled_decimal
from paritree.core.errors import InvariantBroken
from paritree.core.types import LogicalType

_STR_DIGITS_MAX: Final = 4_000
"""Digits that Python reads as an int at once; its limit is 4,300."""
Halves = Callable[[object], "int | str"]


def cell_encoder(kind: LogicalType, *, shifted: bool = False) -> Callable[[object], bytes]:
    """The function from a plain value to its cell's canonical bytes, on the grid or on the one shifted by t.

    It raises DeadLetter for what does not fit the type. Raises InvariantBroken for a type without a tolerance.
    """
    halves = _halves(kind)

    def encode_cell(value: object) -> bytes:
        half = halves(value)
        return encode_special(half) if isinstance(half, str) else encode_whole((half + shifted) >> 1)

    return encode_cell


def _halves(kind: LogicalType) -> Halves:
    """floor(v / t) of a value, or the name of one that is no number: both grids' cells follow from it exactly."""
    if kind.tolerance is None:
        raise InvariantBroken(f"a {kind.name} without a tolerance has no cells")
    tolerance = Fraction(kind.tolerance)

    def of_decimal(value: object) -> int | str:
        number = ruled_decimal(value, kind.scale, kind.rounding_mode)
        return number if isinstance(number, str) else _floor(*_ratio(number), tolerance)

    def of_float(value: object) -> int | str:
        number = checked_float(value)
        if math.isfinite(number):
            return _floor(*number.as_integer_ratio(), tolerance)
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"

    return of_decimal if kind.name == "decimal" else of_float


def _floor(numerator: int, denominator: int, tolerance: Fraction) -> int:
    """floor(numerator / denominator / tolerance); the denominator is above 0."""
    return numerator * tolerance.denominator // (denominator * tolerance.numerator)


def _ratio(number: Digits) -> tuple[int, int]:
    digits = number.digits or "0"
    whole = int(digits) if len(digits) < _STR_DIGITS_MAX else int(Decimal(digits))
    signed = -whole if number.negative else whole
    return (signed * 10**number.exponent, 1) if number.exponent >= 0 else (signed, 10**-number.exponent)
