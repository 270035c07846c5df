"""A PostgreSQL database of a test's own, and short ways to bind, scan and look up in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
import pyarrow as pa
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.contract import Plan, Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import LogicalType, parse_type

Row = dict[str, Any]


IN_TRANSACTION = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paritree'"
    " AND datname = current_database() AND state = 'idle in transaction'"
)


class PgCase:
    """One database: ``admin`` is a superuser's connection, ``connector`` paritree's on the same database."""

    def __init__(self, server: PostgresqlServer, database: str) -> None:
        self.server, self.database = server, database
        self.admin = server.connect(database)
        self._open: list[PostgresqlConnector] = []
        self.connector = self.connect()

    def connect(self, user: str = "postgres", **options: str) -> PostgresqlConnector:
        """Another connector, closed with the case."""
        connector = PostgresqlConnector.connect(Source(self.server.url(self.database, user), options))
        self._open.append(connector)
        return connector

    def session(self) -> psycopg.Connection:
        """Another connection of the superuser, in autocommit mode; the caller closes it."""
        return self.server.connect(self.database)

    def run(self, *statements: str) -> None:
        """Execute statements as the superuser."""
        for statement in statements:
            self.admin.execute(statement)

    def in_transaction(self, most: int = 0) -> int:
        """How many of paritree's sessions hold a snapshot, once it is ``most`` or half a minute has passed.

        A connection that was closed lives on at a busy server for a moment.
        """
        end = time.monotonic() + 30
        while (count := int(self.admin.execute(IN_TRANSACTION).fetchone()[0])) > most and time.monotonic() < end:  # type: ignore[index]
            time.sleep(0.02)
        return count

    def role(self, name: str, *grants: str) -> str:
        """A role that may log in and has those grants; dropped with what it owns when the case ends."""
        self.run(
            f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN", *(f"{grant} TO {name}" for grant in grants)
        )
        return name

    def bind(
        self,
        table: str,
        key: Sequence[str] | None = None,
        columns: Iterable[BoundColumn] | None = None,
        types: Mapping[str, str | LogicalType] | None = None,
        where: str | None = None,
    ) -> Binding:
        """A binding of all columns (or those given); ``types`` replaces types of the catalogue."""
        schema = self.connector.describe(table)
        if columns is None:
            columns = [
                bound(column.name, (types or {}).get(column.name, column.logical or "text"), source=column.name)
                for column in schema.columns
            ]
        return Binding(table, table, tuple(key or schema.key), tuple(columns), where)

    def scan(
        self, binding: Binding, shard_rows: int = 1_000, connector: PostgresqlConnector | None = None
    ) -> list[Row]:
        """All rows of all shards, as :func:`rows` gives them."""
        with (connector or self.connector).plan(binding, shard_rows) as plan:
            return self.scan_plan(binding, plan, connector)

    def scan_plan(self, binding: Binding, plan: Plan, connector: PostgresqlConnector | None = None) -> list[Row]:
        """All rows of the shards of an open plan."""
        return [row for shard in plan.shards for row in rows((connector or self.connector).scan(binding, shard))]

    def lookup(self, binding: Binding, *keys: tuple[Any, ...]) -> list[Row]:
        """The rows of those keys."""
        return rows(self.connector.lookup(binding, keys))

    def close(self) -> None:
        """Close every connection and drop the database."""
        for connector in self._open:
            connector.close()
        self.admin.close()
        with self.server.connect() as connection:
            connection.execute(f'DROP DATABASE "{self.database}" WITH (FORCE)')


def bound(name: str, kind: str | LogicalType = "text", **source: Any) -> BoundColumn:
    """A bound column; without a source it is the column of the same name."""
    return BoundColumn(name, parse_type(kind), **(source or {"source": name}))


def rows(batches: Iterable[pa.RecordBatch]) -> list[Row]:
    """The rows of record batches as Python values of the carriers."""
    return [row for batch in batches for row in batch.to_pylist()]
