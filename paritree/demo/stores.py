"""The same table in three engines, each in its own shape: what regions look like in practice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from paritree.demo.flights import COLUMNS, KEY, TABLE

PARQUET_FILES: Final = 6
PARQUET_GROUP_ROWS: Final = 32_768
_SQLITE: Final = {"date": "DATE", "text": "TEXT", "int": "INTEGER", "timestamp(s)": "TIMESTAMPTZ"}
_DUCKDB: Final = {"date": "DATE", "text": "VARCHAR", "int": "INTEGER", "timestamp(s)": "TIMESTAMP WITH TIME ZONE"}


def write_sqlite(path: Path, table: pa.Table) -> int:
    """A SQLite database with dates and times as text; returns its size in bytes."""
    columns = [_sqlite_text(table[name]) for name in COLUMNS]
    with sqlite3.connect(path) as connection:
        connection.execute(_create(_SQLITE) + " WITHOUT ROWID")
        marks = ", ".join("?" * len(COLUMNS))
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({marks})", _tuples(columns))
    connection.close()
    return path.stat().st_size


def _sqlite_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type):
        seconds = column.cast(pa.timestamp("s", "UTC"))
        return pc.strftime(seconds, "%Y-%m-%dT%H:%M:%SZ")
    return column.cast(pa.utf8()) if pa.types.is_date(column.type) else column


def _tuples(columns: list[pa.ChunkedArray]) -> Iterator[tuple[Any, ...]]:
    for batch in pa.table(columns, names=list(COLUMNS)).to_batches(max_chunksize=8_192):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def write_parquet(folder: Path, table: pa.Table) -> int:
    """Six Parquet files of 32,768 rows a row group; returns their size in bytes."""
    folder.mkdir()
    rows = -(-table.num_rows // PARQUET_FILES)
    for number in range(PARQUET_FILES):
        part = table.slice(number * rows, rows)
        pq.write_table(part, folder / f"{number:02d}.parquet", row_group_size=PARQUET_GROUP_ROWS, compression="zstd")
    return sum(file.stat().st_size for file in folder.iterdir())


def write_duckdb(path: Path, table: pa.Table) -> int:
    """A DuckDB database, sorted by destination; returns its size in bytes."""
    with duckdb.connect(path) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_create(_DUCKDB))
        connection.register("copy", table.select(list(COLUMNS)))
        connection.execute(f"INSERT INTO {TABLE} SELECT * FROM copy ORDER BY dest, flight_date")
    return path.stat().st_size


def _create(types: dict[str, str]) -> str:
    columns = ", ".join(f"{name} {types[kind]}{' NOT NULL' if name in KEY else ''}" for name, kind in COLUMNS.items())
    return f"CREATE TABLE {TABLE} ({columns}, PRIMARY KEY ({', '.join(KEY)}))"
