"""One SELECT of bound columns, as record batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from edge_agent.connectors.columns import Item, assemble, items
from edge_agent.connectors.contract import BATCH_ROWS
from edge_agent.connectors.sqlite import carriers
from edge_agent.connectors.sqlite.database import Database
from edge_agent.connectors.sqlite.errors import translated
from edge_agent.connectors.sqlite.schema import quoted
from paritree.core.profile import Binding

Condition = tuple[str, Sequence[Any]]
"""An SQL condition and its parameters."""
ALIAS = "t"
"""Columns are always written with it: a bare "name" that is no column would be a string to SQLite."""


def column_sql(name: str) -> str:
    """A source column, qualified."""
    return f"{ALIAS}.{quoted(name)}"


def item_sql(item: Item) -> str:
    """What to select for an item."""
    return column_sql(item.source) if item.source is not None else f"({item.expression})"


def rows(database: Database, binding: Binding, condition: Condition = ("", ())) -> Iterator[pa.RecordBatch]:
    """The binding's rows that fulfil the condition (and its ``where``), in one read transaction of SQLite's own."""
    wanted = items(binding.columns)
    conditions = [f"({text})" for text in (condition[0], binding.where or "") if text]
    statement = (
        f"SELECT {', '.join(map(item_sql, wanted)) or '1'} FROM main.{quoted(binding.table)} AS {ALIAS}"
        f"{' WHERE ' if conditions else ''}{' AND '.join(conditions)}"
    )
    database.connection.text_factory = bytearray
    with translated(database.path):
        cursor = database.connection.execute(statement, condition[1])
    try:
        while True:
            with translated(database.path, running=True):
                fetched = cursor.fetchmany(BATCH_ROWS)
            if not fetched:
                break
            yield _batch(binding, wanted, fetched)
    finally:
        cursor.close()


def _batch(binding: Binding, wanted: Sequence[Item], fetched: list[tuple[Any, ...]]) -> pa.RecordBatch:
    made = [carriers.carrier(item, values) for item, values in zip(wanted, zip(*fetched, strict=True), strict=False)]
    rejects = [reject for _, found in made for reject in found]
    return assemble(binding.columns, [array for array, _ in made], len(fetched), rejects)
