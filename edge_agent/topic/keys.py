"""From what messages say to the dataset's key columns: JSON values -> plain values -> a batch of carriers.

A value is read in one way or not at all: where JSON leaves open what a text or a number means (the unit of a time, a
decimal in base64), the message's schema or the agent's file has to say it. A key that does not fit is
:class:`Malformed`, never another key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from edge_agent.topic.envelope import Malformed, Said
from paritree.core.errors import ConfigError, DeadLetter
from paritree.core.profile import Binding, BoundColumn
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType

DIGITS_MAX: Final = 1_000
"""Of one number: more than any engine's key has."""
NANOS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_CARRIERS: Final[Mapping[str, pa.DataType]] = {
    "bool": pa.bool_(),
    "int": pa.utf8(),
    "decimal": pa.utf8(),
    "float": pa.float64(),
    "text": pa.utf8(),
    "bytes": pa.binary(),
    "date": pa.int64(),
    "time": pa.int64(),
    "timestamp": pa.int64(),
    "datetime": pa.int64(),
    "uuid": pa.binary(16),
    "inet": pa.utf8(),
}
_INT64: Final = range(-(2**63), 2**63)
_SEMANTIC: Final[Mapping[str, str]] = {
    "io.debezium.time.Date": "days",
    "io.debezium.time.Time": "ms",
    "io.debezium.time.MicroTime": "us",
    "io.debezium.time.NanoTime": "ns",
    "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us",
    "io.debezium.time.NanoTimestamp": "ns",
    "org.apache.kafka.connect.data.Date": "days",
    "org.apache.kafka.connect.data.Time": "ms",
    "org.apache.kafka.connect.data.Timestamp": "ms",
}
"""What a Connect schema calls a number that is a time -> its unit."""
_DECIMAL: Final = "org.apache.kafka.connect.data.Decimal"


@dataclass(frozen=True, slots=True)
class KeyField:
    """Where one key column is in a message: ``name`` of the field, ``form`` of its value where JSON leaves it open.

    Forms: of times ``s``, ``ms``, ``us``, ``ns`` (numbers) and ``days`` of dates; of decimals ``text``; of bytes
    ``base64`` or ``hex``; "": what the message's schema says, else text in ISO 8601 and bytes in base64.
    """

    name: str
    form: str = ""


FORMS: Final[Mapping[str, frozenset[str]]] = {
    "decimal": frozenset({"text"}),
    "bytes": frozenset({"base64", "hex"}),
    "date": frozenset({"days", "text"}),
    "time": frozenset({*NANOS, "text"}),
    "timestamp": frozenset({*NANOS, "text"}),
    "datetime": frozenset({*NANOS, "text"}),
}
"""The forms that a field of a logical type may have."""


@dataclass(frozen=True, slots=True)
class KeyReader:
    """Reads the keys of one binding. Make it with :meth:`of`."""

    columns: tuple[BoundColumn, ...]
    fields: tuple[KeyField | None, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, binding: Binding, said: Mapping[str, KeyField], *, native: bool) -> KeyReader:
        """``said`` are fields by key column; others are named as the table's column (``native``) or the dataset's.

        Raises ConfigError for a column that is no key column, or that cannot be read from a message.
        """
        where = f"refresh.{binding.dataset}.topic.columns"
        if not binding.key:
            raise ConfigError(
                f"{where}: changes name rows by their key, and this dataset's key is the whole row",
                next_step=f"remove [refresh.{binding.dataset}] from the agent's file, or give the dataset a key",
            )
        if strange := sorted(said.keys() - set(binding.key)):
            raise ConfigError(f"{where}: {strange[0]} is no key column; they are {', '.join(binding.key)}")
        fields: list[KeyField | None] = []
        constants: dict[str, Any] = {}
        for column in binding.key_columns:
            if column.constant is not None:
                constants[column.name] = _constant(column)
                fields.append(None)
                continue
            name = column.source if native else column.name
            if column.name not in said and name is None:
                raise ConfigError(
                    f"{where}: no field of a message is known to hold {column.name}, which the table computes",
                    next_step=f'add {column.name} = "the field that has its value"',
                )
            one = said.get(column.name) or KeyField(name or "")
            _demand_form(where, column, one)
            fields.append(one)
        return cls(binding.key_columns, tuple(fields), constants)

    def keys(self, said: Said) -> list[tuple[Any, ...]]:
        """The keys of one message, as plain values in the order of the binding's key. Raises Malformed."""
        return [self._key(row, said.types) for row in said.rows]

    def _key(self, row: Any, types: Mapping[str, tuple[str, int | None]]) -> tuple[Any, ...]:
        sought = [one for one in self.fields if one is not None]
        if isinstance(row, list):
            if len(row) != len(sought):
                raise Malformed(f"a key of {len(row)} values, where {len(sought)} are needed")
            cells = iter(row)
        elif isinstance(row, dict):
            if missing := [one.name for one in sought if one.name not in row]:
                raise Malformed(f"it has no '{missing[0]}', which is of the key")
            cells = iter([_cell(row[one.name]) for one in sought])
        elif len(sought) == 1:
            cells = iter([row])
        else:
            raise Malformed(f"one value, where the key has {len(sought)}")
        return tuple(
            self.constants[column.name] if one is None else _value(column, one, next(cells), types.get(one.name))
            for column, one in zip(self.columns, self.fields, strict=True)
        )

    def batch(self, keys: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        """Keys as a batch of carriers by logical name."""
        columns = list(zip(*keys, strict=True)) if keys else [()] * len(self.columns)
        arrays = [_array(column.type.name, values) for column, values in zip(self.columns, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, [column.name for column in self.columns])


def _constant(column: BoundColumn) -> Any:
    try:
        return parse_text(column.constant or "", column.type)
    except DeadLetter as error:
        raise ConfigError(f"the constant of key column {column.name} is {error.message}") from None


def _demand_form(where: str, column: BoundColumn, one: KeyField) -> None:
    kind = column.type.name
    if kind not in _CARRIERS:
        raise ConfigError(
            f"{where}: a key column of type {kind} ({column.name}) cannot be read from messages",
            next_step='write changes = "none" for this dataset',
        )
    if one.form and one.form not in FORMS.get(kind, ()):
        forms = ", ".join(sorted(FORMS.get(kind, ()))) or "none"
        raise ConfigError(f"{where}.{column.name}: no form '{one.form}' of a {kind}; there is: {forms}")


def _array(kind: str, values: Sequence[Any]) -> pa.Array:
    if kind == "int" and all(int(value) in _INT64 for value in values):
        return pa.array([int(value) for value in values], pa.int64())
    return pa.array(values, _CARRIERS[kind])


def _cell(value: Any) -> Any:
    """A cell of Debezium's connector for Cassandra is ``{"value": ..., "deletion_ts": ..., "set": ...}``."""
    return value["value"] if isinstance(value, dict) and value.keys() >= {"value", "set"} else value


def _value(column: BoundColumn, one: KeyField, value: Any, semantic: tuple[str, int | None] | None) -> Any:
    """The plain value of one cell."""
    if value is None:
        raise Malformed(f"'{one.name}', which is of the key, is null: it is not one row that was changed")
    name, scale = semantic or ("", None)
    form = one.form or _SEMANTIC.get(name, "")
    kind = column.type
    try:
        if kind.name == "decimal" and name == _DECIMAL and not one.form:
            return _unscaled(value, scale)
        return _READERS[kind.name](value, kind, form)
    except DeadLetter as error:
        raise Malformed(f"'{one.name}': {error.message}") from None


def _int(value: Any, _: LogicalType, __: str) -> str:
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) <= DIGITS_MAX:
        return str(int(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DeadLetter("not an int")


def _decimal(value: Any, _: LogicalType, form: str) -> str:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and form == "text" and len(value) <= DIGITS_MAX:
        try:
            if (number := Decimal(value)).is_finite():
                return str(number)
        except ArithmeticError:
            pass
        raise DeadLetter("not a decimal")
    raise DeadLetter('a text that may be a decimal or its bytes in base64: say form = "text" if it is the former')


def _unscaled(value: Any, scale: int | None) -> str:
    """Connect's decimals: the unscaled integer's bytes, big endian, in base64."""
    if scale is None:
        raise DeadLetter("a decimal whose schema has no scale")
    number = int.from_bytes(_base64(value), "big", signed=True)
    if abs(number) >= 10**DIGITS_MAX:
        raise DeadLetter("a decimal of too many digits")
    return str(Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale)))


def _float(value: Any, kind: LogicalType, _: str) -> Any:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return parse_text(str(value), kind)
    if isinstance(value, str):
        return parse_text(value, kind)
    raise DeadLetter("not a float")


def _bool(value: Any, _: LogicalType, __: str) -> bool:
    if isinstance(value, bool):
        return value
    raise DeadLetter("not a bool")


def _text(value: Any, _: LogicalType, __: str) -> str:
    if not isinstance(value, str):
        raise DeadLetter("not a text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DeadLetter("a text with half of a character")
    return value


def _bytes(value: Any, kind: LogicalType, form: str) -> Any:
    if form == "hex":
        return parse_text(_text(value, kind, ""), kind)
    return _base64(value)


def _base64(value: Any) -> bytes:
    try:
        if isinstance(value, str):
            return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        pass
    raise DeadLetter("not bytes in base64")


def _time(value: Any, kind: LogicalType, form: str) -> Any:
    if isinstance(value, str) and form in ("", "text"):
        parsed = parse_text(value, kind)
        if type(parsed) is not int:
            raise DeadLetter("a time finer than a microsecond")
        return parsed
    if not isinstance(value, int) or isinstance(value, bool):
        raise DeadLetter("not a time")
    if form == "days" and kind.name == "date":
        ticks = value
    elif form in NANOS and kind.name != "date":
        ticks, rest = divmod(value * NANOS[form], 1_000)
        if rest:
            raise DeadLetter("a time finer than a microsecond")
    else:
        raise DeadLetter("a number without a unit: say form = s, ms, us or ns (days of dates)")
    if ticks not in _INT64:
        raise DeadLetter("time outside the range of 64-bit integers")
    return ticks


def _uuid(value: Any, kind: LogicalType, _: str) -> Any:
    return parse_text(_text(value, kind, ""), kind)


_READERS: Final[Mapping[str, Callable[[Any, LogicalType, str], Any]]] = {
    **dict.fromkeys(("date", "time", "timestamp", "datetime"), _time),
    "int": _int,
    "decimal": _decimal,
    "float": _float,
    "bool": _bool,
    "text": _text,
    "inet": _text,
    "bytes": _bytes,
    "uuid": _uuid,
}
