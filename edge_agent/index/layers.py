"""Runs that add up to an index: those of shards, whose rows all count, and those of changes, which add and take away.

Nothing in a layer says "newer": a change takes away the very rows that it found and adds those that are there now. So
layers may be read and merged in any order, and sums and sketches of the whole are sums over the layers.

    shard "a"    +k1 r1   +k2 r2   +k3 r3
    change 1               -k2 r2            +k4 r4        k2 was deleted, k4 inserted
    change 2     -k1 r1  +k1 r1'                           k1 was updated
    the index    +k1 r1'           +k3 r3    +k4 r4

When a shard is replaced, what older changes said of its rows is void: its *floor* is the number of the first change
that counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.marks import LOOSE, is_taken, shard_of
from edge_agent.index.run import Run
from paritree.core.leaves import U64

Weights = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Floors:
    """For each shard the number of the first change that counts; 0 where nothing was replaced."""

    of: Mapping[int, int]

    def void(self, shards: NDArray[np.int64], number: int) -> NDArray[np.bool_] | None:
        """Which rows of a change of that number no longer count; None where all do."""
        above = [shard for shard, floor in self.of.items() if floor > number]
        return np.isin(shards, above) if above else None


NO_FLOORS = Floors({})


@dataclass(frozen=True, slots=True)
class Words:
    """Rows of a layer in its order: k, r, r′ (n,) u64 and ``weights`` (n,), 1 or -1; None where all are 1."""

    k: U64
    r: U64
    r2: U64
    weights: Weights | None

    @property
    def signed(self) -> tuple[U64, U64]:
        """r and r′, negative mod 2^64 where a row is taken away: what sums and sketches add."""
        if self.weights is None:
            return self.r, self.r2
        factor = self.weights.astype(np.uint64)
        return self.r * factor, self.r2 * factor


class Layer:
    """One run and how it counts. ``shard``: whose run it is; None for changes, whose ``number`` meets the floors."""

    def __init__(self, run: Run, shard: int | None = LOOSE, number: int = 0, floors: Floors = NO_FLOORS) -> None:
        self.run = run
        self.shard = shard
        self.number = number
        self._floors = floors

    def words(self, low: int, high: int) -> Words:
        """The rows [low, high) that count."""
        run = self.run
        k, r, r2 = run.k.slice(low, high), run.r.slice(low, high), run.r2.slice(low, high)
        if self.shard is not None or run.marks is None:
            return Words(k, r, r2, None)
        marks = run.marks.slice(low, high)
        weights = np.where(is_taken(marks), -1, 1).astype(np.int64)
        void = self._floors.void(shard_of(marks), self.number)
        if void is None:
            return Words(k, r, r2, weights)
        return Words(k[~void], r[~void], r2[~void], weights[~void])

    def void(self, shards: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which rows of those shards no longer count; None where all do."""
        return None if self.shard is not None else self._floors.void(shards, self.number)


def netted(k: U64, r: U64, r2: U64, weights: Weights) -> tuple[U64, U64, U64]:
    """The rows that are left when those that are taken away are: sorted by k, then r and r′."""
    order = np.lexsort((r2, r, k))
    k, r, r2, weights = k[order], r[order], r2[order], weights[order]
    first = np.ones(len(k), bool)
    first[1:] = (k[1:] != k[:-1]) | (r[1:] != r[:-1]) | (r2[1:] != r2[:-1])
    starts = np.flatnonzero(first)
    left = np.maximum(np.add.reduceat(weights, starts), 0) if len(starts) else np.zeros(0, np.int64)
    rows = np.repeat(starts, left)
    return k[rows], r[rows], r2[rows]
