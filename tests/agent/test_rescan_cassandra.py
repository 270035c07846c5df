"""Token ranges of a real Cassandra are scanned again by age: the old ones before a sweep, the oldest in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from agent.rescan_case import OLD, RESCAN, Kept
from bench.cassandra_tables import load_cassandra
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, keyspace

from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.index.state import HeldShard
from edge_agent.letters.replay import Replay
from paritree.core.errors import SourceError
from paritree.core.messages import Freshness, Progress

pytestmark = pytest.mark.servers
ROWS = 2_000


@pytest.fixture(scope="module")
def ks(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "rescans") as made:
        yield made


@pytest.fixture
def kept(ks: Keyspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    """2,000 rows in about ten shards."""
    monkeypatch.setattr("edge_agent.connectors.cassandra.shards.ROUTED_ROWS_MIN", 1)
    ks.create("orders", "id bigint PRIMARY KEY, name text")
    load_cassandra(ks.session, ks.name, "orders", ((n, f"name {n}") for n in range(ROWS)), ["id", "name"])
    source = Source(f"{ks.server.url}/{ks.name}")
    made = Kept(source, "orders", tmp_path, shard_rows=200, following=replace(RESCAN, max_age_s=3_600.0))
    yield made
    made.close()


def shards(kept: Kept) -> list[HeldShard]:
    return kept.index._index.view().state.scanned


def aged(kept: Kept, age_of: Callable[[int], float]) -> None:
    """As if each shard had been scanned that long ago."""
    index = kept.index._index
    now = time.time()

    def older(state):  # type: ignore[no-untyped-def]
        held = {n: replace(one, as_of=now - age_of(place)) for place, (n, one) in enumerate(state.shards.items())}
        return replace(state, shards=held)

    assert index.exchange(older, None)


def test_only_ranges_that_are_too_old_are_scanned_before_a_sweep(ks: Keyspace, kept: Kept) -> None:
    built = kept.check()
    assert len(shards(kept)) == built.shards > 5
    assert kept.check().index.sums.root.count == ROWS
    assert kept.last == 0
    ks.run("UPDATE {ks}.orders SET name = 'new' WHERE id = 7")
    ks.run("DELETE FROM {ks}.orders WHERE id IN (8, 9)")
    ks.run("INSERT INTO {ks}.orders (id, name) VALUES (99999, 'more')")
    aged(kept, lambda place: 900.0 if place < 3 else 30.0)
    built = kept.built(Freshness(600.0, rescan=True))
    assert kept.last == 3
    assert 30.0 <= built.age_s < 60.0, "the oldest of the others"
    assert not built.position.point
    assert "only 3 of" in built.notes[-1]
    built = kept.check(OLD)
    assert kept.last == built.shards
    assert built.index.sums.root.count == ROWS - 1
    assert built.age_s < 30.0


def test_a_first_scan_that_was_killed_goes_on_and_is_as_old_as_its_oldest_range(ks: Keyspace, kept: Kept) -> None:
    kept.killed(4)
    gone = datetime.now(UTC)
    time.sleep(0.5)
    built = kept.built()
    assert f"4 of {len(shards(kept))} shards had been read" in str(built.notes)
    assert built.index.sums.root.count == ROWS
    assert built.age_s > 0.4
    first = built.position.text.removeprefix("cassandra: ").split(" .. ")[0]
    assert datetime.fromisoformat(first) < gone
    ks.run("UPDATE {ks}.orders SET name = 'new' WHERE id = 7")
    kept.check(OLD)


def test_the_position_is_the_interval_in_which_ranges_were_read(kept: Kept) -> None:
    kept.check()
    aged(kept, lambda place: 900.0 if place == 0 else 500.0)
    before = time.time()
    built = kept.built(Freshness(600.0, rescan=True))
    first, last = built.position.text.removeprefix("cassandra: ").rsplit(" ", 1)[0].split(" .. ")
    assert built.position.text.endswith("QUORUM") or "LOCAL" in built.position.text
    assert abs(datetime.fromisoformat(first).timestamp() - (before - 500)) < 60
    assert last > first


def test_without_leave_to_scan_the_oldest_range_says_how_old_the_index_is(kept: Kept) -> None:
    kept.check()
    aged(kept, lambda place: 900.0 if place == 4 else 1.0)
    built = kept.built(Freshness(600.0, rescan=False))
    assert kept.last == 0
    assert built.age_s > 890.0
    assert "used as it is" in built.notes[-1]


def test_the_background_scans_the_oldest_range_first_until_none_is_old(ks: Keyspace, kept: Kept) -> None:
    kept.check()
    count = len(shards(kept))
    ks.run("DELETE FROM {ks}.orders WHERE id = 1000")
    aged(kept, lambda place: 2_000.0 + place)
    order = sorted(shards(kept), key=lambda held: held.as_of)
    for number in range(count):
        assert kept.index.keep_up() == 0.0, "at once the next one"
        young = {held.name for held in shards(kept) if held.as_of > time.time() - 1_000}
        assert young == {held.name for held in order[: number + 1]}
    assert kept.index.keep_up() >= kept.index.interval_s
    assert kept.check().index.sums.root.count == ROWS - 1
    assert kept.last == 0, "nothing is left to a sweep"


def test_the_background_keeps_to_its_rate(kept: Kept) -> None:
    kept.following = replace(kept.following, rescan_rows_s=400.0)
    kept.reopen()
    kept.check()
    aged(kept, lambda _: 2_000.0)
    oldest = min(shards(kept), key=lambda held: held.as_of)
    began = time.monotonic()
    kept.index.keep_up()
    assert time.monotonic() - began >= oldest.sum.count / 400.0 - 0.3


def test_a_sweep_goes_on_beside_the_background_and_the_later_run_stays(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The background's scan comes back when a sweep has replaced the shard: it is dropped."""
    kept.check()
    aged(kept, lambda _: 2_000.0)
    from edge_agent import rescan

    scan, busy = rescan.scan_shard, []

    def slow(task):  # type: ignore[no-untyped-def]
        result = scan(task)
        if not busy:
            busy.append(task)
            kept.built(OLD)
        return result

    monkeypatch.setattr(rescan, "scan_shard", slow)
    before = {held.name: held.run for held in shards(kept)}
    kept.index.keep_up()
    after = {held.name: held.run for held in shards(kept)}
    assert all(after[name] != run for name, run in before.items())
    assert not any(run and run.file == busy[0].run_path.name for run in after.values())
    kept.check()


def test_ranges_that_were_read_stay_when_a_sweep_breaks_off(kept: Kept) -> None:
    kept.check()
    aged(kept, lambda _: 5_000.0)

    def ended(told: Progress) -> None:
        if told.shards_done == 3:
            raise SourceError("nobody wants it any more")

    with pytest.raises(SourceError, match="nobody wants"):
        kept.built(progress=ended)
    assert sum(held.as_of > time.time() - 1_000 for held in shards(kept)) == 2, "the third was not put in yet"
    kept.check()


def test_a_table_that_has_grown_is_cut_anew(ks: Keyspace, kept: Kept) -> None:
    kept.check()
    count = len(shards(kept))
    more = ((n, "more") for n in range(ROWS, 6 * ROWS))
    load_cassandra(ks.session, ks.name, "orders", more, ["id", "name"])
    built = kept.check(OLD)
    assert any("has grown" in note for note in built.notes)
    assert len(shards(kept)) > 4 * count
    assert built.index.sums.root.count == 6 * ROWS


def test_replay_clears_the_verdict_with_the_letters_and_scans_their_ranges_alone(ks: Keyspace, kept: Kept) -> None:
    ks.run("UPDATE {ks}.orders SET name = 'x\0y' WHERE id = 7")
    assert kept.built().dead.total == 1
    ks.run("UPDATE {ks}.orders SET name = 'good' WHERE id = 7")
    assert kept.built().dead.total == 1
    assert kept.last == 0, "the range is young, and its letter is there"
    replay = Replay(kept.store, kept.copy, SerialExecutor(), kept.folder / "replay", "replay-1")
    assert len(replay.run(kept.store.kept("orders"))) == 1
    assert kept.check().dead.total == 0
    assert kept.last == 1
    kept.check()
    assert kept.last == 0


def test_a_clock_that_was_set_back_makes_everything_old(kept: Kept) -> None:
    kept.check()
    aged(kept, lambda place: -5_000.0 if place < 2 else 0.0)
    kept.check()
    assert kept.last == 2
