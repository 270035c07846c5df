"""From storage classes to carriers of the profile's type.

sqlite3 gives INTEGER as int, REAL as float, BLOB as bytes and, with ``text_factory = bytearray``, TEXT as bytearray:
so the four are told apart without asking ``typeof`` of every cell, and text that is not UTF-8 arrives unharmed. A
column whose values have one storage class goes out in its own Arrow type; a mixture as utf8, which is parsed later.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from edge_agent.connectors.columns import Item, Reject
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding

TEXT = bytearray
_TIMES = ("date", "time", "timestamp", "datetime")
_NATIVE: dict[str, tuple[type, pa.DataType]] = {
    "bool": (int, pa.bool_()),
    "int": (int, pa.int64()),
    "decimal": (int, pa.int64()),
    "float": (float, pa.float64()),
    "text": (TEXT, pa.utf8()),
    "bytes": (bytes, pa.binary()),
    "date": (TEXT, pa.utf8()),
    "time": (TEXT, pa.utf8()),
    "timestamp": (TEXT, pa.utf8()),
    "datetime": (TEXT, pa.utf8()),
    "uuid": (TEXT, pa.utf8()),
    "duration": (TEXT, pa.utf8()),
    "inet": (TEXT, pa.utf8()),
    "json": (TEXT, pa.utf8()),
}
"""Logical type -> the storage class that it usually has and its carrier."""
_CLASSES: dict[type, str] = {int: "INTEGER", float: "REAL", TEXT: "TEXT", bytes: "BLOB"}
_FLOAT_INTEGER_MAX = 1 << 53


class Misfit(Exception):
    """A value whose storage class does not fit; the message is the reason of the reject."""


def check(binding: Binding) -> None:
    """Raise ConfigError for a column whose type no storage class can hold."""
    for column in binding.columns:
        if column.type.name not in _NATIVE:
            raise ConfigError(
                f"column '{column.name}' of {binding.table}: SQLite has no {column.type}",
                next_step="ignore the column, or compare it as text or json",
            )


def carrier(item: Item, values: Sequence[Any]) -> tuple[pa.Array, list[Reject]]:
    """One column's values as a carrier of the item's type, and the values that do not fit (null in the carrier)."""
    native, arrow = _NATIVE[item.type.name]
    classes = set(map(type, values)) - {type(None)}
    if not classes:
        return pa.nulls(len(values), arrow), []
    if classes == {native}:
        made = _native(values, item.type.name, arrow)
        if made is not None:
            return made, []
    return _mixed(item, values)


def _native(values: Sequence[Any], name: str, arrow: pa.DataType) -> pa.Array | None:
    """The whole column at once, or None where some value must be looked at."""
    if name == "bool":
        return pa.array([None if v is None else v == 1 for v in values], arrow) if _only_bits(values) else None
    if arrow != pa.utf8():
        return pa.array(values, arrow)
    raw = pa.array(values, pa.binary())
    try:
        return raw.cast(pa.utf8())
    except pa.ArrowInvalid:
        return raw if name == "text" else None  # a text column's bytes go out as they are: the row is a dead letter


def _only_bits(values: Sequence[Any]) -> bool:
    return set(values) <= {None, 0, 1}


def _mixed(item: Item, values: Sequence[Any]) -> tuple[pa.Array, list[Reject]]:
    name = "part" if item.part else item.type.name
    made: list[Any] = []
    rejects: list[Reject] = []
    for row, value in enumerate(values):
        try:
            made.append(None if value is None else _one(name, value))
        except Misfit as misfit:
            made.append(None)
            rejects.append((row, item.column, str(misfit)))
    return pa.array(made, pa.binary() if name == "bytes" else pa.utf8()), rejects


def _one(name: str, value: Any) -> str | bytes:
    """One value as text (bytes for a bytes column). Raises Misfit."""
    if name == "bytes":
        if isinstance(value, bytes):
            return value
    elif isinstance(value, TEXT):
        return _decoded(value)
    elif isinstance(value, int):
        if name in ("int", "decimal", "json", "part") or (name == "bool" and value in (0, 1)):
            return str(value)
        if name == "float" and abs(value) <= _FLOAT_INTEGER_MAX:
            return str(value)
    elif isinstance(value, float):
        if name in ("decimal", "float") or (name == "json" and math.isfinite(value)):
            return repr(value)
    elif name == "uuid" and len(value) == 16:
        return str(uuid.UUID(bytes=value))
    raise Misfit(_reason(name, value))


def _decoded(value: bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Misfit("text that is not UTF-8") from None


def _reason(name: str, value: Any) -> str:
    stored = _CLASSES[type(value)]
    if name == "bool" and isinstance(value, int):
        return "an INTEGER other than 0 and 1 in a bool column"
    if name in _TIMES and isinstance(value, int):
        return f"an INTEGER in a {name} column: bind an expression such as {_epoch(name)}"
    if name in _TIMES and isinstance(value, float):
        return f"a REAL in a {name} column: bind an expression such as {_function(name)}(column)"
    if name == "json" and isinstance(value, bytes):
        return "a BLOB in a json column: bind the expression json(column)"
    return f"{stored} storage does not fit a {'text part' if name == 'part' else name} column"


def _epoch(name: str) -> str:
    zone = " || 'Z'" if name == "timestamp" else ""
    return f"{_function(name)}(column, 'unixepoch'){zone}"


def _function(name: str) -> str:
    return "datetime" if name == "timestamp" else name
