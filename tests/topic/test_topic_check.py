"""The self-check of an index that follows a topic: what the feed lost is found, and being late is no fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from servers.nats import NatsServer
from topic.topic_case import Topical, change, scanned

from edge_agent.checking import Checked
from edge_agent.executors import SerialExecutor
from edge_agent.letters.replay import Replay

pytestmark = pytest.mark.servers
ROUND = 24
"""Pieces in which every shard and every key is looked at, and judged."""


@pytest.fixture
def case(nats: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Topical]:
    monkeypatch.setattr("edge_agent.untold.CLOCKS_S", 0.0)  # the clocks here are one
    made = Topical(nats, tmp_path, "CHECKED")
    made.built()
    yield made
    made.close()


def faults(case: Topical, pieces: int = ROUND, *, marked: bool = True) -> list[Checked]:
    """What so many pieces find while the topic goes on."""
    found = []
    for _ in range(pieces):
        found.append(case.index._check.piece())
        if marked:
            case.mark()
        case.index._refreshed(proven=False)
    return [one for one in found if one.fault]


def suspects(case: Topical) -> set[bytes]:
    """Look at pieces until something waits to be judged."""
    untold = case.index._untold
    assert untold is not None
    for _ in range(ROUND):
        case.index._check.piece()
        if untold.suspicion is not None:
            return set(untold.suspicion.keys)
    return set()


def test_what_the_feed_lost_is_found_said_and_repaired(case: Topical) -> None:
    case.run("UPDATE orders SET code = 'told' WHERE id < 20")
    case.tell(*(change("u", None, {"id": number}) for number in range(1, 20)))
    case.mark()
    case.built()
    case.run(
        "UPDATE orders SET code = 'lost' WHERE id IN (5, 77)",
        "DELETE FROM orders WHERE id IN (6, 278)",
        "INSERT INTO orders VALUES (9000, 'lost')",
    )
    found = faults(case)
    assert found
    assert all(one.repaired for one in found)
    assert any("changes of them were lost" in one.fault for one in found)
    built = case.check()
    assert not scanned(built)
    assert built.faults == ()
    assert any("self-check" in note for note in built.notes)
    assert faults(case) == []


def test_the_background_finds_it_by_itself(case: Topical) -> None:
    case.index.close()
    case.following = replace(case.following, check_interval_s=0.001)
    case.index = case.opened()
    case.run("UPDATE orders SET code = 'lost' WHERE id = 77")
    for _ in range(ROUND):
        case.mark()
        case.index.keep_up()
    built = case.check()
    assert not scanned(built)
    assert any("self-check" in note for note in built.notes)


def test_a_topic_that_is_late_is_no_fault_however_late(case: Topical) -> None:
    case.run("UPDATE orders SET code = 'late' WHERE id % 7 = 0", "DELETE FROM orders WHERE id % 50 = 1")
    case.run("INSERT INTO orders VALUES (9000, 'late')")
    case.mark(ago_s=60.0)
    assert faults(case, marked=False) == []
    case.mark(ago_s=30.0)  # proves nothing of a time after the rows were read
    assert faults(case, marked=False) == []
    assert case.built().faults == ()
    case.tell(*(change("u", None, {"id": number}) for number in range(7, 301, 7)))
    case.tell(*(change("d", {"id": number}, None) for number in range(1, 301, 50)), change("c", None, {"id": 9000}))
    assert faults(case) == []
    built = case.check()
    assert not any("self-check" in note for note in built.notes)


def test_rows_that_change_while_they_are_looked_at_are_no_faults(case: Topical) -> None:
    for turn in range(ROUND):
        case.run(f"UPDATE orders SET code = 'turn {turn}' WHERE id % 9 = {turn % 9}")
        case.index._check.piece()
        case.tell(*(change("u", None, {"id": number}) for number in range(1, 301) if number % 9 == turn % 9))
        case.mark()
        assert faults(case, 1) == []
    assert faults(case) == []
    case.check()


def test_a_row_that_comes_back_is_no_fault_while_its_last_change_is_late(case: Topical) -> None:
    """Its first change was told and found it as it had been before: the index has seen nothing, and is not wrong."""
    case.run("UPDATE orders SET code = 'new' WHERE id = 7")
    assert len(suspects(case)) == 1
    case.run("UPDATE orders SET code = 'c7' WHERE id = 7")
    case.tell(change("u", None, {"id": 7}), change("u", None, {"id": 7}))
    case.mark()
    case.index._refreshed(proven=False)
    case.run("UPDATE orders SET code = 'new' WHERE id = 7")
    assert not case.index._check.piece().fault
    assert suspects(case), "it is looked at again"
    case.tell(change("u", None, {"id": 7}))
    assert faults(case) == []
    assert not any("self-check" in note for note in case.check().notes)


def test_an_index_that_was_scanned_meanwhile_is_not_judged_by_what_was_seen_before(case: Topical) -> None:
    case.run("UPDATE orders SET code = 'lost' WHERE id = 7")
    assert suspects(case)
    case.run("UPDATE orders SET code = 'c7' WHERE id = 7")
    case.index._index.doubt("a shard", "for a scan")
    assert scanned(case.built())
    case.run("UPDATE orders SET code = 'lost' WHERE id = 7")
    time.sleep(0.01)
    case.mark(ago_s=0.005)
    case.index._refreshed(proven=False)
    assert not case.index._check.piece().fault
    case.tell(change("u", None, {"id": 7}))
    assert faults(case) == []
    case.check()


def test_proof_has_to_be_past_the_reading_by_what_clocks_differ(case: Topical, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.untold.CLOCKS_S", 1.0)
    case.run("UPDATE orders SET code = 'lost' WHERE id = 7")
    assert suspects(case)
    began = time.monotonic()
    found: list[Checked] = []
    while not found and time.monotonic() - began < 30:
        found = faults(case, 1)
    assert [one.repaired for one in found] == [True]
    assert time.monotonic() - began > 0.9
    case.check()


def test_a_row_that_was_spoilt_unseen_is_found_and_dead_rows_are_no_faults(case: Topical) -> None:
    case.run("UPDATE orders SET code = 'x' || char(0) WHERE id = 7")
    assert faults(case)
    assert case.built().dead.total == 1
    assert faults(case) == [], "its digests are of chance"
    case.run("UPDATE orders SET code = 'good' WHERE id = 7")
    replay = Replay(case.store, case.copy, SerialExecutor(), case.folder / "replay", "replay-1")
    assert len(replay.run(case.store.kept("orders"))) == 1
    assert case.check().dead.total == 0, "nobody told, and nothing was scanned"


def test_more_than_can_be_read_one_by_one_leave_the_index_in_doubt(
    case: Topical, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.checking.SUSPECTS_MAX", 20)
    case.run("UPDATE orders SET code = 'lost'")
    assert faults(case, marked=False) == []
    found = faults(case, 2)
    assert [one.repaired for one in found] == [False]
    assert scanned(case.check())
