"""The descent: which keys differ between regions, from digests alone. A state machine without I/O.

    LEVEL ──▶ (SPLIT) ──▶ CHILDREN ──▶ LISTS ──▶ DONE

LEVEL     the roots and the sums of one level (at most 4096 nodes) came with Ready; equal roots end the descent here
SPLIT     only where a region came with a shallower level than another: it is asked for the deeper one
CHILDREN  the mismatching nodes jump to leaves of about 16 rows
LISTS     the mismatching leaves are listed: (k, r, r′) of every row
DONE      the differing keys, and whether they add up to the difference of the roots (the completeness check)

Every region is asked once a round and answers once; a node is followed when any two regions differ in it. A region
whose lists contradict its own sums is named in ``Outcome.broken``: nothing is concluded from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from paritree.core import limits
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import NodeSum, leaf_bits
from paritree.core.messages import AskChildren, AskLists, Ready, U64Array

Row = tuple[int, int]
"""(r, r′) of one row."""
MASK = (1 << 64) - 1


class State(StrEnum):
    LEVEL = "level"
    SPLIT = "split"
    CHILDREN = "children"
    LISTS = "lists"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RowList:
    """All listed rows of one region: k, r and r′, each (n,) uint64."""

    k: U64Array
    r: U64Array
    r2: U64Array


Answer = U64Array | RowList
Round = Mapping[str, AskChildren | AskLists]
"""What to ask of which region; empty when the descent is over."""


@dataclass(frozen=True, slots=True)
class SuspectKey:
    """A k whose rows differ: region -> its rows under that k, sorted; a region without one is not in the mapping."""

    k: int
    rows: Mapping[str, tuple[Row, ...]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a descent: ``broken`` names regions whose answers do not add up, with the reason."""

    suspects: tuple[SuspectKey, ...]
    rounds: int
    broken: Mapping[str, str] = field(default_factory=dict)


class Descent:
    """One descent over N ≥ 2 regions. ``start`` and ``receive`` say what to ask next; ``outcome`` is set at the end."""

    def __init__(self, ready: Mapping[str, Ready]) -> None:
        if len(ready) < limits.REGIONS_MIN:
            raise InvariantBroken("a descent needs two regions")
        self.regions: tuple[str, ...] = tuple(ready)
        self.state = State.LEVEL
        self.rounds = 1
        self.outcome: Outcome | None = None
        self._roots = {name: NodeSum(r.rows, r.root_r, r.root_r2) for name, r in ready.items()}
        self._level_bits = max(r.bits for r in ready.values())
        self._leaf_bits = leaf_bits(max(r.rows for r in ready.values()), limits.LEAF_ROWS, limits.LEAF_BITS_MAX)
        self._level = {name: r.sums for name, r in ready.items() if r.bits == self._level_bits}
        self._asked: U64Array = np.zeros(0, np.uint64)
        self._leaf_sums: dict[str, U64Array] = {}

    def start(self) -> Round:
        """The first requests, or nothing when the roots are equal."""
        if len(set(self._roots.values())) == 1:
            return self._finish((), {})
        for name, root in self._roots.items():
            if root.count == 0 and name not in self._level:
                self._level[name] = np.zeros(1 << self._level_bits, np.uint64)
        shallow = [name for name in self.regions if name not in self._level]
        if shallow:
            self.state = State.SPLIT
            ask = AskChildren(0, self._level_bits, np.zeros(1, np.uint64))
            return self._next_round(dict.fromkeys(shallow, ask))
        return self._descend_level()

    def receive(self, answers: Mapping[str, Answer]) -> Round:
        """Every asked region's answer to the round; the next requests. Raises InvariantBroken for wrong shapes."""
        match self.state:
            case State.SPLIT:
                self._level.update({name: self._sums(name, a, 1 << self._level_bits) for name, a in answers.items()})
                return self._descend_level()
            case State.CHILDREN:
                return self._receive_children(answers)
            case State.LISTS:
                return self._receive_lists(answers)
            case _:
                raise InvariantBroken(f"no answer is expected in state {self.state}")

    def _next_round(self, asks: Round) -> Round:
        self.rounds += 1
        return asks

    def _descend_level(self) -> Round:
        differing = _differing([self._level[name] for name in self.regions])
        if self._leaf_bits <= self._level_bits:
            self._leaf_sums = {name: self._level[name][differing] for name in self.regions}
            return self._ask_lists(self._level_bits, differing.astype(np.uint64))
        self.state = State.CHILDREN
        self._asked = differing.astype(np.uint64)
        if not len(differing):  # the roots differ, their halves' sums do not: nothing to follow, and nothing equal
            return self._receive_lists({name: RowList(*(np.zeros(0, np.uint64),) * 3) for name in self.regions})
        ask = AskChildren(self._level_bits, self._leaf_bits, self._asked)
        return self._next_round(dict.fromkeys(self.regions, ask))

    def _receive_children(self, answers: Mapping[str, Answer]) -> Round:
        fan_out = 1 << (self._leaf_bits - self._level_bits)
        sums = {name: self._sums(name, answers[name], len(self._asked) * fan_out) for name in self.regions}
        for name in self.regions:
            parents = sums[name].reshape(-1, fan_out).sum(axis=1, dtype=np.uint64)
            if (parents != self._level[name][self._asked.astype(np.int64)]).any():
                return self._finish((), {name: "its children do not add up to their parent"})
        differing = _differing([sums[name] for name in self.regions])
        self._leaf_sums = {name: sums[name][differing] for name in self.regions}
        leaves = (self._asked[differing // fan_out] << np.uint64(self._leaf_bits - self._level_bits)) + (
            differing % fan_out
        ).astype(np.uint64)
        return self._ask_lists(self._leaf_bits, leaves)

    def _ask_lists(self, bits: int, leaves: U64Array) -> Round:
        self.state = State.LISTS
        self._asked = leaves
        self._leaf_bits = bits
        if not len(leaves):
            return self._receive_lists({name: RowList(*(np.zeros(0, np.uint64),) * 3) for name in self.regions})
        return self._next_round(dict.fromkeys(self.regions, AskLists(bits, leaves)))

    def _sums(self, region: str, answer: Answer, expected: int) -> U64Array:
        if isinstance(answer, RowList) or len(answer) != expected:
            raise InvariantBroken(f"region {region} answered another question")
        return answer

    def _receive_lists(self, answers: Mapping[str, Answer]) -> Round:
        lists: dict[str, RowList] = {}
        for name in self.regions:
            answer = answers[name]
            if not isinstance(answer, RowList):
                raise InvariantBroken(f"region {name} answered another question")
            if not self._lists_add_up(name, answer):
                return self._finish((), {name: "its rows do not add up to their leaf"})
            lists[name] = answer
        suspects = _suspects(lists)
        return self._finish(suspects, self._incomplete(suspects))

    def _lists_add_up(self, region: str, rows: RowList) -> bool:
        if not len(self._asked):
            return not len(rows.k)
        leaf = rows.k >> np.uint64(64 - self._leaf_bits) if self._leaf_bits else np.zeros_like(rows.k)
        position = np.searchsorted(self._asked, leaf)
        if len(leaf) and (position.max() >= len(self._asked) or (self._asked[position] != leaf).any()):
            return False
        sums = np.zeros(len(self._asked), np.uint64)
        np.add.at(sums, position, rows.r)
        return bool((sums == self._leaf_sums[region]).all())

    def _incomplete(self, suspects: Sequence[SuspectKey]) -> dict[str, str]:
        """The completeness check: the found deltas explain the difference of the roots, in count, Σr and Σr′."""
        found = {name: NodeSum(0, 0, 0) for name in self.regions}
        for suspect in suspects:
            for name, rows in suspect.rows.items():
                total = found[name]
                found[name] = NodeSum(
                    total.count + len(rows),
                    (total.r + sum(r for r, _ in rows)) & MASK,
                    (total.r2 + sum(r2 for _, r2 in rows)) & MASK,
                )
        reference = self.regions[0]
        return {
            name: "the differences that were found do not add up to the difference of the roots"
            for name in self.regions[1:]
            if found[name].minus(found[reference]) != self._roots[name].minus(self._roots[reference])
        }

    def _finish(self, suspects: tuple[SuspectKey, ...], broken: Mapping[str, str]) -> Round:
        self.state = State.DONE
        self.outcome = Outcome(suspects, self.rounds, broken)
        return {}


def _differing(arrays: Sequence[U64Array]) -> NDArray[np.int64]:
    """The positions at which any array differs from the first."""
    differs = np.zeros(len(arrays[0]), bool)
    for array in arrays[1:]:
        differs |= array != arrays[0]
    return np.flatnonzero(differs)


def _suspects(lists: Mapping[str, RowList]) -> tuple[SuspectKey, ...]:
    """The keys whose rows are not the same multiset in every region."""
    total: dict[int, dict[str, list[Row]]] = {}
    for k in _differing_ks(list(lists.values())).tolist():
        total[k] = {}
    for name, rows in lists.items():
        chosen = np.isin(rows.k, np.fromiter(total, np.uint64, len(total)))
        columns = (rows.k[chosen].tolist(), rows.r[chosen].tolist(), rows.r2[chosen].tolist())
        for k, r, r2 in zip(*columns, strict=True):
            total[k].setdefault(name, []).append((r, r2))
    return tuple(
        SuspectKey(k, {name: tuple(sorted(found)) for name, found in by_region.items()})
        for k, by_region in sorted(total.items())
    )


def _differing_ks(lists: Sequence[RowList]) -> U64Array:
    """k of every row that some region lacks: rows present in each region equally often are dropped."""
    columns = [np.stack([rows.k, rows.r, rows.r2], axis=1) for rows in lists]
    everything, inverse = np.unique(np.concatenate(columns), axis=0, return_inverse=True)
    counts = np.zeros((len(lists), len(everything)), np.int64)
    start = 0
    for region, rows in enumerate(columns):
        np.add.at(counts[region], inverse[start : start + len(rows)].reshape(-1), 1)
        start += len(rows)
    differs = (counts != counts[0]).any(axis=0)
    return np.unique(everything[differs, 0])
