"""Opening a database file read-only. One process has one DuckDB instance a file, shared by its connections."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from edge_agent.connectors.duckdb.errors import translated
from edge_agent.connectors.filestate import FileState

SETTINGS: dict[str, Any] = {
    "threads": 2,
    "memory_limit": "512MB",
    "temp_directory": "",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
}
"""Kind to the machine (two threads, bounded memory), nothing written beside the file, nothing fetched from anywhere."""
atexit.register(gc.unfreeze)
"""At the end all is to go (see ``core/loading``), or DuckDB's module says in 50 lines what it still holds."""
_SESSION = ("SET enable_external_access = false", "SET python_enable_replacements = false", "SET TimeZone = 'UTC'")
"""Expressions reach the database only: no other file, no variable of this program, no local zone."""


@dataclass(frozen=True, slots=True)
class Database:
    """One open connection; it has one result at a time."""

    path: str
    connection: duckdb.DuckDBPyConnection

    def rows(self, query: str, parameters: list[Any] | None = None) -> list[tuple[Any, ...]]:
        """All rows of a small query."""
        with translated(self.path):
            found = self.connection.execute(query, parameters or []).fetchall()
        return list(found)


@contextmanager
def opened(path: str) -> Iterator[Database]:
    """A read-only connection of its own, closed at the end. Raises SourceError, ConfigError."""
    database = open_database(path)
    try:
        yield database
    finally:
        database.connection.close()


def open_database(path: str) -> Database:
    """As :func:`opened`; the caller closes ``connection``."""
    FileState.of(path)
    with translated(path):
        connection = duckdb.connect(path, read_only=True, config=SETTINGS)
        try:
            for statement in _SESSION:
                connection.execute(statement).fetchall()
        except BaseException:
            connection.close()
            raise
    return Database(path, connection)


def states(path: str) -> dict[str, FileState]:
    """The file and its write-ahead log, which is read with it."""
    log = f"{path}.wal"
    return {each: FileState.of(each) for each in (path, log) if each == path or os.path.exists(each)}
