"""SQLite and DuckDB files are scanned again where they were written, and not at all where nobody wrote them."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import duckdb
import pytest
from agent.rescan_case import OLD, Kept

from edge_agent.connectors import fileversion
from edge_agent.connectors.contract import Source

TICK_S = 0.02
"""The clock of this machine's file systems, with room."""


@pytest.fixture(autouse=True)
def fine_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))


def settle() -> None:
    time.sleep(2 * TICK_S)


def sqlite_run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def duckdb_run(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


RUN: Mapping[str, Callable[..., None]] = {"sqlite": sqlite_run, "duckdb": duckdb_run}


@pytest.fixture(params=RUN)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kept, Callable[..., None]]]:
    path = tmp_path / "shop.db"

    def run(*statements: str) -> None:
        RUN[request.param](path, *statements)

    run("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)", "CREATE TABLE others (id INTEGER)")
    run(*(f"INSERT INTO orders VALUES ({n}, 'name {n}')" for n in range(200)))
    settle()
    made = Kept(Source(f"{request.param}:///{path}"), "orders", tmp_path)
    yield made, run
    made.close()


def test_a_database_that_nobody_wrote_is_not_scanned(database: tuple[Kept, Callable[..., None]]) -> None:
    kept, run = database
    built = kept.check()
    assert kept.last == 4
    again = kept.check()
    assert kept.last == 0
    assert again.position == built.position
    kept.reopen()
    kept.check(OLD)
    assert kept.last == 0
    run("UPDATE orders SET name = 'new' WHERE id = 77", "DELETE FROM orders WHERE id > 190")
    settle()
    kept.check()
    assert kept.last == 4
    kept.check()
    assert kept.last == 0
    run("INSERT INTO others VALUES (1)")
    settle()
    kept.check()
    assert kept.last == 4, "which table was written is not known"


def test_a_first_scan_that_was_killed_goes_on_while_nobody_wrote(database: tuple[Kept, Callable[..., None]]) -> None:
    kept, run = database
    kept.killed(3)
    assert "3 of 4 shards had been read" in str(kept.went_on(last=1).notes)
    kept.index.close()
    shutil.rmtree(kept.folder / "index")
    kept.index = kept.opened()
    kept.killed(3)
    run("UPDATE orders SET name = 'new' WHERE id = 3")
    settle()
    assert "not in the same place" in kept.went_on(last=4).notes[-1]


def test_what_is_in_sqlites_log_alone_is_seen(tmp_path: Path) -> None:
    """A writer that stays: the file itself does not change, and its log is written in place."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        writer.executemany("INSERT INTO orders VALUES (?, ?)", ((n, f"name {n}") for n in range(200)))
        settle()
        kept = Kept(Source(f"sqlite:///{path}"), "orders", tmp_path)
        try:
            kept.check()
            kept.check()
            assert kept.last == 0
            state = path.stat()
            for turn in range(3):
                writer.execute("UPDATE orders SET name = ? WHERE id = 9", (f"turn {turn}",))
                if turn:
                    settle()
                kept.check()
                assert kept.last == 4
            assert path.stat().st_mtime_ns == state.st_mtime_ns
            writer.execute("PRAGMA wal_checkpoint(RESTART)")
            writer.execute("UPDATE orders SET name = 'first in the log again' WHERE id = 9")
            settle()
            kept.check()
            assert kept.last == 4
        finally:
            kept.close()
