"""The Cassandra connector: one session to one cluster, in one datacenter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Self

import pyarrow as pa

from edge_agent.connectors.cassandra import advice, lookup, narrowing, options, ring, scan, schema, select, shards
from edge_agent.connectors.cassandra.fast import KERNELS
from edge_agent.connectors.cassandra.identifiers import written
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.contract import Connector, Plan, Position, Shard, Source
from paritree.core.fast.warming import prepare
from paritree.core.placed import Placed
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema


class CassandraPlan(Plan):
    """Shards over a table that goes on changing: the position is the time from the plan to the last shard."""

    def __init__(self, planned: tuple[Shard, ...], consistency: str) -> None:
        self.shards = planned
        self._consistency = consistency
        self._start = datetime.now(UTC)

    def position(self) -> Position:
        """``cassandra: start .. now consistency``."""
        start, end = (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in (self._start, datetime.now(UTC)))
        return Position(f"cassandra: {start} .. {end} {self._consistency}", point=False)

    def between(self, first_s: float, last_s: float) -> Position:
        return Position(f"cassandra: {super().between(first_s, last_s).text} {self._consistency}", point=False)

    def memento(self) -> dict[str, Any]:
        """When it was begun, and at which consistency."""
        return {"start": self._start.timestamp(), "consistency": str(self._consistency)}

    def take_up(self, mementos: Sequence[Mapping[str, Any]], shards: tuple[Shard, ...]) -> tuple[Plan, ...] | None:
        """A partition's token never changes, so what was read is read; the interval begins where the first one did."""
        if any(memento["consistency"] != str(self._consistency) for memento in mementos):
            return None
        self.shards = shards
        self._start = min(self._start, *(datetime.fromtimestamp(memento["start"], UTC) for memento in mementos))
        return ()

    def close(self) -> None:
        """Cassandra keeps nothing open for a plan."""


class CassandraConnector(Connector):
    """``cassandra://[user@]host[:port][,host[:port]…]/keyspace``; see :mod:`.options` for what may follow."""

    engine: ClassVar[str] = "cassandra"
    concurrent: ClassVar[bool] = True
    rescans = "age"

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def connect(cls, source: Source) -> Self:
        settings = options.read(source)
        session = Session(settings, source.secrets)
        try:
            if settings.keyspace:
                schema.check_keyspace(session, settings.keyspace)
        except BaseException:
            session.close()
            raise
        return cls(session)

    @classmethod
    def through(cls, source: Source, local_port: Callable[[str, int], int]) -> Source:
        """One contact point, and a ring of one node: the others could not be reached through it."""
        return options.through(source, local_port)

    @classmethod
    def prepare(cls, say: Callable[[str], None]) -> None:
        prepare("Cassandra's pages", KERNELS, ["index_cells"], say)

    def tables(self) -> list[str]:
        keyspace = self._session.settings.keyspace
        if keyspace:
            return [written(name) for name in schema.tables(self._session, keyspace)]
        return [
            f"{written(each)}.{written(name)}"
            for each in schema.keyspaces(self._session)
            for name in schema.tables(self._session, each)
        ]

    def describe(self, table: str) -> TableSchema:
        found = schema.read_table(self._session, table)
        return schema.describe(found, ring.rows_estimated(self._session, found))

    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        table = self._select(binding).table
        ranges = ring.ring(self._session, table)
        if (one := narrowing.token(binding, table)) is not None:
            ranges = narrowing.at(ranges, one)
        rows = ring.rows_estimated(self._session, table)
        return CassandraPlan(shards.cut(ranges, rows, shard_rows), self._session.settings.consistency)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        self._session.waited_s = 0.0
        return scan.scan(self._session, self._select(binding), shard)

    def scan_placed(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch | Placed]:
        self._session.waited_s = 0.0
        return scan.scan_placed(self._session, self._select(binding), shard)

    def asks(self, binding: Binding) -> bool:
        return narrowing.token(binding, self._select(binding).table) is not None

    @property
    def waited_s(self) -> float | None:
        return self._session.waited_s

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        chosen = self._select(binding)
        self._session.load_keyspace(chosen.table.keyspace)
        return lookup.lookup(self._session, chosen, keys)

    def lookup_versioned(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """With write times; see :mod:`.writetime`."""
        chosen = self._select(binding)
        self._session.load_keyspace(chosen.table.keyspace)
        return lookup.lookup(self._session, chosen, keys, versions=True)

    def _select(self, binding: Binding) -> select.Select:
        return select.resolve(binding, schema.read_table(self._session, binding.table))

    def advice(self, table: str) -> list[str]:
        return advice.advice(self._session, schema.read_table(self._session, table))

    def close(self) -> None:
        self._session.close()
