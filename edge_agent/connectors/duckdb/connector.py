"""The DuckDB connector: ``duckdb:///relative.duckdb``, ``duckdb:////absolute/path`` (see ``connectors/paths.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow as pa

from edge_agent.connectors import columns, paths
from edge_agent.connectors.contract import Connector, Plan, Shard, Source
from edge_agent.connectors.duckdb import lookup, narrowing, schema, shards
from edge_agent.connectors.duckdb.database import opened
from edge_agent.connectors.duckdb.scan import rows
from edge_agent.connectors.filestate import FileState
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema


class DuckdbConnector(Connector):
    """Reads one database file. It is open, and closed for writers, only during a call and the life of a plan."""

    engine: ClassVar[str] = "duckdb"
    rescans = "version"

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def connect(cls, source: Source) -> Self:
        local = paths.one_file(source)
        with opened(local.path):
            return cls(local.path)

    def tables(self) -> list[str]:
        with opened(self.path) as database:
            return sorted(schema.tables(database))

    def describe(self, table: str) -> TableSchema:
        with opened(self.path) as database:
            return schema.describe(database, table)

    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        columns.check(binding, self.describe(binding.table))
        return shards.DuckdbPlan(self.path, binding, shard_rows)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        state = FileState(*shard.range["state"])
        with opened(self.path) as database:
            state.unchanged(self.path)
            table = schema.read_table(database, binding.table)
            wanted = (shards.condition(shard), narrowing.narrowed(database, binding, table))
            yield from rows(database, binding, table, " AND ".join(filter(None, wanted)))
            state.unchanged(self.path)

    def asks(self, binding: Binding) -> bool:
        columns.check(binding, self.describe(binding.table))
        with opened(self.path) as database:
            return bool(narrowing.narrowed(database, binding, schema.read_table(database, binding.table)))

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        columns.check(binding, self.describe(binding.table))
        with opened(self.path) as database:
            table = schema.read_table(database, binding.table)
            yield from lookup.find(database, binding, table, keys)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def advice(self, table: str) -> list[str]:
        if self.describe(table).key:
            return []
        return [f"{table} has no primary key: declare key columns in the dataset"]
