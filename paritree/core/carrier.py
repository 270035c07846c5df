"""From Arrow carriers to plain values, the domain of the canonical encoder (the table is in the connector contract).

Plain values: bool · int · decimal as Decimal or text · float · str · bytes · date as int days · time, timestamp and
datetime as int microseconds (:class:`Nanos` where the source has nanoseconds) · uuid as 16 bytes · duration as
(months, days, microseconds) · inet and json as text · list and set as list · map as list of pairs · struct as dict.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from paritree.core.canonical.times import Nanos
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}


def plain_values(array: pa.Array, kind: LogicalType) -> list[Any]:
    """The plain values of a carrier array, None for null, a DeadLetter instance for a value that does not fit.

    Raises InvariantBroken for an Arrow type that is no carrier of the logical type: a connector's mistake.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return [None] * len(array)
    if kind.name in ("list", "set"):
        return _nested(array, lambda: _lists(array, kind))
    if kind.name == "map":
        return _nested(array, lambda: _maps(array, kind))
    if kind.name == "struct":
        return _structs(array, kind)
    reader = _READERS[kind.name]
    return reader(array, kind)


def _no_carrier(array: pa.Array, kind: LogicalType) -> InvariantBroken:
    return InvariantBroken(f"Arrow type {array.type} is no carrier of {kind}")


def _guarded(convert: Callable[[Any], Any], values: list[Any]) -> list[Any]:
    out: list[Any] = []
    for value in values:
        try:
            out.append(None if value is None else convert(value))
        except DeadLetter as error:
            out.append(error)
    return out


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    ) and not pa.types.is_decimal(kind)


def _strings(array: pa.Array) -> list[Any]:
    """Text of utf8 carriers, whose bytes a connector may not have checked, and of binary ones."""
    binary = array.cast(pa.large_binary()) if _is_text(array.type) else array

    def decode(value: bytes) -> str:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DeadLetter("text that is not UTF-8") from None

    return _guarded(decode, binary.to_pylist())


def _parsed(array: pa.Array, kind: LogicalType) -> list[Any]:
    return [
        value if value is None or isinstance(value, DeadLetter) else _try_parse(value, kind)
        for value in _strings(array)
    ]


def _try_parse(value: str, kind: LogicalType) -> Any:
    try:
        return parse_text(value, kind)
    except DeadLetter as error:
        return error


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
    if pa.types.is_integer(array.type):
        return list(array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


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
    values = array.to_pylist()
    if unit == "ns":
        return [None if v is None else Nanos(v) for v in values]
    if unit == "us":
        return list(values)
    factor = _UNIT_US[unit]
    return [None if v is None else v if v in (INT64_MIN, INT64_MAX) else v * factor for v in values]


def _uuids(array: pa.Array, kind: LogicalType) -> list[Any]:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return _parsed(array, kind) if _is_text(array.type) else _bytes(array, kind)


def _durations(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_fixed_size_binary(array.type) and array.type.byte_width == 16:
        return _guarded(lambda v: struct.unpack(">iiq", v), array.to_pylist())
    if array.type == pa.month_day_nano_interval():
        return _guarded(_month_day_nano, array.to_pylist())
    if _is_text(array.type):
        return _parsed(array, kind)
    raise _no_carrier(array, kind)


def _month_day_nano(value: Any) -> tuple[int, int, int]:
    months, days, nanos = value
    micros, rest = divmod(nanos, 1_000)
    if rest:
        raise DeadLetter("duration finer than a microsecond")
    return months, days, micros


def _inets(array: pa.Array, kind: LogicalType) -> list[Any]:
    return _texts(array, kind)


def _nested(array: pa.Array, read: Callable[[], list[Any]]) -> list[Any]:
    if _is_text(array.type):
        raise InvariantBroken("a collection cannot be carried as text")
    return read()


def _offsets(array: pa.Array) -> list[int]:
    return list(np.asarray(array.offsets).tolist())


def _lists(array: pa.Array, kind: LogicalType) -> list[Any]:
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise _no_carrier(array, kind)
    offsets = _offsets(array)
    items = plain_values(array.values, kind.of[0])
    return [
        _first_dead(items[offsets[i] : offsets[i + 1]]) if valid else None
        for i, valid in enumerate(pc.is_valid(array).to_pylist())
    ]


def _maps(array: pa.Array, kind: LogicalType) -> list[Any]:
    if not pa.types.is_map(array.type):
        raise _no_carrier(array, kind)
    offsets = _offsets(array)
    keys = plain_values(array.keys, kind.of[0])
    items = plain_values(array.items, kind.of[1])
    out: list[Any] = []
    for i, valid in enumerate(pc.is_valid(array).to_pylist()):
        window = slice(offsets[i], offsets[i + 1])
        dead = next((v for v in keys[window] + items[window] if isinstance(v, DeadLetter)), None)
        out.append(None if not valid else dead or list(zip(keys[window], items[window], strict=True)))
    return out


def _structs(array: pa.Array, kind: LogicalType) -> list[Any]:
    if not pa.types.is_struct(array.type):
        raise _no_carrier(array, kind)
    fields = dict(kind.fields)
    names = [array.type.field(i).name for i in range(array.type.num_fields)]
    if undeclared := sorted(set(names) - set(fields)):
        raise InvariantBroken(f"struct carrier with the undeclared field '{undeclared[0]}'")
    columns = [plain_values(array.field(i), fields[name]) for i, name in enumerate(names)]
    out: list[Any] = []
    for i, valid in enumerate(pc.is_valid(array).to_pylist()):
        values = [column[i] for column in columns] if valid else []
        dead = next((v for v in values if isinstance(v, DeadLetter)), None)
        out.append(None if not valid else dead or dict(zip(names, values, strict=True)))
    return out


def _first_dead(items: list[Any]) -> Any:
    return next((item for item in items if isinstance(item, DeadLetter)), items)


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
    "uuid": _uuids,
    "duration": _durations,
    "inet": _inets,
    "json": _inets,
}
