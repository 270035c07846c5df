"""Rows listed node by node: whether they add up, and which keys differ between regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paritree.core.leaves import U64, NodeSum


@dataclass(frozen=True, slots=True)
class RowList:
    """All listed rows of one region: k, r and r′, each (n,) uint64."""

    k: U64
    r: U64
    r2: U64

    def only(self, ks: U64) -> RowList:
        """The rows whose k is among ``ks``."""
        chosen = np.isin(self.k, ks)
        return RowList(self.k[chosen], self.r[chosen], self.r2[chosen])

    @property
    def total(self) -> NodeSum:
        """Count, Σr and Σr′ of all rows."""
        return NodeSum(len(self.k), int(self.r.sum(dtype=np.uint64)), int(self.r2.sum(dtype=np.uint64)))


def differing(arrays: Sequence[U64]) -> NDArray[np.int64]:
    """The positions at which any array differs from the first."""
    differs = np.zeros(len(arrays[0]), bool)
    for array in arrays[1:]:
        differs |= array != arrays[0]
    return np.flatnonzero(differs)


def not_adding_up(rows: RowList, bits: int, nodes: U64, sums: U64) -> U64:
    """The nodes of depth ``bits`` (``nodes`` ascend) whose rows do not have its Σr, or that are not asked for."""
    below = rows.k >> np.uint64(64 - bits) if bits else np.zeros_like(rows.k)
    position = np.minimum(np.searchsorted(nodes, below), len(nodes) - 1)
    elsewhere = nodes[position] != below
    found = np.zeros(len(nodes), np.uint64)
    np.add.at(found, position[~elsewhere], rows.r[~elsewhere])
    return np.union1d(nodes[found != sums], below[elsewhere])


def differing_ks(lists: Sequence[RowList]) -> list[int]:
    """k of every row that some region lacks, ascending: rows present in each region equally often are dropped."""
    columns = [np.stack([rows.k, rows.r, rows.r2], axis=1) for rows in lists]
    everything, inverse = np.unique(np.concatenate(columns), axis=0, return_inverse=True)
    counts = np.zeros((len(lists), len(everything)), np.int64)
    start = 0
    for region, rows in enumerate(columns):
        np.add.at(counts[region], inverse[start : start + len(rows)].reshape(-1), 1)
        start += len(rows)
    differs = (counts != counts[0]).any(axis=0)
    ks: list[int] = np.unique(everything[differs, 0]).tolist()
    return ks
