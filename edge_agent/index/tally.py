"""Sums of rows that count 1 or -1: leaf sums, probe, sums of shards, dead letters by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.layers import Weights
from edge_agent.sketching import probe_of
from paritree.core import limits
from paritree.core.leaves import U64, LeafSums, NodeSum, boundaries, sums_between
from paritree.core.sketch import Probe, empty_probe

Ints = NDArray[np.int64]


@dataclass(slots=True)
class Tally:
    """Everything that an index maintains of its rows, as a difference or as a whole."""

    sums: LeafSums = field(default_factory=lambda: LeafSums.zero(limits.LEVEL_BITS_MAX))
    probe: Probe = field(default_factory=empty_probe)
    shards: dict[int, NodeSum] = field(default_factory=dict)
    dead: Counter[str] = field(default_factory=Counter)

    def add(self, k: U64, r: U64, r2: U64, weights: Weights | None, digester: str) -> None:
        """Count rows sorted by k in sums and probe. ``weights`` None: all of them count 1."""
        self.sums = self.sums.plus(signed_sums(k, r, r2, weights))
        if weights is None:
            self.probe = self.probe.plus(probe_of(k, r, digester))
        else:
            there, gone = weights > 0, weights < 0
            self.probe = self.probe.plus(probe_of(k[there], r[there], digester))
            if gone.any():
                self.probe = self.probe.minus(probe_of(k[gone], r[gone], digester))

    def add_shards(self, shards: Ints, r: U64, r2: U64, weights: Weights) -> None:
        """Count rows in the sums of their shards."""
        for shard, total in shard_sums(shards, r, r2, weights).items():
            self.shards[shard] = plus(self.shards.get(shard, NodeSum(0, 0, 0)), total)

    def add_dead(self, numbers: Ints, weights: Weights, texts: Sequence[str]) -> None:
        """Count dead letters among rows: ``numbers`` in the list ``texts``, from 1."""
        if not numbers.any():
            return
        for number in np.unique(numbers[numbers > 0]).tolist():
            self.dead[texts[number - 1]] += int(weights[numbers == number].sum())


def signed_sums(k: U64, r: U64, r2: U64, weights: Weights | None) -> LeafSums:
    """Leaf sums, of the depth that indexes keep, of rows sorted by k; rows with a weight of -1 are subtracted."""
    bits = limits.LEVEL_BITS_MAX
    cuts = np.append(np.searchsorted(k, boundaries(bits)), len(k)).astype(np.int64)
    if weights is None:
        return LeafSums(bits, np.diff(cuts).astype(np.uint64), sums_between(r, cuts), sums_between(r2, cuts))
    factor = weights.astype(np.uint64)
    return LeafSums(bits, sums_between(factor, cuts), sums_between(r * factor, cuts), sums_between(r2 * factor, cuts))


def negative(sums: LeafSums) -> LeafSums:
    """Sums that take these away when they are added."""
    zero = np.uint64(0)
    return LeafSums(sums.bits, zero - sums.counts, zero - sums.r, zero - sums.r2)


def shard_sums(shards: Ints, r: U64, r2: U64, weights: Weights) -> dict[int, NodeSum]:
    """(count, Σr, Σr′) of the rows of each shard."""
    if not len(shards):
        return {}
    order = np.argsort(shards, kind="stable")
    shards, weights = shards[order], weights[order]
    factor = weights.astype(np.uint64)
    starts = np.flatnonzero(np.append(True, shards[1:] != shards[:-1]))
    counts = np.add.reduceat(weights, starts).tolist()
    words = [np.add.reduceat(word[order] * factor, starts).tolist() for word in (r, r2)]
    return {shard: NodeSum(*sums) for shard, *sums in zip(shards[starts].tolist(), counts, *words, strict=True)}


def plus(one: NodeSum, other: NodeSum) -> NodeSum:
    """Both together; the words mod 2^64."""
    mask = (1 << 64) - 1
    return NodeSum(one.count + other.count, (one.r + other.r) & mask, (one.r2 + other.r2) & mask)


def counted(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Counts of both together, without those that came out as nothing."""
    total = Counter(one)
    total.update(other)
    return {reason: count for reason, count in total.items() if count}
