"""One coordinator a store: the second one waits, or is refused.

PostgreSQL: a session's advisory lock, gone with the connection. SQLite: a lock on a file beside the store, gone with
the process. An in-memory store is nobody else's. The lock makes taking over after a crash quick; what makes it safe is
the token of ``coordinator.store.fence``, because a session can outlive its process's right mind: one whose holder has
not renewed its lease for too long is ended here.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import suppress
from typing import Any, Final, Protocol

import sqlalchemy as sa
import structlog

from coordinator.store import fence
from coordinator.store.engine import shown
from coordinator.store.errors import Fenced
from paritree.core.errors import ConfigError, SourceError

WAIT_S: Final = 5.0
"""How long to wait for a coordinator that is just stopping (a restart by a service manager)."""
LEASE_S: Final = 15.0
"""Seconds without a renewal after which another coordinator may take a PostgreSQL store; it renews every third."""
_log = structlog.get_logger("paritree.coordinator")
_PAUSE_S: Final = 0.1
_LOCK: Final = 0x706172697472_6C65
"""Advisory lock of PostgreSQL ("paritr" and "le" in ASCII), held as long as the coordinator runs."""
_HOLD_S: Final = 5.0
"""How long the server may take to end a session of ours that it does not know to be lost."""
_WHO: Final = "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()"
_END_OWN: Final = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE pid = :pid AND backend_start = :began
"""
_END_HOLDER: Final = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_locks
WHERE locktype = 'advisory' AND classid::bigint = :high AND objid::bigint = :low AND objsubid = 1 AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""


class _Lock(Protocol):
    def keep(self) -> None: ...
    def release(self) -> None: ...


class Lease:
    """Held from :meth:`take` to :meth:`release`."""

    def __init__(self, lock: _Lock) -> None:
        self._lock: _Lock | None = lock

    @classmethod
    def take(cls, engine: sa.Engine, wait_s: float = WAIT_S, lease_s: float = LEASE_S) -> Lease:
        """Take the store, waiting ``wait_s`` seconds at most. Raises ConfigError when another coordinator has it."""
        deadline = time.monotonic() + wait_s
        told = False
        while (lock := _attempt(engine)) is None:
            if engine.dialect.name == "postgresql":
                _end_stale_holder(engine, lease_s)
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"store {shown(engine.url)}: another coordinator uses it",
                    next_step="stop that one, or give this one a store of its own",
                )
            if not told and wait_s > WAIT_S:
                _log.info("another coordinator has the store: standing by", store=shown(engine.url), wait_s=wait_s)
                told = True
            time.sleep(_PAUSE_S)
        return cls(lock)

    def keep(self) -> None:
        """See that the lock is still held, and take it again where its session was lost.

        Raises Fenced when somebody else has it by now, an exception of SQLAlchemy when the server is away.
        """
        if self._lock is not None:
            self._lock.keep()

    def release(self) -> None:
        """Let another coordinator have the store. Idempotent."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()


def _attempt(engine: sa.Engine) -> _Lock | None:
    if engine.dialect.name == "postgresql":
        connection = _locked(engine)
        return None if connection is None else _SessionLock(engine, connection)
    database = engine.url.database
    if database in (None, "", ":memory:"):
        return _FileLock(None)
    handle = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return _FileLock(handle)


class _FileLock:
    def __init__(self, handle: int | None) -> None:
        self._handle = handle

    def keep(self) -> None:
        """The kernel keeps it."""

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)


class _SessionLock:
    def __init__(self, engine: sa.Engine, connection: sa.Connection) -> None:
        self._engine = engine
        self._connection = connection
        self._session = _session(connection)
        self._keeping = threading.Lock()

    def keep(self) -> None:
        if not self._keeping.acquire(blocking=False):
            raise SourceError("the store has not answered the last renewal", retryable=True)
        try:
            if self._alive():
                return
            self.release()
            again = _locked(self._engine) or self._again()
            if again is None:
                raise Fenced
            self._connection, self._session = again, _session(again)
        finally:
            self._keeping.release()

    def _again(self) -> sa.Connection | None:
        """The lock, where it was our own lost session that had it still; None where somebody else has it."""
        deadline = time.monotonic() + _HOLD_S
        while True:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                ours = connection.execute(sa.text(_END_OWN), self._session).first() is not None
            if (again := _locked(self._engine)) is not None or not ours or time.monotonic() >= deadline:
                return again
            time.sleep(_PAUSE_S)

    def _alive(self) -> bool:
        if self._connection.closed:  # it was lost before, and then the server could not be reached
            return False
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except sa.exc.DBAPIError:
            return False
        return True

    def release(self) -> None:
        connection = self._connection
        if connection.closed:
            return
        if connection.invalidated:
            connection.close()
            return
        connection.detach()  # closing then ends the session, and the lock with it, instead of pooling both
        connection.close()


def _session(connection: sa.Connection) -> dict[str, Any]:
    """By what the connection's session is known at the server."""
    row = connection.execute(sa.text(_WHO)).one()
    return {"pid": row.pid, "began": row.backend_start}


def _locked(engine: sa.Engine) -> sa.Connection | None:
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):
        return connection
    connection.close()
    return None


def _end_stale_holder(engine: sa.Engine, lease_s: float) -> None:
    """End the session of a holder that has not renewed for too long: it hangs, or cannot reach the server any more."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if fence.stale(connection, lease_s):
            with suppress(sa.exc.DBAPIError):  # a role of another name may not: then it is waited for
                connection.execute(sa.text(_END_HOLDER), {"high": _LOCK >> 32, "low": _LOCK & 0xFFFFFFFF})
