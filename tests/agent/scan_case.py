"""A table of PostgreSQL in four shards, between which its rows can move, and the scan that its index begins with."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from connectors.pg_case import PgCase

from edge_agent import build as build_module
from edge_agent.build import Built, Copy
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.kept import Kept
from edge_agent.letters.sweep import SweepLetters
from edge_agent.scan import ScanTask, ShardResult
from edge_agent.warm import Following, WarmIndex
from paritree.core.digest import DatasetKeys
from paritree.core.messages import ANY_AGE, Freshness, Progress
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

ROWS = 400
SHARDS = 4
KINDS = {"id": parse_type("int"), "v": parse_type("text")}
PROFILE = Profile("orders", ("id",), KINDS)
BINDING = Binding("orders", "orders", ("id",), tuple(BoundColumn(n, t, source=n) for n, t in KINDS.items()))
TABLE = (
    "DROP TABLE IF EXISTS orders",
    "CREATE TABLE orders (id bigint PRIMARY KEY, v text) WITH (autovacuum_enabled = off)",
    f"INSERT INTO orders SELECT i, repeat('x', 200) FROM generate_series(1, {ROWS + 100}) AS i",
    f"DELETE FROM orders WHERE id <= 40 OR id > {ROWS + 40}",
    "VACUUM ANALYZE orders",
)
"""With room in its first blocks, where the new versions of rows go."""


def copy_of(url: str) -> Copy:
    return Copy(Source(url), PROFILE, BINDING, DatasetKeys.of(bytes(32), "orders"), ROWS // SHARDS, "plain")


def sweep_of(
    index: WarmIndex, folder: Path, freshness: Freshness = ANY_AGE, *, until: int = 0, rebuild: bool = False
) -> Built:
    """What a sweep would get of the index; ``until``: the process ends when so many shards were read, as an error."""

    def note(told: Progress) -> None:
        if until and told.shards_done >= until:
            raise Ended

    letters = SweepLetters(None, index.copy.profile, index.copy.keys, "")
    if rebuild:
        return index.rebuilt(SerialExecutor, note, letters)
    return index.built(SerialExecutor, folder / "sweep", note, letters, freshness)


class Ended(SystemExit):
    """The process ends here; nothing of it runs any more."""


class Killed:
    """A process that began the scan and is gone; what it left in ``folder``."""

    def __init__(self, pg: PgCase, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pg, self.folder = pg, folder
        self.copy = copy_of(pg.server.url(pg.database))
        self.following = Following("eu/eu-1")
        self.read: list[int] = []
        self._monkeypatch = monkeypatch
        scan = build_module.scan_shard

        def counted(task: ScanTask) -> ShardResult:
            self.read.append(task.shard.number)
            return scan(task)

        monkeypatch.setattr(build_module, "scan_shard", counted)

    def opened(self) -> WarmIndex:
        self.read.clear()
        return WarmIndex(self.copy, self.folder / "index", self.following)

    def killed(self, until: int, *, rebuild: bool = False) -> bool:
        """Begin, or go on, and be gone when so many shards were read: no line of it runs after that.

        True where there were not so many: it came to its end.
        """
        with self._monkeypatch.context() as patched, self.opened() as index:
            patched.setattr("edge_agent.wholescan.WholeScan.left", lambda *_: True)
            try:
                sweep_of(index, self.folder, until=until, rebuild=rebuild)
            except Ended:
                return False
        return True

    @property
    def finished(self) -> set[int]:
        """The shards whose runs are whole."""
        kept = Kept.read(self.folder / "index" / "scan", self.copy.rest_key)
        return set() if kept is None else {done.number for done in kept.done}

    def slots(self) -> int:
        found = self.pg.admin.execute("SELECT FROM pg_replication_slots WHERE database = current_database()")
        return len(found.fetchall())


@contextmanager
def written(pg: PgCase, seed: int) -> Iterator[None]:
    """Rows are changed, moved, removed, added, and get other keys all the time."""
    chance, stop = random.Random(seed), threading.Event()

    def write(session: psycopg.Connection) -> None:
        while not stop.is_set():
            one, other = chance.randint(1, ROWS + 60), chance.randint(1, ROWS + 60)
            session.execute(
                chance.choice(
                    (
                        f"UPDATE orders SET v = repeat('{chance.choice('abc')}', 190)"
                        f" WHERE id BETWEEN {one} AND {one + 3}",
                        f"DELETE FROM orders WHERE id = {one}",
                        f"INSERT INTO orders VALUES ({one}, 'new') ON CONFLICT DO NOTHING",
                        f"UPDATE orders SET id = {other} WHERE id = {one} AND NOT EXISTS"
                        f" (SELECT FROM orders WHERE id = {other})",
                    )
                )
            )
            time.sleep(0.001)

    with pg.session() as session:
        thread = threading.Thread(target=write, args=(session,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
