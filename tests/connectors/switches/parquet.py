"""Switches of Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from switches.arrow import ARROW_SAMPLES, table_of, typed_table
from switches.base import Hole, Refused, Row, Switches, Typed, never, notyet
from switches.files import contents

from edge_agent.connectors.contract import Source
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type


def in_seconds(zone: str | None) -> Typed:
    """Parquet has no seconds: pyarrow writes milliseconds, which the largest seconds overflow."""
    kind = pa.timestamp("s", zone)
    return Typed(kind, "timestamp" if zone else "datetime", [(0, 0), (-1, -1_000_000), (2**40, 2**40 * 1_000_000)])


class Parquet(Switches):
    engine: ClassVar[str] = "parquet"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.arrow", "edge_agent.connectors.files")
    other_rows: ClassVar[frozenset[str]] = frozenset({"files:csv"})
    knows_key: ClassVar[bool] = False
    when_changed: ClassVar[str] = "refused"
    samples: ClassVar[Mapping[str, Typed | Refused]] = {
        **{f"arrow:{name}": sample for name, sample in ARROW_SAMPLES.items()},
        "files:INT96": Typed("INT96", "datetime", [(0, 0), (253_402_300_799_999_999, 253_402_300_799_999_999)]),
        "arrow:date64[ms]": Typed(pa.date64(), "date", [(-86_400_000, -1), (0, 0)]),  # Parquet's DATE has no hours
        **{f"arrow:{name}": in_seconds(zone) for name, zone in (("timestamp[s]", None), ("timestamp[s, tz]", "UTC"))},
    }
    holes: ClassVar[Mapping[str, Hole]] = {
        "test_each_type[arrow:month_day_nano_interval]": notyet("pyarrow does not write intervals to Parquet"),
        "test_each_type[arrow:union]": notyet("pyarrow does not write unions to Parquet"),
        "test_expressions_and_where_are_the_engines_own": never("files have no expressions and no predicates"),
    }
    table = "numbers"

    @property
    def source(self) -> Source:
        return Source(f"parquet:///{quote(str(self.place / self.table))}.parquet")

    def write(self, table: str, data: pa.Table, **options: Any) -> str:
        self.table = table
        pq.write_table(data, self.place / f"{table}.parquet", row_group_size=3, **options)
        return table

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        return self.write(table, table_of(columns, rows))

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        if declared == "INT96":
            data = typed_table(pa.timestamp("us"), natives)
            return self.write(table, data, use_deprecated_int96_timestamps=True)
        return self.write(table, typed_table(declared, natives))

    def change(self, table: str) -> None:
        path = self.place / f"{table}.parquet"
        rows = pq.read_table(path).to_pylist()
        pq.write_table(pa.Table.from_pylist([{"id": 1, "v": -1}, *rows[2:], {"id": 1000, "v": 10_000}]), path)

    def fingerprint(self) -> object:
        return contents(self.place)

    def unreachable(self) -> Sequence[Source]:
        return [Source(f"parquet:///{self.place}/absent*.parquet"), Source("parquet://host/x.parquet")]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        """One row group of several pages, the last of which is overwritten."""
        self.table = "many"
        path = self.place / "many.parquet"
        data = pa.table({"id": pa.array(range(400_000), pa.int64())})
        plain = {"use_dictionary": False, "compression": "zstd", "column_encoding": {"id": "PLAIN"}}
        pq.write_table(data, path, row_group_size=1_000_000, data_page_size=1 << 16, write_page_checksum=True, **plain)
        raw = bytearray(path.read_bytes())
        chunk = pq.read_metadata(path).row_group(0).column(0)
        end = chunk.data_page_offset + chunk.total_compressed_size
        raw[end - 2000 : end - 100] = bytes(1900)
        path.write_bytes(raw)
        return "many", ("id",), (BoundColumn("id", parse_type("int"), source="id"),)
