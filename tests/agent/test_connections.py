"""Connections to one source: never more than allowed, in turn, and given back whatever happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from edge_agent.connections import Connections, InFlight, connections_of
from edge_agent.executors import Executor, SerialExecutor, ThreadExecutor

WAIT_S = 20.0


class Gauge:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.now -= 1


def until(holds: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("limit", "workers"), [(1, 4), (2, 4), (4, 4), (9, 4)])
def test_tasks_of_one_scan_are_at_most_so_many(limit: int, workers: int) -> None:
    gauge = Gauge()
    together = min(limit, workers)
    meeting = threading.Barrier(together, timeout=WAIT_S)

    def work(task: int) -> int:
        with gauge:
            if task < together:
                meeting.wait()  # only passed where so many do run at once
            time.sleep(0.002)
        return task

    with ThreadExecutor(workers) as executor:
        found = sorted(executor.map(work, range(40), Connections(limit)))
    assert found == list(range(40))
    assert gauge.most == together


def test_two_scans_and_look_ups_share_them() -> None:
    gauge, connections = Gauge(), Connections(3)
    results: dict[int, list[int]] = {}

    def work(task: int) -> int:
        with gauge:
            time.sleep(0.002)
        return task

    def scan(number: int) -> None:
        with ThreadExecutor(4) as executor:
            results[number] = sorted(executor.map(work, range(60), connections))

    def look() -> None:
        for _ in range(20):
            with connections.one(), gauge:
                time.sleep(0.002)

    threads = [
        *(threading.Thread(target=scan, args=(n,)) for n in range(2)),
        *(threading.Thread(target=look) for _ in range(3)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert results == {0: list(range(60)), 1: list(range(60))}
    assert gauge.most == 3
    assert all(connections.try_take() for _ in range(3)), "all were given back"
    assert not connections.try_take()


@pytest.mark.parametrize("workers", [1, 4])
def test_a_look_up_waits_for_one_shard_and_not_for_the_scan(workers: int) -> None:
    connections = Connections(1)
    begun: list[int] = []
    looked: list[int] = []
    free = threading.Semaphore(0)

    def work(task: int) -> None:
        begun.append(task)
        assert free.acquire(timeout=WAIT_S)

    def look() -> None:
        with connections.one():
            looked.append(len(begun))

    def scan() -> None:
        with ThreadExecutor(workers) as executor:
            list(executor.map(work, range(10), connections))

    scanning, looking = threading.Thread(target=scan), threading.Thread(target=look)
    scanning.start()
    until(lambda: begun)
    looking.start()
    until(lambda: connections.wanted)
    ahead = 1 if workers == 1 else 0  # a task that waits in the executor already may run first
    for _ in range(1 + ahead):
        free.release()
    looking.join(WAIT_S)
    assert len(looked) == 1
    assert looked[0] <= 1 + ahead
    for _ in range(10):
        free.release()
    scanning.join(WAIT_S)
    assert len(begun) == 10


@pytest.mark.parametrize("make", [SerialExecutor, lambda: ThreadExecutor(3)])
def test_they_are_given_back_when_a_task_fails_and_when_nobody_wants_the_rest(make: type[Executor]) -> None:
    connections = Connections(2)

    def work(task: int) -> int:
        if task == 5:
            raise ZeroDivisionError
        return task

    with make() as executor:
        with pytest.raises(ZeroDivisionError):
            list(executor.map(work, range(10), connections))
        results = executor.map(work, range(5), connections)
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert connections.try_take()
    assert connections.try_take()
    assert not connections.try_take()


def test_they_are_given_back_when_a_task_cannot_be_made() -> None:
    connections = Connections(1)

    def tasks() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with ThreadExecutor(2) as executor, pytest.raises(ZeroDivisionError):
        list(executor.map(abs, tasks(), connections))
    assert connections.try_take()


def test_a_task_is_made_when_it_is_given_out() -> None:
    made: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    flight = InFlight(tasks(), Connections(8), workers=2, ahead=1)
    assert list(flight.more()) == made == [0, 1, 2]
    flight.ended()
    assert list(flight.more()) == [3]
    flight.all_ended()
    flight.all_ended()
    assert made == [0, 1, 2, 3]


def test_one_database_has_one_limit_however_many_name_it() -> None:
    first = connections_of("postgresql://h/test_one_database", 5)
    assert connections_of("postgresql://h/test_one_database", 2) is first
    assert [first.try_take() for _ in range(3)] == [True, True, False]
    assert connections_of("postgresql://h/another", 5) is not first
    assert connections_of("postgresql://h/test_one_database", None) is not first
