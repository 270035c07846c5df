"""Two multisets of rows, what an index has and what it should have: what is to be added, what to be taken away.

Rows are equal when key, row digest and, where rules merge keys, locator are. Of equal rows that lie in several shards
those of the lowest shard are taken away first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.index.entries import Entries, Ints
from paritree.core import compute as pc
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
    """From what is held to what is wanted, under so many keys. ``wanted`` has weights of 1 and no taken rows.

    Keys with one row at most on either side, nearly all, are compared without sorting.
    """
    held_single, wanted_single = _of_single_keys(held, wanted, keys)
    if not held_single.any() and not wanted_single.any():
        return _sorted_difference(held, wanted, keys)
    simple = _single_difference(held, wanted, np.flatnonzero(held_single), np.flatnonzero(wanted_single), keys)
    if held_single.all() and wanted_single.all():
        return simple
    held_rest, wanted_rest = np.flatnonzero(~held_single), np.flatnonzero(~wanted_single)
    rest = _sorted_difference(held.take(held_rest), wanted.take(wanted_rest), keys)
    return Difference(
        added=np.concatenate([simple.added, wanted_rest[rest.added]]),
        taken=np.concatenate([simple.taken, held_rest[rest.taken]]),
        kept=np.concatenate([simple.kept, held_rest[rest.kept]]),
        old_counts=simple.old_counts + rest.old_counts,
        new_counts=simple.new_counts + rest.new_counts,
    )


def _of_single_keys(held: Entries, wanted: Entries, keys: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are of a key that has one row at most on either side, and none that is taken away."""
    several = np.bincount(held.key, minlength=keys) > 1
    several |= np.bincount(wanted.key, minlength=keys) > 1
    several[held.key[held.weights != 1]] = True
    return ~several[held.key], ~several[wanted.key]


def _single_difference(held: Entries, wanted: Entries, ours: Ints, theirs: Ints, keys: int) -> Difference:
    """The difference of the rows ``ours`` and ``theirs``, of which each key has one at most."""
    held_of, wanted_of = np.full(keys, -1, np.int64), np.full(keys, -1, np.int64)
    held_of[held.key[ours]], wanted_of[wanted.key[theirs]] = ours, theirs
    there, here = held_of >= 0, wanted_of >= 0
    both = there & here
    one, other = held_of[both], wanted_of[both]
    same = (held.r[one] == wanted.r[other]) & (held.r2[one] == wanted.r2[other])
    if held.locators is not None and wanted.locators is not None:
        same &= np.asarray(pc.equal(held.locators.take(pa.array(one)), wanted.locators.take(pa.array(other))))
    equal = np.zeros(keys, bool)
    equal[both] = same
    return Difference(
        added=wanted_of[here & ~equal],
        taken=held_of[there & ~equal],
        kept=held_of[equal],
        old_counts=there.astype(np.int64),
        new_counts=here.astype(np.int64),
    )


def _sorted_difference(held: Entries, wanted: Entries, keys: int) -> Difference:
    """The same for any rows."""
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
