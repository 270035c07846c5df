"""The store's transactions. Every one that writes proves in itself that this coordinator still has the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from coordinator.store import fence
from coordinator.store.engine import translated


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Transactions:
    """Short transactions on one engine; threads may share it."""

    def __init__(self, engine: sa.Engine, clock: Callable[[], datetime] = utc_now) -> None:
        self._engine = engine
        self._clock = clock
        self._token = 0

    @property
    def token(self) -> int:
        """The fencing token: higher than that of every coordinator that had the store before."""
        return self._token

    def prove(self) -> None:
        """Raises Fenced where another coordinator has the store, SourceError where it cannot be asked."""
        with self._writing():
            pass

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with translated(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Raises Fenced, with nothing written, once another coordinator has taken the store."""
        with translated(self._engine), self._engine.begin() as connection:
            fence.check(connection, self._token)
            yield connection
