"""The sample of regions that differ in too many keys: what differs below its node, exactly, at few bytes."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from descending import Region, Rows, expected, found
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core import limits
from paritree.core.descent import Answer, Ask, Outcome
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import NodeSums
from paritree.core.listing import RowList
from paritree.core.messages import AskChildren, AskDetail, AskLists, Look
from paritree.core.node import Node
from paritree.core.ranges import Apart, far_apart
from paritree.core.sampling import Sampled, Sampling

Tamper = Callable[[str, Ask, Any], Answer]


@pytest.fixture(autouse=True, scope="module")
def few() -> Any:
    """Limits that small tables reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SUSPECTS_MAX", 200)
        patch.setattr(limits, "SAMPLE_KEYS", 32)
        patch.setattr(limits, "SAMPLE_ROWS_MAX", 1 << 9)
        yield


def sampled(
    tables: Mapping[str, Rows], apart: Apart | None = None, tamper: Tamper = lambda n, ask, a: a, salt: int = 1
) -> tuple[Sampled, Counter[str]]:
    regions = {name: Region(rows) for name, rows in tables.items()}
    ready = {name: region.ready() for name, region in regions.items()}
    apart = apart or far_apart(ready)
    assert apart is not None
    sampling = Sampling(ready, apart, salt=salt)
    cost: Counter[str] = Counter()
    asks = sampling.start()
    while asks:
        answers = {name: tamper(name, ask, regions[name].answer(ask)) for name, ask in asks.items()}
        cost.update({name: size(answer) for name, answer in answers.items()})
        asks = sampling.receive(answers)
    assert sampling.outcome is not None
    return sampling.outcome, cost


def size(answer: Answer) -> int:
    if isinstance(answer, NodeSums):
        return answer.counts.nbytes + answer.r.nbytes
    return 24 * len(answer.k) if isinstance(answer, RowList) else 0


def tables_of(rng: random.Random, rows: int, share: float, lost: float, regions: int = 2) -> dict[str, Rows]:
    base = [(rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)) for _ in range(rows)]
    tables = {"r0": base}
    for number in range(1, regions):
        other = [
            (k, rng.getrandbits(64), r2) if rng.random() < share else (k, r, r2)
            for k, r, r2 in base
            if rng.random() >= share * lost
        ]
        tables[f"r{number}"] = other
    return tables


def below(rows: Rows, node: Node) -> Rows:
    return [row for row in rows if row[0] >> (64 - node.bits) == node.prefix] if node.bits else rows


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([400, 1500, 6000]),
    st.sampled_from([0.3, 0.7, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(2, 4),
)
def test_all_that_differs_below_the_node_is_found(seed, rows, share, lost, regions):
    tables = tables_of(random.Random(seed), rows, share, lost, regions)
    apart = Apart("r0", dict.fromkeys(list(tables)[1:], round(share * rows)))
    outcome, cost = sampled(tables, apart, salt=seed)
    assert not outcome.broken
    assert outcome.rows == {name: len(below(table, outcome.node)) for name, table in tables.items()}
    truth = expected({name: below(table, outcome.sample) for name, table in tables.items()})
    assert found(Outcome(outcome.ks, outcome.looks, 0)) == truth
    assert truth
    assert max(cost.values()) <= 24 * limits.SAMPLE_ROWS_MAX + 2 * 16 * 4096
    assert 3 <= outcome.rounds <= 4


def test_the_sample_is_of_about_the_size_that_is_wanted():
    for rows in (1_000, 5_000, 40_000):
        outcome, _ = sampled(tables_of(random.Random(rows), rows, 1.0, 0.0))
        assert limits.SAMPLE_KEYS / 3 <= len(outcome.ks) <= 3 * limits.SAMPLE_KEYS


def test_a_part_of_the_key_space_that_is_lost_is_named_by_its_prefix():
    rng = random.Random(5)
    base = tables_of(rng, 6000, 0, 0)["r0"]
    lost = Node(0b1011, 4)
    gone = [row for row in base if row[0] >> 60 != lost.prefix]
    outcome, _ = sampled({"r0": base, "r1": gone})
    assert outcome.node == lost
    assert outcome.rows == {"r0": len(base) - len(gone), "r1": 0}
    assert outcome.sample.prefix >> (outcome.sample.bits - 4) == lost.prefix


def test_a_narrow_loss_is_followed_down_to_its_node():
    """All that differs lies below one node of the level: the level below it tells more."""
    rng = random.Random(6)
    base = tables_of(rng, 3000, 0, 0)["r0"]
    crowd = [(0xABC << 52 | rng.getrandbits(52), rng.getrandbits(64), rng.getrandbits(64)) for _ in range(3000)]
    outcome, _ = sampled({"r0": base + crowd, "r1": base})
    assert (outcome.node.prefix >> (outcome.node.bits - 12), outcome.node.bits >= 12) == (0xABC, True)
    assert outcome.rows == {"r0": len(below(base + crowd, outcome.node)), "r1": len(below(base, outcome.node))}
    assert outcome.rows["r0"] - outcome.rows["r1"] == 3000
    assert 3 <= outcome.rounds <= 5


def test_many_rows_and_few_that_differ_do_not_list_them_all():
    tables = tables_of(random.Random(7), 60_000, 0.005, 0.5)
    outcome, cost = sampled(tables, Apart("r0", {"r1": 300}))
    assert max(cost.values()) <= 24 * limits.SAMPLE_ROWS_MAX + 2 * 16 * 4096
    assert not outcome.broken


def test_equal_sums_with_another_second_half_find_nothing_and_say_so():
    base = tables_of(random.Random(8), 1000, 0, 0)["r0"]
    other = [(k, r, r2 ^ 1) for k, r, r2 in base]
    outcome, _ = sampled({"r0": base, "r1": other}, Apart("r0", {"r1": 1000}))
    assert (outcome.ks, outcome.broken, outcome.rounds) == ((), {}, 1)


def wrong(words: np.ndarray) -> np.ndarray:
    changed = words.copy()
    changed[0] += np.uint64(1)
    return changed


CHILDREN = "its children do not add up to their parent"
LISTED = "its rows do not add up to their node"
SHOWN = "the rows that it shows are not those that it listed"
STRANGE = "it showed keys that it was not asked for"
TAMPERED = {
    "sums": (AskChildren, lambda a: NodeSums(a.counts, wrong(a.r)), CHILDREN),
    "counts": (AskChildren, lambda a: NodeSums(wrong(a.counts), a.r), CHILDREN),
    "huge counts": (
        AskChildren,
        lambda a: NodeSums(a.counts + np.array([1 << 63, 1 << 63, *[0] * (len(a.r) - 2)], np.uint64), a.r),
        CHILDREN,
    ),
    "a row less": (AskLists, lambda a: RowList(a.k[1:], a.r[1:], a.r2[1:]), LISTED),
    "rows elsewhere": (AskLists, lambda a: RowList(a.k ^ np.uint64(1 << 63), a.r, a.r2), LISTED),
    "empty rows more": (
        AskLists,
        lambda a: RowList(
            *(np.append(words, np.uint64(last)) for words, last in ((a.k, a.k[-1]), (a.r, 0), (a.r2, 0)))
        ),
        LISTED,
    ),
    "other rows": (AskLists, lambda a: RowList(a.k, a.r, wrong(a.r2)), SHOWN),
    "a look less": (AskDetail, lambda looks: looks[1:], SHOWN),
    "another key": (AskDetail, lambda looks: (*looks, Look(b"x" * 16)), STRANGE),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_region_whose_answers_do_not_add_up_is_named(what):
    kind, change, reason = TAMPERED[what]
    tables = tables_of(random.Random(9), 3000, 0.9, 0.2, 3)

    def tamper(name: str, ask: Ask, answer: Any) -> Answer:
        return change(answer) if name == "r1" and isinstance(ask, kind) else answer

    outcome, _ = sampled(tables, tamper=tamper)
    where = "" if reason == STRANGE else r": (all keys|the keys below [0-9a-f]+ \(\d+ bits\))"
    assert list(outcome.broken) == ["r1"]
    assert re.fullmatch(reason + where, outcome.broken["r1"])
    assert (outcome.ks, outcome.looks) == ((), {})


@pytest.mark.parametrize("kind", [AskChildren, AskLists, AskDetail])
def test_an_answer_to_another_question_is_our_mistake(kind):
    tables = tables_of(random.Random(9), 3000, 0.9, 0.2)
    with pytest.raises(InvariantBroken):
        sampled(tables, tamper=lambda name, ask, a: [1] if isinstance(ask, kind) else a)
