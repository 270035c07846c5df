"""Changes put into an index: what its layers have under the changed keys is compared with what those keys have now.

The cost is in the changes alone: old rows are found through the offset tables of the runs, the difference becomes a run
of its own, and sums, probe, dead letters and duplicates are moved by it. What is as it should be costs nothing more, so
applying again what was applied already writes no run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from edge_agent.index.changes import Applied, Changes
from edge_agent.index.difference import Difference, difference
from edge_agent.index.digests import places
from edge_agent.index.entries import Entries, entries_of
from edge_agent.index.layers import Layer
from edge_agent.index.marks import LOOSE, Reasons, is_taken, marks, reason_of, shard_of
from edge_agent.index.run import RunRows
from edge_agent.index.sorting import in_order
from edge_agent.index.tally import Tally
from paritree.core import limits
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import U8, key_words, row_words


@dataclass(frozen=True, slots=True)
class Moved:
    """What changes do to an index: the rows of their run (sorted, marked) and by how much they move what is kept."""

    rows: RunRows
    tally: Tally
    duplicates: int
    applied: Applied


def moved_by(layers: Sequence[Layer], changes: Changes, digester: str, *, ruled: bool) -> Moved:
    """What ``changes`` do to the index of these layers. Raises InvariantBroken, SourceError for a damaged run."""
    reasons = Reasons()
    held = entries_of(layers, changes.keys, reasons, locators=ruled)
    wanted = _wanted(changes, reasons, ruled=ruled)
    found = difference(held, wanted, len(changes.keys))
    rows = in_order(_rows(changes, held, wanted, found, reasons), digester)
    duplicates = int((found.new_counts > 1).sum()) - int((found.old_counts > 1).sum())
    changed = np.zeros(len(changes.keys), bool)
    changed[held.key[found.taken]] = changed[wanted.key[found.added]] = True
    applied = Applied(int(changed.sum()), len(found.added), len(found.taken))
    return Moved(rows, tally_of(rows, digester), duplicates, applied)


def _wanted(changes: Changes, reasons: Reasons, *, ruled: bool) -> Entries:
    """The rows that the keys have now, as entries without a place."""
    key = places(changes.keys, changes.key_digests)
    if len(key) and key.min() < 0:
        raise InvariantBroken("changes have rows of keys that were not read again")
    rows = len(key)
    numbers = reasons.numbers(rows, {row: text[: limits.REASON_CHARS_MAX] for row, text in changes.dead.items()})
    ones, nowhere = np.ones(rows, np.int64), np.full(rows, LOOSE, np.int64)
    locators = changes.locators if ruled else None
    return Entries(key, *row_words(changes.row_digests), ones, nowhere, numbers, locators)


def _rows(changes: Changes, held: Entries, wanted: Entries, found: Difference, reasons: Reasons) -> RunRows:
    """What was found, as rows of a run. Taken ones need no locators but where rows are told apart by them."""
    taken, added = found.taken, found.added
    if held.locators is None:
        gone = pa.array([b""] * len(taken), pa.large_binary())
    else:
        gone = held.locators.take(pa.array(taken))
    there = changes.locators.take(pa.array(added))
    return RunRows(
        key_digests=np.concatenate([changes.keys[held.key[taken]], changes.keys[wanted.key[added]]]),
        row_digests=np.concatenate([digests_of(held, taken), changes.row_digests[added]]),
        locators=pa.concat_arrays([gone.cast(pa.large_binary()), there.cast(pa.large_binary())]),
        marks=marks(
            np.concatenate([held.shards[taken], wanted.shards[added]]),
            np.concatenate([held.reasons[taken], wanted.reasons[added]]),
            np.arange(len(taken) + len(added)) < len(taken),
        ),
        reasons=reasons.texts,
    )


def digests_of(entries: Entries, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> U8:
    """The row digests of some entries, shape (n, 16)."""
    words = np.stack([entries.r[rows], entries.r2[rows]], axis=1)
    return words.astype("<u8").view(np.uint8).reshape(-1, 16)


def tally_of(rows: RunRows, digester: str) -> Tally:
    """What rows of changes, sorted and marked, move."""
    tally = Tally()
    if rows.marks is None or not len(rows):
        return tally
    weights = np.where(is_taken(rows.marks), -1, 1).astype(np.int64)
    k, (r, r2) = key_words(rows.key_digests), row_words(rows.row_digests)
    tally.add(k, r, r2, weights, digester)
    tally.add_shards(shard_of(rows.marks), r, r2, weights)
    tally.add_dead(reason_of(rows.marks), weights, rows.reasons)
    return tally
