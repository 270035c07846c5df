"""All rows of some layers in one slice of the key space after the other, and what is left when taken ones are taken.

Everything that has to look at whole runs goes by slices, so its memory does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from edge_agent.index.digests import NO_DIGESTS
from edge_agent.index.entries import NO_LOCATORS, Ints, renumbered
from edge_agent.index.layers import Layer, Weights
from edge_agent.index.marks import Reasons, is_taken, reason_of, shard_of
from edge_agent.index.sorting import order_of
from paritree.core.leaves import U8, U64, key_words, row_words

SLICE_ROWS: Final = 1 << 19
"""Rows of a slice, more or less: about 100 MB while it is worked on."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of several layers, each of n: digests (n, 16), weights 1 or -1, shards, numbers of reasons in one list.

    ``locators`` is None where they were not asked for.
    """

    key_digests: U8
    row_digests: U8
    weights: Weights
    shards: Ints
    reasons: Ints
    locators: pa.LargeBinaryArray | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, rows: Ints) -> Rows:
        """These rows, in this order."""
        return Rows(
            self.key_digests[rows],
            self.row_digests[rows],
            self.weights[rows],
            self.shards[rows],
            self.reasons[rows],
            None if self.locators is None else self.locators.take(pa.array(rows)),
        )

    @property
    def words(self) -> tuple[U64, U64, U64]:
        """k, r and r′."""
        return (key_words(self.key_digests), *row_words(self.row_digests))


def slices(layers: Sequence[Layer]) -> Iterator[tuple[int, int]]:
    """The key space in equal parts with about so many rows each: first k, and end, which may be 2^64."""
    bits = (sum(layer.run.rows for layer in layers) // SLICE_ROWS).bit_length()
    for prefix in range(1 << bits):
        yield prefix << (64 - bits), (prefix + 1) << (64 - bits)


def rows_between(
    layers: Sequence[Layer], first: int, end: int, reasons: Reasons, *, shard: int | None = None, locators: bool = False
) -> Rows:
    """The rows with k in [first, end) that count, of all layers or of one shard alone; not sorted."""
    parts = [_of_layer(layer, first, end, reasons, shard, locators) for layer in layers]
    return joined([part for part in parts if part is not None and len(part)], locators=locators)


def joined(parts: Sequence[Rows], *, locators: bool) -> Rows:
    """Several as one."""
    none = np.zeros(0, np.int64)
    parts = [Rows(NO_DIGESTS, NO_DIGESTS, none, none, none, NO_LOCATORS if locators else None), *parts]
    return Rows(
        np.concatenate([part.key_digests for part in parts]),
        np.concatenate([part.row_digests for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.shards for part in parts]),
        np.concatenate([part.reasons for part in parts]),
        pa.concat_arrays([part.locators for part in parts]) if locators else None,
    )


def _of_layer(layer: Layer, first: int, end: int, reasons: Reasons, shard: int | None, locators: bool) -> Rows | None:
    if shard is not None and layer.shard is not None and layer.shard != shard:
        return None
    run = layer.run
    low, high = run.window(first, end)
    shards = np.full(high - low, 0 if layer.shard is None else layer.shard, np.int64)
    weights, numbers = np.ones(high - low, np.int64), np.zeros(high - low, np.int64)
    if run.marks is not None:
        marks = run.marks.slice(low, high)
        numbers = renumbered(reason_of(marks), run.reasons, reasons)
        if layer.shard is None:
            shards = shard_of(marks)
            weights[is_taken(marks)] = -1
    found = run.locators(low, high) if locators else None
    rows = Rows(run.key_digests(low, high), run.row_digests(low, high), weights, shards, numbers, found)
    keep = shards == shard if shard is not None else np.ones(len(rows), bool)
    void = layer.void(shards)
    if void is not None:
        keep &= ~void
    return rows if keep.all() else rows.take(np.flatnonzero(keep))


def netted(rows: Rows, digester: str, *, by_shard: bool, by_locator: bool) -> Rows:
    """What is left: equal rows and their opposites cancel; sorted by key digest and row digest.

    ``by_shard``: rows of different shards are different. ``by_locator``: so are those under different locators.
    """
    order = order_of(rows.key_digests, rows.row_digests, digester)
    words = np.concatenate([rows.key_digests, rows.row_digests], axis=1)[order].view(np.uint64)
    same = np.zeros(len(order), bool)
    same[1:] = (words[1:] == words[:-1]).all(axis=1)
    group = np.cumsum(~same)
    alone = ~same
    alone[:-1] &= ~same[1:]
    if alone.all():
        return rows.take(order)
    several = np.flatnonzero(~alone)
    left = _net(rows, order[several], group[several], by_shard=by_shard, by_locator=by_locator)
    chosen = np.concatenate([order[alone], left])
    return _sorted(rows.take(chosen), digester)


def _net(rows: Rows, which: Ints, group: Ints, *, by_shard: bool, by_locator: bool) -> Ints:
    """Of rows in groups of equal digests, those that are left, as often as they are."""
    shards = rows.shards[which] if by_shard else np.zeros(len(which), np.int64)
    if by_locator and rows.locators is not None:
        encoded = rows.locators.take(pa.array(which)).dictionary_encode()
        texts = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
    else:
        texts = np.zeros(len(which), np.int64)
    weights = rows.weights[which]
    order = np.lexsort((-weights, texts, shards, group))  # rows that are there before those that are taken
    new = np.ones(len(order), bool)
    for column in (group, shards, texts):
        new[1:] &= column[order][1:] == column[order][:-1]
    new[1:] = ~new[1:]
    starts = np.flatnonzero(new)
    net = np.add.reduceat(weights[order], starts)
    # the first of a group stands for what is left where something is there, the last where something is missing
    ends = np.append(starts[1:], len(order)) - 1
    stands = np.where(net > 0, starts, ends)
    left: Ints = which[order][np.repeat(stands, np.abs(net))]
    return left


def _sorted(rows: Rows, digester: str) -> Rows:
    return rows.take(order_of(rows.key_digests, rows.row_digests, digester))
