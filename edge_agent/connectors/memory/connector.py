"""The memory connector: ``memory://name`` reads the :class:`MemoryStore` of that name in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self
from urllib.parse import unquote

import pyarrow as pa

from edge_agent.connectors import columns
from edge_agent.connectors.contract import Connector, Plan, Shard, Source
from edge_agent.connectors.memory import lookup, scan, schema, shards
from edge_agent.connectors.memory.store import MemoryStore
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema


class MemoryConnector(Connector):
    """Reads in-process tables. They live in one process: Dask workers of their own cannot scan them."""

    engine: ClassVar[str] = "memory"

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    @classmethod
    def connect(cls, source: Source) -> Self:
        if source.options:
            raise ConfigError(f"memory: unknown option '{min(source.options)}'", next_step="memory has no options")
        return cls(MemoryStore.named(unquote(source.url.partition("://")[2])))

    def tables(self) -> list[str]:
        return sorted(self.store.tables)

    def describe(self, table: str) -> TableSchema:
        return schema.describe(self.store, table)

    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        self._check(binding)
        return shards.MemoryPlan(self.store, binding, shard_rows)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        return scan.shard_rows(self.store, binding, shard)

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        self._check(binding)
        return lookup.find(self.store, binding, keys)

    def close(self) -> None:
        """The store stays: its owner closes it."""

    def _check(self, binding: Binding) -> None:
        columns.check(binding, self.describe(binding.table), expressions=False)
        if binding.where is not None:
            raise ConfigError("memory tables take no --where", next_step="put a filtered table")
