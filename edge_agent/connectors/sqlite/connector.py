"""The SQLite connector: ``sqlite:///relative.db``, ``sqlite:////absolute/path.db`` (see ``connectors/paths.py``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow as pa

from edge_agent.connectors import columns, paths
from edge_agent.connectors.contract import Connector, Plan, Shard, Source
from edge_agent.connectors.sqlite import carriers, lookup, narrowing, schema, shards
from edge_agent.connectors.sqlite.database import opened
from edge_agent.connectors.sqlite.scan import rows
from paritree.core.errors import SourceError
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema


class SqliteConnector(Connector):
    """Reads one database file. Every call opens a read-only connection of its own, so any thread may call."""

    engine: ClassVar[str] = "sqlite"
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
            return schema.table_names(database)

    def describe(self, table: str) -> TableSchema:
        with opened(self.path) as database:
            return schema.describe(database, table)

    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        self._check(binding)
        return shards.SqlitePlan(self.path, binding, shard_rows)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        with opened(self.path) as database:
            if database.state.identity != tuple(shard.range["file"]):
                raise SourceError(f"{self.path} was replaced after planning", next_step="sweep again", retryable=True)
            table = schema.read_table(database, binding.table)
            span, bucket = shards.condition(table, shard), narrowing.narrowed(binding, table)
            wanted = [condition for condition in (span, bucket) if condition is not None and condition[0]]
            for batch in rows(database, binding, lookup.all_of(wanted)):
                database.check()
                yield batch
            database.check()

    def asks(self, binding: Binding) -> bool:
        self._check(binding)
        with opened(self.path) as database:
            return narrowing.narrowed(binding, schema.read_table(database, binding.table)) is not None

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        self._check(binding)
        with opened(self.path) as database:
            table = schema.read_table(database, binding.table)
            yield from lookup.find(database, binding, table, keys)
            database.check()

    def close(self) -> None:
        """Nothing stays open between calls."""

    def advice(self, table: str) -> list[str]:
        with opened(self.path) as database:
            read = schema.read_table(database, table)
            mode = database.connection.execute("PRAGMA journal_mode").fetchone()[0]
        out = []
        if mode != "wal":
            out.append(f"{self.path}: each shard's scan keeps writers waiting; 'PRAGMA journal_mode = WAL' ends that")
        if not read.key:
            out.append(f"{table} has no primary key: declare key columns in the dataset")
        return out

    def _check(self, binding: Binding) -> None:
        columns.check(binding, self.describe(binding.table))
        carriers.check(binding)
