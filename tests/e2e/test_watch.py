"""Continuous validation over real PostgreSQL tables with slots, every process one of its own."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from servers.fleet import PARITREE
from servers.followed import Followed
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers

WATCH = "patience_s = 1.0\n[watch.orders]\nwindow_s = 2\n"
EVERY, TOLD = f"{WATCH}late_s = 0\nidle_s = 0\n", f"{WATCH}late_s = 1\nidle_s = 3600\n"
ROWS = 2_000
WAIT_S = 200.0
LATE_S = 3.1
"""After which a change is late: its window has closed, and the second after that is over."""
QUIET_S = 7.0
"""Three windows and the second in which the last notice may still be on its way."""


class Watched(Followed):
    """And the coordinator watches them."""

    def state(self) -> dict[str, Any]:
        """How the watch stands, by its store: asking with the command line would be most of the work of this test."""
        if not self.asked("SELECT 1 FROM sqlite_master WHERE name = 'watches'"):
            return {"windows": [], "verified": None, "regions": {}, "open": 0}
        windows, regions, marks, [(found,)] = self.at_once(
            "SELECT ended, verified, since FROM watch_windows ORDER BY ended",
            "SELECT region, verified, reason FROM watch_regions",
            "SELECT verified FROM watches",
            "SELECT coalesce(sum(copies), 0) FROM watch_findings",
        )
        known = {region: (verified, reason) for region, verified, reason in regions}
        return {"windows": windows, "verified": marks[0][0] if marks else None, "regions": known, "open": found}

    def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while not wanted(state := self.state()):
            assert time.monotonic() < deadline, (state, self.fleet.log("coordinator"))
            time.sleep(0.1)
        return state

    def quiet(self) -> dict[str, Any]:
        """As it is when nothing has been checked for some windows."""
        state, since = self.state(), time.monotonic()
        deadline = since + WAIT_S
        while time.monotonic() < since + QUIET_S:
            time.sleep(0.5)
            if (now := self.state())["windows"] != state["windows"]:
                state, since = now, time.monotonic()
            assert time.monotonic() < deadline, state
        return state

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the coordinator's store says."""
        return self.at_once(query)[0]

    def at_once(self, *queries: str) -> list[list[tuple[Any, ...]]]:
        """What it says to each of them, as it was at one moment."""
        with closing(sqlite3.connect(self.fleet.folder / "coordinator.db", timeout=30.0)) as store:
            store.execute("BEGIN")
            return [store.execute(query).fetchall() for query in queries]

    def sought(self, query: str) -> Any:
        """The first value of the first row, once there is one."""
        deadline = time.monotonic() + WAIT_S
        while not (found := self.asked(query)):
            assert time.monotonic() < deadline, self.fleet.log("coordinator")
            time.sleep(0.02)
        return found[0][0]

    def checking(self, answers: int = 2) -> int:
        """Wait for a check that has so many answers, so is between its two looks; the end of its window."""
        job = self.sought(
            "SELECT job_id FROM sweeps WHERE state = 'running' AND"
            f" id IN (SELECT sweep_id FROM answers WHERE number >= {answers})"
        )
        return int(job.rpartition("-")[2])

    def news(self) -> list[tuple[int, int]]:
        """New and ended findings of all windows that have any, by the store."""
        told = [json.loads(row[0]) for row in self.asked("SELECT outcome FROM watch_windows ORDER BY ended")]
        counts = [(one.get("new_total", 0), one.get("ended_total", 0)) for one in told]
        return [one for one in counts if any(one)]

    def events(self) -> int:
        """Changes that were told, over all windows."""
        return sum(json.loads(row[0])["events"] for row in self.asked("SELECT outcome FROM watch_windows"))

    def decided_once(self) -> bool:
        """Whether every window has one outcome, and every check was of one sweep."""
        once = "SELECT count(*) FROM {} GROUP BY {} HAVING count(*) > 1"
        return not self.asked(once.format("watch_windows", "ended")) and not self.asked(once.format("sweeps", "job_id"))

    def kill(self, name: str) -> None:
        assert self.fleet.stop(name, signal.SIGKILL) == -signal.SIGKILL


def opened(server: PostgresqlServer, folder: Path, pki: Path, extra: str, name: str) -> Watched:
    return Watched(server, folder, pki, rows=ROWS, lag_max_s=2, extra=extra, name=name)


@pytest.fixture
def watched(postgresql: PostgresqlServer, pki_dir: Path, tmp_path: Path) -> Iterator[Watched]:
    with opened(postgresql, tmp_path, pki_dir, EVERY, "every") as made:
        yield made


@pytest.fixture(scope="module")
def told(postgresql: PostgresqlServer, pki_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with opened(postgresql, tmp_path_factory.mktemp("told"), pki_dir, TOLD, "told") as made:
        made.start("eu", "us")
        made.until(lambda state: state["verified"])
        yield made


def test_a_committed_change_is_checked_soon_and_idle_windows_not_at_all(told: Watched) -> None:
    before = told.quiet()
    began = time.time()
    told.everywhere("UPDATE orders SET amount = amount + 1 WHERE id <= 300")
    state = told.until(lambda state: state["verified"] > began)
    took_s = time.time() - began
    print(f"from the commit to the finished check: {took_s:.1f} s")
    assert state["open"] == 0
    first = next(row for row in state["windows"] if row[0] > before["verified"])
    assert first[2] == before["verified"], "one check covers the idle windows, too"
    told.until(lambda _: told.events() >= 600)  # a region that was slow to tell has them counted in the next window
    assert told.events() == 600, "300 in each region, each told once"

    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 7")
    state = told.until(lambda state: state["open"] == 1)
    after = told.quiet()
    assert (told.news(), after["open"]) == ([(1, 0)], 1)
    told.tables["us"].execute("UPDATE orders SET code = 'c7' WHERE id = 7")
    told.until(lambda state: state["open"] == 0)
    assert told.news() == [(1, 0), (0, 1)]
    by_roots = "SELECT count(*) FROM watch_windows WHERE verified AND sweep_id IS NULL"
    assert told.asked(by_roots)[0][0] >= 1, "equal roots take no sweep"
    assert told.decided_once()

    following = subprocess.Popen(
        [*PARITREE, "watch", "orders", "--config", str(told.fleet.folder / "coordinator.toml")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert following.stderr is not None
    while "findings are open" not in following.stderr.readline():
        assert following.poll() is None
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=WAIT_S)
    assert (following.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err


def test_killed_in_each_phase_nothing_is_skipped_or_told_twice(told: Watched) -> None:
    told.quiet()
    before = len(told.news())
    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 1")
    told.kill("agent-us")  # before, or just after it has told
    told.start("us")
    told.until(lambda state: state["open"] == 1)

    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 2")
    told.sought("SELECT waiting FROM watches WHERE waiting <> '{}'")  # told, and stored
    told.kill("coordinator")
    told.start_coordinator()
    told.until(lambda state: state["open"] == 2)

    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 3")
    told.sought("SELECT opened FROM watches WHERE opened IS NOT NULL")
    told.kill("coordinator")
    told.start_coordinator()
    told.until(lambda state: state["open"] == 3)

    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 4")
    told.sought("SELECT opened FROM watches WHERE opened IS NOT NULL")
    told.kill("agent-us")
    told.start("us")
    told.until(lambda state: state["open"] == 4)

    told.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 5")
    told.checking(1)
    told.kill("agent-us")
    told.start("us")
    told.until(lambda state: state["open"] == 5)

    told.kill("agent-us")  # once it is settled
    told.kill("coordinator")
    time.sleep(1.0)  # what eu tells before it knows is lost with the connection, whose successor has a window checked
    told.everywhere("UPDATE orders SET amount = amount + 1 WHERE id = 9")
    time.sleep(LATE_S)
    told.start("us")
    told.start_coordinator()
    told.fleet.wait_connected(("eu", "us"))
    told.quiet()
    assert told.news()[before:] == [(1, 0)] * 5
    answer = told.fleet.command("watch", "orders", "--windows", "0", "--json")
    shown = json.loads(answer.stdout)
    # The agent in us may take its change in before it is connected: then it need not tell.
    assert shown["late_events"] >= 1, "what was committed while nobody listened is told by eu, and late"
    assert shown["late_last"] is not None
    assert shown["events_waiting"] == 0
    assert told.decided_once()


def test_windows_are_verified_over_changes_a_killed_coordinator_and_a_region_away(watched: Watched) -> None:
    watched.start("eu")
    state = watched.until(lambda state: state["windows"])
    assert (state["verified"], state["windows"][0][1]) == (None, 0), "a region that never came is not verified"
    watched.start("us")
    state = watched.until(lambda state: state["verified"])
    assert {one[0] for one in state["regions"].values()} == {state["verified"]}
    assert state["open"] == 0

    watched.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id = 7")
    watched.tables["eu"].execute("DELETE FROM orders WHERE id = 9")
    opened = watched.checking()
    watched.kill("coordinator")
    watched.start_coordinator()
    watched.until(lambda state: state["open"] == 2)
    assert watched.asked(f"SELECT count(*) FROM watch_windows WHERE ended = {opened}") == [(1,)]
    assert watched.asked(f"SELECT resumed FROM sweeps WHERE job_id LIKE '%-{opened}'") == [(1,)]
    state = watched.until(lambda state: state["verified"] and state["verified"] > opened)
    assert watched.news() == [(2, 0)], "each is told once, although every later window finds it, too"

    watched.fleet.stop("agent-us")
    state = watched.until(lambda state: not state["windows"][-1][1])
    held_at, newest = state["verified"], state["windows"][-1][0]
    watched.tables["us"].execute("UPDATE orders SET code = 'c7' WHERE id = 7")
    state = watched.until(lambda state: state["windows"][-1][0] > newest)
    assert state["verified"] == held_at, "it stays while a region is away"
    assert {one[0] for one in state["regions"].values()} == {held_at}
    assert all(one[1] for one in state["regions"].values())
    answer = watched.fleet.command("watch", "orders", "--windows", "0")
    assert answer.returncode == 3, answer.stderr
    assert "not verified in us" in answer.stdout

    watched.start("us")
    state = watched.until(lambda state: state["verified"] > newest)
    since = next(since for ended, verified, since in state["windows"] if verified and ended > newest)
    assert since == held_at, "the next one covers what was not verified"
    assert watched.news() == [(2, 0), (0, 1)]
    following = watched.fleet.command("watch", "orders", "--windows", "1", "--json")
    assert following.returncode == 1, following.stderr
    assert len(json.loads(following.stdout)["followed"]) == 1
