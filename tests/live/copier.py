"""The application's other half: it copies rows into Cassandra, each after a lag of its own; the newest write wins."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cassandra.cluster import Session

IN_FLIGHT_MAX: Final = 200
"""Statements that Cassandra has not answered yet."""
CREATE: Final = "CREATE TABLE {}.orders (id bigint PRIMARY KEY, code text, amount decimal, version bigint)"


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it is after a write; ``version`` is microseconds since 1970, never twice the same."""

    id: int
    code: str
    amount: Decimal
    version: int


@dataclass(frozen=True, slots=True)
class Event:
    """What a write left: a row, or None where it deleted it. ``began`` (monotonic) is before it was committed."""

    id: int
    row: Row | None
    version: int
    began: float


class Copier(threading.Thread):
    """Applies each event ``lag_s`` at most after it began to be committed, as far as the machine lets it.

    ``late`` are the copies that took longer than ``promised_s``: key -> when (from, to) Cassandra was behind.
    """

    def __init__(self, session: Session, keyspace: str, lag_s: float, promised_s: float, chance: random.Random) -> None:
        super().__init__(name="copier", daemon=True)
        self.lag_s, self.promised_s = lag_s, promised_s
        self.late: dict[int, list[tuple[float, float]]] = {}
        self.applied = 0
        self.worst_s = 0.0
        self.error: BaseException | None = None
        self._session, self._chance = session, chance
        self._put = session.prepare(
            f"INSERT INTO {keyspace}.orders (id, code, amount, version) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
        )
        self._drop = session.prepare(f"DELETE FROM {keyspace}.orders USING TIMESTAMP ? WHERE id = ?")
        self._edit = session.prepare(f"UPDATE {keyspace}.orders USING TIMESTAMP ? SET code = ? WHERE id = ?")
        self._due: list[tuple[float, int, Event]] = []
        self._pending: dict[int, dict[int, float]] = defaultdict(dict)
        self._changed = threading.Condition()
        self._in_flight = threading.BoundedSemaphore(IN_FLIGHT_MAX)
        self._number = 0
        self._stopping = False

    def add(self, events: list[Event]) -> None:
        """Copy these, each in its time."""
        with self._changed:
            for event in events:
                self._number += 1
                due = event.began + self._chance.uniform(0.0, self.lag_s)
                heapq.heappush(self._due, (due, self._number, event))
                self._pending[event.id][self._number] = event.began
            self._changed.notify()

    def pending(self, id_: int) -> bool:
        """Whether a write of this key is not in Cassandra yet."""
        with self._changed:
            return id_ in self._pending

    def waiting(self) -> int:
        """How many events are not copied yet."""
        with self._changed:
            return len(self._due)

    def behind_s(self) -> float:
        """How long the oldest event is overdue."""
        with self._changed:
            return max(0.0, time.monotonic() - self._due[0][0]) if self._due else 0.0

    def edit_by_hand(self, row: Row, code: str) -> None:
        """Change a copied row under the write time and the version that it has.

        Of two cells of one write time the greater value stays: ``code`` has to be greater than the row's.
        """
        assert code > row.code
        self._session.execute(self._edit, (row.version, code, row.id))

    def overdue(self, id_: int, since: float, until: float) -> bool:
        """Whether the copy of a key was later than promised at any moment of this time."""
        with self._changed:
            now = time.monotonic()
            waiting = [(began + self.promised_s, now) for began in self._pending.get(id_, {}).values()]
            return any(since < to and late < min(until, to) for late, to in [*waiting, *self.late.get(id_, [])])

    def stop(self) -> None:
        """End, with what is not copied yet left undone. Raises what went wrong."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self.join(30)
        for _ in range(IN_FLIGHT_MAX):
            assert self._in_flight.acquire(timeout=30), "Cassandra did not answer"
        if self.error is not None:
            raise self.error

    def run(self) -> None:
        """Copy until told to stop."""
        try:
            while (due := self._next()) is not None:
                self._in_flight.acquire()
                self._send(*due)
        except BaseException as error:  # noqa: BLE001 - it is raised by stop()
            self.error = error

    def _next(self) -> tuple[int, Event] | None:
        with self._changed:
            while not self._stopping:
                wait_s = self._due[0][0] - time.monotonic() if self._due else 1.0
                if self._due and wait_s <= 0:
                    return heapq.heappop(self._due)[1:]
                self._changed.wait(min(wait_s, 1.0))
        return None

    def _send(self, number: int, event: Event) -> None:
        row = event.row
        if row is None:
            statement: tuple[Any, tuple[Any, ...]] = self._drop, (event.version, event.id)
        else:
            statement = self._put, (row.id, row.code, row.amount, row.version, event.version)
        self._session.execute_async(*statement).add_callbacks(lambda _: self._done(number, event), self._failed)

    def _done(self, number: int, event: Event) -> None:
        now = time.monotonic()
        with self._changed:
            del self._pending[event.id][number]
            if not self._pending[event.id]:
                del self._pending[event.id]
            self.applied += 1
            self.worst_s = max(self.worst_s, now - event.began)
            if now - event.began > self.promised_s:
                self.late.setdefault(event.id, []).append((event.began + self.promised_s, now))
        self._in_flight.release()

    def _failed(self, error: BaseException) -> None:
        self.error = error
        self._in_flight.release()
