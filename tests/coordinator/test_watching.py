"""The watch of a dataset over a real store and real jobs: windows in turn, cut off anywhere, each decided once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from operated import report_of

from coordinator.control import Control
from coordinator.store import Store
from coordinator.store.watches import WatchRow
from coordinator.watching import Watcher, watched
from paritree.config.datasets import Dataset, Region
from paritree.core.errors import SourceError
from paritree.core.messages import Hello
from paritree.core.profile import Profile
from paritree.core.types import parse_type
from paritree.core.watch import Before, Judged, Windows, judged_by_roots
from paritree.wire.frames import Notice

pytestmark = pytest.mark.asyncio
DATASET = Dataset(Profile("orders", ("id",), {"id": parse_type("int")}), {r: Region(r) for r in ("eu", "us")}, file="d")
EVERY, IDLE = Windows(60, 5), Windows(60, 5, idle_s=300)
HELLO = Hello("eu", "a1", "i1", ())
FINDING = {"key": None, "token": "A", "kind": "missing", "groups": [["eu"]], "missing_in": ["us"]}


class Told:
    """Regions that tell their changes and have these roots; "" where that takes a sweep."""

    def __init__(self, *roots: dict[str, str] | str) -> None:
        self.roots = list(roots)
        self.asked: list[Before | None] = []
        self.telling = True

    def tells(self, _dataset: Dataset) -> bool:
        return self.telling

    async def judge(self, _dataset: Dataset, max_age_s: float, before: Before | None) -> Judged | None:
        assert max_age_s == 5.0
        self.asked.append(before)
        roots = self.roots.pop(0)
        return judged_by_roots(roots, {"eu": "1", "us": "2"}, before) if isinstance(roots, dict) else None


class Site:
    """Coordinators one after the other on one store; ``outcomes`` are what the sweeps come to, in turn."""

    def __init__(self, folder: Path, *outcomes: Any, roots: Told | None = None) -> None:
        self.roots = roots
        self.url = f"sqlite:///{folder}/store.db"
        self.outcomes = list(outcomes)
        self.asked: list[dict[str, Any]] = []
        self.now_s = 0.0
        self.running = asyncio.Event()

    async def run(self, dataset: Dataset, regions: Sequence[str], **options: Any) -> dict[str, Any]:
        self.asked.append(options)
        outcome = self.outcomes.pop(0)
        if outcome == "hangs":
            self.running.set()
            await asyncio.Event().wait()
        if isinstance(outcome, Exception):
            raise outcome
        sides = [{"name": name, "compared": True, "position": "1", "root": f"of {name}"} for name in ("eu", "us")]
        found = [FINDING] if outcome == "different" else []
        verdicts = [{"verdict": outcome, "regions": ["eu", "us"], "reason": "because"}]
        changes = {"regions": sides, "verdicts": verdicts, "stored": {"findings": found}}
        return report_of("orders", outcome, **changes)

    def open(self) -> tuple[Store, Control, Watcher]:
        store = Store.open(self.url)
        control = Control(store, self, {"orders": DATASET}, list)
        control.watched = {"orders": EVERY if self.roots is None else IDLE}
        roots: Any = self.roots
        return store, control, Watcher(store, control, {"orders": DATASET}, roots, clock=lambda: self.now_s)

    async def windows(self, *times_s: float, told: Notice | Hello | None = None) -> list[tuple[int, str, bool, int]]:
        """One step of a coordinator of its own at each time; every window that is decided then.

        ``told``: the first of them hears that, and has it put into the store.
        """
        for self.now_s in times_s:
            store, control, watcher = self.open()
            (one,) = watcher._watched.values()
            with store:
                if told is not None:
                    hear(watcher, told)
                    await watcher.keep_events(one)
                await watcher.step(one)
                await control.stop(0.0)
            told = None
        return self.decided()

    def row(self) -> WatchRow:
        with Store.open(self.url) as store:
            row = store.watch("orders")
        assert row is not None
        return row

    def decided(self) -> list[tuple[int, str, bool, int]]:
        return [(w.ended, w.verdict, w.verified, w.outcome.get("new_total", 0)) for w in self.row().windows]


def hear(watcher: Watcher, told: Notice | Hello) -> None:
    if isinstance(told, Hello):
        watcher.connected(told)
    else:
        watcher.notice("eu", told)


def changed(at_s: float, keys: int = 1, dataset: str = "orders") -> Notice:
    """A change that was committed at that moment."""
    return Notice(dataset, keys, round(at_s * 1e6), round(at_s * 1e6))


async def test_windows_are_checked_in_turn_each_over_fresh_indexes(tmp_path: Path) -> None:
    site = Site(tmp_path, "equal", "different", "different")
    found = await site.windows(125.0, 126.0, 185.0, 184.0, 500.0)
    assert found == [(120, "equal", True, 0), (180, "different", True, 1), (480, "different", True, 0)]
    assert {asked["freshness"].max_age_s for asked in site.asked} == {5.0}, "no older than the end of its window"


async def test_what_is_not_compared_holds_the_mark_and_is_made_good_by_the_next(tmp_path: Path) -> None:
    site = Site(tmp_path, "equal", "unknown", ValueError("bug"), SourceError("no table"), "equal")
    found = await site.windows(65.0, 125.0, 185.0, 245.0, 305.0)
    assert [one[2] for one in found] == [True, False, False, False, True]
    with Store.open(site.url) as store:
        row = store.watch("orders")
    assert row is not None
    assert [one.since for one in row.windows] == [None, 60, 60, 60, 60]
    assert row.mark.verified == 300


async def test_a_coordinator_that_ends_in_a_window_leaves_it_to_the_next_one(tmp_path: Path) -> None:
    site = Site(tmp_path, "hangs", "different", "different")
    site.now_s = 65.0
    store, control, watcher = site.open()
    with store:
        step = asyncio.create_task(watcher.step(watched(DATASET, EVERY)))
        await site.running.wait()
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        await control.stop(0.0)
    assert site.decided() == []
    assert await site.windows(400.0) == [(60, "different", True, 1)], "the open window first, whatever is due"
    assert await site.windows(400.0) == [(60, "different", True, 1), (360, "different", True, 0)]


async def test_an_outcome_that_could_not_be_kept_is_kept_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, "different")
    site.now_s = 65.0
    store, control, watcher = site.open()

    def away(*_: Any) -> bool:
        raise SourceError("the store is away", retryable=True)

    with store:
        monkeypatch.setattr(store, "settle_window", away)
        with pytest.raises(SourceError):
            await watcher.step(watched(DATASET, EVERY))
        await control.stop(0.0)
    assert await site.windows(66.0, 67.0) == [(60, "different", True, 1)]
    assert len(site.asked) == 1, "the sweep is not made again"


EQUAL = {"eu": "3-00", "us": "3-00"}


async def test_an_idle_dataset_is_looked_at_by_its_roots_at_intervals(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    found = await site.windows(65.0, 125.0, 185.0, 364.0, 366.0, 425.0)
    assert found == [(60, "equal", True, 0), (360, "equal", True, 0)], "one check covers the idle windows before it"
    assert site.asked == [], "nothing was swept"


async def test_what_was_told_has_its_window_checked_as_soon_as_it_is_due(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    await site.windows(65.0)
    found = await site.windows(100.0, 124.9, told=changed(99.0))
    assert [one[0] for one in found] == [60]
    found = await site.windows(125.0, 185.0)
    assert [one[0] for one in found] == [60, 120]
    assert site.row().windows[-1].outcome["events"] == 1


async def test_roots_that_differ_take_a_sweep_and_are_found_again_without_one(tmp_path: Path) -> None:
    apart = {"eu": "of eu", "us": "of us"}
    site = Site(tmp_path, "different", roots=Told("", apart, EQUAL))
    found = await site.windows(65.0, 366.0)
    assert found == [(60, "different", True, 1), (360, "different", True, 0)]
    assert (len(site.asked), site.row().open_findings) == (1, 1)
    assert site.roots is not None
    assert site.roots.asked == [None, Before("different", apart)]
    await site.windows(666.0)
    assert (site.decided()[-1], site.row().open_findings) == ((660, "equal", True, 0), 0)
    assert site.row().windows[-1].outcome["ended_total"] == 1


async def test_where_a_region_does_not_tell_or_was_not_verified_every_window_is_checked(tmp_path: Path) -> None:
    site = Site(tmp_path, "unknown", roots=Told(EQUAL, EQUAL, "", EQUAL, EQUAL))
    assert site.roots is not None
    site.roots.telling = False
    await site.windows(65.0, 125.0)
    site.roots.telling = True
    assert [one[0] for one in await site.windows(185.0)] == [60, 120]
    found = await site.windows(185.0, 245.0, told=changed(180.0))
    assert [(one[0], one[2]) for one in found] == [(60, True), (120, True), (240, False)]
    assert [one[0] for one in await site.windows(305.0, 365.0)] == [60, 120, 240, 300], "the next one makes it good"


async def test_a_late_change_is_counted_and_has_the_next_window_checked(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    await site.windows(65.0)
    await site.windows(66.0, told=changed(59.0, 7))
    found = await site.windows(125.0, 185.0)
    assert [one[0] for one in found] == [60, 120]
    events = site.row().events
    assert (dict(events.waiting), events.late, events.late_at) == ({}, 7, 59.0)


@pytest.mark.parametrize("told", [changed(99.0, 0), changed(99.0, dataset="users"), Hello("ap", "a1", "i1", ())])
async def test_what_nobody_watches_changes_nothing(tmp_path: Path, told: Notice | Hello) -> None:
    site = Site(tmp_path, roots=Told(EQUAL))
    await site.windows(65.0)
    assert [one[0] for one in await site.windows(100.0, 125.0, told=told)] == [60]


async def test_any_number_of_hostile_notices_are_a_few_numbers(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    await site.windows(65.0)
    site.now_s = 100.0
    store, control, watcher = site.open()
    with store:
        for number in range(20_000):
            watcher.notice("eu", Notice("orders", 2**64 - 1, number * 10**6 + 1, 253_402_300_799_999_999))
            watcher.notice("ap", changed(99.0))
        (one,) = watcher._watched.values()
        assert len(one.told.waiting) == 1
        await watcher.keep_events(one)
        await control.stop(0.0)
    assert [one[0] for one in await site.windows(125.0, 185.0)] == [60, 120]


async def test_after_the_clock_was_set_back_roots_prove_nothing_of_a_window(tmp_path: Path) -> None:
    site = Site(tmp_path, "equal", roots=Told())
    with Store.open(site.url) as store:
        assert store.open_window("orders", watched(DATASET, IDLE).watch_id, IDLE, 65.0).opened == 60
    assert await site.windows(64.0) == [(60, "equal", True, 0)]
    assert len(site.asked) == 1, "a sweep, which was begun by the store's own clock"


async def test_what_a_clock_that_was_ahead_had_verified_is_not(tmp_path: Path) -> None:
    """One check by a clock an hour ahead must neither claim that hour nor stop the watch for it."""
    site = Site(tmp_path, "equal", "different", "different", "equal")
    await site.windows(65.0)
    found = await site.windows(3_665.0, told=changed(3_664.0))
    assert found == [(60, "equal", True, 0), (3_660, "different", True, 1)]
    assert await site.windows(125.0) == [
        (60, "equal", True, 0),
        (120, "different", True, 0),  # told once
    ]
    row = site.row()
    assert (row.mark.verified, row.windows[-1].since) == (120, 60)
    assert row.events.waiting == {180: 1}
    assert (await site.windows(3_665.0))[-1] == (3_660, "equal", True, 0), "by a sweep of its own"
    assert len(site.asked) == len({asked["sweep_id"] for asked in site.asked}) == 4


async def test_until_it_is_checked_again_the_reason_is_said(tmp_path: Path) -> None:
    site = Site(tmp_path, "equal", "equal", "unknown")
    assert await site.windows(65.0, 3_665.0, 125.0) == [(60, "equal", True, 0), (120, "unknown", False, 0)]
    assert {(verified, position) for verified, position, _ in site.row().regions.values()} == {(60, None)}


# --- a coordinator that is killed in each phase -----------------------------------------------------------------------


async def test_killed_before_what_was_told_is_stored_the_returning_agent_has_it_checked(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    await site.windows(65.0)
    site.now_s = 100.0
    store, control, watcher = site.open()
    with store:
        watcher.notice("eu", changed(99.0))
        await control.stop(0.0)
    assert [one[0] for one in await site.windows(101.0, 125.0, 185.0, told=HELLO)] == [60, 120]


async def test_killed_after_that_the_next_one_checks_it(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL, EQUAL))
    await site.windows(65.0)
    site.now_s = 100.0
    store, control, watcher = site.open()
    (one,) = watcher._watched.values()
    with store:
        watcher.notice("eu", changed(99.0))
        await watcher.keep_events(one)
        await control.stop(0.0)
    assert dict(site.row().events.waiting) == {120: 1}
    assert [one[0] for one in await site.windows(125.0, 185.0)] == [60, 120]


async def test_killed_while_roots_are_asked_for_the_next_one_asks_again(tmp_path: Path) -> None:
    site = Site(tmp_path, roots=Told(EQUAL))
    with Store.open(site.url) as store:
        one = watched(DATASET, IDLE)
        assert store.open_window("orders", one.watch_id, IDLE, 65.0).opened == 60
    assert await site.windows(400.0) == [(60, "equal", True, 0)]


async def test_killed_in_a_sweep_the_next_one_goes_on_with_it_and_asks_no_roots(tmp_path: Path) -> None:
    site = Site(tmp_path, "hangs", "different", roots=Told(""))
    site.now_s = 65.0
    store, control, watcher = site.open()
    (one,) = watcher._watched.values()
    with store:
        step = asyncio.create_task(watcher.step(one))
        await site.running.wait()
        step.cancel()
        await asyncio.gather(step, return_exceptions=True)
        await control.stop(0.0)
    assert await site.windows(400.0) == [(60, "different", True, 1)]


async def test_killed_once_it_is_decided_nothing_is_checked_or_told_twice(tmp_path: Path) -> None:
    site = Site(tmp_path, "different", roots=Told(""))
    before = await site.windows(65.0, told=changed(1.0))
    assert await site.windows(65.0, 66.0, 124.0) == before == [(60, "different", True, 1)]
    assert site.row().events.late == 1


async def test_what_could_not_be_stored_is_stored_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, roots=Told())
    site.now_s = 100.0
    store, control, watcher = site.open()
    (one,) = watcher._watched.values()

    def away(*_: Any) -> None:
        watcher.notice("us", changed(99.5, 2))  # meanwhile
        raise SourceError("the store is away", retryable=True)

    with store:
        watcher.notice("eu", changed(99.0))
        with monkeypatch.context() as patched:
            patched.setattr(store, "note_events", away)
            with pytest.raises(SourceError):
                await watcher.keep_events(one)
        await watcher.keep_events(one)
        await control.stop(0.0)
    assert dict(site.row().events.waiting) == {120: 3}
