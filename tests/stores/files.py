"""Parquet and CSV files, and tables of this process."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from stores.base import Columns, Row, Store
from stores.forms import arrow_array, text_of

from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory import MemoryStore


def arrow_table(columns: Columns, rows: Sequence[Row]) -> pa.Table:
    """The rows as an Arrow table."""
    arrays = [arrow_array([row[name] for row in rows], kind) for name, kind in columns.items()]
    return pa.table(arrays, names=list(columns))


class Parquet(Store):
    engine: ClassVar[str] = "parquet"
    no_types: ClassVar[dict[str, str]] = {"duration": "pyarrow does not write intervals to Parquet"}

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        pq.write_table(arrow_table(columns, rows), self.place / f"{table}.parquet", row_group_size=7)

    def source(self, table: str) -> Source:
        return Source(f"parquet:///{self.place}/{table}.parquet")


class Csv(Store):
    engine: ClassVar[str] = "csv"
    no_types: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("list", "set", "map", "struct"), "a collection has no one text form"),
        "duration": "durations are not read from CSV",
    }

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        texts = [[text_of(row[name], kind) for name, kind in columns.items()] for row in rows]
        lines = [",".join(columns), *(",".join(map(csv_field, row)) for row in texts)]
        (self.place / f"{table}.csv").write_text("".join(f"{line}\r\n" for line in lines), "utf-8", newline="")

    def source(self, table: str) -> Source:
        return Source(f"csv:///{self.place}/{table}.csv")


def csv_field(value: str | None) -> str:
    """A NULL is an empty field, an empty text a quoted one."""
    return "" if value is None else '"' + value.replace('"', '""') + '"'


class Memory(Store):
    engine: ClassVar[str] = "memory"

    def __init__(self, place: Path, server: Any) -> None:
        super().__init__(place, server)
        self.held = MemoryStore(f"store-{uuid.uuid4().hex[:8]}")

    def put(self, table: str, columns: Columns, key: Sequence[str], rows: Sequence[Row]) -> None:
        self.held.put(table, arrow_table(columns, rows), key=tuple(key))

    def source(self, table: str) -> Source:
        return Source(self.held.url)

    def close(self) -> None:
        self.held.close()
