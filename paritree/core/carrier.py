"""From Arrow carriers to plain values, the domain of the canonical encoder (the table is in the connector contract).

Plain values: bool · int · decimal as Decimal or text · float · str · bytes · date as int days · time, timestamp and
datetime as int microseconds (:class:`Nanos` where the source has nanoseconds) · uuid as 16 bytes · duration as
(months, days, microseconds) · inet and json as text · list and set as list · map as list of pairs · struct as dict.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

from paritree.core import compute as pc
from paritree.core.canonical.times import Nanos
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY_MS = 86_400_000
_EXTENSIONS = {"arrow.uuid": ("uuid",), "arrow.json": ("json", "text")}
"""Extension type -> the logical types for which its storage is a carrier."""


def plain_values(array: pa.Array, kind: LogicalType) -> list[Any]:
    """The plain values of a carrier array, None for null, a DeadLetter instance for a value that does not fit.

    Raises InvariantBroken for an Arrow type that is no carrier of the logical type: a connector's mistake.
    """
    array = _decoded(array, kind)
    if pa.types.is_null(array.type):
        return [None] * len(array)
    return _READERS[kind.name](array, kind)


def _decoded(array: pa.Array, kind: LogicalType) -> pa.Array:
    """Without the encodings that change no value: dictionaries, run ends, extension types of one known meaning."""
    if isinstance(array, pa.ExtensionArray):
        if kind.name not in _EXTENSIONS.get(array.type.extension_name, ()):
            raise _no_carrier(array, kind)
        return _decoded(array.storage, kind)
    if pa.types.is_dictionary(array.type):
        return _decoded(array.dictionary_decode(), kind)
    if pa.types.is_run_end_encoded(array.type):
        return _decoded(pc.run_end_decode(array), kind)
    return array


def _no_carrier(array: pa.Array, kind: LogicalType) -> InvariantBroken:
    return InvariantBroken(f"Arrow type {array.type} is no carrier of {kind}")


def _guarded(convert: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    """Convert what is neither null nor a dead letter already. A dead letter's traceback would keep the batch alive."""
    out: list[Any] = []
    for value in values:
        try:
            out.append(value if value is None or isinstance(value, DeadLetter) else convert(value))
        except DeadLetter as error:
            out.append(error.with_traceback(None))
    return out


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _strings(array: pa.Array) -> list[Any]:
    """Text of utf8 carriers, whose bytes a connector may not have checked, and of binary ones."""
    if _is_text(array.type):
        try:
            return list(array.to_pylist())
        except UnicodeDecodeError:
            array = array.cast(pa.large_string()).cast(pa.large_binary())

    def decode(value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DeadLetter("text that is not UTF-8") from None

    return _guarded(decode, array.to_pylist())


def _parsed(array: pa.Array, kind: LogicalType) -> list[Any]:
    return _guarded(lambda text: parse_text(text, kind), _strings(array))


def _bools(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_boolean(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _numbers(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_integer(array.type) or pa.types.is_decimal(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _strings(array)
    raise _no_carrier(array, kind)


def _floats(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_floating(array.type):
        return list(array.cast(pa.float64()).to_pylist())
    if pa.types.is_integer(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _texts(array: pa.Array, kind: LogicalType) -> list[Any]:
    if _is_text(array.type) or _is_binary(array.type):
        return _strings(array)
    raise _no_carrier(array, kind)


def _bytes(array: pa.Array, kind: LogicalType) -> list[Any]:
    if _is_binary(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _dates(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_date32(array.type):
        return list(array.cast(pa.int32()).to_pylist())
    if pa.types.is_date64(array.type):
        return _guarded(_midnight, array.cast(pa.int64()).to_pylist())
    if pa.types.is_integer(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _midnight(millis: int) -> int:
    days, rest = divmod(millis, _DAY_MS)
    if rest:
        raise DeadLetter("a date that is not midnight")
    return days


def _times(array: pa.Array, kind: LogicalType) -> list[Any]:
    if _is_text(array.type):
        return _parsed(array, kind)
    if pa.types.is_integer(array.type):
        return list(array.to_pylist())
    if pa.types.is_time32(array.type):
        return _ticks(array.cast(pa.int32()).cast(pa.int64()), array.type.unit)
    if pa.types.is_time64(array.type):
        return _ticks(array.cast(pa.int64()), array.type.unit)
    raise _no_carrier(array, kind)


def _instants(array: pa.Array, kind: LogicalType) -> list[Any]:
    if _is_text(array.type):
        return _parsed(array, kind)
    if pa.types.is_integer(array.type):
        return list(array.to_pylist())
    if not pa.types.is_timestamp(array.type):
        raise _no_carrier(array, kind)
    if (array.type.tz is None) != (kind.name == "datetime"):
        raise InvariantBroken(f"{array.type} in a {kind.name} column: an instant and a local time are never mixed")
    return _ticks(array.cast(pa.int64()), array.type.unit)


def _ticks(array: pa.Array, unit: str) -> list[Any]:
    """Arrow's own times are finite, so one that looks like an infinity is none; engines that have them give int64."""
    if unit == "ns":
        return [None if v is None else Nanos(v) for v in array.to_pylist()]
    factor = _UNIT_US[unit]

    def micros(value: int) -> int:
        if not INT64_MIN < value * factor < INT64_MAX:
            raise DeadLetter("time outside the range of 64-bit microseconds")
        return value * factor

    return _guarded(micros, array.to_pylist())


def _durations(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_fixed_size_binary(array.type) and array.type.byte_width == 16:
        return _guarded(lambda v: struct.unpack(">iiq", v), array.to_pylist())
    if array.type == pa.month_day_nano_interval():
        return _guarded(_month_day_nano, array.to_pylist())
    if pa.types.is_duration(array.type):
        unit = array.type.unit
        return _guarded(lambda v: _elapsed(v, unit), array.cast(pa.int64()).to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _month_day_nano(value: Any) -> tuple[int, int, int]:
    months, days, nanos = value
    return months, days, _elapsed(nanos, "ns")[2]


def _elapsed(ticks: int, unit: str) -> tuple[int, int, int]:
    """An elapsed time has neither months nor days."""
    if unit != "ns":
        return 0, 0, ticks * _UNIT_US[unit]
    micros, rest = divmod(ticks, 1_000)
    if rest:
        raise DeadLetter("duration finer than a microsecond")
    return 0, 0, micros


def _windows(array: pa.Array, kind: LogicalType) -> list[tuple[int, int] | None]:
    """Where each list's or map's items are in the child; None where it is null, whatever lies in the child there."""
    arrow = array.type
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_map(arrow):
        edges = array.offsets.to_pylist()
        windows = list(itertools.pairwise(edges))
    elif pa.types.is_list_view(arrow) or pa.types.is_large_list_view(arrow):
        pairs = zip(array.offsets.to_pylist(), array.sizes.to_pylist(), strict=True)
        windows = [(offset, offset + size) for offset, size in pairs]
    elif pa.types.is_fixed_size_list(arrow):
        size = arrow.list_size
        windows = [(i * size, (i + 1) * size) for i in range(array.offset, array.offset + len(array))]
    else:
        raise _no_carrier(array, kind)
    valid = pc.is_valid(array).to_pylist()
    return [window if ok else None for window, ok in zip(windows, valid, strict=True)]


def _items(child: pa.Array, windows: list[tuple[int, int] | None], kind: LogicalType) -> list[list[Any] | None]:
    """The child's plain values window by window; only the part of the child that the windows cover is read."""
    covered = [window for window in windows if window is not None and window[0] < window[1]]
    start = min((low for low, _ in covered), default=0)
    stop = max((high for _, high in covered), default=start)
    items = plain_values(child.slice(start, stop - start), kind)
    return [None if w is None else items[w[0] - start : w[1] - start] if w[0] < w[1] else [] for w in windows]


def _lists(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_map(array.type):
        raise _no_carrier(array, kind)
    windows = _windows(array, kind)
    return [None if items is None else _dead(items) or items for items in _items(array.values, windows, kind.of[0])]


def _maps(array: pa.Array, kind: LogicalType) -> list[Any]:
    if not pa.types.is_map(array.type):
        raise _no_carrier(array, kind)
    windows = _windows(array, kind)
    out: list[Any] = []
    columns = _items(array.keys, windows, kind.of[0]), _items(array.items, windows, kind.of[1])
    for keys, items in zip(*columns, strict=True):
        if keys is None or items is None:
            out.append(None)
        else:
            out.append(_dead(keys) or _dead(items) or list(zip(keys, items, strict=True)))
    return out


def _structs(array: pa.Array, kind: LogicalType) -> list[Any]:
    if not pa.types.is_struct(array.type):
        raise _no_carrier(array, kind)
    fields = dict(kind.fields)
    names = [field.name for field in array.type]
    if len(set(names)) < len(names):
        raise InvariantBroken("struct carrier with two fields of one name")
    valid = pc.is_valid(array).to_pylist()
    if not set(names) <= set(fields):
        return [DeadLetter("struct with an undeclared field") if ok else None for ok in valid]
    columns = [plain_values(array.field(i), fields[name]) for i, name in enumerate(names)]
    rows = zip(*columns, strict=True) if columns else itertools.repeat(())
    return [
        None if not ok else _dead(row) or dict(zip(names, row, strict=True))
        for ok, row in zip(valid, rows, strict=bool(columns))
    ]


def _dead(values: Iterable[Any]) -> DeadLetter | None:
    return next((value for value in values if isinstance(value, DeadLetter)), None)


_READERS: dict[str, Callable[[pa.Array, LogicalType], list[Any]]] = {
    "bool": _bools,
    "int": _numbers,
    "decimal": _numbers,
    "float": _floats,
    "text": _texts,
    "bytes": _bytes,
    "date": _dates,
    "time": _times,
    "timestamp": _instants,
    "datetime": _instants,
    "uuid": _bytes,
    "duration": _durations,
    "inet": _texts,
    "json": _texts,
    "list": _lists,
    "set": _lists,
    "map": _maps,
    "struct": _structs,
}
