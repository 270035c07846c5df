"""A table that is followed by its changes alone, beside the table itself: the two have to be equal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from connectors.pg_case import PgCase, Row, rows

from edge_agent.connectors.changes import ChangeBatch, Mark
from edge_agent.connectors.postgresql.changes import PostgresqlChanges
from paritree.core.profile import Binding


def filled(pg: PgCase, count: int = 20) -> None:
    """A table ``orders`` with so many rows."""
    pg.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, code text, n int)",
        f"INSERT INTO orders SELECT i, 'c' || i, i FROM generate_series(1, {count}) AS i",
    )


def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Follower:
    """Rows by key, brought up to date from changes only. Scans once, when it starts."""

    def __init__(self, pg: PgCase, binding: Binding, name: str = "eu/eu-1", keys_max: int = 1_000) -> None:
        self.pg, self.binding, self.keys_max = pg, binding, keys_max
        self.source: PostgresqlChanges = pg.connector.changes(binding, name)
        self.held: dict[tuple[Any, ...], list[Row]] = {}
        self.mark = Mark("", "")
        self.changes = self.batches = 0

    def start(self) -> Follower:
        """Begin to follow, then scan."""
        self.mark = self.source.start()
        self.held = {}
        for row in self.pg.scan(self.binding):
            self.held.setdefault(self._key(row), []).append(row)
        return self

    def refresh(self, *, proven: bool = True, acknowledge: bool = True) -> Follower:
        """Take over what changed."""
        self.changes = self.batches = 0
        for batch in self.source.changes(self.mark, proven=proven, keys_max=self.keys_max):
            self.take(batch, acknowledge=acknowledge)
        return self

    def take(self, batch: ChangeBatch, *, acknowledge: bool = True) -> None:
        """Take over one batch."""
        self.changes += batch.changes
        self.batches += 1
        asked = {self._key(row) for row in batch.keys.to_pylist()}
        found = [r for r in rows(self.pg.connector.lookup_batch(self.binding, batch.keys)) if self._key(r) in asked]
        for key in asked:
            self.held.pop(key, None)
        for row in found:
            self.held.setdefault(self._key(row), []).append(row)
        if batch.mark is not None:
            self.mark = batch.mark
            if acknowledge:
                self.source.acknowledge(batch.mark)

    def check(self) -> None:
        """The rows followed are the rows of the table."""
        now: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.pg.scan(self.binding):
            now.setdefault(self._key(row), []).append(row)
        assert {key: sorted(map(repr, held)) for key, held in self.held.items()} == {
            key: sorted(map(repr, held)) for key, held in now.items()
        }

    def _key(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.binding.key)

    def close(self) -> None:
        """Leave nothing behind."""
        self.source.stop()
        self.source.close()


@contextmanager
def following(pg: PgCase, binding: Binding, **more: Any) -> Iterator[Follower]:
    """A started follower."""
    follower = Follower(pg, binding, **more)
    try:
        yield follower.start()
    finally:
        follower.close()


@contextmanager
def settings(pg: PgCase, **values: str) -> Iterator[None]:
    """Settings of the whole server, for a while."""
    try:
        for name, value in values.items():
            pg.run(f"ALTER SYSTEM SET {name} = '{value}'")
        pg.run("SELECT pg_reload_conf()")
        yield
    finally:
        pg.run(*(f"ALTER SYSTEM RESET {name}" for name in values), "SELECT pg_reload_conf()")


class Background:
    """Statements of another session, in a thread of their own; errors come out of ``join``."""

    def __init__(self, pg: PgCase, work: Callable[[psycopg.Connection], None]) -> None:
        self.session = pg.session()
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work(self.session)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test's thread
            self.error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the end."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.session.close()
        if self.error is not None:
            raise self.error
