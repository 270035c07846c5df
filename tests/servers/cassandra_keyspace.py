"""A keyspace of one test module, and what its tests do over and over: make tables, connect, scan, look up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from servers.cassandra import CassandraServer

from edge_agent.connectors.cassandra import CassandraConnector
from edge_agent.connectors.contract import REJECTS, Source
from paritree.core.carrier import plain_values
from paritree.core.profile import Binding, BoundColumn

if TYPE_CHECKING:
    from cassandra.cluster import Session

SHARD_ROWS = 250_000


@dataclass(frozen=True)
class Keyspace:
    """A keyspace on a test server with a plain driver session to fill it."""

    server: CassandraServer
    session: Session
    name: str

    def run(self, cql: str, values: Sequence[Any] | None = None) -> None:
        """Run CQL in this keyspace; ``{ks}`` in it is the keyspace."""
        self.session.execute(cql.replace("{ks}", self.name), values)

    def create(self, table: str, definition: str) -> None:
        """Create a table anew."""
        self.run(f"DROP TABLE IF EXISTS {{ks}}.{table}")
        self.run(f"CREATE TABLE {{ks}}.{table} ({definition})")

    def insert_raw(self, table: str, columns: Sequence[str], *rows: Sequence[bytes | None]) -> None:
        """Insert cells as they go over the wire."""
        from cassandra.query import BoundStatement

        marks = ", ".join("?" for _ in columns)
        names = ", ".join(columns)
        prepared = self.session.prepare(f"INSERT INTO {self.name}.{table} ({names}) VALUES ({marks})")
        for row in rows:
            bound = BoundStatement(prepared)
            bound.values = list(row)
            self.session.execute(bound)

    @contextlib.contextmanager
    def connect(self, **options: str) -> Iterator[CassandraConnector]:
        """A connector to this keyspace."""
        with CassandraConnector.connect(Source(f"{self.server.url}/{self.name}", options)) as connector:
            yield connector


@contextlib.contextmanager
def keyspace(server: CassandraServer, name: str, replicas: int = 1) -> Iterator[Keyspace]:
    """A fresh keyspace, dropped at the end."""
    with server.session() as session:
        session.execute(f"DROP KEYSPACE IF EXISTS {name}")
        session.execute(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}"
        )
        yield Keyspace(server, session, name)
        session.execute(f"DROP KEYSPACE IF EXISTS {name}")


def bound(connector: CassandraConnector, table: str, key: Sequence[str] = (), *only: str) -> Binding:
    """A binding of every comparable column (or of ``only`` those) under its own name."""
    schema = connector.describe(table)
    columns = [c for c in schema.columns if c.logical is not None and (not only or c.name in only)]
    made = tuple(BoundColumn(c.name, c.logical, source=c.name) for c in columns if c.logical is not None)
    return Binding("dataset", table, tuple(key) or schema.key, made)


def plain(binding: Binding, batches: Sequence[pa.RecordBatch] | Iterator[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Rows as plain values by logical name, plus ``rejects``: column -> reason."""
    out: list[dict[str, Any]] = []
    for batch in batches:
        names = [column.name for column in binding.columns]
        values = [plain_values(batch.column(column.name), column.type) for column in binding.columns]
        rejected = batch.column(REJECTS).to_pylist() if REJECTS in batch.schema.names else [None] * batch.num_rows
        for row, bad in zip(zip(*values, strict=True), rejected, strict=True):
            listed = {each["column"]: each["reason"] for each in bad or ()}
            out.append({**dict(zip(names, row, strict=True)), **({"rejects": listed} if listed else {})})
    return out


def scanned(connector: CassandraConnector, binding: Binding, shard_rows: int = SHARD_ROWS) -> list[dict[str, Any]]:
    """Every row of every shard of one plan."""
    with connector.plan(binding, shard_rows) as plan:
        return [row for shard in plan.shards for row in plain(binding, connector.scan(binding, shard))]


def found(connector: CassandraConnector, binding: Binding, *keys: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The rows that a look-up gives."""
    return plain(binding, connector.lookup(binding, list(keys)))
