"""Look-ups by key: a semi-join with a table of keys, then an exact filter.

The join may match more than was asked (a rounded literal, a caseless collation), never less. Where a key column's type
cannot be compared so (the profile reads it as another type, nanoseconds, nested types), the filter decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa

from edge_agent.connectors.columns import items
from edge_agent.connectors.duckdb.database import Database
from edge_agent.connectors.duckdb.errors import translated
from edge_agent.connectors.duckdb.scan import item_sql, rows
from edge_agent.connectors.duckdb.schema import Table, translated_type, type_name, types
from edge_agent.connectors.keyfilter import Key, KeyFilter, askable, token
from edge_agent.connectors.spellings import micros
from paritree.core.profile import Binding, BoundColumn

KEYS = "paritree_keys"
_INT64_MAX, _INT64_MIN, _INT32_MAX = (1 << 63) - 1, -(1 << 63), (1 << 31) - 1
Compared = tuple[str, pa.DataType, Callable[[Any], Any]]
"""A condition between the column and its key column, the key column's Arrow type, and a plain value as it holds it."""


def find(database: Database, binding: Binding, table: Table, keys: Sequence[Key]) -> Iterator[pa.RecordBatch]:
    """The rows of those keys, each row once."""
    asked = _possible(binding, askable(keys))
    if not asked:
        return
    compared = [_compared(database, column, table, number) for number, column in enumerate(binding.key_columns)]
    conditions = [found[0] for found in compared if found is not None]
    condition = ""
    if conditions:
        columns = {
            f"k{number}": pa.array([found[2](key[number]) for key in asked], found[1])
            for number, found in enumerate(compared)
            if found is not None
        }
        with translated(database.path):
            database.connection.register(KEYS, pa.table(columns))
        condition = f"EXISTS (SELECT 1 FROM {KEYS} AS k WHERE {' AND '.join(conditions)})"
    yield from KeyFilter(binding, asked).matching(rows(database, binding, table, condition))


def _possible(binding: Binding, keys: Sequence[Key]) -> list[Key]:
    """The keys whose parts their types can hold; no row has another."""
    kinds = [column.type for column in binding.key_columns]
    return [key for key in keys if all(token(part, kind) is not None for part, kind in zip(key, kinds, strict=True))]


def _compared(database: Database, column: BoundColumn, table: Table, number: int) -> Compared | None:
    if column.parts or column.constant is not None:
        return None
    left = item_sql(items([column])[0])
    kind = types(database, [left], table)[0]
    _, logical, precision, _ = translated_type(kind)
    if logical is None or logical.name != column.type.name or precision == "ns":
        return None
    made = _BY_TYPE.get(logical.name)
    if made is None:
        return None
    right, arrow, convert = made
    right = right.format(key=f"k.k{number}", type=str(kind))
    return (f"{left}::VARCHAR = {right}" if type_name(kind) == "ENUM" else f"{left} = {right}"), arrow, convert


def _days(part: int) -> int | None:
    if part in (_INT64_MAX, _INT64_MIN):
        return _INT32_MAX if part > 0 else -_INT32_MAX
    return part if -_INT32_MAX < part < _INT32_MAX else None


def _moment(part: int) -> int:
    return -_INT64_MAX if part == _INT64_MIN else micros(part)


def _uuid_text(part: bytes) -> str:
    return part.hex()


def _itself(part: Any) -> Any:
    return part


def _number(part: Any) -> str:
    """Without an exponent, and past Python's limit on the digits of an int."""
    return format(Decimal(part), "f")


_BY_TYPE: dict[str, tuple[str, pa.DataType, Callable[[Any], Any]]] = {
    "bool": ("{key}", pa.bool_(), _itself),
    "int": ("TRY_CAST({key} AS {type})", pa.utf8(), _number),
    "decimal": ("TRY_CAST({key} AS {type})", pa.utf8(), _number),
    "float": ("TRY_CAST({key} AS DOUBLE)", pa.utf8(), repr),
    "text": ("{key}", pa.utf8(), _itself),
    "bytes": ("{key}", pa.binary(), _itself),
    "date": ("{key}", pa.date32(), _days),
    "time": ("{key}", pa.time64("us"), micros),
    "datetime": ("{key}", pa.timestamp("us"), _moment),
    "timestamp": ("{key}", pa.timestamp("us", "UTC"), _moment),
    "uuid": ("TRY_CAST({key} AS UUID)", pa.utf8(), _uuid_text),
}
"""Logical type -> the key's side of the comparison (its column and the source column's type filled in)."""
