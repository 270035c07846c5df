"""A folder of files of one form, and its index."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from agent.rescan_case import Kept

from edge_agent.connectors.contract import Source

TICK_S = 0.02
"""The clock of this machine's file systems, with room; the default bound holds for the coarsest in use."""
Rows = Mapping[int, str]
FORMS = ("parquet", "csv")


def write(path: Path, rows: Rows) -> None:
    """A file with those rows; of Parquet in groups of 40."""
    data = pa.table({"id": pa.array(rows.keys(), pa.int64()), "name": pa.array(rows.values(), pa.utf8())})
    if path.suffix == ".parquet":
        pq.write_table(data, path, row_group_size=40)
    else:
        pa_csv.write_csv(data, path)


def some(first: int, count: int, name: str = "name") -> Rows:
    return {n: f"{name} {n}" for n in range(first, first + count)}


def settle() -> None:
    time.sleep(2 * TICK_S)


class Files:
    """A folder of files of one form and its index."""

    def __init__(self, form: str, folder: Path) -> None:
        self.form, self.place = form, folder / "orders"
        self.place.mkdir()
        self.folder = folder

    def write(self, name: str, rows: Rows) -> None:
        write(self.place / f"{name}.{self.form}", rows)

    def kept(self) -> Kept:
        settle()
        return Kept(Source(f"{self.form}:///{self.place}/*.{self.form}"), "orders", self.folder)


def shards_of_a_file(files: Files) -> int:
    return 3 if files.form == "parquet" else 1
