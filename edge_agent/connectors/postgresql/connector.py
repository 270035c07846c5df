"""The PostgreSQL connector: one source, its sessions, and the way to the parts that do the work."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Final, Self

import pyarrow as pa
from psycopg.pq import TransactionStatus

from edge_agent.connectors.contract import Connector, Shard, Source
from edge_agent.connectors.postgresql import (
    advice,
    changekeys,
    committed,
    load,
    lookup,
    manykeys,
    placing,
    relation,
    scan,
    schema,
    shards,
)
from edge_agent.connectors.postgresql.changes import PostgresqlChanges
from edge_agent.connectors.postgresql.decode import decode_batches
from edge_agent.connectors.postgresql.fast import KERNELS
from edge_agent.connectors.postgresql.projection import Projection, project
from edge_agent.connectors.postgresql.session import Session, connect, through
from edge_agent.connectors.postgresql.tuples import Waits
from edge_agent.connectors.postgresql.types import EngineType, TypeCatalog
from paritree.core.errors import ConfigError
from paritree.core.fast.warming import prepare
from paritree.core.placed import Placed
from paritree.core.profile import Binding
from paritree.core.schema import TableSchema

IDLE_MAX: Final = 4
"""Idle sessions kept for reuse."""


class PostgresqlConnector(Connector):
    """Tables, partitioned tables, views and foreign tables of one PostgreSQL database (12 or later).

    A role with SELECT on the tables is enough. Safe for several threads: every operation has a session of its own.
    """

    engine: ClassVar[str] = "postgresql"
    concurrent: ClassVar[bool] = True

    def __init__(self, source: Source) -> None:
        self._source = source
        self._builtin: dict[int, EngineType] = {}
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._closed = False
        self._waits = Waits()

    @classmethod
    def connect(cls, source: Source) -> Self:
        connector = cls(source)
        with connector._session():
            return connector

    @classmethod
    def through(cls, source: Source, local_port: Callable[[str, int], int]) -> Source:
        """``host`` stays for certificates; a line of PGPASSFILE needs ``*`` as its port."""
        return through(source, local_port)

    @classmethod
    def prepare(cls, say: Callable[[str], None]) -> None:
        prepare("PostgreSQL's COPY", KERNELS, ["locate"], say)
        prepare("PostgreSQL's changes", changekeys.KERNELS, ["read_keys"], say)

    def tables(self) -> list[str]:
        with self._session() as session:
            return relation.tables(session)

    def describe(self, table: str) -> TableSchema:
        with self._session() as session:
            return schema.describe(session, self._types(), table)

    def plan(self, binding: Binding, shard_rows: int) -> shards.PostgresqlPlan:
        with self._session() as session:
            projection = self._project(session, binding)
            lookup.demand_encodable(projection, binding)
        return shards.plan(lambda: connect(self._source), projection, binding.key, shard_rows)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        self._waits = waits = Waits()
        with self._session() as session:
            yield from scan.scan(session, self._project(session, binding), shard, waits)

    def scan_placed(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch | Placed]:
        self._waits = waits = Waits()
        with self._session() as session:
            yield from scan.scan_placed(session, self._project(session, binding), shard, waits)

    def asks(self, binding: Binding) -> bool:
        with self._session() as session:
            return self._project(session, binding).narrowed is not None

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        with self._session() as session:
            yield from lookup.lookup(session, self._project(session, binding), binding, keys)

    def lookup_versioned(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        """With commit times, where the server keeps them (track_commit_timestamp) and the relation is a table."""
        with self._session() as session:
            projection = self._project(session, binding)
            dated = committed.dated(session, self._types(), projection)
            for batch in lookup.lookup(session, dated or projection, binding, keys):
                yield committed.with_versions(batch) if dated else batch

    def lookup_batch(
        self, binding: Binding, keys: pa.RecordBatch, *, placed: bool = False
    ) -> Iterator[pa.RecordBatch | Placed]:
        with self._session() as session:
            projection = self._project(session, binding)
            if not manykeys.possible(session, projection, binding):
                yield from super().lookup_batch(binding, keys)
                return
            use = scan.primitives(session.options.decoder, keys.num_rows)
            for tuples in manykeys.lookup_tuples(session, projection, binding, keys, use):
                if placed:
                    yield placing.placed(projection, tuples, use)
                else:
                    yield from decode_batches(projection, tuples, use)

    def changes(self, binding: Binding, name: str) -> PostgresqlChanges:
        """Through a logical slot of its own; see :mod:`edge_agent.connectors.postgresql.slot`."""
        if not binding.key:
            raise ConfigError(
                f"{binding.table}: changes name rows by their key, and this dataset's key is the whole row",
                next_step=f"remove [refresh.{binding.dataset}] from the agent's file, or give the dataset a key",
            )
        return PostgresqlChanges(self._session, self._project, binding, name)

    @property
    def waited_s(self) -> float | None:
        return self._waits.seconds

    def load(self, replica_lag_max_s: float | None, backends_active_max: int | None) -> str:
        if replica_lag_max_s is None and backends_active_max is None:
            return ""
        with self._session() as session:
            return load.reason(session, replica_lag_max_s, backends_active_max)

    def advice(self, table: str) -> list[str]:
        with self._session() as session:
            return advice.advice(session, self._types(), table)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _types(self) -> TypeCatalog:
        return TypeCatalog(self._builtin)

    def _project(self, session: Session, binding: Binding) -> Projection:
        found = relation.resolve(session, binding.table)
        relation.demand_access(session, found)
        return project(session, self._types(), found, binding)

    @contextmanager
    def _session(self) -> Iterator[Session]:
        """A session that nobody else has; kept for the next only when the block ended well."""
        session = self._reused() or connect(self._source)
        try:
            yield session
        except BaseException:
            session.close()
            raise
        idle = session.connection.pgconn.transaction_status == TransactionStatus.IDLE
        with self._lock:
            if idle and not self._closed and len(self._idle) < IDLE_MAX:
                self._idle.append(session)
                return
        session.close()

    def _reused(self) -> Session | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                session = self._idle.pop()
            # Unasked bytes from the server mean that it ended the session meanwhile.
            poll = select.poll()
            poll.register(session.connection.fileno(), select.POLLIN)
            if not poll.poll(0):
                return session
            session.close()
