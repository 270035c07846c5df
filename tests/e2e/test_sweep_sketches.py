"""Whole sweeps whose differences are too many for the probe: rounds and bytes as counted on the stream."""

from __future__ import annotations

import random
from typing import Any

import pytest

from paritree.core.sketch import PROBE_CELL_BYTES, PROBE_CELLS, TABLES

Row = tuple[Any, ...]


def some_rows(count: int) -> list[Row]:
    return [(i, f"name {i}", f"{i}.50") for i in range(count)]


def drifted(rows: list[Row], differences: int, seed: int) -> tuple[list[Row], set[int], set[int]]:
    """Rows of which 60 % of so many are changed and the rest are gone; the ids of both."""
    chosen = random.Random(seed).sample(range(len(rows)), differences)
    changed, gone = set(chosen[: differences * 6 // 10]), set(chosen[differences * 6 // 10 :])
    kept = [(i, "edited", amount) if i in changed else (i, name, amount) for i, name, amount in rows if i not in gone]
    return kept, changed, gone


def search_bytes(report: dict[str, Any]) -> int:
    """All bytes but those of the details and of clear keys, of all regions together."""
    return sum(count for kind, count in report["bytes"].items() if kind not in ("details", "revealed"))


@pytest.mark.parametrize(
    ("count", "differences", "kinds"),
    [(4000, 200, set()), (20_000, 1500, {"sketches"}), (3000, 2900, {"lists"}), (400, 400, {"lists"})],
)
@pytest.mark.parametrize("others", [1, 2])
def test_found_is_planted_within_rounds_and_bytes(memory_regions, count, differences, kinds, others):
    regions = memory_regions()
    rows = some_rows(count)
    regions.add("a", rows, digester="compiled", shard_rows=3000)
    changed: set[int] = set()
    gone: dict[str, int] = {}
    for number in range(others):
        mine, edits, lost = drifted(rows, differences, number)
        regions.add(f"b{number}", mine, digester="compiled", shard_rows=3000)
        changed |= edits
        gone[f"b{number}"] = len(lost)
    report = regions.sweep(limit=10)
    assert report["verdict"] == "different"
    assert report["summary"]["missing"] == gone
    if others == 1:
        assert report["summary"]["different"] == len(changed)
    assert report["summary"]["unknown"] == report["summary"]["healed"] == 0
    probes = (1 + others) * TABLES * PROBE_CELLS * PROBE_CELL_BYTES
    sized = {"sketches": report["bytes"]["sketches"] - probes, "lists": report["bytes"]["lists"]}
    assert {kind for kind, count in sized.items() if count} == kinds
    assert report["rounds"] == 2 + bool(kinds)
    assert search_bytes(report) <= (1 + others) * (2 * 24 * count + 16_384)


@pytest.mark.parametrize(("differences", "bytes_max"), [(100, 65_536), (1_500, 240_000)])
def test_bytes_of_a_region_do_not_depend_on_how_many_there_are(memory_regions, differences, bytes_max):
    rows = some_rows(12_000)
    mine, _, _ = drifted(rows, differences, 1)
    worst = []
    for others in (1, 2, 4):
        regions = memory_regions()
        regions.add("b", mine, digester="compiled", shard_rows=3000)
        for number in range(others):
            regions.add(f"a{number}", rows, digester="compiled", shard_rows=3000)
        report = regions.sweep(limit=10)
        assert report["findings_total"] == differences
        worst.append(max(region["bytes_sent"] + region["bytes_received"] for region in report["regions"]))
    assert max(worst) <= min(1.02 * min(worst), bytes_max)


@pytest.mark.parametrize("differences", [0, 100])
def test_bytes_of_a_region_do_not_depend_on_how_many_rows_it_has(memory_regions, differences):
    cost = []
    for count in (3_000, 40_000):
        regions = memory_regions()
        rows = some_rows(count)
        regions.add("a", rows, digester="compiled", shard_rows=count)
        regions.add("b", drifted(rows, differences, 1)[0], digester="compiled", shard_rows=count)
        report = regions.sweep(limit=10)
        assert (report["findings_total"], report["rounds"]) == (differences, 1 + (differences > 0))
        cost.append(max(region["bytes_sent"] + region["bytes_received"] for region in report["regions"]))
    assert max(cost) <= 1.02 * min(cost)


def test_an_equal_sweep_costs_less_than_16_kib_a_region(memory_regions):
    regions = memory_regions()
    for name in "abc":
        regions.add(name, some_rows(3000), digester="compiled", shard_rows=100)
    report = regions.sweep()
    assert (report["verdict"], report["rounds"]) == ("equal", 1)
    assert max(r["bytes_sent"] + r["bytes_received"] for r in report["regions"]) <= 16_384


def test_unequal_duplicates_are_findings_with_counts(memory_regions):
    regions = memory_regions()
    rows = some_rows(600)
    regions.add("a", [*rows, *rows[:300]])
    regions.add("b", [*rows, *rows[:295], *rows[:2]])
    report = regions.sweep()
    assert report["verdict"] == "different"
    assert report["summary"]["duplicate"] == {"a": 300, "b": 295}
    assert {f["kind"] for f in report["findings"]} == {"duplicate"}
    assert sorted(tuple(f["counts"].items()) for f in report["findings"]) == sorted(
        [(("a", 2), ("b", 1))] * 5 + [(("a", 2), ("b", 3))] * 2
    )
