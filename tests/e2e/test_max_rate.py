"""``--max-rate`` from the question to the report: the work is counted on a clock that only sleeping moves."""

from __future__ import annotations

import functools
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge_agent import scan
from edge_agent.pace import BURST_S, SHARD_S_MAX, Pacer
from paritree.cli.adhoc import Question, compare, parse_targets

ROWS = 20_000


class Clock:
    """Each thread's own time: two regions are read side by side."""

    def __init__(self) -> None:
        self._time = threading.local()
        self._lock = threading.Lock()
        self.slept_s = 0.0

    def __call__(self) -> float:
        return getattr(self._time, "now", 0.0)

    def sleep(self, seconds: float) -> None:
        self._time.now = self() + seconds
        with self._lock:
            self.slept_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(scan, "Pacer", functools.partial(Pacer, clock=made, sleep=made.sleep))
    return made


@pytest.fixture
def targets(tmp_path: Path) -> list[str]:
    for region in ("eu", "us"):
        with closing(sqlite3.connect(tmp_path / f"{region}.db")) as connection, connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)")
            connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"v{n}") for n in range(ROWS)))
    return [f"{region}=sqlite:///{tmp_path}/{region}.db#t" for region in ("eu", "us")]


def compared(targets: list[str], **how: Any) -> dict[str, Any]:
    return compare(Question(parse_targets(targets), lag_max_s=0.0, digester="plain", **how))


@pytest.mark.parametrize(("executor", "workers"), [("serial", 1), ("threads", 2)])
def test_a_rate_makes_each_source_sleep_for_its_rows(
    targets: list[str], clock: Clock, executor: str, workers: int
) -> None:
    """Each task of w waits w times as long for its rows: side by side, the source gives ``rate`` rows a second."""
    rate = 1_000.0
    report = compared(targets, executor=executor, workers=workers, max_rate_rows_s=rate)
    assert report["verdict"] == "equal"
    expected_s = 2 * ROWS / rate * workers
    shards = 2 * ROWS / (rate / workers * SHARD_S_MAX)
    assert clock.slept_s == pytest.approx(expected_s, rel=0.05, abs=shards * BURST_S)
    noted = [note for note in report["notes"] if "throttled for" in note]
    assert [note.partition(":")[0] for note in noted] == ["eu", "us"]
    assert sum(float(note.split("throttled for ")[1].split(" s")[0]) for note in noted) == pytest.approx(
        clock.slept_s, abs=0.2
    )


def test_without_a_rate_nothing_sleeps_and_nothing_is_said(targets: list[str], clock: Clock) -> None:
    report = compared(targets, executor="threads", workers=2)
    assert report["verdict"] == "equal"
    assert clock.slept_s == 0
    assert not [note for note in report["notes"] if "throttled" in note]
