"""Work that nobody wants any more ends between batches, in whichever thread it runs, and even before it has begun."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent.scan_case import BINDING, PROFILE

from edge_agent.build import Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import Attempt, SerialExecutor, ThreadExecutor, open_executor
from edge_agent.wanted import Cancelled, asking, demand_wanted, rest
from paritree.core.digest import DatasetKeys
from paritree.core.messages import Progress


def after(seconds: float) -> Callable[[], None]:
    """A demand that ends then."""
    until = time.monotonic() + seconds

    def demand() -> None:
        if time.monotonic() >= until:
            raise Cancelled("nobody wants it", retryable=True)

    return demand


def endless(_task: int) -> None:
    while True:
        rest(0.5)


def demand_wanted_for_long(_task: int) -> None:
    for _ in range(600):
        demand_wanted()
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["serial", "threads"])
@pytest.mark.parametrize("work", [endless, demand_wanted_for_long])
def test_work_asks_for_whoever_gave_it(kind: str, work: Callable[[int], None]) -> None:
    began = time.monotonic()
    with open_executor(kind, 2) as executor, asking(after(0.3)), pytest.raises(Cancelled):
        list(executor.map(work, range(4)))
    assert time.monotonic() - began < 20.0


def test_what_has_not_begun_as_the_threads_are_at_other_work_ends_too() -> None:
    busy, let_go = threading.Event(), threading.Event()

    def hold(_task: int) -> None:
        busy.set()
        let_go.wait(120.0)

    with ThreadExecutor(1) as executor:
        other = threading.Thread(target=lambda: list(executor.map(hold, [0])))
        other.start()
        busy.wait(60.0)
        with asking(after(0.3)), pytest.raises(Cancelled):
            list(executor.map(endless, [0]))
        assert not let_go.is_set()
        let_go.set()
        other.join(60.0)


def test_what_nobody_wants_is_not_tried_again() -> None:
    tried = []

    def work(task: int) -> None:
        tried.append(task)
        raise Cancelled("the sweep rests", retryable=True)

    with pytest.raises(Cancelled):
        Attempt(work)(7)
    assert tried == [7]


def test_results_that_are_dropped_in_a_thread_of_the_pool_do_not_wait_for_it() -> None:
    """As garbage they are dropped by whichever thread finds them, which may be one that they would wait for."""
    held: list[Iterator[int]] = []
    dropped = threading.Event()

    def work(task: int) -> int:
        if task:
            while not held:
                time.sleep(0.01)
            held.clear()
            dropped.set()
        return task

    executor = ThreadExecutor(2)
    results = executor.map(work, [0, 1])
    assert next(results) == 0
    held.append(results)
    del results
    assert dropped.wait(60.0), "the thread waits for itself"
    executor.close()


def test_a_scan_asks_between_its_batches(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, v TEXT)")
        database.executemany("INSERT INTO orders VALUES (?, 'x')", ((n,) for n in range(40)))
    database.close()
    copy = Copy(Source(f"sqlite://{tmp_path}/a.db"), PROFILE, BINDING, DatasetKeys.of(bytes(32), "orders"), 10, "plain")
    told: list[int] = []

    def note(progress: Progress) -> None:
        told.append(progress.shards_done)
        if len(told) > 1:
            raise Cancelled("the sweep was ended", retryable=True)

    with pytest.raises(Cancelled):
        build_index(copy, SerialExecutor(), tmp_path / "spool", note)
    assert told == [0, 0], "not even the first of four shards was read to its end"
