"""Cell numbers of whole columns with a tolerance, vectorised and exact; what is left undecided, the plain encoder does.

No numba here. A cell is floor(v · q / p) for 2t = p / q in lowest terms:

- decimals and integers are integers n of one scale, so it is one integer division, where n · q keeps to 64 bits;
- of a float v let h be v · q rounded to a float, and k · p the exact multiple of p that h / p points at. Rounding
  never turns an order round, so h above k · p is v · q above it, and below likewise; only for h = k · p the rounding
  error decides, and that is a float (T. J. Dekker, "A floating-point technique for extending the available
  precision", 1971).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core import compute as pc
from paritree.core.fast.plan import address_of, normal
from paritree.core.types import LogicalType

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

_EXACT: Final = 1 << 53
"""Integers up to here are floats."""
_WORD_MAX: Final = (1 << 63) - 1
_SPLITTER: Final = float((1 << 27) + 1)
"""Cuts a float into two halves of 26 bits each."""
_POWERS: Final = [10**i for i in range(19)]
_TEXT_SCALE: Final = 7
_TEXT: Final = rf"^-?[0-9]{{1,{18 - _TEXT_SCALE}}}(\.[0-9]{{1,{_TEXT_SCALE}}})?$"
"""Texts of at most 18 digits with at most 7 after the point, as engines write their decimals."""
_TEXTS: Final = (pa.utf8(), pa.large_utf8())


@dataclass(frozen=True, slots=True)
class Cells:
    """``numbers`` (int64, n values, null where the column is) and which of them are ``undecided`` (n,)."""

    numbers: pa.Array
    undecided: Marks


def cells_of(array: pa.Array, kind: LogicalType) -> Cells | None:
    """The cells of a column whose type has a tolerance, or None where its carrier or tolerance is not for this way.

    The offsets of texts have been checked. Raises InvariantBroken for buffers that are too short.
    """
    array = normal(array, kind)
    width = 2 * Fraction(kind.tolerance or "0")
    if kind.name == "float" and pa.types.is_floating(array.type):
        found = _of_floats(array, width)
    else:
        unscaled = _unscaled(array, kind)
        found = None if unscaled is None else _of_integers(unscaled, width, kind)
    if found is None:
        return None
    nulls = np.asarray(array.is_null())
    return Cells(pa.array(found.numbers, mask=nulls), ~found.decided & ~nulls)


@dataclass(frozen=True, slots=True)
class _Found:
    """Cell numbers, and where they are decided."""

    numbers: Integers
    decided: Marks


@dataclass(frozen=True, slots=True)
class _Unscaled:
    """Numbers as integers of one scale; what is not ``decided`` did not fit, or is not written as most are."""

    values: Integers
    scale: int
    decided: Marks


def _of_floats(array: pa.Array, width: Fraction) -> _Found | None:
    p, q = width.numerator, width.denominator
    values = _values(_checked(array).cast(pa.float64()))
    if p > _EXACT or q > _EXACT:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        product = values * float(q)
        decided = np.abs(product) < max(_EXACT - 2 * p, 0)  # not so for NaN and the infinities
        values, product = np.where(decided, values, 0.0), np.where(decided, product, 0.0)
    error = _rounding_error(values, float(q), product)
    cells = np.floor(product / float(p))
    border = cells * float(p)  # never too low: the quotient of a product at or above it is not rounded below the cell
    cells -= (product < border) | ((product == border) & (error < 0.0))
    return _Found(cells.astype(np.int64), decided)


def _rounding_error(one: Floats, other: float, product: Floats) -> Floats:
    """one · other − product, exactly, where the product is an integer below 2^53 (nothing underflows there)."""
    high = _high_half(one)
    other_high = float(_high_half(np.array(other)))
    low, other_low = one - high, other - other_high
    error: Floats = ((high * other_high - product) + high * other_low + low * other_high) + low * other_low
    return error


def _high_half(values: Floats) -> Floats:
    spread = values * _SPLITTER
    half: Floats = spread - (spread - values)
    return half


def _unscaled(array: pa.Array, kind: LogicalType) -> _Unscaled | None:
    carrier = array.type
    if pa.types.is_integer(carrier):
        return _of_whole(array, kind)
    if kind.name == "decimal" and carrier in _TEXTS:
        plain = np.asarray(pc.match_substring_regex(array, _TEXT).fill_null(False))
        texts = pc.if_else(pa.array(plain), array, pa.scalar("0", carrier))
        return _Unscaled(_words(texts.cast(pa.decimal128(18, _TEXT_SCALE)))[:, 0], _TEXT_SCALE, plain)
    if kind.name == "decimal" and pa.types.is_decimal128(carrier) and 0 <= carrier.scale < len(_POWERS):
        low, high = _words(_checked(array)).T
        decided = (high == low >> 63) & ~np.asarray(array.is_null())
        return _Unscaled(np.where(decided, low, 0), carrier.scale, decided)
    return None


def _of_whole(array: pa.Array, kind: LogicalType) -> _Unscaled:
    """Integers of any width; whether a float holds one beyond 2^53 is not decided here."""
    values = _values(_checked(array))
    limit = _EXACT if kind.name == "float" else _WORD_MAX
    decided = values <= limit if array.type == pa.uint64() else (values >= -limit) & (values <= limit)
    return _Unscaled(np.where(decided, values, 0).astype(np.int64), 0, decided)


def _checked(array: pa.Array) -> pa.Array:
    """The array, whose values have a fixed width, once its buffers are known to hold them."""
    end, (validity, data) = array.offset + len(array), array.buffers()
    if array.null_count:
        address_of(validity, end, 1)
    if len(array):
        address_of(data, end, array.type.bit_width)
    return array


def _values(array: pa.Array) -> NDArray[Any]:
    """The numbers of an array, 0 where it is null."""
    return np.asarray(array.fill_null(0))


def _words(array: pa.Array) -> Integers:
    """The two words of each 128-bit integer, the low one first."""
    if not len(array):
        return np.empty((0, 2), np.int64)
    return np.frombuffer(array.buffers()[1], np.int64, 2 * len(array), 16 * array.offset).reshape(-1, 2)


def _of_integers(unscaled: _Unscaled, width: Fraction, kind: LogicalType) -> _Found | None:
    """Cells of values / 10**scale, rounded to the type's scale first."""
    values, scale = unscaled.values, unscaled.scale
    if kind.scale is not None and kind.scale < scale:
        values = _rounded(values, _POWERS[scale - kind.scale], kind.rounding_mode)
        scale = kind.scale
    cell = width * 10**scale
    if cell.numerator > _WORD_MAX or cell.denominator > _WORD_MAX:
        return None
    limit = _WORD_MAX // cell.denominator
    decided = unscaled.decided & (-limit <= values) & (values <= limit)
    return _Found(np.where(decided, values, 0) * cell.denominator // cell.numerator, decided)


def _rounded(values: Integers, unit: int, mode: str) -> Integers:
    """The nearest values / unit by ``mode``; ``unit`` is a power of ten up to 10^18."""
    quotient, rest = np.divmod(values, unit)
    above = rest - (unit - rest)  # twice the rest less the unit, which keeps to 64 bits
    match mode:
        case "floor":
            up = np.zeros(len(values), bool)
        case "truncate":
            up = (rest != 0) & (values < 0)
        case "half_up":
            up = (above > 0) | ((above == 0) & (values >= 0))
        case _:
            up = (above > 0) | ((above == 0) & (quotient % 2 == 1))
    return np.asarray(quotient + up, np.int64)
