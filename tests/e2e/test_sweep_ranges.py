"""Whole sweeps over regions that differ in more keys than are looked at one by one: a range, shown by a sample."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coordinator.sweep import Surroundings
from paritree.core import limits
from paritree.core.profile import Profile
from paritree.core.types import parse_type

Row = tuple[Any, ...]
ROWS = 3_000


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that small tables reach."""
    monkeypatch.setattr(limits, "SUSPECTS_MAX", 1_000)
    monkeypatch.setattr(limits, "SAMPLE_KEYS", 64)


@pytest.fixture
def rows() -> list[Row]:
    return [(i, f"name {i}", f"{i}.50") for i in range(ROWS)]


def searched(report: dict[str, Any]) -> int:
    """All bytes but those of the details, of all regions together."""
    return sum(count for kind, count in report["bytes"].items() if kind != "details")


def kept_keys(spool: Path, region: str, told: dict[str, Any]) -> set[int]:
    (path,) = (spool / region).glob(f"orders/kept/{told['name']}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == told["keys"]
    assert all(len(line["token"]) == 16 for line in lines)
    return {line["key"]["id"] for line in lines}


def test_most_rows_gone_in_one_region_and_the_others_are_compared(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", [(0, "edited", "0.50"), *rows[1:]])
    regions.add("c", rows[:1000])
    report = regions.sweep()
    assert report["verdict"] == "different"
    ranged, different = report["findings"]
    assert (ranged["kind"], ranged["prefix"], ranged["bits"]) == ("range", "", 0)
    assert ranged["rows"] == {"a": 3000, "c": 1000}
    assert 1700 < ranged["differing"]["c"] < 2300
    sample = ranged["sample"]
    assert sample["keys"] == sample["confirmed"] == sample["missing"]["c"] > 20
    assert (sample["healed"], sample["unknown"], sample["kinds"]) == (0, 0, {"missing": sample["keys"]})
    assert (different["kind"], different["groups"]) == ("different", [["a"], ["b"]])
    assert (report["findings_total"], report["summary"]["missing"]) == (2, {})
    assert "most rows are gone in c" in report["verdicts"][0]["reason"]
    assert kept_keys(regions.spool, "a", ranged["files"]["a"]) == set(range(3000))
    assert kept_keys(regions.spool, "c", ranged["files"]["c"]) == set(range(1000))
    assert searched(report) <= 3 * (2 * 24 * ROWS + 16_384)
    regions.put("b", rows)
    report = regions.sweep()
    assert [(v["verdict"], v["regions"]) for v in report["verdicts"]] == [
        ("different", ["a", "c"]),
        ("equal", ["a", "b"]),
    ]


@pytest.mark.parametrize("left", [0, 1])
def test_an_empty_region(memory_regions, rows, left):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", rows[:left])
    report = regions.sweep()
    assert [v["verdict"] for v in report["verdicts"]] == ["different"]
    (ranged,) = report["findings"]
    assert ranged["rows"] == {"a": ROWS, "b": left}
    assert ranged["sample"]["missing"] == {"b": ranged["sample"]["keys"]}
    assert kept_keys(regions.spool, "b", ranged["files"]["b"]) == set(range(left))


def test_every_row_changed_is_told_with_columns_and_examples(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", [(i, name, "0.00") for i, name, _ in rows])
    report = regions.sweep(limit=3)
    (ranged,) = report["findings"]
    sample = ranged["sample"]
    assert sample["confirmed"] == sample["keys"] == sample["columns"]["amount"] == sample["kinds"]["different"] > 20
    assert list(sample["columns"]) == ["amount"]
    assert [example["columns"] for example in sample["examples"]] == [["amount"]] * 20
    assert ranged["rows"] == {"a": ROWS, "b": ROWS}
    assert report["rounds"] == 4
    assert report["summary"]["different"] == 0
    assert searched(report) <= 2 * (2 * 24 * ROWS + 16_384)


def changing(change: Callable[[], None]) -> Surroundings:
    """Something happens while the sweep waits for its second look."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds
        change()

    return Surroundings(clock=lambda: now[0], sleep=sleep)


def test_a_load_that_arrives_late_is_no_finding_and_not_equal(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", rows[:100])
    report = regions.sweep(surroundings=changing(lambda: regions.put("b", rows)), lag_max_s=2.0)
    assert [v["verdict"] for v in report["verdicts"]] == ["unsettled"]
    assert report["findings"] == []
    assert "were equal in one look" in report["verdicts"][0]["reason"]
    assert regions.sweep()["verdict"] == "equal"


def test_what_of_the_sample_healed_is_said_beside_what_is_confirmed(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", [])
    later = [row for row in rows if row[0] % 2]
    report = regions.sweep(surroundings=changing(lambda: regions.put("b", later)), lag_max_s=2.0)
    (ranged,) = report["findings"]
    sample = ranged["sample"]
    assert sample["healed"] + sample["confirmed"] == sample["keys"]
    assert min(sample["healed"], sample["confirmed"]) > 5


def test_rows_without_a_readable_key_are_no_loss(memory_regions, rows):
    """What is not in the index may still be in the table."""
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", [(None, name, amount) for _, name, amount in rows])
    report = regions.sweep()
    assert {v["verdict"] for v in report["verdicts"]} == {"unknown"}
    assert report["findings"] == []
    assert any("dead letters without a readable key" in v["reason"] for v in report["verdicts"])


def test_a_drift_within_the_tolerance_is_no_finding_and_not_equal_beyond_the_sample(memory_regions):
    kinds = {"id": "int", "name": "text", "amount": {"type": "decimal", "tolerance": "0.1"}}
    regions = memory_regions()
    regions.profile = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in kinds.items()})
    regions.add("a", [(i, "n", f"{i / 100:.2f}") for i in range(ROWS)])
    regions.add("b", [(i, "n", f"{i / 100 + 0.1:.2f}") for i in range(ROWS)])
    report = regions.sweep()
    assert [v["verdict"] for v in report["verdicts"]] == ["unknown"]
    assert "agree within a tolerance" in report["verdicts"][0]["reason"]
    assert report["findings"] == []


def test_a_region_that_cannot_write_its_keys_is_still_compared(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", rows[:5])
    (regions.spool / "b" / "orders").mkdir(parents=True)
    (regions.spool / "b" / "orders" / "kept").write_text("in the way")
    (ranged,) = regions.sweep()["findings"]
    assert ranged["files"]["a"]["keys"] == ROWS
    assert "cannot be written" in ranged["files"]["b"]["problem"]


def test_where_nothing_outlives_the_sweep_no_file_is_written(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows, keeps_keys=False)
    regions.add("b", rows[:5])
    (ranged,) = regions.sweep()["findings"]
    assert "no files of keys are written here" in ranged["files"]["a"]["problem"]
    assert ranged["files"]["b"]["keys"] == 5
    assert not list(regions.spool.glob("a/orders/kept/*"))


def test_old_files_make_room(memory_regions, rows):
    regions = memory_regions()
    regions.add("a", rows)
    regions.add("b", [])
    names = [regions.sweep()["findings"][0]["files"]["a"]["name"] for _ in range(4)]
    assert sorted(path.name for path in (regions.spool / "a" / "orders" / "kept").iterdir()) == sorted(names[1:])
