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
from coordinator.watching import Watcher, _Watched
from paritree.config.datasets import Dataset, Region
from paritree.core.errors import SourceError
from paritree.core.profile import Profile
from paritree.core.types import parse_type
from paritree.core.watch import Windows

pytestmark = pytest.mark.asyncio
DATASET = Dataset(Profile("orders", ("id",), {"id": parse_type("int")}), {r: Region(r) for r in ("eu", "us")}, file="d")
ONE = _Watched(DATASET, Windows(60, 5), "w")
FINDING = {"key": None, "token": "A", "kind": "missing", "groups": [["eu"]], "missing_in": ["us"]}


class Site:
    """Coordinators one after the other on one store; ``outcomes`` are what the sweeps come to, in turn."""

    def __init__(self, folder: Path, *outcomes: Any) -> None:
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
        sides = [{"name": name, "compared": True, "position": "1"} for name in ("eu", "us")]
        found = [FINDING] if outcome == "different" else []
        verdicts = [{"verdict": outcome, "regions": ["eu", "us"], "reason": "because"}]
        changes = {"regions": sides, "verdicts": verdicts, "stored": {"findings": found}}
        return report_of("orders", outcome, **changes)

    def open(self) -> tuple[Store, Control, Watcher]:
        store = Store.open(self.url)
        control = Control(store, self, {"orders": DATASET}, list)
        return store, control, Watcher(store, control, {"orders": DATASET}, clock=lambda: self.now_s)

    async def windows(self, *times_s: float) -> list[tuple[int, str, bool, int]]:
        """One step of a coordinator of its own at each time; every window that is decided then."""
        for self.now_s in times_s:
            store, control, watcher = self.open()
            with store:
                await watcher.step(ONE)
                await control.stop(0.0)
        return self.decided()

    def decided(self) -> list[tuple[int, str, bool, int]]:
        with Store.open(self.url) as store:
            row = store.watch("orders")
            assert row is not None
            return [(w.ended, w.verdict, w.verified, w.outcome.get("new_total", 0)) for w in row.windows]


async def test_windows_are_checked_in_turn_each_over_fresh_indexes(tmp_path: Path) -> None:
    site = Site(tmp_path, "equal", "different", "different")
    found = await site.windows(125.0, 126.0, 185.0, 184.0, 60.0, 500.0)
    assert found == [(120, "equal", True, 0), (180, "different", True, 1), (480, "different", True, 0)]
    assert {asked["freshness"].max_age_s for asked in site.asked} == {0.0}


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
        step = asyncio.create_task(watcher.step(ONE))
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
            await watcher.step(ONE)
        await control.stop(0.0)
    assert await site.windows(66.0, 67.0) == [(60, "different", True, 1)]
    assert len(site.asked) == 1, "the sweep is not made again"
