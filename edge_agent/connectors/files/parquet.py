"""Parquet: columns from the footer, row groups as pieces, statistics to leave row groups out of a look-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from edge_agent.connectors.arrow import schema as arrow_schema
from edge_agent.connectors.columns import bound
from edge_agent.connectors.contract import BATCH_ROWS
from edge_agent.connectors.files.errors import translated
from edge_agent.connectors.files.fingerprint import Fingerprints
from edge_agent.connectors.files.format import Piece, packed
from edge_agent.connectors.files.statistics import conditions, may_have, ordered
from edge_agent.connectors.keyfilter import Key, askable
from edge_agent.connectors.translation import load
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding
from paritree.core.schema import SourceColumn

PACKAGE = "edge_agent.connectors.files"
BUFFER_BYTES = 1 << 20
"""A column chunk is read through a buffer of this size instead of whole: memory stays flat with large row groups."""


@dataclass(frozen=True, slots=True)
class Parquet:
    """The Parquet format; INT96 is read as microseconds, since as nanoseconds years after 2262 would wrap around."""

    name: str = "Parquet"

    def columns(self, path: str) -> tuple[SourceColumn, ...]:
        try:
            with _opened(path) as file:
                fields = list(file.schema_arrow)
                int96 = _int96(file)
        except SourceError as error:
            raise ConfigError(error.message, next_step=error.next_step) from None
        names = [field.name for field in fields]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"{path} has two columns '{repeated}'", next_step="write the file with distinct names")
        row = load(PACKAGE)["INT96"]
        return tuple(
            row.column(field.name, "INT96", nullable=field.nullable)
            if field.name in int96
            else arrow_schema.column(field)
            for field in fields
        )

    def pieces(self, path: str, shard_rows: int) -> list[tuple[Piece, int]]:
        with _opened(path) as file:
            counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        found = packed(list(enumerate(counts)), shard_rows)
        return [(self.piece_of(groups), rows) for groups, rows in found] or [(self.piece_of([]), 0)]

    def fingerprints(self, path: str, names: Sequence[str], piece: Piece | None) -> list[tuple[str, int]]:
        with _opened(path) as file, translated(path, self.name), open(path, "rb") as raw:
            made = Fingerprints(file, raw, names)
            groups = range(file.metadata.num_row_groups) if piece is None else piece["groups"]
            return [(made.of(group), file.metadata.row_group(group).num_rows) for group in groups]

    def piece_of(self, parts: Sequence[int]) -> Piece:
        return {"groups": list(parts)}

    def read(self, path: str, piece: Piece, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if not piece["groups"]:
            return
        with _opened(path) as file:
            batches = file.iter_batches(
                batch_size=BATCH_ROWS, row_groups=piece["groups"], columns=list(names), use_threads=False
            )
            while True:
                with translated(path, self.name):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    def bound(self, batch: pa.RecordBatch, binding: Binding) -> pa.RecordBatch:
        return bound(batch, binding)

    def narrowed(self, path: str, piece: Piece, binding: Binding) -> Piece:
        """Without the row groups whose statistics rule the bucket out."""
        asked = conditions(binding)
        if not asked or not piece["groups"]:
            return piece
        with _opened(path) as file:
            groups = [group for group in piece["groups"] if all(may_have(file, group, *each) for each in asked)]
        return {"groups": groups}

    def asks(self, binding: Binding) -> bool:
        return bool(conditions(binding))

    def promising(self, path: str, binding: Binding, keys: Sequence[Key]) -> Piece | None:
        asked = askable(keys)
        with _opened(path) as file:
            ranges = [
                (index, parts)
                for position, column in enumerate(binding.key_columns)
                if column.source is not None
                and (index := ordered(file, column.source, column.type.name)) is not None
                and (parts := [key[position] for key in asked])
            ]
            groups = [
                group
                for group in range(file.metadata.num_row_groups)
                if all(_may_hold(file.metadata.row_group(group).column(index), parts) for index, parts in ranges)
            ]
        return {"groups": groups} if asked and groups else None

    def check(self, _binding: Binding) -> None:
        """Every readable type goes out as it is."""


@contextmanager
def _opened(path: str) -> Iterator[pq.ParquetFile]:
    with translated(path, "Parquet"):
        file = pq.ParquetFile(
            path,
            pre_buffer=False,
            buffer_size=BUFFER_BYTES,
            coerce_int96_timestamp_unit="us",
            page_checksum_verification=True,  # where the writer left checksums; else a broken page can read as values
        )
    try:
        yield file
    finally:
        file.close()


def _int96(file: pq.ParquetFile) -> frozenset[str]:
    columns = [file.schema.column(index) for index in range(len(file.schema))]
    return frozenset(column.path for column in columns if column.physical_type == "INT96")


def _may_hold(chunk: pq.ColumnChunkMetaData, parts: Sequence[Any]) -> bool:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max:
        return True
    low, high = statistics.min, statistics.max
    if isinstance(low, int):
        return any(low <= part <= high for part in parts)
    if isinstance(low, str):
        return any(low.encode() <= part.encode(errors="surrogatepass") <= high.encode() for part in parts)
    return True
