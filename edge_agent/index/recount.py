"""Everything that an index maintains, computed anew from its runs: what maintained sums have to equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_agent.index.entries import Ints
from edge_agent.index.layers import Layer
from edge_agent.index.marks import Reasons
from edge_agent.index.slices import Rows, netted, rows_between, slices
from edge_agent.index.state import Fault, State
from edge_agent.index.tally import Tally, counted
from paritree.core.leaves import NodeSum


@dataclass(slots=True)
class Recounted:
    """A tally of all rows, and how many keys occur repeatedly."""

    tally: Tally = field(default_factory=Tally)
    duplicates: int = 0

    def differs(self, state: State) -> str:
        """What of a state is not as it was counted here; "" where all is."""
        sums, kept = self.tally.sums, state.sums
        pairs = ((sums.counts, kept.counts), (sums.r, kept.r), (sums.r2, kept.r2))
        if not all(np.array_equal(a, b) for a, b in pairs):
            return "its sums are not those of its rows"
        probe = self.tally.probe
        if not np.array_equal(probe.sketch.sums, state.probe.sketch.sums) or not np.array_equal(
            probe.pulls, state.probe.pulls
        ):
            return "its probe is not that of its rows"
        for shard in state.shards.values():
            if self.tally.shards.get(shard.id, NodeSum(0, 0, 0)) != shard.sum:
                return f"the sum of {shard.name or 'changed rows'} is not that of its rows"
        if counted(self.tally.dead, {}) != dict(state.dead):
            return "its dead letters are not counted right"
        if self.duplicates != state.duplicates:
            return "its duplicate keys are not counted right"
        return ""


def recount(layers: Sequence[Layer], digester: str, *, ruled: bool) -> Recounted:
    """Count all rows of the layers. Raises SourceError for a run that cannot be read."""
    out = Recounted()
    reasons = Reasons()
    for rows in _slices(layers, reasons, digester, ruled):
        k, r, r2 = rows.words
        out.tally.add(k, r, r2, rows.weights, digester)
        out.tally.add_shards(rows.shards, r, r2, rows.weights)
        out.tally.add_dead(rows.reasons, rows.weights, reasons.texts)
        out.duplicates += repeated_keys(rows)
    return out


def _slices(layers: Sequence[Layer], reasons: Reasons, digester: str, ruled: bool) -> Iterator[Rows]:
    for first, end in slices(layers):
        rows = rows_between(layers, first, end, reasons, locators=ruled)
        yield netted(rows, digester, by_shard=True, by_locator=ruled)


def repeated_keys(rows: Rows) -> int:
    """How many keys have more than one of these rows, which are sorted."""
    counts = key_counts(rows)
    return int((counts > 1).sum())


def key_counts(rows: Rows) -> Ints:
    """How many rows each key has, in the order of the keys; rows are sorted."""
    if not len(rows):
        return np.zeros(0, np.int64)
    words = np.ascontiguousarray(rows.key_digests).view(np.uint64).reshape(-1, 2)
    starts = np.flatnonzero(np.append(True, (words[1:] != words[:-1]).any(axis=1)))
    counts: Ints = np.add.reduceat(rows.weights, starts)
    return counts


def recounted(state: State, counted_anew: Recounted, now: float, *, replaced: Iterable[str]) -> State:
    """The state with what was counted; a shard that was not replaced and yet has another sum is in doubt."""
    known = {shard.name for shard in state.shards.values()} - set(replaced)
    sums = {id_: counted_anew.tally.shards.get(id_, NodeSum(0, 0, 0)) for id_ in state.shards}
    odd = [shard.name for shard in state.shards.values() if shard.name in known and shard.sum != sums[shard.id]]
    return dataclasses.replace(
        state,
        shards={id_: dataclasses.replace(shard, sum=sums[id_]) for id_, shard in state.shards.items()},
        sums=counted_anew.tally.sums,
        probe=counted_anew.tally.probe,
        dead=counted(counted_anew.tally.dead, {}),
        duplicates=counted_anew.duplicates,
        faults=(*state.faults, *(Fault(name, "its rows are not those that were counted", now) for name in odd)),
    )
