"""The store: short transactions over the tables, sync; the coordinator calls it through ``asyncio.to_thread``.

Every method raises SourceError when the database fails, and every one that writes raises Fenced (a SourceError) once
another coordinator has the store. Times are UTC and come from the clock that was passed in.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Self

import sqlalchemy as sa

from coordinator.store import fence
from coordinator.store.agents import Agents
from coordinator.store.answers import Answers
from coordinator.store.breakers import BreakerTable
from coordinator.store.engine import cut, make_engine, translated
from coordinator.store.lease import LEASE_S, WAIT_S, Lease
from coordinator.store.letters import DeadLetterTable
from coordinator.store.migrate import migrate
from coordinator.store.outcomes import Outcomes
from coordinator.store.sweeps import Sweeps
from coordinator.store.tables import agents
from coordinator.store.transactions import utc_now
from coordinator.store.watches import Watches


class Store(Sweeps, Answers, Outcomes, Agents, BreakerTable, DeadLetterTable, Watches):
    """An open store. Threads may share it."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(engine, clock)
        self._lease: Lease | None = None

    @classmethod
    def open(
        cls,
        url: str,
        *,
        password: str | None = None,
        clock: Callable[[], datetime] = utc_now,
        lease_wait_s: float = WAIT_S,
        lease_s: float = LEASE_S,
    ) -> Self:
        """Open a store as its only coordinator: migrate it, and fence off whoever had it before.

        Raises ConfigError (unusable URL, newer schema, another coordinator has it) or SourceError.
        """
        store = cls(make_engine(url, password), clock)
        try:
            with translated(store._engine):
                store._lease = Lease.take(store._engine, lease_wait_s, lease_s)
                migrate(store._engine)
                with store._engine.begin() as connection:
                    holder = f"{socket.gethostname()} process {os.getpid()}"
                    store._token = fence.take(connection, holder, clock())
            store._after_restart()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close every connection. Idempotent."""
        if self._lease is not None:
            with translated(self._engine):
                self._lease.release()
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def renew(self) -> None:
        """Keep the store; to be called more often than every ``lease_s`` seconds. Raises Fenced, or SourceError."""
        with translated(self._engine):
            if self._lease is not None:
                self._lease.keep()
            with self._engine.begin() as connection:
                fence.renew(connection, self._token, self._clock())

    def abandon(self) -> None:
        """The store is somebody else's, or does not answer: nobody waits for it any more. Only to be closed then."""
        cut(self._engine)

    def _after_restart(self) -> None:
        with self._writing() as connection:
            connection.execute(sa.update(agents).where(agents.c.connected).values(connected=False))
