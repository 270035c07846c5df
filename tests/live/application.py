"""An application that writes into PostgreSQL and copies into Cassandra with a lag, and what it does wrong on demand.

A key that something was done to on purpose is never written again, so what is planted stays until the end.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import psycopg
from live.copier import Copier, Event, Row

if TYPE_CHECKING:
    from cassandra.cluster import Session

CREATE: Final = "CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2), version bigint)"
_UPSERT: Final = """
INSERT INTO orders SELECT * FROM unnest(%s::bigint[], %s::text[], %s::numeric[], %s::bigint[])
ON CONFLICT (id) DO UPDATE SET (code, amount, version) = (excluded.code, excluded.amount, excluded.version)
"""
SIZES: Final = (1, 1, 1, 2, 5, 20, 50)
"""Rows of a transaction."""
BY_HAND: Final = "~ by hand"
"""Greater than what any other write puts there."""
ROLLED_BACK: Final = 0.02
"""Share of the transactions that are given up, of which nothing may ever be told."""


@dataclass(frozen=True, slots=True)
class Plant:
    """What was done to a key on purpose: between ``began`` and ``done`` (monotonic); ``kind`` as a report calls it."""

    what: str
    kind: str
    began: float
    done: float


class Application(threading.Thread):
    """Writes ``rate`` rows a second until told to stop; ``plants`` are the keys that it has done something to."""

    def __init__(self, url: str, session: Session, keyspace: str, copier: Copier, rate: float, seed: int) -> None:
        super().__init__(name="application", daemon=True)
        self.copier = copier
        self.plants: dict[int, Plant] = {}
        self.written = 0
        self.error: BaseException | None = None
        self._url, self._session, self._keyspace, self._rate = url, session, keyspace, rate
        self._chance = random.Random(seed)
        self._held: dict[int, Row] = {}
        self._ids: list[int] = []
        self._places: dict[int, int] = {}
        self._gone: list[int] = []
        self._next_id = 1
        self._version = time.time_ns() // 1000
        self._to_lose = self._to_edit = 0
        self._stopping = threading.Event()

    def begin(self, rows: int) -> None:
        """The same rows in both databases."""
        from cassandra.concurrent import execute_concurrent_with_args

        made = [self._row(self._fresh_id()) for _ in range(rows)]
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(CREATE)
            with connection.cursor().copy("COPY orders FROM STDIN") as copy:
                for row in made:
                    copy.write_row((row.id, row.code, row.amount, row.version))
            connection.execute("ANALYZE orders")
        insert = self._session.prepare(
            f"INSERT INTO {self._keyspace}.orders (id, code, amount, version) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
        )
        values = [(row.id, row.code, row.amount, row.version, row.version) for row in made]
        for put in execute_concurrent_with_args(
            self._session, insert, values, concurrency=200, raise_on_first_error=True, results_generator=True
        ):
            assert put.success
        for row in made:
            self._keep(row)

    def plant(self, losses: int, edits: int) -> None:
        """Lose so many writes, and edit so many rows by hand, from now on; ``planting`` until it is done."""
        self._to_lose += losses
        self._to_edit += edits

    @property
    def planting(self) -> bool:
        """Whether something is still to be planted. Raises what ended the application."""
        if self.error is not None:
            raise self.error
        return self._to_lose > 0 or self._to_edit > 0

    def rest(self) -> None:
        """Write nothing more; what was written is still copied, as late as before. Raises what went wrong."""
        self._stopping.set()
        self.join(30)
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End; raises what went wrong."""
        try:
            self.rest()
        finally:
            self.copier.stop()

    def run(self) -> None:
        """Write at the rate; not while the copier cannot keep its promise."""
        try:
            with psycopg.connect(self._url, autocommit=True) as connection:
                due = time.monotonic()
                while not self._stopping.is_set():
                    self._edit(connection)
                    due += self._transaction(connection) / self._rate
                    now = time.monotonic()
                    due = max(due, now - 0.5)  # what was missed is not made up for in one burst
                    self._stopping.wait(due - now if due > now else 0)
                    while self.copier.behind_s() > 0.2 and not self._stopping.wait(0.05):
                        due = time.monotonic()
        except BaseException as error:  # noqa: BLE001 - it is raised by stop()
            self.error = error

    def _transaction(self, connection: psycopg.Connection) -> int:
        """One transaction; how many rows it wrote."""
        chance, size = self._chance, self._chance.choice(SIZES)
        given_up = chance.random() < ROLLED_BACK
        puts, drops = self._work(size)
        began = time.monotonic()
        with connection.transaction(force_rollback=given_up):
            if puts:
                columns = zip(*((row.id, row.code, row.amount, row.version) for row in puts), strict=True)
                connection.execute(_UPSERT, [list(column) for column in columns])
            if drops:
                connection.execute("DELETE FROM orders WHERE id = ANY(%s)", [drops])
        if given_up:
            return size
        self.written += len(puts) + len(drops)
        done = time.monotonic()
        version = self._tick()
        events = [Event(row.id, row, row.version, began) for row in puts]
        events += [Event(id_, None, version, began) for id_ in drops]
        lost = self._lost(events, done)
        for row in puts:
            if row.id != lost:
                self._keep(row)
        for id_ in drops:
            self._forget(id_)
            if id_ != lost:
                self._gone.append(id_)
        self.copier.add([event for event in events if event.id != lost])
        return size

    def _work(self, size: int) -> tuple[list[Row], list[int]]:
        """What one transaction puts and deletes: updates mostly, some new rows, some that were deleted before."""
        puts: dict[int, Row] = {}
        drops: list[int] = []
        for _ in range(size):
            turn = self._chance.random()
            if turn < 0.1:
                id_ = self._fresh_id()
                puts[id_] = self._row(id_)
            elif turn < 0.15 and self._gone:
                id_ = self._gone.pop(self._chance.randrange(len(self._gone)))
                puts[id_] = self._row(id_)
            else:
                id_ = self._chance.choice(self._ids)
                if id_ in puts or id_ in drops:
                    continue
                if turn < 0.3:
                    drops.append(id_)
                else:
                    puts[id_] = self._row(id_)
        return list(puts.values()), drops

    def _lost(self, events: list[Event], done: float) -> int | None:
        """The key whose event is lost, if one is to be: it is in PostgreSQL and never gets to Cassandra."""
        if self._to_lose <= 0 or not events:
            return None
        event = self._chance.choice(events)
        before = self._held.get(event.id)
        if event.row is None:
            what, kind = "delete", "missing"
        elif before is None:
            what, kind = "insert", "missing"
        else:
            what, kind = "update", "different"
        self._forget(event.id)
        self._to_lose -= 1
        self.plants[event.id] = Plant(f"lost {what}", kind, event.began, done)
        return event.id

    def _edit(self, connection: psycopg.Connection) -> None:
        """Edit a row by hand that is the same on both sides, in PostgreSQL or in Cassandra, and keep its version."""
        if self._to_edit <= 0:
            return
        row = self._held[self._chance.choice(self._ids)]
        if self.copier.pending(row.id):
            return
        self._forget(row.id)
        self._to_edit -= 1
        began, where = time.monotonic(), "PostgreSQL" if len(self.plants) % 2 else "Cassandra"
        if where == "Cassandra":
            self.copier.edit_by_hand(row, BY_HAND)
        else:
            connection.execute("UPDATE orders SET code = %s WHERE id = %s", [BY_HAND, row.id])
        self.plants[row.id] = Plant(f"edited in {where}", "different", began, time.monotonic())

    def _row(self, id_: int) -> Row:
        version = self._tick()
        return Row(id_, f"c{version}", Decimal(self._chance.randrange(10**8)) / 100, version)

    def _tick(self) -> int:
        self._version = max(self._version + 1, time.time_ns() // 1000)
        return self._version

    def _fresh_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _keep(self, row: Row) -> None:
        if row.id not in self._held:
            self._places[row.id] = len(self._ids)
            self._ids.append(row.id)
        self._held[row.id] = row

    def _forget(self, id_: int) -> None:
        """Leave this key alone from now on."""
        if self._held.pop(id_, None) is not None:
            place, last = self._places.pop(id_), self._ids.pop()
            if last != id_:
                self._ids[place], self._places[last] = last, place
