"""The file connectors: ``parquet:///glob`` and ``csv:///glob?delimiter=;&null=\\N``; one URL is one table.

Paths are as in ``connectors/paths.py``; the table is named after the last part of the glob without wildcards, so that
``parquet:////data/orders/*.parquet`` has the table ``orders``. Options of CSV are in ``csvtext.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import pyarrow as pa

from edge_agent.connectors import columns, paths
from edge_agent.connectors.contract import Connector, Plan, Shard, Source
from edge_agent.connectors.files import csvtext, lookup, scan, schema, shards
from edge_agent.connectors.files.format import Format
from edge_agent.connectors.files.parquet import Parquet
from edge_agent.connectors.filestate import FileState
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding
from paritree.core.schema import SourceColumn, TableSchema


class FilesConnector(Connector):
    """The files of one glob; nothing is kept open between calls, so any thread or process may call.

    What a file's footer or header says is kept until the file changes.
    """

    rescans = "version"

    def __init__(self, form: Format, pattern: str) -> None:
        self.form = form
        self.pattern = pattern
        self._columns: dict[tuple[str, FileState], tuple[SourceColumn, ...]] = {}

    def tables(self) -> list[str]:
        return [schema.table_name(self.pattern)]

    def describe(self, table: str) -> TableSchema:
        found = [(path, FileState.of(path)) for path in self._paths()]
        self._columns = {file: self._columns.get(file) or self.form.columns(file[0]) for file in found}
        return schema.describe(self.pattern, {path: columns for (path, _), columns in self._columns.items()}, table)

    def plan(self, binding: Binding, shard_rows: int) -> Plan:
        self._check(binding)
        return shards.FilesPlan(self.form, self.pattern, shard_rows)

    def scan(self, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
        return scan.shard_rows(self.form, binding, shard)

    def content(self, binding: Binding, shard: Shard) -> str:
        return scan.content(self.form, binding, shard)

    def asks(self, binding: Binding) -> bool:
        self._check(binding)
        return self.form.asks(binding)

    def lookup(self, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
        self._check(binding)
        return lookup.find(self.form, self.pattern, binding, keys)

    def close(self) -> None:
        """Nothing stays open between calls."""

    def _paths(self) -> list[str]:
        found = paths.matches(self.pattern)
        if not found:
            raise SourceError(f"{self.pattern}: the files have gone", next_step="put them back")
        return found

    def _check(self, binding: Binding) -> None:
        columns.check(binding, self.describe(binding.table), expressions=False)
        self.form.check(binding)
        if binding.where is not None:
            raise ConfigError(
                f"{self.form.name} files take no --where", next_step="load them into DuckDB and compare that"
            )


class ParquetConnector(FilesConnector):
    """Parquet files of one schema; the key is declared in the dataset."""

    engine: ClassVar[str] = "parquet"

    @classmethod
    def connect(cls, source: Source) -> Self:
        return cls(Parquet(), paths.a_glob(source).path)


class CsvConnector(FilesConnector):
    """CSV files of one header; every column is text that is read as the profile's type."""

    engine: ClassVar[str] = "csv"

    @classmethod
    def connect(cls, source: Source) -> Self:
        local = paths.a_glob(source, csvtext.OPTIONS)
        return cls(csvtext.Csv.of(local.options), local.path)
