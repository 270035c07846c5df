"""Sweeps over 2 to 8 regions: who agrees with whom, who is in the majority, and who cannot be compared at all."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.policy import Policy
from paritree.core.profile import Profile
from paritree.core.types import parse_type

Row = tuple[int, str, str]
NAMES = "abcdefgh"


def some_rows(count: int = 60) -> list[Row]:
    return [(i, f"name {i}", f"{i}.50") for i in range(count)]


def edited(row: Row, how: str) -> Row:
    return (row[0], f"edited {how}", row[2])


def planted(regions: int) -> tuple[dict[str, list[Row]], dict[str, tuple[list[list[str]], list[str], list[str]]]]:
    """Tables, and for the first rows what is found of each: groups, missing_in, majority."""
    names = NAMES[:regions]
    tables = {name: some_rows() for name in names}
    last, half = names[-1], list(names[: regions // 2])
    rest = [name for name in names if name not in half]
    everyone = list(names)
    tables[last][0] = edited(tables[last][0], "by one")
    for name in half:
        tables[name][1] = edited(tables[name][1], "by half")
    for name in names:
        tables[name][2] = edited(tables[name][2], name)
    keys = {0: [everyone[:-1], [last]], 1: sorted([half, rest], key=lambda g: (-len(g), g)), 2: [[n] for n in names]}
    expected = {key: (groups, [], majority_of(groups, [], regions)) for key, groups in keys.items()}
    for name in half:
        tables[name] = [row for row in tables[name] if row[0] != 3]
    expected[3] = ([rest], half, majority_of([rest], half, regions))
    for name in names[1:]:
        tables[name] = [row for row in tables[name] if row[0] != 4]
    expected[4] = ([["a"]], everyone[1:], majority_of([["a"]], everyone[1:], regions))
    return tables, expected


def majority_of(groups: list[list[str]], missing: list[str], regions: int) -> list[str]:
    return next((group for group in (*groups, missing) if 2 * len(group) > regions), [])


def found(report: dict[str, Any]) -> dict[int, tuple[list[list[str]], list[str], list[str]]]:
    return {f["key"]["id"]: (f["groups"], f["missing_in"], f["majority"]) for f in report["findings"]}


@pytest.fixture
def opened(memory_regions):
    """Regions whose policies grant clear keys."""
    regions = memory_regions()

    def add(name: str, rows: list[Row], **options: Any) -> None:
        regions.add(name, rows, policy=Policy(disclosure="keys"), **options)

    return regions, add


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_groups_majority_and_dissenters(opened, count):
    regions, add = opened
    tables, expected = planted(count)
    for name, rows in tables.items():
        add(name, rows)
    report = regions.sweep(purpose="a test")
    assert found(report) == expected
    assert report["verdict"] == "different"
    assert report["rounds"] == 2
    assert [v["regions"] for v in report["verdicts"]] == [list(NAMES[:count])]


@pytest.mark.parametrize("count", [3, 5, 8])
@pytest.mark.parametrize("excluded", ["another key", "no agent", "another profile"])
def test_a_region_that_cannot_be_compared_is_unknown_and_the_others_are_compared(opened, count, excluded):
    regions, add = opened
    tables, expected = planted(count - 1)
    for name, rows in tables.items():
        add(name, rows)
    odd = NAMES[count - 1]
    if excluded == "another key":
        add(odd, some_rows(), master_key=bytes(32))
    elif excluded == "another profile":
        columns = {"id": "int", "name": "text", "amount": "text"}
        add(odd, some_rows(), profile=Profile("orders", ("id",), {n: parse_type(t) for n, t in columns.items()}))
    report = regions.sweep(regions=list(NAMES[:count]), purpose="a test")
    assert found(report) == expected
    assert [(v["verdict"], v["regions"]) for v in report["verdicts"]] == [
        ("different", list(NAMES[: count - 1])),
        ("unknown", [odd]),
    ]
    assert {r["name"]: r["compared"] for r in report["regions"]} == {n: n != odd for n in NAMES[:count]}


def test_of_two_keys_the_one_that_more_regions_have_is_compared(opened):
    regions, add = opened
    for number, name in enumerate(NAMES[:7]):
        add(name, some_rows()[number == 0 :], master_key=bytes(32) if number % 2 else bytes(range(32)))
    report = regions.sweep(purpose="a test")
    assert found(report) == {0: ([["c", "e", "g"]], ["a"], ["c", "e", "g"])}
    assert [v["regions"] for v in report["verdicts"] if v["verdict"] == "unknown"] == [["b"], ["d"], ["f"]]


def test_with_equal_regions_and_one_that_is_not_comparable_nothing_is_equal(opened):
    regions, add = opened
    for name in NAMES[:4]:
        add(name, some_rows(), master_key=bytes(32) if name == "c" else bytes(range(32)))
    assert regions.sweep()["verdict"] == "unknown"
    assert regions.sweep(regions=["a", "b", "d"])["verdict"] == "equal"
