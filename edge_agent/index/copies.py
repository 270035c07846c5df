"""How often rows occur: counted over the layers of an index, without an object a row, for tables without a key."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.index import Index
from edge_agent.index.layers import Layer
from edge_agent.index.marks import is_taken, shard_of

LOCATORS_MAX = 64
"""Locators that are read of the rows under one k in one run: all of them, but of rows with many copies."""


@dataclass(slots=True)
class Copies:
    """The rows of one key: how often each row digest occurs, and some of their locators."""

    rows: Counter[bytes] = field(default_factory=Counter)
    locators: set[bytes] = field(default_factory=set)

    @property
    def total(self) -> int:
        return self.rows.total()


def copies(index: Index, ks: Iterable[int]) -> Mapping[bytes, Copies]:
    """The keys under those ks, by key digest; keys of which nothing is left are not there."""
    wanted = np.array(sorted(set(ks)), np.uint64)
    found: dict[bytes, Copies] = defaultdict(Copies)
    for layer in index.layers:
        low, high = layer.run.spans(wanted)
        for place in np.flatnonzero(high > low).tolist():
            _add(found, layer, int(low[place]), int(high[place]))
    for held in found.values():
        held.rows = +held.rows
    return {key_digest: held for key_digest, held in found.items() if held.rows}


def _add(found: Mapping[bytes, Copies], layer: Layer, low: int, high: int) -> None:
    run = layer.run
    keys = run.key_digests(low, high)
    both = np.concatenate([keys, run.row_digests(low, high)], axis=1)
    distinct, which = np.unique(both, axis=0, return_inverse=True)
    counts = np.zeros(len(distinct), np.int64)
    np.add.at(counts, which.reshape(-1), _weights(layer, low, high))
    for digests, count in zip(distinct, counts.tolist(), strict=True):
        found[digests[:16].tobytes()].rows[digests[16:].tobytes()] += count
    for row in range(0, high - low, max(1, (high - low) // LOCATORS_MAX)):
        found[keys[row].tobytes()].locators.add(run.locator(low + row))


def _weights(layer: Layer, low: int, high: int) -> NDArray[np.int64]:
    """1 for a row, -1 for one that is taken away, 0 for one that does not count any more."""
    run = layer.run
    if layer.shard is not None or run.marks is None:
        return np.ones(high - low, np.int64)
    marks = run.marks.slice(low, high)
    weights = np.where(is_taken(marks), -1, 1).astype(np.int64)
    void = layer.void(shard_of(marks))
    return weights if void is None else np.where(void, 0, weights)
