"""What DuckDB is asked for where one bucket is wanted: conditions that its rows fulfil, and few others do."""

from __future__ import annotations

import uuid
from typing import Any, Final

from edge_agent.connectors.columns import items
from edge_agent.connectors.duckdb.database import Database
from edge_agent.connectors.duckdb.scan import item_sql
from edge_agent.connectors.duckdb.schema import Table, translated_type, type_name, types
from edge_agent.connectors.spellings import iso_bound
from paritree.core.profile import Binding, BoundColumn
from paritree.core.scope import Condition

_SQL_TYPES: Final = {"date": "DATE", "timestamp": "TIMESTAMPTZ", "datetime": "TIMESTAMP"}


def narrowed(database: Database, binding: Binding, table: Table) -> str:
    """The SQL condition of the binding's bucket, "" where nothing can be asked."""
    if binding.bucket is None:
        return ""
    known = (_of(database, asked, binding.column(asked.column), table) for asked in binding.bucket.conditions())
    return " AND ".join(condition for condition in known if condition)


def _of(database: Database, asked: Condition, column: BoundColumn, table: Table) -> str:
    if column.parts or column.constant is not None:
        return ""
    left = item_sql(items([column])[0])
    if asked.null:
        return f"{left} IS NULL"
    kind = types(database, [left], table)[0]
    _, logical, precision, _ = translated_type(kind)
    if logical is None or logical.name != asked.type.name or precision == "ns":
        return ""
    if asked.low is None or asked.high is None:
        return _equals(f"{left}::VARCHAR" if type_name(kind) == "ENUM" else left, asked, str(kind))
    low, high = (iso_bound(bound, asked.type.name) for bound in (asked.low, asked.high))
    if low is None or high is None:
        return ""
    written = _SQL_TYPES[asked.type.name]
    return f"{left} >= {written} '{low}' AND {left} < {written} '{high}'"


def _equals(left: str, asked: Condition, kind: str) -> str:
    value: Any = asked.equals
    match asked.type.name:
        case "text":
            return f"{left} = {_quoted(value)}" if isinstance(value, str) else ""
        case "int":
            return f"{left} = TRY_CAST('{value}' AS {kind})"
        case "uuid":
            return f"{left} = '{uuid.UUID(bytes=value)}'::UUID"
        case "bool":
            return f"{left} = {'true' if value else 'false'}"
        case "date":
            day = iso_bound(value, "date")
            return f"{left} = DATE '{day}'" if day else ""
        case _:
            return ""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
