"""sqlite3's exceptions into ours, once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from paritree.core.errors import ConfigError, ParitreeError, SourceError

_BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY", "SQLITE_SCHEMA"})


@contextmanager
def translated(path: str, *, running: bool = False) -> Iterator[None]:
    """Raise SourceError or ConfigError for any sqlite3 error inside; only SourceError while a query is ``running``."""
    try:
        yield
    except (sqlite3.Error, sqlite3.Warning) as error:
        raise translate(error, path, running) from None


def translate(error: Exception, path: str, running: bool = False) -> ParitreeError:
    """The error of ours that a sqlite3 error stands for."""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code in _BUSY:
        return SourceError(
            f"{path}: locked by another process ({code})", next_step="try again when it has committed", retryable=True
        )
    if code == "SQLITE_NOTADB":
        return ConfigError(f"{path} is not a SQLite database (or is encrypted)", next_step="check the URL")
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_READONLY")):
        return SourceError(
            f"{path} cannot be opened ({code})",
            next_step="check the permissions of the file and, in WAL mode, of its directory; "
            "after a crash of the writer open it once with the program that writes it",
        )
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_NOMEM")):
        return SourceError(f"{path}: {error} ({code})", next_step="run 'PRAGMA integrity_check' on a copy")
    if code == "SQLITE_ERROR" or isinstance(error, sqlite3.ProgrammingError | sqlite3.Warning):
        kind = SourceError if running else ConfigError
        return kind(f"{path}: SQLite refuses the query: {error}", next_step="check expressions and --where")
    return SourceError(f"{path}: {error} ({code or type(error).__name__})")
