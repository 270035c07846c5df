"""Which regions are set apart, and what is said of a range."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from descending import Region, Rows, make_tables

from paritree.core import limits
from paritree.core.findings import Judged
from paritree.core.messages import DeadLetters, Ready
from paritree.core.node import Node, common
from paritree.core.ranges import Apart, RangeFinding, far_apart

ROWS = 600


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUSPECTS_MAX", 200)


def base(rows: int = ROWS) -> Rows:
    return make_tables(random.Random(1), 1, rows, 0)["r0"]


def changed(rows: Rows, count: int, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    return [(k, rng.getrandbits(64), r2) for k, _, r2 in rows[:count]] + rows[count:]


def readies(**tables: Rows) -> dict[str, Ready]:
    return {name: Region(rows).ready() for name, rows in tables.items()}


def test_few_differences_set_nobody_apart():
    rows = base()
    assert far_apart(readies(a=rows, b=changed(rows, 120), c=rows)) is None
    assert far_apart(readies(a=rows)) is None
    assert far_apart({}) is None


def test_lost_rows_are_told_by_counts_and_changed_ones_by_probes():
    rows = base()
    apart = far_apart(readies(a=rows, b=rows, lost=rows[:300], changed=changed(rows, 400), empty=[]))
    assert apart is not None
    assert (apart.reference, set(apart.differing)) == ("a", {"lost", "changed", "empty"})
    assert apart.differing["empty"] == ROWS
    assert 290 < apart.differing["lost"] < 360
    assert 300 < apart.differing["changed"] < 500
    assert apart.regions[0] == "a"
    assert apart.most == ROWS


def test_the_budget_is_that_of_all_regions_together_and_equal_ones_count_once():
    rows = base()
    twins = changed(rows, 150, 1)
    assert far_apart(readies(a=rows, b=rows, c=twins, d=twins)) is None
    apart = far_apart(readies(a=rows, b=rows, c=twins, d=changed(rows, 150, 2)))
    assert apart is not None
    assert len(apart.differing) == 1


def test_crowded_regions_are_apart_whatever_their_probes_say():
    rows = base()
    apart = far_apart(readies(a=rows, b=changed(rows, 1), c=changed(rows, 2)), {"a"})
    assert apart is not None
    assert set(apart.differing) == {"a"}
    everyone = far_apart(readies(a=rows, b=changed(rows, 1)), {"a", "b"})
    assert everyone is not None
    assert len(everyone.differing) == 1


def test_few_keys_that_are_there_very_often_are_few():
    rows = base()
    assert far_apart(readies(a=rows, b=rows + rows[:3] * 500)) is None
    assert far_apart(readies(a=rows, b=rows * 2)) is not None


def test_rows_without_a_readable_key_count_as_held():
    rows = base()
    ready = readies(a=rows, b=rows[:100])
    ready["b"] = replace(ready["b"], dead=DeadLetters(0, 500, {"NULL in a key": 500}), probe=ready["a"].probe)
    assert far_apart(ready) is None


@pytest.mark.parametrize(
    ("node", "text"), [(Node(), ""), (Node(0x0F3, 12), "0f3"), (Node(1, 1), "8"), (Node(0b10110, 5), "b0")]
)
def test_a_node_is_named_by_whole_hexadecimal_digits(node, text):
    assert node.text == text


@pytest.mark.parametrize(
    ("nodes", "node"),
    [([5], Node(5, 4)), ([4, 5], Node(2, 3)), ([0, 15], Node()), ([8, 9, 11], Node(2, 2)), (range(16), Node())],
)
def test_the_common_node_is_above_all(nodes, node):
    assert common(nodes, 4) == node


def test_a_range_says_who_lacks_what():
    judged = Judged((), (), (), 3, 2)
    apart = Apart("eu", {"us": 5000})
    ranged = RangeFinding(apart, Node(3, 2), {"eu": 6000, "us": 1000}, Node(12, 4), 5, judged)
    assert ranged.claim == (
        "most rows are gone in us: of the keys below c (2 bits) (6,000 rows in eu, 1,000 rows in us), "
        "about 5,000 in us differ from eu"
    )
    assert ranged.evidence == (
        "of a sample of 5 keys (the keys below c (4 bits)) 0 are confirmed by two looks, 3 were equal in one look, "
        "2 agree within a tolerance"
    )
    assert not ranged.confirmed
    assert "too many keys" in replace(ranged, rows={"eu": 9, "us": 9}).claim
