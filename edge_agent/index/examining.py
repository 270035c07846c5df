"""Where an index and what was read of its table disagree: keys to look at again before anything is said of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from edge_agent.index.changes import Changes
from edge_agent.index.difference import difference
from edge_agent.index.digests import NO_DIGESTS, distinct, places
from edge_agent.index.entries import Entries, entries_of, locators_of
from edge_agent.index.layers import Layer
from edge_agent.index.marks import Reasons
from edge_agent.index.slices import Rows, joined, netted, rows_between, slices
from edge_agent.index.view import View
from paritree.core.leaves import U8, row_words


def lacking(view: View, scanned: Layer) -> U8:
    """The keys (n, 16) of rows of a scan that the index has nowhere, or not as often. Raises SourceError."""
    layers, ruled = view.layers, view.state.identity.ruled
    found = [NO_DIGESTS]
    for first, end in slices([scanned]):
        rows = rows_between([scanned], first, end, Reasons(), locators=ruled)
        keys = distinct(rows.key_digests)
        wanted = _entries(keys, rows)
        gap = difference(entries_of(layers, keys, Reasons(), locators=ruled), wanted, len(keys))
        found.append(keys[wanted.key[gap.added]])
    return distinct(np.concatenate(found))


def stale(view: View, shard: int, scanned: Layer) -> U8:
    """The keys (n, 16) of rows that the index has of a shard and that a new scan of it no longer found."""
    ruled = view.state.identity.ruled
    own = [layer for layer in view.layers if layer.shard in (shard, None)]
    found = [NO_DIGESTS]
    for first, end in slices([*own, scanned]):
        had = rows_between(own, first, end, Reasons(), shard=shard, locators=ruled)
        has = rows_between([scanned], first, end, Reasons(), locators=ruled)
        both = joined([had, replace(has, weights=-has.weights)], locators=ruled)
        left = netted(both, view.digester, by_shard=False, by_locator=ruled)
        found.append(left.key_digests[left.weights > 0])
    return distinct(np.concatenate(found))


def differing(view: View, read: Changes) -> U8:
    """The keys (n, 16) that have other rows in the index than those that were read again."""
    ruled = view.state.identity.ruled
    held = entries_of(view.layers, read.keys, Reasons(), locators=ruled)
    none = np.zeros(len(read.key_digests), np.int64)
    key = places(read.keys, read.key_digests)
    wanted = Entries(key, *row_words(read.row_digests), none + 1, none, none, read.locators if ruled else None)
    gap = difference(held, wanted, len(read.keys))
    return distinct(read.keys[np.concatenate([held.key[gap.taken], wanted.key[gap.added]])])


@dataclass(frozen=True, slots=True)
class Part:
    """Keys (n, 16) of one part of the key space, where they are found, and where the next part begins."""

    keys: U8
    locators: dict[bytes, frozenset[bytes]]
    next_k: int


def part_from(view: View, first: int, rows: int, shard: int | None = None) -> Part:
    """The keys of about so many rows from k ``first`` on, of one shard or of all; the last part begins anew at 0."""
    layers = view.layers
    held = view.state.shards
    total = max(1, view.state.rows if shard is None else held[shard].sum.count if shard in held else 0)
    end = min(1 << 64, first + max(1, (rows << 64) // total))
    if end > (1 << 64) - 2 * (end - first) // 3:
        end = 1 << 64
    left = rows_between(layers, first, end, Reasons(), shard=shard)
    left = netted(left, view.digester, by_shard=True, by_locator=False)
    keys = distinct(left.key_digests)
    return Part(keys, locators_of(layers, keys), 0 if end == 1 << 64 else end)


def _entries(keys: U8, rows: Rows) -> Entries:
    place = places(keys, rows.key_digests)
    return Entries(place, *row_words(rows.row_digests), rows.weights, rows.shards, rows.reasons, rows.locators)
