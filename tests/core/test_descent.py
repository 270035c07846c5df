"""The descent against regions that are plain lists of rows: found = planted, for 2 to 5 regions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core import limits
from paritree.core.descent import Answer, Descent, Outcome, RowList
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import leaf_bits, leaf_sums
from paritree.core.messages import AskChildren, AskLists, Header, Ready

Rows = list[tuple[int, int, int]]
HEADER = Header("d", b"p" * 16, 1, b"k" * 8, "s")


class Region:
    """Answers like an agent, from rows in memory."""

    def __init__(self, rows: Rows) -> None:
        self.k, self.r, self.r2 = (np.array([row[i] for row in sorted(rows)], np.uint64) for i in range(3))

    def sums(self, bits: int) -> np.ndarray:
        return leaf_sums(self.k, self.r, self.r2, bits).r

    def ready(self) -> Ready:
        root = leaf_sums(self.k, self.r, self.r2, 0).root
        bits = leaf_bits(root.count, limits.LEAF_ROWS, limits.LEVEL_BITS_MAX)
        return Ready(HEADER, "memory", root.count, root.r, root.r2, bits, self.sums(bits), True, 0.0)

    def answer(self, ask: AskChildren | AskLists) -> Answer:
        if isinstance(ask, AskChildren):
            children = self.sums(ask.to_bits).reshape(1 << ask.bits, -1)
            return children[ask.prefixes.astype(np.int64)].reshape(-1)
        leaf = self.k >> np.uint64(64 - ask.bits) if ask.bits else np.zeros_like(self.k)
        chosen = np.isin(leaf, ask.prefixes)
        return RowList(self.k[chosen], self.r[chosen], self.r2[chosen])


Tamper = Callable[[str, AskChildren | AskLists, Answer], Answer]


def run(regions: dict[str, Region], tamper: Tamper = lambda name, ask, answer: answer) -> tuple[Outcome, Descent]:
    descent = Descent({name: region.ready() for name, region in regions.items()})
    asks = descent.start()
    while asks:
        asks = descent.receive({name: tamper(name, ask, regions[name].answer(ask)) for name, ask in asks.items()})
    assert descent.outcome is not None
    return descent.outcome, descent


def expected(tables: dict[str, Rows]) -> dict[int, dict[str, list[tuple[int, int]]]]:
    """The truth by brute force: every k whose rows are not the same multiset everywhere."""
    by_k: dict[int, dict[str, Counter]] = {}
    for name, rows in tables.items():
        for k, r, r2 in rows:
            by_k.setdefault(k, {n: Counter() for n in tables})[name][(r, r2)] += 1
    return {
        k: {n: sorted(c.elements()) for n, c in versions.items() if c}
        for k, versions in by_k.items()
        if any(c != next(iter(versions.values())) for c in versions.values())
    }


def found(outcome: Outcome) -> dict[int, dict[str, list[tuple[int, int]]]]:
    return {s.k: {name: list(rows) for name, rows in s.rows.items()} for s in outcome.suspects}


def make_tables(rng: random.Random, regions: int, rows: int, changes: int) -> dict[str, Rows]:
    base = [(rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)) for _ in range(rows)]
    tables = {f"r{i}": list(base) for i in range(regions)}
    for _ in range(changes):
        table = tables[rng.choice(list(tables))]
        what = rng.randrange(4)
        at = rng.randrange(len(table)) if table else None
        if what == 0 or at is None:
            table.append((rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)))
        elif what == 1:
            del table[at]
        elif what == 2:
            table[at] = (table[at][0], rng.getrandbits(64), rng.getrandbits(64))
        else:
            table.append(table[at])
    return tables


@settings(max_examples=150)
@given(
    st.integers(0, 1 << 32),
    st.integers(2, 5),
    st.sampled_from([0, 1, 3, 17, 300, 5000]),
    st.sampled_from([0, 1, 2, 10, 200]),
)
def test_found_is_planted(seed, regions, rows, changes):
    tables = make_tables(random.Random(seed), regions, rows, changes)
    outcome, descent = run({name: Region(t) for name, t in tables.items()})
    assert found(outcome) == expected(tables)
    assert not outcome.broken
    assert descent.rounds <= 4


@settings(max_examples=60)
@given(st.integers(0, 1 << 32), st.integers(2, 3))
def test_edges_of_the_key_space_and_crowded_prefixes(seed, regions):
    """Keys at both ends of the key space and thousands under one prefix: half-open ranges lose none."""
    rng = random.Random(seed)
    crowded = [rng.getrandbits(40) | 0xABCDEF << 40 for _ in range(400)]
    edges = [0, 1, (1 << 64) - 1, (1 << 64) - 2, 1 << 63, (1 << 63) - 1, 1 << 52, (1 << 52) - 1]
    rows = [(k, rng.getrandbits(64), rng.getrandbits(64)) for k in [*crowded, *edges]]
    tables = {f"r{i}": [row for row in rows if rng.random() < 0.9] for i in range(regions)}
    outcome, _ = run({name: Region(t) for name, t in tables.items()})
    assert found(outcome) == expected(tables)


def test_equal_regions_cost_one_round():
    rows = make_tables(random.Random(1), 1, 70_000, 0)["r0"]
    outcome, descent = run({"a": Region(rows), "b": Region(rows[::-1])})
    assert outcome == Outcome((), 1)
    assert descent.rounds == 1


def test_three_rounds_for_a_large_table():
    rng = random.Random(2)
    tables = make_tables(rng, 2, 100_000, 50)
    outcome, descent = run({name: Region(t) for name, t in tables.items()})
    assert found(outcome) == expected(tables)
    assert descent.rounds == 3


def test_only_r2_differs_is_never_equal():
    """Equal Σr with another Σr′ (a collision of the first half) must not pass as equal."""
    rows = make_tables(random.Random(3), 1, 1000, 0)["r0"]
    other = [(rows[0][0], rows[0][1], rows[0][2] ^ 1), *rows[1:]]
    outcome, _ = run({"a": Region(rows), "b": Region(other)})
    assert outcome.broken == {"b": "the differences that were found do not add up to the difference of the roots"}


@pytest.mark.parametrize("what", ["children", "lists", "short", "list_elsewhere"])
def test_answers_that_do_not_add_up_are_named(what):
    tables = make_tables(random.Random(4), 2, 70_000, 30)

    def tamper(name: str, ask: AskChildren | AskLists, answer: Answer) -> Answer:
        if name != "r1":
            return answer
        if isinstance(ask, AskChildren) and what == "children":
            wrong = answer.copy()
            wrong[0] += np.uint64(1)
            return wrong
        if isinstance(ask, AskLists) and what == "lists":
            return RowList(answer.k[1:], answer.r[1:], answer.r2[1:])
        if isinstance(ask, AskLists) and what == "list_elsewhere":
            return RowList(answer.k ^ np.uint64(1 << 63), answer.r, answer.r2)
        if isinstance(ask, AskChildren) and what == "short":
            return answer[1:]
        return answer

    regions = {name: Region(t) for name, t in tables.items()}
    if what == "short":
        with pytest.raises(InvariantBroken):
            run(regions, tamper)
    else:
        outcome, _ = run(regions, tamper)
        assert set(outcome.broken) == {"r1"}
        assert outcome.suspects == ()


def test_one_region_is_no_descent():
    with pytest.raises(InvariantBroken):
        Descent({"a": Region([]).ready()})
