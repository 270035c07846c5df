"""Sweeps over indexes that nobody tells changes: how old they may be, what is scanned, and what is then said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.warm import Following, WarmIndex
from paritree.core.messages import Freshness

ROWS = [(n, f"name {n}", "1.5") for n in range(300)]


class Kept:
    """Two memory regions; ``eu`` keeps its index."""

    def __init__(self, regions: Any, folder: Path) -> None:
        self.regions = regions
        regions.add("eu", ROWS, shard_rows=60)
        regions.add("us", ROWS)
        self.service = regions.links["eu"]._service
        self.folder = folder
        self.index = self.opened()

    def opened(self, following: Following | None = None) -> WarmIndex:
        copy = self.service._copies["orders"]
        warm = WarmIndex(copy, self.folder, following or Following("", max_age_s=3_600.0))
        self.service._warm = {"orders": warm}
        return warm

    def sweep(self, max_age_s: float | None = None, *, rescan: bool = True) -> dict[str, Any]:
        report: dict[str, Any] = self.regions.sweep(freshness=Freshness(max_age_s, rescan))
        self.scanned = not any("nothing was scanned" in note for note in report["notes"])
        return report


@pytest.fixture
def kept(memory_regions: Callable[[], Any], tmp_path: Path) -> Iterator[Kept]:
    made = Kept(memory_regions(), tmp_path / "index")
    yield made
    made.index.close()


def test_a_second_sweep_scans_nothing(kept: Kept) -> None:
    assert kept.sweep()["verdict"] == "equal"
    assert kept.scanned
    report = kept.sweep()
    assert report["verdict"] == "equal"
    assert not kept.scanned
    assert report["rounds"] == 1
    eu, us = report["regions"]
    assert eu["age_s"] > us["age_s"] == 0.0
    assert eu["rows"] == us["rows"] == len(ROWS)


def test_an_index_that_is_too_old_is_unknown_and_compared_all_the_same(kept: Kept) -> None:
    kept.sweep()
    kept.regions.put("us", [*ROWS[:-1], (299, "changed", "1.5")])
    time.sleep(0.02)
    report = kept.sweep(0.01, rescan=False)
    assert not kept.scanned
    assert [v["verdict"] for v in report["verdicts"]] == ["different", "unknown"]
    assert "older than 0.01 s" in report["verdicts"][1]["reason"]
    assert report["verdicts"][1]["regions"] == ["eu"]
    kept.regions.put("us", ROWS)
    assert kept.sweep(0.01, rescan=False)["verdict"] == "unknown"
    assert kept.sweep(3_600.0, rescan=False)["verdict"] == "equal"


def test_an_old_index_is_scanned_anew_where_that_is_permitted(kept: Kept) -> None:
    kept.sweep()
    changed = [*ROWS[:-1], (299, "changed", "1.5")]
    kept.regions.put("eu", changed)
    kept.regions.put("us", changed)
    report = kept.sweep(0.0)
    assert kept.scanned
    assert report["verdict"] == "equal"
    assert not kept.index._index.why_not
    kept.index.close()
    kept.index = kept.opened(Following("", max_age_s=0.0))
    kept.sweep()
    assert kept.scanned, "the agent's own limit"


def test_what_changed_since_the_index_was_made_heals_in_the_looks(kept: Kept) -> None:
    """The index says that a row differs, and the table does not any more."""
    kept.regions.put("eu", [*ROWS[:-1], (299, "late", "1.5")])
    kept.sweep()
    kept.regions.put("eu", ROWS)
    report = kept.sweep()
    assert not kept.scanned
    assert (report["verdict"], report["summary"]["healed"]) == ("equal", 1)


def test_a_restart_keeps_the_index_and_another_binding_does_not(kept: Kept) -> None:
    kept.sweep()
    kept.index.close()
    kept.index = kept.opened()
    kept.sweep()
    assert not kept.scanned
    kept.index.close()
    copy = kept.service._copies["orders"]
    binding = replace(copy.binding, options={"of": "another kind"})
    kept.service._copies["orders"] = replace(copy, binding=binding)
    kept.index = kept.opened()
    report = kept.sweep()
    assert kept.scanned
    assert any("the binding was changed" in note for note in report["notes"])
    assert report["verdict"] == "equal"


def test_a_fault_keeps_its_region_from_being_equal(kept: Kept) -> None:
    kept.sweep()
    kept.index._index.doubt("rows from 0", "a flipped byte")
    report = kept.sweep(rescan=False)
    assert report["verdict"] == "unknown"
    assert "a flipped byte" in report["verdicts"][0]["reason"]
    assert kept.sweep()["verdict"] == "equal"
    assert kept.scanned
    assert kept.sweep(rescan=False)["verdict"] == "equal"
