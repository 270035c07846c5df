"""A shard's rows replaced by those of a new scan.

What the index has of the shard (its run, and what changes said of it) is compared with the new run slice by slice, so
that duplicates, and rows that came with changes and turn out to lie in this shard, are right afterwards:

    the shard had    k1 r1   k2 r2           changes brought     k3 r3   k4 r4
    the scan finds   k1 r1           k3 r3                               k4 r5
    then             k1 r1 stays, k3 is the shard's now, k2 is gone and k4 has two rows: both are unsettled

k4, because the change or the scan may be newer; k2, because a change may have told that it moved to another shard,
which changed nothing here at the time; for the same reason a new row whose key another shard has is unsettled. Where no
change was ever applied, every shard holds what its last scan found, and nothing else.

Sums and probe lose all that the shard had and get all that it has. Where the old run is damaged, or its rows do not add
up to the shard's maintained sum, nothing can be subtracted: everything is counted anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from edge_agent.connectors.contract import Shard
from edge_agent.index.applying import digests_of
from edge_agent.index.changes import Replaced, Rescanned
from edge_agent.index.difference import difference, summed
from edge_agent.index.digests import NO_DIGESTS, distinct, places
from edge_agent.index.disk import Disk
from edge_agent.index.entries import NO_LOCATORS, Entries, Ints, entries_of, locators_of
from edge_agent.index.installing import dead_of, held_shard
from edge_agent.index.layers import Layer
from edge_agent.index.marks import LOOSE, Reasons, marks
from edge_agent.index.run import Run, RunRows
from edge_agent.index.slices import Rows, joined, netted, rows_between, slices
from edge_agent.index.sorting import in_order
from edge_agent.index.state import HeldShard, State
from edge_agent.index.tally import Tally, counted
from edge_agent.index.view import View
from paritree.core.errors import InvariantBroken, SourceError
from paritree.core.leaves import U8, NodeSum, row_words


@dataclass(frozen=True, slots=True)
class Work:
    """What replacing one shard makes of a state; ``loose`` are rows (sorted, marked) that are taken from changes.

    ``damaged``: sums and counts of the state have to be counted anew.
    """

    state: State
    loose: RunRows
    damaged: bool
    outcome: Replaced


def replaced_by(view: View, disk: Disk, name: str, one: Rescanned | None, digester: str) -> Work:
    """Put a new scan of a shard in its place; None: the shard is no more. Raises SourceError, also for no run."""
    state = view.state
    old = state.named(name)
    number = state.next_shard if old is None else old.id
    run = None if one is None else Run(one.result.run_path, disk.key)
    layers = view.layers
    damaged = old is not None and old.run is not None and not _is_whole(view.runs[old.run.file])
    if damaged:
        layers = [layer for layer in layers if layer.shard != number]
    new = None if run is None else Layer(run, number)
    walk = _Walk(layers, new, number, digester, state.identity.ruled, LOOSE in state.shards)
    for first, end in slices(walk.own_layers):
        walk.slice(first, end)
    none = NodeSum(0, 0, 0)
    gone = walk.tally.shards.get(number, none)
    damaged = damaged or gone != none.minus(none if old is None else old.sum)
    if one is None or run is None:
        held = HeldShard(number, "", state.loose.shard, None, floor=state.next_number)
    else:
        held = held_shard(number, one.scanned, run, state.next_number)
        walk.tally.sums = walk.tally.sums.plus(one.result.sums)
        walk.tally.probe = walk.tally.probe.plus(one.result.probe)
        walk.tally.dead.update(dead_of(run))  # += would drop what is below zero
    state = replace(
        state,
        shards={**state.shards, number: held},
        next_shard=max(state.next_shard, number + 1),
        sums=state.sums.plus(walk.tally.sums),
        probe=state.probe.plus(walk.tally.probe),
        dead=counted(state.dead, walk.tally.dead),
        duplicates=state.duplicates + walk.duplicates,
    )
    return Work(state, walk.loose, damaged, Replaced(walk.added, walk.removed, walk.unsettled))


def described_anew(state: State, stays: Mapping[str, Shard]) -> State:
    """The state with those shards, by name, described and called otherwise: their rows are the same.

    Raises InvariantBroken where two would have one name.
    """
    shards = {
        id_: held if (shard := stays.get(held.name)) is None else replace(held, name=shard.label, shard=shard)
        for id_, held in state.shards.items()
    }
    names = [held.name for held in shards.values() if held.name]
    if len(set(names)) < len(names):
        raise InvariantBroken("every shard of an index has a name of its own")
    return replace(state, shards=shards)


def _is_whole(run: Run) -> bool:
    try:
        run.verify()
    except SourceError:
        return False
    return True


@dataclass(slots=True)
class _Walk:
    """Through both versions of a shard, slice by slice; the tally takes away what it had."""

    layers: list[Layer]
    new: Layer | None
    number: int
    digester: str
    ruled: bool
    followed: bool
    tally: Tally = field(default_factory=Tally)
    duplicates: int = 0
    added: int = 0
    removed: int = 0
    _unsettled: list[U8] = field(default_factory=lambda: [NO_DIGESTS])
    _reasons: Reasons = field(default_factory=Reasons)
    _loose: list[RunRows] = field(default_factory=list)

    @property
    def own_layers(self) -> list[Layer]:
        """Those that have rows of the shard."""
        own = [layer for layer in self.layers if layer.shard in (self.number, None)]
        return own if self.new is None else [*own, self.new]

    @property
    def loose(self) -> RunRows:
        """The rows that are taken from changes, as those of a run."""
        if not self._loose:
            return RunRows(NO_DIGESTS, NO_DIGESTS, NO_LOCATORS)
        rows = RunRows(
            np.concatenate([part.key_digests for part in self._loose]),
            np.concatenate([part.row_digests for part in self._loose]),
            pa.concat_arrays([part.locators for part in self._loose]),
            np.concatenate([part.marks for part in self._loose if part.marks is not None]),
            self._reasons.texts,
        )
        return in_order(rows, self.digester)

    @property
    def unsettled(self) -> dict[bytes, frozenset[bytes]]:
        """Keys that changes and the scan disagree about, with all their locators."""
        keys = distinct(np.concatenate(self._unsettled))
        layers = self.layers if self.new is None else [*self.layers, self.new]
        return locators_of(layers, keys)

    def slice(self, first: int, end: int) -> None:
        """One slice of the key space."""
        had = rows_between(self.layers, first, end, self._reasons, shard=self.number, locators=self.ruled)
        had = netted(had, self.digester, by_shard=False, by_locator=self.ruled)
        had = replace(had, weights=-had.weights)
        k, r, r2 = had.words
        self.tally.add(k, r, r2, had.weights, self.digester)
        self.tally.add_shards(np.full(len(had), self.number, np.int64), r, r2, had.weights)
        self.tally.add_dead(had.reasons, had.weights, self._reasons.texts)
        new = [] if self.new is None else [self.new]
        has = rows_between(new, first, end, self._reasons, locators=self.ruled)
        left = netted(joined([had, has], locators=self.ruled), self.digester, by_shard=False, by_locator=self.ruled)
        self.added += int((left.weights > 0).sum())
        self.removed += int((left.weights < 0).sum())
        if len(left):
            self._settle(left, has)

    def _settle(self, left: Rows, has: Rows) -> None:
        """Duplicates, and rows of changes, under the keys that are not as they were."""
        keys = distinct(left.key_digests)
        held = entries_of(self.layers, keys, self._reasons, locators=self.ruled)
        loose = held.where(held.shards == LOOSE)
        found = _entries(keys, left.take(np.flatnonzero(left.weights > 0)))
        match = difference(loose, found, len(keys))
        before = summed(held.key, held.weights, len(keys))
        after = before + summed(places(keys, left.key_digests), left.weights, len(keys))
        after -= np.bincount(loose.key[match.kept], minlength=len(keys))
        self.duplicates += int((after > 1).sum()) - int((before > 1).sum())
        if len(match.kept):
            self._loose.append(_taken(keys, loose, match.kept))
        of_scan = places(keys, has.key_digests)
        other = np.intersect1d(loose.key[match.taken], of_scan[of_scan >= 0])
        if self.followed:  # a row may have moved: its change was told, and found it as it had been
            gone = places(keys, left.key_digests[left.weights < 0])
            elsewhere = held.where((held.shards != LOOSE) & (held.shards != self.number))
            twice = np.flatnonzero(summed(elsewhere.key, elsewhere.weights, len(keys)) > 0)
            other = np.union1d(np.union1d(other, gone), twice)
        self._unsettled.append(keys[other])


def _entries(keys: U8, rows: Rows) -> Entries:
    r, r2 = row_words(rows.row_digests)
    place = places(keys, rows.key_digests)
    return Entries(place, r, r2, rows.weights, rows.shards, rows.reasons, rows.locators)


def _taken(keys: U8, loose: Entries, which: Ints) -> RunRows:
    locators = [b""] * len(which) if loose.locators is None else loose.locators.take(pa.array(which)).to_pylist()
    return RunRows(
        keys[loose.key[which]],
        digests_of(loose, which),
        pa.array(locators, pa.large_binary()),
        marks(np.full(len(which), LOOSE, np.int64), loose.reasons[which], np.ones(len(which), bool)),
    )
