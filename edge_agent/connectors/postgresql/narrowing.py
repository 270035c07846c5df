"""What PostgreSQL is asked for where one bucket is wanted: conditions that its rows fulfil, and few others do."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from psycopg import sql

from edge_agent.connectors.postgresql.types import EngineType
from edge_agent.connectors.spellings import iso_bound
from paritree.core.scope import Bucket, Condition

ASKED_AS: Final[Mapping[str, frozenset[str]]] = {"int": frozenset({"int", "decimal"})}
"""Types whose values can be asked for in columns of other types than their own."""
_TIMES: Final = {"date": "date", "timestamp": "timestamptz", "datetime": "timestamp"}


def narrowed(
    bucket: Bucket | None, columns: Mapping[str, tuple[sql.Composable, EngineType]], encoding: str
) -> sql.Composable | None:
    """The condition of a bucket over the columns' expressions and types; None where nothing can be asked.

    ``encoding`` is the server's: a text that it may not have is not asked for.
    """
    if bucket is None:
        return None
    known = [_of(asked, *columns[asked.column], encoding) for asked in bucket.conditions() if asked.column in columns]
    conditions = [condition for condition in known if condition is not None]
    return sql.SQL(" AND ").join(conditions) if conditions else None


def _of(asked: Condition, left: sql.Composable, kind: EngineType, encoding: str) -> sql.Composable | None:
    if asked.null:
        return left + sql.SQL(" IS NULL")
    name = asked.type.name
    if kind.logical is None or kind.logical.name not in ASKED_AS.get(name, frozenset({name})):
        return None
    if asked.low is None or asked.high is None:
        return _equals(asked, left, kind, encoding)
    bounds = iso_bound(asked.low, name), iso_bound(asked.high, name)
    if None in bounds:
        return None
    low, high = (_typed(bound, _TIMES[name]) for bound in bounds)
    return sql.SQL("{} >= {} AND {} < {}").format(left, low, left, high)


def _equals(asked: Condition, left: sql.Composable, kind: EngineType, encoding: str) -> sql.Composable | None:
    value: Any = asked.equals
    match asked.type.name:
        case "text" if value.isascii() or encoding == "UTF8":
            if kind.labels:  # an unknown label is an error, not another value
                left = left + sql.SQL("::pg_catalog.text")
            return left + sql.SQL(" = ") + sql.Literal(value)
        case "int" if kind.wire != "oid" or 0 <= value < 1 << 32:  # an oid out of range is an error
            return left + sql.SQL(f" = {value}")
        case "bool":
            return left if value else sql.SQL("NOT ") + left
        case "uuid":
            return left + sql.SQL(" = ") + _typed(str(uuid.UUID(bytes=value)), "uuid")
        case "date":
            day = iso_bound(value, "date")
            return None if day is None else left + sql.SQL(" = ") + _typed(day, "date")
        case _:
            return None


def _typed(text: str | None, kind: str) -> sql.Composed:
    return sql.SQL("{}::{}").format(sql.Literal(text), sql.Identifier("pg_catalog", kind))
