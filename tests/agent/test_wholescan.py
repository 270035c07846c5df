"""The scan that an index begins with is killed, and another process goes on: no finished shard twice, no row lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from agent.scan_case import ROWS, SHARDS, TABLE, Ended, Killed, sweep_of, written
from agent.warm_case import probe_of
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from edge_agent.build import Built, build_index
from edge_agent.executors import SerialExecutor
from edge_agent.index.rest import RestKey
from edge_agent.kept import NAME
from edge_agent.pace import Throttle
from edge_agent.refresh import Refresher
from edge_agent.wanted import Cancelled
from edge_agent.warm import WarmIndex
from paritree.core.errors import SourceError
from paritree.core.messages import Freshness

pytestmark = pytest.mark.servers
CRASHER = Path(__file__).with_name("scan_crasher.py")


@pytest.fixture
def pg(postgresql: PostgresqlServer) -> Iterator[PgCase]:
    postgresql.create_database("wholescan")
    case = PgCase(postgresql, "wholescan")
    case.run(*TABLE)
    yield case
    case.run(*DROPPED)
    case.close()


SLOT = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
DROPPED = (
    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()",
    "DO $$ DECLARE p text; BEGIN FOR p IN SELECT pubname FROM pg_publication LOOP"
    " EXECUTE format('DROP PUBLICATION %I', p); END LOOP; END $$",
)


@pytest.fixture
def scan(pg: PgCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killed:
    return Killed(pg, tmp_path, monkeypatch)


def same_as_rebuilt(scan: Killed, built: Built) -> None:
    """The index is what a scan of now makes."""
    read = list(scan.read)
    cold = build_index(scan.copy, SerialExecutor(), scan.folder / f"cold-{os.urandom(4).hex()}", lambda _: None)
    scan.read[:] = read
    assert built.index.sums.root == cold.index.sums.root
    for one, other in zip(probe_of(built), probe_of(cold), strict=True):
        assert (one == other).all()
    assert built.index.duplicates() == 0


def gone_on(scan: Killed, index: WarmIndex | None = None) -> Built:
    """Another process goes on, to an index that is what a rebuild makes."""
    with index or scan.opened() as opened:
        built = sweep_of(opened, scan.folder)
        same_as_rebuilt(scan, built)
        assert not built.faults
        assert not opened._index.why_not, built.notes
        assert opened._index.view().state.faults == ()
    return built


# --- killed at every point ------------------------------------------------------------------------------------------


class Crasher:
    """The program that kills itself."""

    def __init__(self, pg: PgCase) -> None:
        command = [sys.executable, str(CRASHER), pg.server.url(pg.database)]
        self._program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, number: int, folder: Path) -> tuple[int, bool]:
        """Points that were passed, and whether it was killed."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(f"{number} {folder}\n")
        self._program.stdin.flush()
        points, ended = self._program.stdout.readline().split()
        return int(points), ended == "killed"

    def __enter__(self) -> Crasher:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.stdout.close()
        assert self._program.wait(timeout=20) == 0


@pytest.mark.parametrize(("gone_on_with", "points_min"), [(0, 23), (2, 26)])
def test_killed_at_every_point_of_the_scan_it_goes_on(scan: Killed, gone_on_with: int, points_min: int) -> None:
    """Of the first process, or of one that goes on with two shards of another; the table is written all the time."""
    point, killed, folder = 0, True, scan.folder
    with Crasher(scan.pg) as crasher:
        while killed:
            scan.folder = folder / str(point)
            scan.folder.mkdir()
            scan.pg.run(*DROPPED, *TABLE)
            with written(scan.pg, seed=point):
                if gone_on_with:
                    scan.killed(until=gone_on_with)
                before = scan.finished
                passed, killed = crasher.run(point, scan.folder)
                assert passed == point or not killed
            finished = scan.finished | before
            installed = (scan.folder / "index" / "manifest").exists()
            gone_on(scan)
            if installed:
                assert scan.read == []
                point += 1
                continue
            assert not finished & set(scan.read), f"point {point}: shards are read again"
            every = sorted(finished | set(scan.read))
            assert every == list(range(max(SHARDS, len(every))))
            point += 1
    assert point >= points_min


def test_killed_again_and_again_each_shard_is_read_once(scan: Killed) -> None:
    with written(scan.pg, seed=1):
        every: list[int] = []
        for until in range(1, SHARDS):
            scan.killed(until)
            every += scan.read
    built = gone_on(scan)
    every += scan.read
    shards = max(SHARDS, len(every))  # the table had grown by a block or more before it was cut
    assert sorted(every) == list(range(shards))
    assert any(f"{SHARDS - 1} of {shards} shards had been read before" in note for note in built.notes)
    assert scan.slots() == 1
    with scan.opened() as index:
        assert "nothing was scanned" in sweep_of(index, scan.folder).notes[-1]
    assert scan.read == []


def test_written_while_it_goes_on(scan: Killed) -> None:
    scan.killed(2)
    with written(scan.pg, seed=2), scan.opened() as index:
        sweep_of(index, scan.folder)
    assert sorted(scan.read) == [2, 3]
    gone_on(scan)


# --- what may have become of the rows -------------------------------------------------------------------------------


def test_rows_that_moved_to_a_finished_shard_and_back_are_there_once(scan: Killed) -> None:
    scan.killed(2)
    scan.pg.run(
        f"UPDATE orders SET v = repeat('m', 200) WHERE id > {ROWS - 20}",  # from unread blocks to those that were read
        "UPDATE orders SET v = 'short' WHERE id BETWEEN 41 AND 60",
        "DELETE FROM orders WHERE id BETWEEN 61 AND 70",
        "UPDATE orders SET id = id + 10000 WHERE id BETWEEN 71 AND 80",
        f"UPDATE orders SET id = id + 20000 WHERE id BETWEEN {ROWS - 60} AND {ROWS - 50}",
        "DELETE FROM orders WHERE id = 100",
        "INSERT INTO orders VALUES (100, 'again'), (1, 'new')",
        "VACUUM orders",
    )
    moved = scan.pg.admin.execute("SELECT count(*) FROM orders WHERE v LIKE 'm%' AND ctid < '(4,0)'::tid").fetchone()
    assert moved is not None
    assert moved[0] > 0, "the test is about rows that come into blocks that were read"
    built = gone_on(scan)
    assert sorted(scan.read) == [2, 3]
    assert any("shards had been read before" in note for note in built.notes)
    assert any(note.startswith("scanned,") for note in built.notes)


def test_where_snapshots_may_not_get_old_no_shard_is_looked_at_twice(scan: Killed) -> None:
    """Without an interruption further passes read what changed; here its keys are told."""
    scan.copy = replace(scan.copy, throttle=Throttle(snapshot_max_s=0.001))
    scan.killed(2)
    scan.pg.run(f"UPDATE orders SET v = repeat('m', 200) WHERE id > {ROWS - 20} OR id < 60")
    with written(scan.pg, seed=3), scan.opened() as index:
        built = sweep_of(index, scan.folder)
    assert sorted(scan.read) == [2, 3]
    assert any("snapshots" in note for note in built.notes)
    scan.copy = replace(scan.copy, throttle=Throttle())
    gone_on(scan)
    assert scan.read == []


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("VACUUM FULL orders", "not in the same place"),
        ("CLUSTER orders USING orders_pkey", "not in the same place"),
        ("TRUNCATE orders", "not in the same place"),
        ("ALTER TABLE orders ALTER id TYPE numeric", "columns of"),
        (DROPPED[0], "is gone"),
        ("DROP PUBLICATION {slot}", "publication"),
    ],
)
def test_what_changes_do_not_tell_is_scanned_anew_and_said(scan: Killed, statement: str, why: str) -> None:
    scan.killed(2)
    slot = scan.pg.admin.execute(SLOT).fetchone()
    assert slot is not None
    scan.pg.run(statement.format(slot=slot[0]), "INSERT INTO orders VALUES (5, 'new')")
    built = gone_on(scan)
    assert sorted(set(scan.read)) == list(range(len(set(scan.read))))
    assert why in built.notes[-1]
    assert scan.slots() == 1


def test_a_slot_that_somebody_else_read_is_scanned_anew(scan: Killed) -> None:
    scan.killed(2)
    scan.pg.run("SET synchronous_commit = on", "DELETE FROM orders WHERE id < 100")
    scan.pg.admin.execute(
        "SELECT pg_replication_slot_advance(slot_name, pg_current_wal_lsn()) FROM pg_replication_slots"
        " WHERE database = current_database()"
    )
    built = gone_on(scan)
    assert "somebody else read the slot" in built.notes[-1]
    assert len(scan.read) >= 3


def test_a_rewrite_after_it_went_on_is_seen_by_the_refresh(scan: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is emptied once its lock is gone: the shards of the index are of a table that is no more."""
    scan.killed(2)
    refresh = Refresher.refresh

    def emptied(self: Refresher, *, proven: bool, **options: int) -> object:
        monkeypatch.setattr(Refresher, "refresh", refresh)
        scan.pg.run("TRUNCATE orders", "INSERT INTO orders VALUES (1, 'new')")
        return self.refresh(proven=proven, **options)

    monkeypatch.setattr(Refresher, "refresh", emptied)
    built = gone_on(scan)
    assert "emptied" in built.notes[-1]
    assert built.index.sums.root.count == 1


@pytest.mark.parametrize("other", ["binding", "key", "follower", "rest key", "damage"])
def test_another_index_does_not_go_on_with_it(scan: Killed, other: str) -> None:
    scan.killed(2)
    match other:
        case "binding":
            scan.copy = replace(scan.copy, binding=replace(scan.copy.binding, options={"of": "another kind"}))
        case "key":
            scan.copy = replace(scan.copy, keys=type(scan.copy.keys).of(bytes(range(32)), "orders"))
        case "follower":
            scan.following = replace(scan.following, name="eu/eu-2")
        case "rest key":
            scan.copy = replace(scan.copy, rest_key=RestKey(bytes(32)))
        case "damage":
            for run in (scan.folder / "index" / "scan").glob("*.run"):
                run.write_bytes(run.read_bytes()[:-1])
    gone_on(scan)
    assert sorted(scan.read) == list(range(SHARDS))


def test_a_damaged_run_is_read_again_and_no_other(scan: Killed) -> None:
    scan.killed(3)
    (scan.folder / "index" / "scan" / "000001.run").unlink()
    gone_on(scan)
    assert sorted(scan.read) == [1, 3]


def test_an_install_that_came_to_nothing_loses_no_shard(scan: Killed, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise SourceError("no space left", retryable=True)

    with monkeypatch.context() as patched, scan.opened() as index:
        patched.setattr("edge_agent.index.shelf.Shelf.commit", full)
        with pytest.raises(SourceError, match="no space"):
            sweep_of(index, scan.folder)
    assert len(scan.read) == SHARDS
    gone_on(scan)
    assert scan.read == []
    assert not list((scan.folder / "index").glob("scan/*"))


def test_encrypted_at_rest_it_goes_on(scan: Killed) -> None:
    scan.copy = replace(scan.copy, rest_key=RestKey(bytes(range(32))))
    scan.killed(2)
    scan.pg.run("UPDATE orders SET v = 'x' WHERE id < 100")
    gone_on(scan)
    assert sorted(scan.read) == [2, 3]


# --- the doubt ------------------------------------------------------------------------------------------------------


def test_until_changes_are_taken_over_nothing_is_answered_from_it(
    scan: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that moved may be in no shard: the index must not be used, whatever age a sweep takes."""
    scan.killed(2)
    scan.pg.run(f"UPDATE orders SET v = repeat('m', 200) WHERE id > {ROWS - 20}")

    def broken(*_: object, **__: object) -> None:
        raise SourceError("the server is away", retryable=True)

    with scan.opened() as index:
        with monkeypatch.context() as patched:
            patched.setattr(Refresher, "refresh", broken)
            for freshness in (Freshness(None, rescan=True), Freshness(3_600.0, rescan=True)):
                with pytest.raises(SourceError, match="away"):
                    sweep_of(index, scan.folder, freshness)
            assert index._index.view().state.faults
            index.keep_up()
            with pytest.raises(SourceError, match="away"):
                sweep_of(index, scan.folder, Freshness(None, rescan=False))
        index.keep_up()
        assert index._index.view().state.faults, "what the background takes over proves nothing"
        built = sweep_of(index, scan.folder, Freshness(3_600.0, rescan=True))
        same_as_rebuilt(scan, built)
        assert not built.faults
    assert sorted(scan.read) == [2, 3]


# --- ended, not killed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rests", "left"), [(True, 1), (False, 0)])
def test_a_sweep_that_rests_is_gone_on_with_and_one_that_is_cancelled_leaves_no_slot(
    scan: Killed, rests: bool, left: int
) -> None:
    why = Cancelled("the sweep rests or was ended", retryable=True)
    why.rests = rests
    ended(scan, why)
    assert scan.slots() == left
    gone_on(scan)
    assert sorted(scan.read) == ([2, 3] if rests else [0, 1, 2, 3])


@pytest.mark.parametrize(("retryable", "left"), [(True, 1), (False, 0)])
def test_an_error_that_passes_leaves_the_scan_for_the_next_try(scan: Killed, retryable: bool, left: int) -> None:
    ended(scan, SourceError("the server went away", retryable=retryable))
    assert scan.slots() == left
    assert (scan.folder / "index" / "scan" / NAME).exists() == retryable


def ended(scan: Killed, error: SourceError) -> None:
    """A sweep that ends with the error when two shards were read."""
    with pytest.MonkeyPatch.context() as patched, scan.opened() as index:
        patched.setattr(Ended, "__new__", lambda *_: error)
        with pytest.raises(SourceError, match=error.message):
            sweep_of(index, scan.folder, until=2)


def test_nobody_keeps_the_log_for_a_scan_that_was_given_up(scan: Killed) -> None:
    scan.killed(2)
    with scan.opened() as index:
        index.keep_up()
        assert scan.slots() == 1
        os.utime(scan.folder / "index" / "scan" / NAME, (0, 0))
        index.keep_up()
        assert scan.slots() == 0
        assert scan.finished == set()
    gone_on(scan)
    assert sorted(scan.read) == list(range(SHARDS))


def test_a_rebuild_that_was_killed_is_gone_on_with(scan: Killed) -> None:
    """The old index cannot be followed any more, as the slot was made anew."""
    gone_on(scan)
    scan.pg.run("DELETE FROM orders WHERE id BETWEEN 100 AND 110")
    scan.killed(2, rebuild=True)
    scan.pg.run("DELETE FROM orders WHERE id BETWEEN 200 AND 210", f"UPDATE orders SET v = 'y' WHERE id > {ROWS}")
    gone_on(scan)
    assert sorted(scan.read) == [2, 3]
