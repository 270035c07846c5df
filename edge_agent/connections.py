"""How many connections one database has from this process at once, scans and look-ups together.

First come, first served: a look-up that waits gets the connection of the next shard that ends, however many shards are
left. What a plan holds for its snapshot is not counted: it is idle.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

Task = TypeVar("Task")


class Connections:
    """At most ``limit`` taken at once. For any number of threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for one: who can do without should not take another."""
        return bool(self._waiting)

    def limit_to(self, limit: int) -> None:
        """Lower the limit: the lowest that was ever asked for holds."""
        with self._changed:
            self._limit = min(self._limit, limit)

    def try_take(self) -> bool:
        """Take one if one is free and nobody waits for it."""
        with self._changed:
            if self._waiting or self._taken >= self._limit:
                return False
            self._taken += 1
            return True

    def take(self) -> None:
        """Take one, wait for it in turn."""
        if self.try_take():
            return
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                self._changed.wait_for(lambda: self._waiting[0] is ticket and self._taken < self._limit)
                self._taken += 1
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def give_back(self) -> None:
        """One that was taken is free."""
        with self._changed:
            self._taken -= 1
            self._changed.notify_all()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Have one during the block."""
        self.take()
        try:
            yield
        finally:
            self.give_back()


UNBOUNDED: Final = Connections(1 << 31)
_by_url: dict[str, Connections] = {}
_lock = threading.Lock()


def connections_of(url: str, limit: int | None) -> Connections:
    """The connections of the database at a URL, the same ones for everybody in this process; None: not limited."""
    if limit is None:
        return UNBOUNDED
    with _lock:
        found = _by_url.setdefault(url, Connections(limit))
    found.limit_to(limit)
    return found


class InFlight(Generic[Task]):
    """Feeds an executor of ``workers``: its tasks, and the connections that those under way may need.

    Up to ``ahead`` tasks more than workers are given, so that no worker is idle; these wait, and need no connection.
    """

    def __init__(self, tasks: Iterable[Task], connections: Connections, workers: int, ahead: int) -> None:
        self._tasks = iter(tasks)
        self._connections = connections
        self._workers, self._ahead = workers, ahead
        self._given = 0
        self._exhausted = False

    def more(self) -> Iterator[Task]:
        """The tasks to be given now; each is made only then. Waits for a connection where nothing is under way."""
        while not self._exhausted and self._may_give():
            self._given += 1
            try:
                task = next(self._tasks)
            except StopIteration:
                self._exhausted = True
                self.ended()
            else:
                yield task

    def ended(self) -> None:
        """One task ended."""
        self._given -= 1
        if self._given < self._workers:
            self._connections.give_back()

    def all_ended(self) -> None:
        """No task is under way any more. Idempotent."""
        while self._given:
            self.ended()

    def _may_give(self) -> bool:
        if self._given == 0:
            self._connections.take()
            return True
        if self._connections.wanted or self._given >= self._workers + self._ahead:
            return False
        return self._given >= self._workers or self._connections.try_take()
