"""A sample of regions that differ in too many keys: all keys that differ below one node. A state machine without I/O.

    LEVEL ──▶ LISTS ──▶ DETAIL ──▶ DONE
      └─▶ ... LEVEL

LEVEL     counts and Σr of the nodes of a level; the nodes that differ tell the range, one of them is taken by chance,
          and again below it until about limits.SAMPLE_KEYS keys differ there
LISTS     (k, r, r′) of every row below the node
DETAIL    every region shows its rows under the differing keys, which is also the first look at them

What a region sends must add up: counts and Σr of children to their parent, lists to their node, shown rows to the
listed ones in count, Σr and Σr′. A region whose answers do not is named in ``Sampled.broken``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from paritree.core import limits
from paritree.core.columnplan import ColumnPlan
from paritree.core.descent import Answer, Round, ks_of, shown_sum
from paritree.core.errors import InvariantBroken
from paritree.core.findings import Judged
from paritree.core.leaves import NodeSum, NodeSums
from paritree.core.listing import RowList, differing, differing_ks, not_adding_up
from paritree.core.looks import first_asks
from paritree.core.messages import AskChildren, AskLists, Look, Ready
from paritree.core.node import Node, common
from paritree.core.planner import Shape
from paritree.core.ranges import Apart, RangeFinding
from paritree.core.sketch import mix

Positions = NDArray[np.signedinteger]


class Stage(StrEnum):
    LEVEL = "level"
    LISTS = "lists"
    DETAIL = "detail"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Sampled:
    """The range that differs, its ``rows`` by region, and below ``sample`` the differing keys and the first looks.

    ``ks`` is empty where ``broken`` names regions whose answers do not add up, and where nothing differed in what was
    sampled.
    """

    node: Node
    rows: Mapping[str, int]
    sample: Node
    ks: tuple[int, ...]
    looks: Mapping[str, tuple[Look, ...]]
    rounds: int
    broken: Mapping[str, str] = field(default_factory=dict)


class Sampling:
    """One sample over the reference and the regions that are apart. ``start`` and ``receive`` as in a descent.

    ``salt`` (u64) chooses the node; ``sealing`` and ``columns`` are those of a descent.
    """

    def __init__(
        self,
        ready: Mapping[str, Ready],
        apart: Apart,
        *,
        sealing: Sequence[str] = (),
        salt: int = 1,
        columns: ColumnPlan | None = None,
    ) -> None:
        self.regions = apart.regions
        self.stage = Stage.LEVEL
        self.rounds = 0
        self.outcome: Sampled | None = None
        self._sealing = tuple(name for name in sealing if name in apart.regions)
        self._columns = columns
        self._salt = mix(salt)
        self._differing = float(apart.most)
        self._parent = {name: NodeSum(r.rows, r.root_r, 0) for name, r in ready.items() if name in apart.regions}
        self._rows = {name: sums.count for name, sums in self._parent.items()}
        self._node = Node()
        self._narrowing = True
        self._sample = Node()
        self._to_bits = max(1, Shape.of(max(self._rows.values())).level_bits)
        self._lists: dict[str, RowList] = {}
        self._ks: list[int] = []

    def start(self) -> Round:
        """The first requests."""
        return self._ask_level()

    def receive(self, answers: Mapping[str, Answer]) -> Round:
        """Every region's answer to the round; the next requests. Raises InvariantBroken for wrong shapes."""
        match self.stage:
            case Stage.LEVEL:
                return self._receive_level(answers)
            case Stage.LISTS:
                return self._receive_lists(answers)
            case Stage.DETAIL:
                return self._receive_details(answers)
            case _:
                raise InvariantBroken(f"no answer is expected at stage {self.stage}")

    # --- levels -----------------------------------------------------------------------------------------------------

    def _ask_level(self) -> Round:
        self.stage = Stage.LEVEL
        self.rounds += 1
        prefixes = np.array([self._sample.prefix], np.uint64)
        return dict.fromkeys(self.regions, AskChildren(self._sample.bits, self._to_bits, prefixes, counts=True))

    def _receive_level(self, answers: Mapping[str, Answer]) -> Round:
        levels: dict[str, NodeSums] = {}
        for name in self.regions:
            level = answers[name]
            if not isinstance(level, NodeSums) or len(level.r) != 1 << (self._to_bits - self._sample.bits):
                raise _other_question(name)
            if level.total != self._parent[name] or int(level.counts.max()) > self._parent[name].count:
                return self._broken(name, f"its children do not add up to their parent: {self._sample.said}")
            levels[name] = level
        by_sum = differing([level.r for level in levels.values()])
        at = np.union1d(by_sum, differing([level.counts for level in levels.values()]))
        if not len(at):
            return self._finish()
        if self._narrowing:
            self._narrow(levels, at)
        return self._choose(levels, at)

    def _narrow(self, levels: Mapping[str, NodeSums], at: Positions) -> None:
        """The range is what lies above all nodes that differ; where one does alone, the level below tells more."""
        first = self._sample.prefix << (self._to_bits - self._sample.bits)
        self._node = common([first + int(at[0]), first + int(at[-1])], self._to_bits)
        below = self._to_bits - self._node.bits
        low = (self._node.prefix << below) - first
        self._rows = {name: level.rows(slice(low, low + (1 << below))) for name, level in levels.items()}
        self._narrowing = len(at) == 1

    def _choose(self, levels: Mapping[str, NodeSums], at: Positions) -> Round:
        """Take a node by chance: larger or smaller than those of the level, so that about enough keys differ in it."""
        first = self._sample.prefix << (self._to_bits - self._sample.bits)
        self._salt = mix(self._salt)
        chosen = int(at[self._salt % len(at)])
        self._differing /= len(at)
        rows = max(int(level.counts[chosen]) for level in levels.values())
        up = min(_levels(limits.SAMPLE_KEYS / self._differing), _levels(limits.SAMPLE_ROWS_MAX / max(rows, 1)))
        up = min(up, self._to_bits - max(self._node.bits, self._sample.bits))
        low = chosen >> up << up
        window = slice(low, low + (1 << up))
        self._sample = Node((first + low) >> up, self._to_bits - up)
        self._parent = {name: level.sum_of(window) for name, level in levels.items()}
        down = max(_levels(self._differing / limits.SAMPLE_KEYS), _levels(rows / limits.SAMPLE_ROWS_MAX, up=True))
        if down and self._to_bits < limits.LEAF_BITS_MAX:
            self._to_bits = min(self._to_bits + min(down, limits.LEVEL_BITS_MAX), limits.LEAF_BITS_MAX)
            return self._ask_level()
        self.stage = Stage.LISTS
        self.rounds += 1
        ask = AskLists(self._sample.bits, np.array([self._sample.prefix], np.uint64))
        return dict.fromkeys(self.regions, ask)

    # --- lists and details ------------------------------------------------------------------------------------------

    def _receive_lists(self, answers: Mapping[str, Answer]) -> Round:
        for name in self.regions:
            listed = answers[name]
            if not isinstance(listed, RowList):
                raise _other_question(name)
            sums = self._parent[name]
            below = np.array([self._sample.prefix], np.uint64)
            wrong = not_adding_up(listed, self._sample.bits, below, np.array([sums.r], np.uint64))
            if len(wrong) or len(listed.k) != sums.count:
                return self._broken(name, f"its rows do not add up to their node: {self._sample.said}")
            self._lists[name] = listed
        self._ks = differing_ks(list(self._lists.values()))
        if not self._ks:
            return self._finish()
        self.stage = Stage.DETAIL
        self.rounds += 1
        return first_asks(self._ks, self.regions, self._sealing, self._columns)

    def _receive_details(self, answers: Mapping[str, Answer]) -> Round:
        looks: dict[str, tuple[Look, ...]] = {}
        asked = np.array(self._ks, np.uint64)
        for name in self.regions:
            answer = answers[name]
            if not isinstance(answer, tuple):
                raise _other_question(name)
            if not set(self._ks).issuperset(ks_of(answer)):
                return self._broken(name, "it showed keys that it was not asked for")
            if shown_sum(answer) != self._lists[name].only(asked).total:
                return self._broken(name, f"the rows that it shows are not those that it listed: {self._sample.said}")
            looks[name] = answer
        return self._finish(tuple(self._ks), looks)

    def _broken(self, name: str, reason: str) -> Round:
        return self._finish(broken={name: reason})

    def _finish(
        self,
        ks: tuple[int, ...] = (),
        looks: Mapping[str, tuple[Look, ...]] | None = None,
        broken: Mapping[str, str] | None = None,
    ) -> Round:
        self.stage = Stage.DONE
        self.outcome = Sampled(self._node, self._rows, self._sample, ks, looks or {}, self.rounds, broken or {})
        return {}


def _levels(ratio: float, *, up: bool = False) -> int:
    """How many halvings a ratio is, rounded down, or up; 0 below one."""
    if ratio <= 1:
        return 0
    whole = int(np.ceil(np.log2(ratio)) if up else np.floor(np.log2(ratio)))
    return max(0, whole)


def _other_question(region: str) -> InvariantBroken:
    return InvariantBroken(f"region {region} answered another question")


def range_finding(apart: Apart, sampled: Sampled, judged: Judged) -> RangeFinding:
    """What was found of a range whose sample was judged."""
    return RangeFinding(apart, sampled.node, sampled.rows, sampled.sample, len(sampled.ks), judged)
