"""Continuous validation over real PostgreSQL tables with slots, every process one of its own."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers

DATASETS = """
[dataset.orders]
key = ["id"]
lag_max_s = 2
[dataset.orders.columns]
id = "int"
code = "text"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
"""
REFRESH = '[refresh.orders]\nchanges = "slot"\ninterval_s = 0.5\n'
WATCH = "patience_s = 1.0\n[watch.orders]\nwindow_s = 2\nlate_s = 0\n"
ROWS = 2_000
WAIT_S = 200.0


class Watched:
    """Two databases with the same table, their agents, and a coordinator that watches them."""

    def __init__(self, server: PostgresqlServer, folder: Path, pki: Path) -> None:
        self.server = server
        self.fleet = Fleet(folder, pki)
        self.tables: dict[str, psycopg.Connection] = {}
        for region in ("eu", "us"):
            server.create_database(f"watch_{region}")
            self.tables[region] = table = server.connect(f"watch_{region}")
            table.execute("CREATE TABLE orders (id bigint PRIMARY KEY, code text)")
            table.execute(f"INSERT INTO orders SELECT i, 'c' || i FROM generate_series(1, {ROWS}) AS i")
        self.fleet.datasets(DATASETS)
        self.fleet.start_coordinator(extra=WATCH)

    def start(self, region: str) -> None:
        self.fleet.start_agent(region, self.server.url(f"watch_{region}"), edit=lambda text: text + REFRESH)

    def state(self) -> dict[str, Any]:
        """How the watch stands, by its store: asking with the command line would be most of the work of this test."""
        if not self.asked("SELECT 1 FROM sqlite_master WHERE name = 'watches'"):
            return {"windows": [], "verified": None, "regions": {}, "open": 0}
        windows = self.asked("SELECT ended, verified, since FROM watch_windows ORDER BY ended")
        regions = {row[0]: row[1:] for row in self.asked("SELECT region, verified, reason FROM watch_regions")}
        marks = self.asked("SELECT verified FROM watches") or [(None,)]
        [(found,)] = self.asked("SELECT coalesce(sum(copies), 0) FROM watch_findings")
        return {"windows": windows, "verified": marks[0][0], "regions": regions, "open": found}

    def until(self, wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + WAIT_S
        while not wanted(state := self.state()):
            assert time.monotonic() < deadline, (state, self.fleet.log("coordinator"))
            time.sleep(0.1)
        return state

    def asked(self, query: str) -> list[tuple[Any, ...]]:
        """What the coordinator's store says."""
        with closing(sqlite3.connect(self.fleet.folder / "coordinator.db")) as store:
            return store.execute(query).fetchall()

    def checking(self) -> int:
        """Wait for a check that is between its two looks; the end of its window."""
        suspects = (
            "SELECT job_id FROM sweeps WHERE state = 'running' AND"
            " id IN (SELECT sweep_id FROM answers WHERE number >= 2)"
        )
        deadline = time.monotonic() + WAIT_S
        while not (found := self.asked(suspects)):
            assert time.monotonic() < deadline, self.fleet.log("coordinator")
            time.sleep(0.02)
        return int(found[0][0].rpartition("-")[2])

    def news(self) -> list[tuple[int, int]]:
        """New and ended findings of all windows that have any, by the store."""
        told = [json.loads(row[0]) for row in self.asked("SELECT outcome FROM watch_windows ORDER BY ended")]
        return [(one.get("new_total", 0), one.get("ended_total", 0)) for one in told if any(_counts(one))]

    def close(self) -> None:
        self.fleet.stop_all()
        for region, table in self.tables.items():
            table.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )
            table.close()
            with self.server.connect() as connection:
                connection.execute(f"DROP DATABASE watch_{region} WITH (FORCE)")


def _counts(told: dict[str, Any]) -> tuple[int, int]:
    return told.get("new_total", 0), told.get("ended_total", 0)


@pytest.fixture
def watched(postgresql: PostgresqlServer, pki_dir: Path, tmp_path: Path) -> Iterator[Watched]:
    with ExitStack() as ending:
        made = Watched(postgresql, tmp_path, pki_dir)
        ending.callback(made.close)
        yield made


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
    assert watched.fleet.stop("coordinator", signal.SIGKILL) == -signal.SIGKILL
    watched.fleet.start_coordinator(extra=WATCH)
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
