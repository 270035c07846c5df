"""Shards by ranges of row ids, or of the primary key where there is no row id; views and virtual tables are one shard.

The bounds are every ``shard_rows``-th row id, found by walking the b-tree once (measured: 25 ns a row). The first range
has no lower bound and the last no upper one, so that a row inserted after planning is in exactly one of them::

    row ids:   3   4   9  20 | 21  22  70  71 | 90 ...
    shards:    (-inf, 21)      [21, 90)         [90, +inf)

Each shard's SELECT sees one state of the file. Nothing covers all shards, and holding a read transaction for a whole
sweep would block writers (rollback journal) or grow the WAL; so the position is a point only when SQLite's data version
shows at the end that nobody committed since the plan began.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from typing import Any

from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.filestate import FileState, version
from edge_agent.connectors.fileversion import settled_version
from edge_agent.connectors.sqlite.database import Database, open_database
from edge_agent.connectors.sqlite.errors import translated
from edge_agent.connectors.sqlite.scan import ALIAS, Condition, column_sql
from edge_agent.connectors.sqlite.schema import Table, quoted, read_table
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding


class SqlitePlan(Plan):
    """Shards of one table; its connection stays open (without a transaction) to see whether somebody commits."""

    def __init__(self, path: str, binding: Binding, shard_rows: int) -> None:
        if shard_rows < 1:
            raise ConfigError("shard_rows is at least 1")
        self._database: Database | None = open_database(path)
        self._path = path
        self._started = _now()
        try:
            self._version = self._database.data_version()
            table = read_table(self._database, binding.table)
            # whoever opens a log as root gives it to the file's owner, which it has already
            settled = settled_version(_files(path), shard_rows, _counters(path), touched=[f"{path}-wal"], locked=True)
            self._memento = {"version": _file_version(self._database), "shard_rows": shard_rows, **_counters(path)}
            self.shards = tuple(_shards(self._database, table, shard_rows, settled))
        except BaseException:
            self.close()
            raise

    def position(self) -> Position:
        """A point (the file's version) when nobody committed since the plan began, else an interval of wall time."""
        if self._database is None:
            raise SourceError(f"{self._path}: the plan is closed")
        self._database.check()
        if self._database.data_version() == self._version:
            return Position(_file_version(self._database), point=True)
        return Position(f"{self._started} to {_now()}, written meanwhile", point=False)

    def memento(self) -> dict[str, Any]:
        """The file as it was when it was cut: as long as nobody has written it, the same shards have the same rows."""
        return self._memento

    def close(self) -> None:
        if self._database is not None:
            self._database.connection.close()
            self._database = None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")


def _file_version(database: Database) -> str:
    """What names this state: the file and, where there is one, its log."""
    log = f"{database.path}-wal"
    return version({path: FileState.of(path) for path in (database.path, log) if path != log or os.path.exists(log)})


def _files(path: str) -> list[str]:
    """The file and what SQLite reads with it: its log, or the journal of a transaction that did not end."""
    return [path, *(beside for beside in (f"{path}-wal", f"{path}-journal") if os.path.exists(beside))]


def _counters(path: str) -> dict[str, Any]:
    """What SQLite counts up with every commit: the change counter in the file's header, the salts in its log's."""
    heads: dict[str, Any] = {}
    for name, file, start, end in (("changes", path, 24, 28), ("log", f"{path}-wal", 0, 32)):
        try:
            with open(file, "rb") as opened:
                heads[name] = opened.read(end)[start:]
        except FileNotFoundError:
            heads[name] = b""
        except OSError as error:
            raise SourceError(f"{file}: {error.strerror}") from None
    return heads


def condition(table: Table, shard: Shard) -> Condition:
    """The SQL condition of a shard's range: low <= key < high, an absent bound is infinite."""
    kind, low, high = shard.range["by"], shard.range["low"], shard.range["high"]
    if kind == "all":
        return "", ()
    left = _key_sql(table, kind)
    parts: list[str] = []
    parameters: list[Any] = []
    for operator, bound in ((">=", low), ("<", high)):
        if bound is not None:
            parts.append(f"({left}) {operator} ({_marks(bound)})")
            parameters += _values(bound)
    return " AND ".join(parts), parameters


def _key_sql(table: Table, kind: str) -> str:
    return f"{ALIAS}.{table.rowid}" if kind == "rowid" else ", ".join(map(column_sql, table.key))


def _marks(bound: Sequence[Any]) -> str:
    """A bound's parameters: TEXT travels as its bytes, since a key may hold text that is not UTF-8."""
    return ", ".join("CAST(? AS TEXT)" if isinstance(value, bytearray) else "?" for value in bound)


def _values(bound: Sequence[Any]) -> list[Any]:
    return [bytes(value) if isinstance(value, bytearray) else value for value in bound]


def _shards(database: Database, table: Table, shard_rows: int, settled: str) -> Iterator[Shard]:
    by = "rowid" if table.rowid else "key" if table.without_rowid else "all"
    low: list[Any] | None = None
    for number, high in enumerate([*_bounds(database, table, by, shard_rows), None]):
        span = {"by": by, "low": low, "high": high, "file": database.state.identity}
        yield Shard(number, f"{by} range {number}", span, shard_rows, settled)
        low = high


def _bounds(database: Database, table: Table, by: str, shard_rows: int) -> Iterator[list[Any]]:
    if by == "all":
        return
    left = _key_sql(table, by)
    step = f"FROM main.{quoted(table.name)} AS {ALIAS} {{where}} ORDER BY {left} LIMIT 1 OFFSET {shard_rows}"
    database.connection.text_factory = bytearray
    bound: list[Any] = []
    while True:
        where = f"WHERE ({left}) >= ({_marks(bound)})" if bound else ""
        with translated(database.path):
            statement = f"SELECT {left} {step.format(where=where)}"
            found = database.connection.execute(statement, _values(bound)).fetchone()
        if found is None:
            return
        bound = list(found)
        yield bound
