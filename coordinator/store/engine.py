"""From a store URL to an SQLAlchemy engine, and from its exceptions to ours."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, SourceError, exhausted

BUSY_TIMEOUT_S: Final = 30
"""How long a writer waits for another one; the store's own transactions take milliseconds."""
POOL_SIZE: Final = 4
"""Connections to PostgreSQL: operators' requests and the sweeps' few writes, never the data path."""
_STEPS: Final = (
    ("disk is full", "free space on its disk"),
    ("No space left", "free space on the server's disk"),
    ("too many", "raise max_connections of the server or CONNECTION LIMIT of the role; a coordinator takes up to 15"),
    ("connection slots", "raise max_connections of the server; a coordinator takes up to 15"),
    ("unable to open database file", "see that it is there and writable, and that file handles are left (ulimit -n)"),
)
"""By words of SQLite and PostgreSQL."""
_NEXT_URL: Final = "write sqlite:///path/to/store.db or postgresql://user@host/database"


def make_engine(url: str, password: str | None = None) -> sa.Engine:
    """The engine of a store URL; ``password`` comes from its own secret. Raises ConfigError for an unusable URL."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise ConfigError("store: the URL cannot be read", next_step=_NEXT_URL) from None
    if parsed.password is not None:
        raise ConfigError("store: the URL has a password inside", next_step="remove it and set store.password")
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return _sqlite(parsed)
    if backend == "postgresql":
        return _postgresql(parsed.set(drivername="postgresql+psycopg", password=password))
    raise ConfigError(f"store: no support for '{backend}:'", next_step=_NEXT_URL)


def _options() -> dict[str, Any]:
    # hide_parameters: a statement's values may be granted clear keys, and exceptions end in logs.
    return {
        "hide_parameters": True,
        "json_serializer": partial(json.dumps, separators=(",", ":"), allow_nan=False),
        "poolclass": QueuePool,
    }


def _sqlite(url: sa.URL) -> sa.Engine:
    if url.database in (None, "", ":memory:"):
        # One connection only: each would be another, empty database. Being a pool of one, it also takes turns.
        shared = {"check_same_thread": False}
        engine = sa.create_engine(
            url, **_options(), pool_size=1, max_overflow=0, pool_timeout=BUSY_TIMEOUT_S, connect_args=shared
        )
    else:
        folder = Path(url.database or "").parent
        if not folder.is_dir():
            raise ConfigError(f"store: there is no directory {folder}", next_step="create it or correct the URL")
        _private(Path(url.database or ""))
        engine = sa.create_engine(url, **_options(), connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _private(file: Path) -> None:
    """Make the file readable by its owner only, if it is new: a store may hold clear keys that a policy granted."""
    try:
        os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(
            f"store: {file} cannot be opened: {error.strerror}", next_step="check the path and its permissions"
        ) from None


def _prepare_sqlite(connection: SqliteConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver's own rules leave DDL outside
    cursor = connection.cursor()
    for pragma in ("journal_mode = WAL", "foreign_keys = ON", "synchronous = FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # IMMEDIATE takes the write lock now, where waiting works; a reader that turns writer later fails instead.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Opened:
    """The connections of an engine to a server, which may hang."""

    def __init__(self) -> None:
        self.connections: WeakSet[Any] = WeakSet()
        self._cut = False

    def demand_wanted(self, dialect: sa.Dialect, *_: object) -> None:
        """Raises the driver's OperationalError for a new connection after the cut."""
        if self._cut:
            raise dialect.loaded_dbapi.OperationalError("nobody wants an answer any more")

    def cut(self) -> None:
        """Break all off: whoever waits on one gets an error at once."""
        self._cut = True
        for connection in [one for one in self.connections if not one.closed]:
            with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)


_opened: Final[WeakKeyDictionary[sa.Engine, Opened]] = WeakKeyDictionary()


def _postgresql(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
        url, **_options(), pool_size=POOL_SIZE, pool_pre_ping=True, connect_args={"connect_timeout": 10}
    )
    opened = _opened[engine] = Opened()
    sa.event.listen(engine, "do_connect", opened.demand_wanted)
    sa.event.listen(engine, "connect", _prepare_postgresql)
    sa.event.listen(engine, "connect", lambda connection, _entry: opened.connections.add(connection))
    return engine


def _prepare_postgresql(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # Times come in the session's zone: east of Greenwich the end of 9999 is a year that Python does not know.
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def cut(engine: sa.Engine) -> None:
    """End what waits for the engine's server, and connect to it no more. Files do not hang for long."""
    if (opened := _opened.get(engine)) is not None:
        opened.cut()


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """Turn SQLAlchemy's exceptions into ours; messages carry the driver's first line and never a statement's values."""
    try:
        yield
    except ParitreeError:
        raise
    except MemoryError as error:
        raise exhausted(error) or error from None
    except exc.OperationalError as error:
        message = f"store {shown(engine.url)}: {_first_line(error)}"
        failed = SourceError(message, next_step=_step_after(message), retryable=True)
        raise _want(error) or failed from None
    except exc.TimeoutError:
        raise SourceError(f"store {shown(engine.url)}: busy", retryable=True) from None
    except exc.StatementError as error:
        if isinstance(error, exc.DBAPIError) and not isinstance(error, exc.IntegrityError):
            raise SourceError(f"store {shown(engine.url)}: {_first_line(error)}") from None
        raise InvariantBroken(f"store: {type(error.orig).__name__} in a statement: {_first_line(error)}") from None
    except (ValueError, TypeError) as error:  # of the JSON serializer, which some drivers call
        raise InvariantBroken(f"store: {type(error).__name__} in a value that is no JSON") from None
    except exc.SQLAlchemyError as error:
        raise SourceError(f"store {shown(engine.url)}: {type(error).__name__}") from None


def _want(error: BaseException | None) -> SourceError | None:
    """What is missing, if that failed first: SQLite then gives the transaction up, and leaving its savepoint fails."""
    while error is not None:
        if missing := exhausted(error):
            return missing
        error = error.__context__
    return None


def _step_after(message: str) -> str:
    """What to do about an OperationalError; drivers tell by their words only."""
    for mark, step in _STEPS:
        if mark in message:
            return step
    return "see that the store is there and writable"


def _first_line(error: exc.StatementError) -> str:
    lines = str(error.orig or "").strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shown(url: sa.URL) -> str:
    """The URL for messages: no password, no driver name, no parameters."""
    plain = sa.URL.create(url.get_backend_name(), url.username, None, url.host, url.port, url.database)
    return plain.render_as_string()
