"""A table's schema: from its Arrow schema, unless it was put with something else."""

from __future__ import annotations

from edge_agent.connectors.arrow.schema import column
from edge_agent.connectors.memory.store import MemoryStore
from paritree.core.schema import TableSchema


def describe(store: MemoryStore, name: str) -> TableSchema:
    """The schema of a table as it is now. Raises ConfigError where it is absent."""
    table = store.table(name)
    columns = tuple(table.columns.get(field.name) or column(field) for field in table.data.schema)
    return TableSchema(name, columns, table.key, table.data.num_rows, table.empty_is_null, store.snapshots)
