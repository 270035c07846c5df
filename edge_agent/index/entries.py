"""What all layers have under some keys, and nothing else: the old rows that a change takes the place of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.index.digests import digest_words
from edge_agent.index.layers import Layer, Weights
from edge_agent.index.marks import Reasons, is_taken, reason_of, shard_of
from paritree.core.leaves import U8, U64

Ints = NDArray[np.int64]
NO_LOCATORS = pa.array([], pa.large_binary())


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows under asked keys, each of shape (n,): ``key`` is the position of its key among the asked ones.

    ``weights`` are 1, or -1 where the row is taken away from ``shards``; ``reasons`` are numbers of dead letters in the
    list that was given, 0 for other rows. ``locators`` is None where they were not asked for.
    """

    key: Ints
    r: U64
    r2: U64
    weights: Weights
    shards: Ints
    reasons: Ints
    locators: pa.LargeBinaryArray | None = None

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: Ints) -> Entries:
        """Some of them."""
        return Entries(
            self.key[rows],
            self.r[rows],
            self.r2[rows],
            self.weights[rows],
            self.shards[rows],
            self.reasons[rows],
            None if self.locators is None else self.locators.take(pa.array(rows)),
        )

    def where(self, mask: NDArray[np.bool_]) -> Entries:
        """Those of them."""
        return Entries(
            self.key[mask],
            self.r[mask],
            self.r2[mask],
            self.weights[mask],
            self.shards[mask],
            self.reasons[mask],
            None if self.locators is None else self.locators.filter(pa.array(mask)),
        )


def entries_of(layers: Sequence[Layer], keys: U8, reasons: Reasons, *, locators: bool = False) -> Entries:
    """Everything under ``keys`` (n, 16), distinct and ascending. Raises SourceError for a run that cannot be read."""
    k, tail = digest_words(keys)
    parts = [_of_layer(layer, k, tail, reasons, locators) for layer in layers]
    parts = [part for part in parts if len(part)] or [_none(locators)]
    return Entries(
        np.concatenate([part.key for part in parts]),
        np.concatenate([part.r for part in parts]),
        np.concatenate([part.r2 for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.shards for part in parts]),
        np.concatenate([part.reasons for part in parts]),
        pa.concat_arrays([part.locators for part in parts]) if locators else None,
    )


def _none(locators: bool) -> Entries:
    ints, words = np.zeros(0, np.int64), np.zeros(0, np.uint64)
    return Entries(ints, words, words, ints, ints, ints, NO_LOCATORS if locators else None)


def _of_layer(layer: Layer, k: U64, tail: U64, reasons: Reasons, locators: bool) -> Entries:
    run = layer.run
    if not run.rows or not len(k):
        return _none(locators)
    low, high = run.spans(k)
    counts = high - low
    key = np.repeat(np.arange(len(k)), counts)
    if not len(key):
        return _none(locators)
    # low[i], low[i] + 1, … of each key, without a loop
    rows = np.repeat(low - np.append(0, np.cumsum(counts)[:-1]), counts) + np.arange(len(key))
    same = run.tail.take(rows) == tail[key]
    key, rows = key[same], rows[same]
    shards = np.full(len(rows), -1 if layer.shard is None else layer.shard, np.int64)
    weights = np.ones(len(rows), np.int64)
    numbers = np.zeros(len(rows), np.int64)
    if run.marks is not None:
        marks = run.marks.take(rows)
        numbers = renumbered(reason_of(marks), run.reasons, reasons)
        if layer.shard is None:
            shards = shard_of(marks)
            weights[is_taken(marks)] = -1
            void = layer.void(shards)
            if void is not None:
                key, rows, shards, weights, numbers = (a[~void] for a in (key, rows, shards, weights, numbers))
    found = None
    if locators:
        found = pa.array([run.locator(row) for row in rows.tolist()], pa.large_binary())
    return Entries(key, run.r.take(rows), run.r2.take(rows), weights, shards, numbers, found)


def renumbered(numbers: Ints, texts: Sequence[str], reasons: Reasons) -> Ints:
    """Numbers of a run's list as numbers of another one."""
    if not numbers.any():
        return numbers
    table = np.array([0, *map(reasons.number, texts)] + [0] * (256 - len(texts)), np.int64)
    return table[numbers]


def locators_of(layers: Sequence[Layer], keys: U8) -> dict[bytes, frozenset[bytes]]:
    """The locators under key digests (n, 16), distinct and ascending; keys without any are left out."""
    found = entries_of(layers, keys, Reasons(), locators=True)
    out: dict[bytes, set[bytes]] = {}
    for key, locator in zip(found.key.tolist(), found.locators or (), strict=True):
        if text := locator.as_py():  # rows that are taken away name none, unless keys are told apart by them
            out.setdefault(keys[key].tobytes(), set()).add(text)
    return {key: frozenset(locators) for key, locators in out.items()}
