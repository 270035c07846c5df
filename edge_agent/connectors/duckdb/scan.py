"""One SELECT of bound columns, streamed as record batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pyarrow as pa

from edge_agent.connectors.columns import Item, assemble, items
from edge_agent.connectors.contract import BATCH_ROWS
from edge_agent.connectors.duckdb import carriers
from edge_agent.connectors.duckdb.database import Database
from edge_agent.connectors.duckdb.errors import translated
from edge_agent.connectors.duckdb.schema import Table, quoted, types
from paritree.core.profile import Binding

ALIAS = "t"


def item_sql(item: Item) -> str:
    """What an item is in SQL."""
    return f"{ALIAS}.{quoted(item.source)}" if item.source is not None else f"({item.expression})"


def rows(database: Database, binding: Binding, table: Table, condition: str = "") -> Iterator[pa.RecordBatch]:
    """The binding's rows that fulfil the condition (and its ``where``)."""
    expressions = [item_sql(item) for item in items(binding.columns)]
    kinds = types(database, expressions, table)
    selected = [carriers.selected(expression, kind) for expression, kind in zip(expressions, kinds, strict=True)]
    named = [f"{expression} AS c{number}" for number, expression in enumerate(itertools.chain(*selected))]
    conditions = [f"({text})" for text in (condition, binding.where or "") if text]
    query = (
        f"SELECT {', '.join(named)} FROM {table.sql} AS {ALIAS}"
        f"{' WHERE ' if conditions else ''}{' AND '.join(conditions)}"
    )
    with translated(database.path):
        reader = database.connection.sql(query).to_arrow_reader(BATCH_ROWS)
    try:
        while True:
            with translated(database.path):
                batch = next(reader, None)
            if batch is None:
                return
            yield _bound(binding, batch, [len(columns) for columns in selected])
    finally:
        reader.close()


def _bound(binding: Binding, batch: pa.RecordBatch, widths: list[int]) -> pa.RecordBatch:
    columns = iter(batch.columns)
    arrays = [carriers.carrier(list(itertools.islice(columns, width))) for width in widths]
    return assemble(binding.columns, arrays, batch.num_rows)
