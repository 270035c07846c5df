"""PostgreSQL, Cassandra, SQLite and DuckDB, filled through their own drivers."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.util import Date, Duration, Time
from stores.base import Columns, Row, Store, quoted
from stores.forms import INT64_MAX, INT64_MIN, arrow_array, civil, clock_text, text_of

from edge_agent.connectors.contract import Source
from paritree.core.types import LogicalType

DAY_US = 86_400_000_000


class Postgresql(Store):
    engine: ClassVar[str] = "postgresql"
    server: ClassVar[str] = "postgresql"
    no_types: ClassVar[dict[str, str]] = {"map": "hstore maps text to text only"}
    words: ClassVar[dict[str, str]] = {
        "bool": "boolean",
        "int": "bigint",
        "decimal": "numeric",
        "float": "double precision",
        "bytes": "bytea",
        "timestamp": "timestamptz",
        "datetime": "timestamp",
        "duration": "interval",
        "json": "jsonb",
    }

    def __init__(self, place: Path, server: Any) -> None:
        super().__init__(place, server)
        self.database = f"store_{uuid.uuid4().hex[:8]}"
        server.create_database(self.database)
        self.connection = server.connect(self.database)
        self.made: set[str] = set()

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        if table not in self.made:
            self.made.add(table)
            parts = [f"{quoted(name)} {self._declared(table, name, kind)}" for name, kind in columns.items()]
            primary = ", ".join(map(quoted, key))
            self.connection.execute(f"CREATE TABLE {quoted(table)} ({', '.join(parts)}, PRIMARY KEY ({primary}))")
        self.connection.execute(f"TRUNCATE {quoted(table)}")
        with self.connection.cursor() as cursor, cursor.copy(f"COPY {quoted(table)} FROM STDIN") as copy:
            for row in rows:
                copy.write_row([postgresql_text(row[name], kind) for name, kind in columns.items()])

    def _declared(self, table: str, name: str, kind: LogicalType) -> str:
        if kind.name in ("list", "set"):
            return self._declared(table, name, kind.of[0]) + "[]"
        if kind.name != "struct":
            return self.words.get(kind.name, kind.name)
        composite = quoted(f"{table}_{name}_type")
        fields = ", ".join(f"{quoted(field)} {self._declared(table, field, inner)}" for field, inner in kind.fields)
        self.connection.execute(f"CREATE TYPE {composite} AS ({fields})")
        return composite

    def source(self, table: str) -> Source:
        return Source(self.running.url(self.database))

    def name(self, table: str) -> str:
        return f"public.{table}"

    def close(self) -> None:
        self.connection.close()


def postgresql_text(value: Any, kind: LogicalType) -> str | None:
    """A plain value as PostgreSQL's text form of its type."""
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return "{" + ",".join(_part(item, kind.of[0], "NULL") for item in value) + "}"
        case "struct":
            return "(" + ",".join(_part(value.get(name), field, "") for name, field in kind.fields) + ")"
        case "bytes":
            return "\\x" + value.hex()
        case "duration":
            return f"{value[0]} months {value[1]} days {value[2]} microseconds"
        case "date" | "timestamp" | "datetime" if value not in (INT64_MAX, INT64_MIN):
            return era_text(value, kind, " BC")
        case _:
            return text_of(value, kind)


def era_text(value: int, kind: LogicalType, before: str) -> str:
    """A date or moment with a year of an era: 1 BC is the year 0."""
    days, micros = (value, 0) if kind.name == "date" else divmod(value, DAY_US)
    year, month, day = civil(days)
    shown = f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}"
    clock = "" if kind.name == "date" else " " + clock_text(micros)
    return shown + clock + ("+00" if kind.name == "timestamp" else "") + ("" if year > 0 else before)


def _part(value: Any, kind: LogicalType, null: str) -> str:
    text = postgresql_text(value, kind)
    return null if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Cassandra(Store):
    engine: ClassVar[str] = "cassandra"
    server: ClassVar[str] = "cassandra"
    empty_is_null: ClassVar[bool] = True
    no_types: ClassVar[dict[str, str]] = {"datetime": "Cassandra has no time stamp without a zone"}
    words: ClassVar[dict[str, str]] = {
        "int": "bigint",
        "float": "double",
        "bool": "boolean",
        "bytes": "blob",
        "json": "text",
    }

    def __init__(self, place: Path, server: Any) -> None:
        super().__init__(place, server)
        self.exits = ExitStack()
        self.session = self.exits.enter_context(server.session())
        self.keyspace = f"store_{uuid.uuid4().hex[:8]}"
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        self.session.execute(f"CREATE KEYSPACE {self.keyspace} WITH replication = {replication}")
        self.session.set_keyspace(self.keyspace)
        self.inserts: dict[str, Any] = {}

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        if table not in self.inserts:
            parts = [f"{quoted(name)} {self._declared(table, name, kind)}" for name, kind in columns.items()]
            primary = ", ".join(map(quoted, key))
            self.session.execute(f"CREATE TABLE {quoted(table)} ({', '.join(parts)}, PRIMARY KEY ({primary}))")
            names, marks = ", ".join(map(quoted, columns)), ", ".join("?" for _ in columns)
            self.inserts[table] = self.session.prepare(
                f"INSERT INTO {self.keyspace}.{quoted(table)} ({names}) VALUES ({marks})"
            )
        natives = [[cassandra_native(row[name], kind) for name, kind in columns.items()] for row in rows]
        results = execute_concurrent_with_args(self.session, self.inserts[table], natives, concurrency=50)
        assert all(result.success for result in results)

    def _declared(self, table: str, name: str, kind: LogicalType) -> str:
        if kind.name == "struct":
            fields = ", ".join(f"{quoted(field)} {self._declared(table, field, inner)}" for field, inner in kind.fields)
            self.session.execute(f"CREATE TYPE {table}_{name} ({fields})")
            return f"frozen<{table}_{name}>"
        if kind.of:
            return f"{kind.name}<{', '.join(self._declared(table, name, inner) for inner in kind.of)}>"
        return self.words.get(kind.name, kind.name)

    def source(self, table: str) -> Source:
        return Source(f"{self.running.url}/{self.keyspace}")

    def close(self) -> None:
        self.session.execute(f"DROP KEYSPACE {self.keyspace}")
        self.exits.close()


def cassandra_native(value: Any, kind: LogicalType) -> Any:
    """A plain value as the driver takes it."""
    if value is None:
        return None
    match kind.name:
        case "decimal":
            return Decimal(value)
        case "date":
            return Date(value)
        case "time":
            return Time(value * 1_000)
        case "timestamp":
            return value // 1_000
        case "uuid":
            return uuid.UUID(bytes=value)
        case "duration":
            return Duration(value[0], value[1], value[2] * 1_000)
        case "map":
            return {key: cassandra_native(item, kind.of[1]) for key, item in value}
        case "struct":
            return tuple(cassandra_native(value.get(name), field) for name, field in kind.fields)
        case _:
            return value


class Sqlite(Store):
    engine: ClassVar[str] = "sqlite"
    no_types: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("list", "set", "map", "struct"), "SQLite has no collections"),
        "duration": "SQLite has no durations",
    }
    words: ClassVar[dict[str, str]] = {
        "int": "INTEGER",
        "float": "REAL",
        "bytes": "BLOB",
        "decimal": "TEXT",
        "json": "TEXT",
    }
    """Decimals and JSON are TEXT: the affinity of their own words would make REAL of numbers with many digits."""

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        parts = [f"{quoted(name)} {self.words.get(kind.name, kind.name.upper())}" for name, kind in columns.items()]
        marks = ", ".join("?" for _ in columns)
        natives = [[sqlite_native(row[name], kind) for name, kind in columns.items()] for row in rows]
        with closing(sqlite3.connect(self.place / "store.db")) as connection, connection:
            primary = ", ".join(map(quoted, key))
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {quoted(table)} ({', '.join(parts)}, PRIMARY KEY ({primary}))"
            )
            connection.execute(f"DELETE FROM {quoted(table)}")
            connection.executemany(f"INSERT INTO {quoted(table)} VALUES ({marks})", natives)

    def source(self, table: str) -> Source:
        return Source(f"sqlite:///{self.place}/store.db")


def sqlite_native(value: Any, kind: LogicalType) -> Any:
    """A plain value as an application stores it; a NaN, which SQLite would turn into NULL, as text."""
    if kind.name == "float" and value is not None and value != value:
        return "NaN"
    return value if kind.name in ("int", "float", "text", "bytes", "bool") else text_of(value, kind)


class Duckdb(Store):
    engine: ClassVar[str] = "duckdb"
    words: ClassVar[dict[str, str]] = {
        "bool": "BOOLEAN",
        "int": "BIGINT",
        "decimal": "DECIMAL(38, 15)",
        "float": "DOUBLE",
        "text": "VARCHAR",
        "bytes": "BLOB",
        "timestamp": "TIMESTAMP WITH TIME ZONE",
        "datetime": "TIMESTAMP",
        "duration": "INTERVAL",
        "inet": "VARCHAR",
    }

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        given = [duckdb_given([row[name] for row in rows], kind) for name, kind in columns.items()]
        casts = [f"c{number}::{self._declared(kind)}" for number, kind in enumerate(columns.values())]
        parts = [f"{quoted(name)} {self._declared(kind)}" for name, kind in columns.items()]
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
        with duckdb.connect(str(self.place / "store.duckdb")) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.register("given", pa.table(given, names=[f"c{number}" for number in range(len(given))]))
            connection.execute(f"CREATE OR REPLACE TABLE {quoted(table)} ({', '.join(parts)})").fetchall()
            connection.execute(f"INSERT INTO {quoted(table)} SELECT {', '.join(casts)} FROM given").fetchall()

    def _declared(self, kind: LogicalType) -> str:
        match kind.name:
            case "list" | "set":
                return self._declared(kind.of[0]) + "[]"
            case "map":
                return f"MAP({self._declared(kind.of[0])}, {self._declared(kind.of[1])})"
            case "struct":
                return f"STRUCT({', '.join(f'{quoted(name)} {self._declared(field)}' for name, field in kind.fields)})"
            case _:
                return self.words.get(kind.name, kind.name.upper())

    def source(self, table: str) -> Source:
        return Source(f"duckdb:///{self.place}/store.duckdb")


def duckdb_given(values: Sequence[Any], kind: LogicalType) -> pa.Array:
    """An array that casts to the column's type."""
    match kind.name:
        case "date" | "timestamp" | "datetime":
            return pa.array([_moment(value, kind) for value in values], pa.utf8())
        case "time" | "uuid" | "decimal":
            return pa.array([text_of(value, kind) for value in values], pa.utf8())
        case "duration":
            spelled = [None if v is None else f"{v[0]} months {v[1]} days {v[2]} microseconds" for v in values]
            return pa.array(spelled, pa.utf8())
        case _:
            return arrow_array(values, kind)


def _moment(value: int | None, kind: LogicalType) -> str | None:
    if value is None or value in (INT64_MAX, INT64_MIN):
        return text_of(value, kind)
    shown = era_text(value, kind, " (BC)")
    return shown.replace("+00 (BC)", " (BC)")
