"""Shards by ranges of row ids, which DuckDB prunes by row group; views and tables with a column "rowid" are one shard.

The plan keeps the file open: DuckDB lets no process write a file that another has open, so every shard reads one state.
Only replacing the file under its name gets past that lock, which each scan and the position check.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import astuple
from typing import Any

from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.duckdb.database import Database, open_database, states
from edge_agent.connectors.duckdb.schema import Table, quoted, read_table
from edge_agent.connectors.filestate import FileState, version
from edge_agent.connectors.fileversion import settled_version
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding


class DuckdbPlan(Plan):
    """Row id ranges of one table, and the connection that keeps writers out."""

    def __init__(self, path: str, binding: Binding, shard_rows: int) -> None:
        if shard_rows < 1:
            raise ConfigError("shard_rows is at least 1")
        self._path = path
        self._shard_rows = shard_rows
        self._database: Database | None = open_database(path)
        try:
            self._states = states(path)
            settled = settled_version(self._states, shard_rows, locked=True)
            table = read_table(self._database, binding.table)
            self.shards = tuple(_shards(self._database, table, self._states[path], shard_rows, settled))
        except BaseException:
            self.close()
            raise

    def position(self) -> Position:
        """The file's version, a point. Raises SourceError where the file was replaced."""
        if states(self._path) != self._states:
            raise SourceError(f"{self._path} changed during the sweep", next_step="sweep again", retryable=True)
        return Position(version(self._states), point=True)

    def memento(self) -> dict[str, Any]:
        """The file as it was when it was cut: as long as nobody has written it, the same shards have the same rows."""
        return {"version": version(self._states), "shard_rows": self._shard_rows}

    def close(self) -> None:
        if self._database is not None:
            self._database.connection.close()
            self._database = None


def condition(shard: Shard) -> str:
    """The SQL condition of a shard's range: low <= rowid < high, an absent bound is infinite."""
    low, high = shard.range["low"], shard.range["high"]
    parts = ([f"t.rowid >= {int(low)}"] if low is not None else []) + (
        [f"t.rowid < {int(high)}"] if high is not None else []
    )
    return " AND ".join(parts)


def _shards(database: Database, table: Table, state: FileState, shard_rows: int, settled: str) -> Iterator[Shard]:
    bounds = [None, *range(shard_rows, _row_ids(database, table), shard_rows), None]
    for number, (low, high) in enumerate(itertools.pairwise(bounds)):
        span = {"low": low, "high": high, "state": astuple(state)}
        label = f"row ids {low or 0} to {'the end' if high is None else high}"
        yield Shard(number, label, span, shard_rows, settled)


def _row_ids(database: Database, table: Table) -> int:
    """One more than the largest row id; 0 where the table has none to shard by."""
    if table.view or database.rows(
        "SELECT 1 FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = ? "
        "AND table_name = ? AND lower(column_name) = 'rowid'",
        [table.schema, table.name],
    ):
        return 0
    largest = database.rows(f"SELECT max(rowid) FROM {quoted(table.schema)}.{quoted(table.name)}")[0][0]
    return 0 if largest is None else int(largest) + 1
