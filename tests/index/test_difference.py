"""Keys with one row on either side are compared without sorting: the same answer as for rows of any number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from edge_agent.index.difference import Difference, _sorted_difference, difference
from edge_agent.index.digests import distinct, firsts
from edge_agent.index.entries import Entries

KEYS = 40


def entries(rng: np.random.Generator, rows: int, *, signed: bool, locators: bool) -> Entries:
    key = np.sort(rng.integers(0, KEYS, rows))
    words = rng.integers(0, 3, (2, rows)).astype(np.uint64)
    weights = rng.choice([1, 1, 1, -1], rows) if signed else np.ones(rows, np.int64)
    shards = rng.integers(0, 2, rows)
    told_apart = pa.array([bytes([value]) for value in rng.integers(0, 2, rows)], pa.large_binary())
    none = np.zeros(rows, np.int64)
    return Entries(key, words[0], words[1], weights, shards, none, told_apart if locators else None)


def said(found: Difference, held: Entries, wanted: Entries) -> list[object]:
    """What a difference says, whatever the order of its rows and which of equal rows it names."""

    def rows(of: Entries, places: np.ndarray) -> list[tuple[object, ...]]:
        locators = of.locators.to_pylist() if of.locators is not None else [b""] * len(of)
        return sorted(
            (int(of.key[i]), int(of.r[i]), int(of.r2[i]), int(of.shards[i]), locators[i]) for i in places.tolist()
        )

    counts = [found.old_counts.tolist(), found.new_counts.tolist()]
    return [rows(wanted, found.added), rows(held, found.taken), rows(held, found.kept), *counts]


@pytest.mark.parametrize("locators", [False, True])
@pytest.mark.parametrize("rows", [0, 10, 60])
def test_single_rows_are_compared_as_any_rows(rows: int, locators: bool) -> None:
    rng = np.random.default_rng(rows)
    for _ in range(200):
        held = entries(rng, rows, signed=True, locators=locators)
        wanted = entries(rng, int(rng.integers(0, rows + 1)), signed=False, locators=locators)
        ways = [way(held, wanted, KEYS) for way in (difference, _sorted_difference)]
        assert said(ways[0], held, wanted) == said(ways[1], held, wanted)


def test_digests_are_told_apart_by_both_halves() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        digests = rng.integers(0, 2, (int(rng.integers(0, 40)), 16), dtype=np.uint8) * rng.integers(
            0, 2, (1, 16), dtype=np.uint8
        )
        wanted = sorted({digest.tobytes() for digest in digests})
        assert [digest.tobytes() for digest in distinct(digests)] == wanted
        assert [digests[place].tobytes() for place in firsts(digests)] == wanted
