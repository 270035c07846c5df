"""An index that follows a topic of a real NATS server: changes, proof, gaps, and messages that are none."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.nats import NatsServer
from topic.topic_case import SUBJECT, Topical, change, scanned

from edge_agent.connectors.changes import RescanNeeded
from edge_agent.index.durable import DurableIndex
from edge_agent.notices import EVERY_S
from edge_agent.topic.stream import Stream
from paritree.core.deadletters import LetterKind
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Freshness
from paritree.wire.frames import Notice

pytestmark = pytest.mark.servers


@pytest.fixture
def case(nats: NatsServer, tmp_path: Path) -> Iterator[Topical]:
    made = Topical(nats, tmp_path, "CDC")
    yield made
    made.close()


def test_changed_rows_reach_the_index_by_the_topic(case: Topical) -> None:
    assert scanned(case.check())
    case.run(
        "UPDATE orders SET code = 'x' WHERE id = 1",
        "DELETE FROM orders WHERE id = 2",
        "INSERT INTO orders VALUES (1000, 'new')",
        "UPDATE orders SET id = 2000 WHERE id = 3",
    )
    case.tell(
        change("u", None, {"id": 1, "code": "x"}),
        change("d", {"id": 2, "code": None}),
        b"",  # its tombstone
        change("c", None, {"id": 1000, "code": "new"}),
        change("u", {"id": 3, "code": "c3"}, {"id": 2000, "code": "c3"}),
    )
    case.tell(change("u", None, {"id": 5}), subject="shop.main.customers")  # another table's
    built = case.check()
    assert not scanned(built)
    assert "4 changes of 5 keys" in built.notes[-1]
    assert not built.position.point, "a topic proves no point"
    case.index.keep_up()
    assert "0 changes" in case.check().notes[-1]
    assert case.consumer()["num_pending"] == 0


def test_between_sweeps_changes_are_noticed_and_an_idle_topic_proves_nothing_without_a_marker(case: Topical) -> None:
    case.check()
    assert case.index.tells
    notices, began = case.index._notices, time.time()

    async def noticed() -> Notice:
        notices.watch(["orders"])
        await asyncio.to_thread(case.index.keep_up)
        return await notices.next()

    assert case.index.interval_s > EVERY_S
    case.run("UPDATE orders SET code = 'x' WHERE id IN (1, 2)")
    case.tell(change("u", None, {"id": 1}), change("u", None, {"id": 2}), change("u", None, {"id": 3}))
    notice = asyncio.run(noticed())
    assert case.index.interval_s <= EVERY_S, "as somebody wants to know"
    assert (notice.keys, notice.position.split(",")[0]) == (2, f"topic:{case.stream} seq={case.end()}")
    assert (began - 1) * 1e6 <= notice.first_us <= notice.last_us <= (time.time() + 1) * 1e6
    time.sleep(1.0)
    with pytest.raises(RescanNeeded, match="no marker has come"):
        case.index.rooted(0.9)
    for _ in range(5):  # a machine that stops for a moment makes a marker old
        case.mark()
        with contextlib.suppress(RescanNeeded):
            assert case.index.rooted(0.9).age_s <= 0.9, "a marker was seen"
            break
    else:
        pytest.fail("no marker was seen")


def test_what_is_told_again_or_too_early_does_no_harm(case: Topical) -> None:
    """A message may be there before its change can be read: it is read again until it is old enough."""
    case.restart(settle_s=5.0)
    case.check()
    case.tell(change("u", None, {"id": 1}))
    assert "1 changes of 1 keys" in case.built().notes[-1]
    case.run("UPDATE orders SET code = 'late' WHERE id = 1")
    assert "1 changes of 1 keys" in case.check().notes[-1]
    time.sleep(5.1)
    assert "1 changes of 1 keys" in case.check().notes[-1]
    assert "0 changes" in case.check().notes[-1]
    case.tell(*(change("u", None, {"id": 7}) for _ in range(3)))
    assert "3 changes" in case.check().notes[-1]


def test_silence_makes_the_index_older_and_a_marker_younger(case: Topical) -> None:
    assert case.built().age_s < 5
    time.sleep(0.6)
    case.tell(change("u", None, {"id": 1}), {"ts_ms": int(time.time() * 1000)})  # heartbeats prove nothing here
    aged = case.built()
    assert aged.age_s > 0.5
    moment = case.mark()
    assert case.built().age_s <= time.time() - moment
    case.mark(ago_s=3_000)  # an old marker takes nothing back
    assert case.built().age_s < 30
    case.tell({"paritree_marker": time.time() + 1e6})  # nor does one vouch for what is to come
    moment = time.time()
    assert 0 <= case.built().age_s <= time.time() - moment + 5
    time.sleep(0.4)
    assert case.built().age_s > 0.3


def test_an_older_index_than_asked_for_is_scanned_or_says_its_age(case: Topical) -> None:
    case.built()
    time.sleep(0.3)
    kept = case.built(Freshness(0.1, rescan=False))
    assert not scanned(kept)
    assert kept.age_s > 0.1, "so the coordinator calls the region unknown"
    assert "no marker has come" in kept.notes[-1]
    assert scanned(case.built(Freshness(0.1)))
    time.sleep(3)
    case.mark()
    assert not scanned(case.built(Freshness(3)))


def test_a_declared_lag_makes_every_message_a_proof_of_so_long_ago(case: Topical) -> None:
    case.restart(lag_max_s=0.5)
    case.built()
    time.sleep(1.2)
    assert case.built().age_s > 1.1
    told = time.time()
    case.tell({"ts_ms": 1})  # a heartbeat: the feed lives
    assert 0.4 < case.built().age_s <= time.time() - told + 0.5


def test_a_killed_agent_is_told_again(case: Topical, monkeypatch: pytest.MonkeyPatch) -> None:
    case.built()
    case.run("UPDATE orders SET code = 'x' WHERE id < 50")
    case.tell(*(change("u", None, {"id": number}) for number in range(1, 50)))

    def killed(*_: object) -> None:
        raise SourceError("the agent ends here")

    for place, what in ((DurableIndex, "apply"), (Stream, "acknowledge")):
        with monkeypatch.context() as patched:
            patched.setattr(place, what, killed)
            with pytest.raises(SourceError, match="ends here"):
                case.built()
        assert case.consumer()["ack_floor"]["stream_seq"] == 0 or what == "acknowledge"
        case.restart()
    assert not scanned(case.check())
    case.run("UPDATE orders SET code = 'y' WHERE id = 60")
    case.tell(change("u", None, {"id": 60}))
    case.nats.stop()
    case.nats.start()
    assert not scanned(case.check())


def test_only_what_is_in_the_index_is_acknowledged(case: Topical, monkeypatch: pytest.MonkeyPatch) -> None:
    case.built()
    seen: list[int] = []
    applied = DurableIndex.apply

    def apply(self: DurableIndex, *arguments: Any) -> Any:
        seen.append(case.consumer()["ack_floor"]["stream_seq"])
        return applied(self, *arguments)

    monkeypatch.setattr(DurableIndex, "apply", apply)
    case.tell(change("u", None, {"id": 1}), change("u", None, {"id": 2}))
    case.built()
    assert seen == [0]
    assert case.consumer()["ack_floor"]["stream_seq"] == 2


BAD: dict[str, Any] = {
    "no JSON": b"{",
    "no key": change("u", None, {"code": "x"}),
    "null key": change("u", None, {"id": None}),
    "another type": change("u", None, {"id": "seven"}),
    "no row": change("u", {"id": 1}, None),
    "unknown operation": change("z", None, {"id": 1}),
    "a tombstone of nothing": b"",
    "twice": b'{"op": "c", "after": {"id": 1, "id": 2}}',
    "not a number": b'{"op": "c", "after": {"id": NaN}}',
    "half": b'{"op": "c", "after": {"id": 1.5}}',
}


@pytest.mark.parametrize("bad", BAD)
def test_a_message_that_is_none_is_kept_and_the_table_is_scanned(case: Topical, bad: str) -> None:
    case.built()
    case.run("UPDATE orders SET code = 'x' WHERE id = 1")
    case.tell(change("r", None, {"id": 5}), BAD[bad])
    case.mark()
    for _ in range(2):
        kept = case.built(Freshness(0.0, rescan=False))
        assert not scanned(kept)
        assert "cannot be read" in kept.notes[-1]
        assert kept.age_s > 0
    case.restart()
    case.index.keep_up()
    (letter,) = case.store.letters("orders")
    assert (letter.kind, letter.keyed) == (LetterKind.MESSAGE, False)
    built = case.check()
    assert scanned(built)
    assert "message 2 cannot be read" in built.notes[-1]
    assert not scanned(case.check())
    assert case.store.letters("orders") == []


ENDS: dict[str, tuple[Any, str]] = {
    "truncate": (change("t"), "emptied"),
    "schema": ({"source": {}, "ddl": "ALTER TABLE orders ADD x int", "tableChanges": []}, "schema was changed"),
    "range": (change("d", None, {"id": 1, "_range_start": {"id": 1}}), "range of rows"),
}


@pytest.mark.parametrize("what", ENDS)
def test_what_names_no_keys_is_scanned(case: Topical, what: str) -> None:
    case.built()
    case.run("DELETE FROM orders WHERE id > 5")
    message, why = ENDS[what]
    case.tell(message)
    built = case.check()
    assert scanned(built)
    assert why in built.notes[-1]
    assert case.store.letters("orders") == []
    assert not scanned(case.check())


def test_gaps_are_scanned_and_said(case: Topical) -> None:
    case.built()
    gone = {
        "purged": lambda: case.nats.asked("STREAM.PURGE.CDC"),
        "deleted": lambda: case.nats.asked("STREAM.MSG.DELETE.CDC", {"seq": case.end() - 1}),
    }
    for number, gap in enumerate(gone.values(), 1):
        case.run(f"UPDATE orders SET code = 'gap' WHERE id = {number}")
        case.tell(change("u", None, {"id": number}), change("u", None, {"id": 9}), change("u", None, {"id": 9}))
        gap()
        built = case.check()
        assert scanned(built)
        assert "gone before it was read" in built.notes[-1]
        assert not scanned(case.check())
    case.run("UPDATE orders SET code = 'anew' WHERE id = 1")
    case.nats.make("CDC", "shop.>")
    built = case.check()
    assert scanned(built)
    assert "made anew" in built.notes[-1]
    assert not scanned(case.check())


def test_what_expired_after_it_was_read_is_no_gap(case: Topical) -> None:
    case.built()
    case.tell(change("u", None, {"id": 1}))
    case.built()
    case.nats.asked("STREAM.PURGE.CDC")
    assert not scanned(case.check())
    case.tell(change("u", None, {"id": 1}))
    assert "1 changes" in case.check().notes[-1]


def test_a_deleted_consumer_is_made_again_where_the_index_is(case: Topical) -> None:
    case.built()
    case.run("UPDATE orders SET code = 'x' WHERE id = 1")
    case.tell(change("u", None, {"id": 1}))
    case.nats.asked(f"CONSUMER.DELETE.CDC.{case.consumer()['name']}")
    assert not scanned(case.check())


def test_nothing_is_between_the_topic_and_the_first_scan(case: Topical, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that changes while the table is scanned, after its shard was read."""
    case.tell(change("u", None, {"id": 4}))
    letters = DurableIndex.install

    def install(self: DurableIndex, *arguments: Any, **more: Any) -> None:
        case.run("UPDATE orders SET code = 'meanwhile' WHERE id = 1")
        case.tell(change("u", None, {"id": 1}))
        letters(self, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(DurableIndex, "install", install)
        case.built()
    built = case.check()
    assert not scanned(built)
    assert "1 changes of 1 keys" in built.notes[-1]


def test_markers_of_another_subject(case: Topical) -> None:
    case.restart(marker_subject="shop.marks")
    assert scanned(case.built()), "the first scan"
    time.sleep(0.3)
    case.tell(change("u", None, {"id": 5}), subject="shop.main.customers")
    case.run("UPDATE orders SET code = 'x' WHERE id = 1")
    case.tell(change("u", None, {"id": 1}))
    assert case.built().age_s > 0.25
    moment = case.mark("shop.marks")
    assert case.check().age_s <= time.time() - moment
    case.tell(change("u", None, {"id": 1}), subject="shop.marks")
    assert scanned(case.check())


def test_many_changes_in_several_batches(case: Topical) -> None:
    case.restart(format="keys")
    case.built()
    case.run("UPDATE orders SET code = code || '!'")
    case.tell(*([number] for number in range(1, 301)), *({"id": number} for number in range(1, 301)), 7, "8")
    case.tell(change("u"), subject="shop.other")
    assert case.index._refreshed(proven=True).changes == 602
    assert "0 changes" in case.check().notes[-1]


@pytest.mark.parametrize("config", [{"retention": "workqueue"}, {"max_msgs_per_subject": 1}])
def test_a_stream_that_hides_gaps_is_refused(case: Topical, config: dict[str, Any]) -> None:
    case.nats.make("CDC", "shop.>", **config)
    for _ in range(2):
        built = case.check()
        assert scanned(built)
        assert "changes are not followed: topic CDC: the stream" in built.notes[-1]


def test_no_server_no_stream(case: Topical) -> None:
    case.built()
    case.nats.asked("STREAM.DELETE.CDC")
    with pytest.raises(ConfigError, match="no such stream"):
        case.built()
    case.nats.stop()
    try:
        case.restart()
        with pytest.raises(SourceError, match="topic CDC: connecting failed") as failed:
            case.built()
        assert failed.value.retryable
        assert case.index.keep_up() > 0
        aged = case.index._index.age_s()
        assert 0 < aged < math.inf
    finally:
        case.nats.start()


def test_two_agents_of_one_consumer_lose_nothing(case: Topical) -> None:
    case.built()
    case.tell(*(change("u", None, {"id": number}) for number in range(1, 20)))
    source = case.index._open().source
    thief = Stream(case.topic.server, "CDC", source.name, SUBJECT)
    own = case.index._open().source._stream  # type: ignore[attr-defined]
    try:
        assert own.begin(1) == 19
        thief.pull(3)
        with pytest.raises(SourceError, match="another agent"):
            own.pull(10)
    finally:
        thief.close()
    assert not scanned(case.check())
