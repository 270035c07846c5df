"""Opening a database file without ever changing it, and proof that nobody else changed it meanwhile.

A WAL database that no process has open has neither ``-wal`` nor ``-shm``; a plain read-only connection would create
both and leave them behind. Such a file is opened ``immutable`` instead, and :meth:`Database.check` refuses the result
when a writer has come meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

from edge_agent.connectors.filestate import FileState
from edge_agent.connectors.sqlite.errors import translated
from paritree.core.errors import SourceError

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for a writer's exclusive lock: commits take milliseconds, checkpoints seconds."""
_WAL_VERSION_OFFSET = 18
_WAL_VERSION = 2


@dataclass(frozen=True, slots=True)
class Database:
    """One open connection, and the state of its file when it was opened."""

    path: str
    connection: sqlite3.Connection
    state: FileState
    immutable: bool

    def data_version(self) -> int:
        """SQLite's counter of commits by other connections, as this connection sees it."""
        with translated(self.path):
            return int(self.connection.execute("PRAGMA data_version").fetchone()[0])

    def check(self) -> None:
        """Raise SourceError where the file was replaced, or where a writer came while it was read as immutable."""
        now = FileState.of(self.path)
        if now.identity != self.state.identity:
            raise SourceError(f"{self.path} was replaced while it was read", next_step="sweep again", retryable=True)
        if self.immutable and (now != self.state or _has_wal(self.path)):
            raise SourceError(
                f"{self.path} was opened by a writer while it was read", next_step="sweep again", retryable=True
            )


@contextmanager
def opened(path: str) -> Iterator[Database]:
    """A read-only connection of its own, usable from any thread, closed at the end. Raises SourceError, ConfigError."""
    database = open_database(path)
    try:
        yield database
    finally:
        database.connection.close()


def open_database(path: str) -> Database:
    """As :func:`opened`; the caller closes ``connection``."""
    state = FileState.of(path)
    immutable = _is_wal(path) and not _has_wal(path)
    mode = "mode=ro&immutable=1" if immutable else "mode=ro"
    with translated(path):
        connection = sqlite3.connect(
            f"file:{quote(path)}?{mode}",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()
        except BaseException:
            connection.close()
            raise
    return Database(path, connection, state, immutable)


def _is_wal(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            header = file.read(_WAL_VERSION_OFFSET + 1)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", next_step="check the permissions of the file") from None
    return len(header) > _WAL_VERSION_OFFSET and header[_WAL_VERSION_OFFSET] == _WAL_VERSION


def _has_wal(path: str) -> bool:
    return os.path.exists(f"{path}-wal")
