"""Which kernel reads and puts a carrier, and where its buffers are: an Arrow array becomes one row of ``layout`` words.

No numba here. :func:`described` returns None for what has no kernel (nested types, json, inet, text forms of times, …):
that column takes the plain path. One with a tolerance has its cell numbers made by ``cells``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core import compute as pc
from paritree.core import placed
from paritree.core.errors import InvariantBroken
from paritree.core.fast import layout as at
from paritree.core.types import LogicalType

Words = NDArray[np.int64]
Choice = Mapping[int, int]
"""The words of a column that depend on types only."""

_ROUNDINGS = {"floor": at.FLOOR, "truncate": at.TRUNCATE, "half_up": at.HALF_UP, "half_even": at.HALF_EVEN}
_RULES = {"nfc": at.RULE_NFC, "rtrim": at.RULE_RTRIM, "casefold": at.RULE_CASEFOLD}
_EXT = {"date": 2, "time": 3, "timestamp": 4, "datetime": 5, "uuid": 6, "duration": 7}
_TICK_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NS_IN_US = 1_000
_EXTENSIONS = {"arrow.uuid": "uuid", "arrow.json": "text"}
"""Extension type -> the logical type with a kernel for which its storage is a carrier."""
_DIGITS_MAX = 38
"""Digits of a decimal128."""
_EXT_OF_8, _EXT_OF_16 = 0xD7, 0xD8
_INTEGERS = {
    pa.int8(): at.READ_I8,
    pa.int16(): at.READ_I16,
    pa.int32(): at.READ_I32,
    pa.int64(): at.READ_I64,
    pa.uint8(): at.READ_U8,
    pa.uint16(): at.READ_U16,
    pa.uint32(): at.READ_U32,
    pa.uint64(): at.READ_U64,
}
_TEXTS = (pa.utf8(), pa.large_utf8())
_BINARIES = (pa.binary(), pa.large_binary())
_LARGE = (pa.large_utf8(), pa.large_binary())


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the kernels see it. ``kept`` owns the memory that the words point to."""

    words: Words
    kept: tuple[Any, ...]
    span_bytes: int
    """Bytes of all its spans, 0 for a column of values."""


def described(array: pa.Array, kind: LogicalType, number: int, *, in_key: bool) -> Column | None:
    """The column as words, or None without a kernel. Raises InvariantBroken for buffers that are too short.

    Nanoseconds in a key have none: each must be looked at, whether it is a whole number of microseconds.
    """
    array = normal(array, kind)
    choice = chosen(array.type, kind)
    if choice is None or (in_key and getattr(array.type, "unit", "") == "ns"):
        return None
    words = np.zeros(at.WORDS, np.int64)
    for place, value in choice.items():
        words[place] = value
    words[at.NUMBER] = number
    span_bytes = _place(array, words)
    return Column(words, (array,), span_bytes)


@dataclass(frozen=True, slots=True)
class _Form:
    """The carrier that the source's decoder would give, and the kernel that reads the bytes themselves."""

    carrier: pa.DataType
    read: int | None = None
    kinds: frozenset[str] = frozenset()
    """The logical types for which it does; empty for all that the carrier has kernels for."""


_NUMBERS = frozenset({"int", "decimal"})
_FORMS = {
    placed.BOOL: _Form(pa.bool_(), at.READ_BYTE_BOOL),
    placed.INT8: _Form(pa.int8(), at.READ_BIG_8),
    placed.INT16: _Form(pa.int16(), at.READ_BIG_16),
    placed.INT32: _Form(pa.int32(), at.READ_BIG_32),
    placed.INT64: _Form(pa.int64(), at.READ_BIG_64),
    placed.FLOAT32: _Form(pa.float32(), at.READ_BIG_F32),
    placed.FLOAT64: _Form(pa.float64(), at.READ_BIG_64),
    placed.TEXT: _Form(pa.utf8()),
    placed.BYTES: _Form(pa.binary()),
    placed.UUID: _Form(pa.binary(16), kinds=frozenset({"uuid"})),
    placed.VARINT: _Form(pa.int64(), at.READ_VARINT),
    placed.SCALED: _Form(pa.utf8(), at.READ_SCALED, _NUMBERS),
    placed.NUMERIC: _Form(pa.utf8(), at.READ_NUMERIC, _NUMBERS),
    placed.DAYS_2000: _Form(pa.int64(), at.READ_DAYS_2000),
    placed.US_2000: _Form(pa.int64(), at.READ_US_2000),
    placed.US_OF_DAY: _Form(pa.int64(), at.READ_BIG_64),
    placed.DAYS_CENTERED: _Form(pa.date32(), at.READ_DAYS_CENTERED),
    placed.MS_1970: _Form(pa.timestamp("ms", "UTC"), at.READ_BIG_64),
}


def described_placed(
    column: placed.PlacedColumn, data: NDArray[np.uint8], kind: LogicalType, number: int
) -> Column | None:
    """As :func:`described`, of values in the source's own bytes. None: take the column as its carrier."""
    form = _FORMS[column.form]
    choice = None if form.kinds and kind.name not in form.kinds else chosen(form.carrier, kind)
    if choice is None:
        return None
    rows = len(column.at)
    for places in (column.at, column.size):
        if places.dtype != np.int32 or places.shape != (rows,) or not places.flags.c_contiguous:
            raise InvariantBroken("places and sizes are int32, one a row, side by side")
    words = np.zeros(at.WORDS, np.int64)
    for place, value in choice.items():
        words[place] = value
    if form.read is not None:
        words[at.READ] = form.read
    words[at.DATA], words[at.DATA_BYTES] = data.ctypes.data, len(data)
    words[at.OFFSETS], words[at.SIZES] = column.at.ctypes.data, column.size.ctypes.data
    words[at.NUMBER] = number
    # Each null counts as -1 in the sum: this is enough, and needs no array of its own.
    span_bytes = int(column.size.sum(dtype=np.int64)) + rows if words[at.SPAN_COUNTS] else 0
    return Column(words, (data, column), span_bytes)


def check_offsets(array: pa.Array, what: str) -> None:
    """Raise InvariantBroken where the offsets of an array or of what it holds go back or past the end of their data.

    ``what`` begins the message, as in "column 'note'".
    """
    kind = array.type
    if pa.types.is_struct(kind):
        for i in range(kind.num_fields):
            check_offsets(array.field(i), what)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        _check(np.asarray(array.offsets), len(array.values), what)
        check_offsets(array.values, what)
    elif kind in _TEXTS or kind in _BINARIES:
        _, offsets, data = array.buffers()
        width = np.int64 if kind in _LARGE else np.int32
        if len(array):
            known = np.frombuffer(offsets, width)[array.offset : array.offset + len(array) + 1]
            _check(known, 0 if data is None else data.size, what)


def _check(offsets: NDArray[Any], items: int, what: str) -> None:
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > items or (offsets[1:] < offsets[:-1]).any()):
        raise InvariantBroken(f"{what}: Arrow offsets go back or past the end of their data")


def canonical_column(packed: list[bytes], number: int) -> Column:
    """A column whose canonical bytes are there already."""
    data = np.frombuffer(b"".join(packed), np.uint8)
    offsets = np.zeros(len(packed) + 1, np.int64)
    np.cumsum([len(item) for item in packed], out=offsets[1:])
    words = np.zeros(at.WORDS, np.int64)
    words[at.READ], words[at.PUT] = at.READ_SPAN, at.PUT_CANONICAL
    words[at.DATA], words[at.DATA_BYTES] = data.ctypes.data, len(data)
    words[at.OFFSETS], words[at.WIDTH] = offsets.ctypes.data, 8
    words[at.SPAN_COUNTS], words[at.NUMBER] = 1, number
    return Column(words, (data, offsets), len(data))


def normal(array: pa.Array, kind: LogicalType) -> pa.Array:
    """Rarer carriers as the ones that have a kernel; every conversion is exact."""
    carrier = array.type
    if isinstance(array, pa.ExtensionArray) and _EXTENSIONS.get(carrier.extension_name) == kind.name:
        return normal(array.storage, kind)
    if pa.types.is_dictionary(carrier):
        return normal(array.dictionary_decode(), kind)
    if pa.types.is_run_end_encoded(carrier):
        return normal(pc.run_end_decode(array), kind)
    if pa.types.is_string_view(carrier):
        return array.cast(pa.large_utf8())
    if pa.types.is_binary_view(carrier):
        return array.cast(pa.large_binary())
    if pa.types.is_float16(carrier):
        return array.cast(pa.float32())
    if pa.types.is_decimal(carrier) and not pa.types.is_decimal128(carrier) and carrier.precision <= _DIGITS_MAX:
        return array.cast(pa.decimal128(carrier.precision, carrier.scale))
    return array


def _place(array: pa.Array, words: Words) -> int:
    """Fill in where the array's buffers are; the bytes of all spans."""
    rows, first, buffers = len(array), array.offset, array.buffers()
    words[at.BIT] = first
    if words[at.READ] == at.READ_NONE:
        return 0
    if array.null_count:
        words[at.VALIDITY] = address_of(buffers[0], first + rows, 1)
    if words[at.READ] == at.READ_BIT:
        words[at.DATA] = address_of(buffers[1], first + rows, 1)
    elif len(buffers) == 3:
        width = 8 if array.type in _LARGE else 4
        words[at.OFFSETS] = address_of(buffers[1], first + rows + 1, 8 * width) + first * width
        words[at.WIDTH] = width
        if buffers[2] is not None:
            words[at.DATA], words[at.DATA_BYTES] = buffers[2].address, buffers[2].size
        ends = np.frombuffer(buffers[1], np.int64 if width == 8 else np.int32)[[first, first + rows]]
        return max(0, int(ends[1]) - int(ends[0]))
    else:
        bits = int(array.type.bit_width)
        words[at.DATA] = address_of(buffers[1], first + rows, bits) + first * bits // 8
        words[at.DATA_BYTES] = buffers[1].size - first * bits // 8
        words[at.WIDTH] = bits // 8
        return rows * bits // 8 if words[at.SPAN_COUNTS] else 0
    return 0


def address_of(buffer: pa.Buffer | None, items: int, bits: int) -> int:
    """Where a buffer begins. Raises InvariantBroken unless it holds so many items of so many bits."""
    if buffer is None or 8 * buffer.size < items * bits:
        raise InvariantBroken("an Arrow buffer is shorter than its array")
    return int(buffer.address)


@cache
def chosen(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    """The kernels for values of a type in an Arrow type, as words of ``layout``; None without."""
    if pa.types.is_null(carrier):
        return {at.READ: at.READ_NONE, at.PUT: at.PUT_NIL, at.BYTES_MAX: 1}
    chooser = _CHOOSERS.get(kind.name) if kind.tolerance is None else None
    return None if chooser is None else chooser(carrier, kind)


def _values(read: int, put: int, bytes_max: int, more: Choice | None = None) -> Choice:
    return {at.READ: read, at.PUT: put, at.BYTES_MAX: bytes_max, **(more or {})}


def _bool(carrier: pa.DataType, _kind: LogicalType) -> Choice | None:
    return _values(at.READ_BIT, at.PUT_BOOL, 1) if pa.types.is_boolean(carrier) else None


def _int(carrier: pa.DataType, _kind: LogicalType) -> Choice | None:
    if carrier in _INTEGERS:
        put = at.PUT_UNSIGNED if carrier == pa.uint64() else at.PUT_INT
        return _values(_INTEGERS[carrier], put, 9)
    if pa.types.is_decimal128(carrier) and carrier.scale == 0:
        return _values(at.READ_DECIMAL128, at.PUT_INT, 9)
    return _values(at.READ_TEXT_INT, at.PUT_INT, 9) if carrier in _TEXTS else None


def _decimal(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    to = {at.SCALE_TO: -1 if kind.scale is None else kind.scale, at.ROUNDING: _ROUNDINGS[kind.rounding_mode]}
    bytes_max = at.SCALE_READ_MAX + 8
    if carrier in _INTEGERS:
        return _values(_INTEGERS[carrier], at.PUT_DECIMAL, bytes_max, to)
    if pa.types.is_decimal128(carrier) and 0 <= carrier.scale <= at.SCALE_READ_MAX:
        return _values(at.READ_DECIMAL128, at.PUT_DECIMAL, bytes_max, {**to, at.SCALE: carrier.scale})
    return _values(at.READ_TEXT_DECIMAL, at.PUT_DECIMAL, bytes_max, to) if carrier in _TEXTS else None


def _float(carrier: pa.DataType, _kind: LogicalType) -> Choice | None:
    if carrier in _INTEGERS:
        return _values(_INTEGERS[carrier], at.PUT_INT_AS_FLOAT, 9)
    read = {pa.float32(): at.READ_F32, pa.float64(): at.READ_I64}.get(carrier)
    return None if read is None else _values(read, at.PUT_FLOAT, 9)


def _is_binary(carrier: pa.DataType) -> bool:
    return carrier in _BINARIES or (isinstance(carrier, pa.FixedSizeBinaryType) and not pa.types.is_decimal(carrier))


def _text(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    if carrier not in _TEXTS and not _is_binary(carrier):
        return None
    rules = sum(_RULES[rule] for rule in kind.rules)
    return _values(at.READ_SPAN, at.PUT_TEXT, 5, {at.RULES: rules, at.SPAN_COUNTS: 1})


def _bytes(carrier: pa.DataType, _kind: LogicalType) -> Choice | None:
    return _values(at.READ_SPAN, at.PUT_BYTES, 5, {at.SPAN_COUNTS: 1}) if _is_binary(carrier) else None


def _head(kind: LogicalType, form: int) -> Choice:
    return {at.HEAD: form | _EXT[kind.name] << 8}


def _date(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    read = at.READ_I32 if pa.types.is_date32(carrier) else _INTEGERS.get(carrier)
    return None if read is None else _values(read, at.PUT_TIME, 10, {**_head(kind, _EXT_OF_8), at.KIND: at.ANY})


def _clock(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    if carrier in _INTEGERS:
        return _timed(_INTEGERS[carrier], "us", kind, at.CLOCK)
    if pa.types.is_time32(carrier):
        return _timed(at.READ_I32, carrier.unit, kind, at.CLOCK)
    return _timed(at.READ_I64, carrier.unit, kind, at.CLOCK) if pa.types.is_time64(carrier) else None


def _moment(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    if carrier in _INTEGERS:
        return _timed(_INTEGERS[carrier], "us", kind, at.INSTANT)
    if not pa.types.is_timestamp(carrier) or (carrier.tz is None) != (kind.name == "datetime"):
        return None
    return _timed(at.READ_I64, carrier.unit, kind, at.FINITE_NS if carrier.unit == "ns" else at.FINITE)


def _timed(read: int, unit: str, kind: LogicalType, allowed: int) -> Choice:
    times = _TICK_US.get(unit, 1)
    ticks = kind.unit_us * (_NS_IN_US if unit == "ns" else 1)
    if allowed == at.INSTANT and times == 1 and ticks == 1:
        allowed = at.ANY  # every int64 is an instant or an infinity, and nothing is rounded
    return _values(
        read,
        at.PUT_TIME,
        10,
        {
            **_head(kind, _EXT_OF_8),
            at.TIMES: times,
            at.UNIT: ticks,
            at.UNIT_US: kind.unit_us,
            at.ROUNDING: _ROUNDINGS[kind.rounding_mode],
            at.KIND: allowed,
        },
    )


def _uuid(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    if carrier in _TEXTS:
        return _values(at.READ_SPAN, at.PUT_UUID_TEXT, 18, _head(kind, _EXT_OF_16))
    return _values(at.READ_SPAN, at.PUT_SIXTEEN, 18, _head(kind, _EXT_OF_16)) if _is_binary(carrier) else None


def _duration(carrier: pa.DataType, kind: LogicalType) -> Choice | None:
    if carrier == pa.month_day_nano_interval():
        return _values(at.READ_SPAN, at.PUT_MONTH_DAY_NANO, 18, _head(kind, _EXT_OF_16))
    if carrier == pa.binary(16):
        return _values(at.READ_SPAN, at.PUT_SIXTEEN, 18, _head(kind, _EXT_OF_16))
    return None


_CHOOSERS: dict[str, Callable[[pa.DataType, LogicalType], Choice | None]] = {
    "bool": _bool,
    "int": _int,
    "decimal": _decimal,
    "float": _float,
    "text": _text,
    "bytes": _bytes,
    "date": _date,
    "time": _clock,
    "timestamp": _moment,
    "datetime": _moment,
    "uuid": _uuid,
    "duration": _duration,
}
