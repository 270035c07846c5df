"""Two multisets of rows, what an index has and what it should have: what is to be added, what to be taken away.

Rows are equal when key, row digest and, where rules merge keys, locator are. Of equal rows that lie in several shards
those of the lowest shard are taken away first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from edge_agent.index.entries import Entries, Ints
from paritree.core.leaves import U64


@dataclass(frozen=True, slots=True)
class Difference:
    """Positions of rows, each as often as it stands there: wanted ones to be ``added``, held ones to be ``taken`` away,
    and held ones to be ``kept``. ``old_counts`` and ``new_counts`` are rows of each key (keys,).
    """

    added: Ints
    taken: Ints
    kept: Ints
    old_counts: Ints
    new_counts: Ints


def difference(held: Entries, wanted: Entries, keys: int) -> Difference:
    """From what is held to what is wanted, under so many keys. ``wanted`` has weights of 1 and no taken rows."""
    n = len(held)
    key = np.concatenate([held.key, wanted.key])
    r, r2 = np.concatenate([held.r, wanted.r]), np.concatenate([held.r2, wanted.r2])
    locators = _numbered(held, wanted)
    shards = np.concatenate([held.shards, np.full(len(wanted), -1, np.int64)])
    told_apart = [] if locators is None else [locators]
    order = np.lexsort((shards, *told_apart, r2, r, key))
    group = _changes([column[order] for column in (key, r, r2, *told_apart)])
    part = _changes([group, shards[order]])
    is_wanted = order >= n
    weights = np.concatenate([held.weights, wanted.weights])[order]
    # net rows of each part (rows of one group in one shard), never below 0
    parts = int(part[-1]) + 1 if len(part) else 0
    groups = int(group[-1]) + 1 if len(group) else 0
    group_of_part = np.zeros(parts, np.int64)
    group_of_part[part] = group
    part_wanted = np.zeros(parts, bool)
    part_wanted[part] = is_wanted
    net = np.maximum(summed(part, weights, parts), 0)
    has = summed(group_of_part, np.where(part_wanted, 0, net), groups)
    wants = summed(group_of_part, np.where(part_wanted, net, 0), groups)
    before = _before(group_of_part, np.where(part_wanted, 0, net))
    take = np.where(part_wanted, 0, np.clip(np.maximum(has - wants, 0)[group_of_part] - before, 0, net))
    add = np.where(part_wanted, np.maximum(wants - has, 0)[group_of_part], 0)
    # of each part one row that stands for it: one that is there, not one that is taken away
    stands = np.zeros(parts, np.int64)
    there = weights > 0
    stands[part[there]] = order[there]
    key_of_group = np.zeros(groups, np.int64)
    key_of_group[group] = key[order]
    return Difference(
        added=np.repeat(stands, add) - n,
        taken=np.repeat(stands, take),
        kept=np.repeat(stands, np.where(part_wanted, 0, net - take)),
        old_counts=summed(key_of_group, has, keys),
        new_counts=summed(key_of_group, wants, keys),
    )


def _changes(columns: list[Ints | U64]) -> Ints:
    """The number of each row's group: it grows where any of the sorted columns changes."""
    new = np.zeros(len(columns[0]), bool)
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.cumsum(new).astype(np.int64)


def summed(group: Ints, values: Ints, groups: int) -> Ints:
    """Σ of the values of each group."""
    total = np.zeros(groups, np.int64)
    np.add.at(total, group, values)
    return total


def _before(group: Ints, values: Ints) -> Ints:
    """Σ of the values before each in its group; groups are ascending."""
    total = np.cumsum(values) - values
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.zeros(0, np.int64)
    sizes = np.diff(np.append(first, len(group)))
    return (total - np.repeat(total[first], sizes)).astype(np.int64)


def _numbered(held: Entries, wanted: Entries) -> Ints | None:
    """A number for each locator, equal ones alike; None where rows are not told apart by them."""
    if held.locators is None or wanted.locators is None:
        return None
    both = pa.concat_arrays([held.locators, wanted.locators]).dictionary_encode()
    return np.asarray(both.indices.to_numpy(zero_copy_only=False), np.int64)
