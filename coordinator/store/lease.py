"""One coordinator a store: the second one is refused, so that it cannot call the first one's sweeps interrupted.

PostgreSQL: a session's advisory lock, gone with the connection. SQLite: a lock on a file beside the store, gone with
the process. An in-memory store is nobody else's.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from coordinator.store.engine import shown
from paritree.core.errors import ConfigError

WAIT_S: Final = 5.0
"""How long to wait for a coordinator that is just stopping (a restart by a service manager)."""
_PAUSE_S: Final = 0.1
_LOCK: Final = 0x706172697472_6C65
"""Advisory lock of PostgreSQL ("paritr" and "le" in ASCII), held as long as the coordinator runs."""


class Lease:
    """Held from :meth:`take` to :meth:`release`."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    @classmethod
    def take(cls, engine: sa.Engine, wait_s: float = WAIT_S) -> Lease:
        """Take the store, waiting ``wait_s`` seconds at most. Raises ConfigError when another coordinator has it."""
        deadline = time.monotonic() + wait_s
        attempt = _postgresql if engine.dialect.name == "postgresql" else _sqlite
        while (release := attempt(engine)) is None:
            if time.monotonic() >= deadline:
                raise ConfigError(
                    f"store {shown(engine.url)}: another coordinator uses it",
                    next_step="stop that one, or give this one a store of its own",
                )
            time.sleep(_PAUSE_S)
        return cls(release)

    def release(self) -> None:
        """Let another coordinator have the store. Idempotent."""
        release, self._release = self._release, None
        if release is not None:
            release()


def _postgresql(engine: sa.Engine) -> Callable[[], None] | None:
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    if connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_LOCK))):

        def release() -> None:
            connection.detach()  # closing then ends the session, and the lock with it, instead of pooling both
            connection.close()

        return release
    connection.close()
    return None


def _sqlite(engine: sa.Engine) -> Callable[[], None] | None:
    database = engine.url.database
    if database in (None, "", ":memory:"):
        return lambda: None
    handle = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return lambda: os.close(handle)
