"""The descent: which keys differ between regions, from digests alone. A state machine without I/O.

              ┌──────────────────▶ DETAIL ──▶ DONE
    PROBE ────┼─▶ SKETCH ────────────▲ │
              ├─▶ LEVEL ▶ CHILDREN ▶ LISTS ◀┘
              └────────────────────────▲

PROBE     roots and probes came with Ready; equal roots end the descent here. Every region is subtracted from a
          reference region and peeled; where that comes out clean, the differing keys are known
SKETCH    the regions that did not come clean, and the reference, send a sketch sized from the probes' estimate, and
          where that does not come clean one with another salt, which is solved together with it
LEVEL     by sums, where so much differs that no sketch fits, or where two failed: at most 4096 nodes of a level
CHILDREN  the mismatching nodes jump to leaves of about 16 rows
LISTS     the mismatching leaves (or everything, where most of it differs) are listed: (k, r, r′) of every row
DETAIL    every region shows its rows under the differing keys, which is also the first look at them
DONE      the differing keys add up to the difference of the roots in count, Σr and Σr′ (the completeness check)

Where they do not add up, the regions are sketched once more with another salt, then listed, and then nothing is
concluded from them. A region whose answers contradict its own sums is named in ``Outcome.broken``. Regions with equal
roots are asked once for all; details are asked of everyone. Regions that turn out to differ in more keys than can be
looked at, or whose lists would not fit, are named in ``Outcome.crowded``: they are sampled instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

import numpy as np

from paritree.core import limits
from paritree.core.columnplan import ColumnPlan
from paritree.core.copies import counted
from paritree.core.errors import InvariantBroken
from paritree.core.explaining import place, rows_listed, rows_shown, unlike
from paritree.core.leaves import U64, NodeSum, NodeSums
from paritree.core.listing import RowList, differing, differing_ks, not_adding_up
from paritree.core.looks import first_asks
from paritree.core.looktable import HALF_BYTES
from paritree.core.messages import AskChildren, AskDetail, AskLists, AskSketch, Look, Ready
from paritree.core.pairs import Pair, closest
from paritree.core.planner import Form, Shape, plan, sketch_bytes
from paritree.core.sketch import Sketch, mix

MASK: Final = (1 << 64) - 1
INCOMPLETE: Final = "the differences that were found do not add up to the difference of the roots"
UNLISTED: Final = "the rows that it shows are not those that were listed"
SKETCHES_MAX: Final = 2
"""Sized sketches before lists. Half the cells once more, solved jointly, do for a tenth more keys than the first."""
_TOP: Final = np.zeros(1, np.uint64)
"""The root, as the only node of depth 0."""


class State(StrEnum):
    PROBE = "probe"
    SKETCH = "sketch"
    LEVEL = "level"
    CHILDREN = "children"
    LISTS = "lists"
    DETAIL = "detail"
    DONE = "done"


Ask = AskChildren | AskLists | AskSketch | AskDetail
Answer = U64 | NodeSums | RowList | Sketch | tuple[Look, ...]
"""Σr of children, with counts or without, rows, a sketch, looks: what answers each kind of request."""
Round = Mapping[str, Ask]
"""What to ask of which region; empty when the descent is over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a descent.

    ``ks`` are the k under which regions differ and ``looks`` every region's first look at them; both are empty when
    ``broken`` names regions whose answers do not add up, with the reason, or ``crowded`` those to be sampled.
    """

    ks: tuple[int, ...]
    looks: Mapping[str, tuple[Look, ...]]
    rounds: int
    broken: Mapping[str, str] = field(default_factory=dict)
    crowded: tuple[str, ...] = ()


class Descent:
    """One descent over N ≥ 2 regions. ``start`` and ``receive`` say what to ask next; ``outcome`` is set at the end.

    ``sealing`` names regions whose policy lets keys travel sealed, ``salt`` (u64) seeds the sketches, ``columns`` says
    what the first look asks for. ``spent`` bytes went into sized sketches in earlier descents of the sweep.
    """

    def __init__(
        self,
        ready: Mapping[str, Ready],
        *,
        sealing: Sequence[str] = (),
        salt: int = 1,
        columns: ColumnPlan | None = None,
        spent: int = 0,
    ) -> None:
        if len(ready) < limits.REGIONS_MIN:
            raise InvariantBroken("a descent needs two regions")
        self.regions: tuple[str, ...] = tuple(ready)
        self.state = State.PROBE
        self.rounds = 1
        self.outcome: Outcome | None = None
        self.forms: list[Form] = []
        self._ready = ready
        self._sealing = tuple(sealing)
        self._columns = columns
        self._salt = mix(salt)
        self._roots = {name: NodeSum(r.rows, r.root_r, r.root_r2) for name, r in ready.items()}
        self._reference = ""
        self._pairs: dict[str, Pair] = {}
        self._open: list[str] = []
        self._listed: set[int] = set()
        self._in_lists: set[str] = set()
        self._lists: dict[str, RowList] = {}
        self._asked_again = False
        self._unsolved = 0
        self._sketch_bytes = spent
        self._shape = Shape(0, 0)
        self._nodes: U64 = _TOP
        self._node_bits = 0
        self._node_sums: dict[str, U64] = {}

    def start(self) -> Round:
        """The first requests, or nothing when the roots are equal."""
        if len(set(self._roots.values())) == 1:
            return self._finish()
        for name, ready in self._ready.items():
            if not ready.probe.sketch.adds_up_to(ready.root_r):
                return self._broken({name: "its probe does not add up to its root: all keys"})
        probes = {name: ready.probe for name, ready in self._ready.items()}
        self._reference = closest(probes, {name: ready.rows for name, ready in self._ready.items()})
        seen = {self._roots[self._reference]}
        for name in self.regions:
            if self._roots[name] not in seen:
                seen.add(self._roots[name])
                self._pairs[name] = Pair(probes[name], probes[self._reference])
        self._open = [name for name, pair in self._pairs.items() if not pair.decoded.complete]
        return self._resolve(may_sketch=True)

    def receive(self, answers: Mapping[str, Answer]) -> Round:
        """Every asked region's answer to the round; the next requests. Raises InvariantBroken for wrong shapes."""
        match self.state:
            case State.SKETCH:
                return self._receive_sketches(answers)
            case State.LEVEL:
                return self._receive_sums(answers, self._shape.level_bits)
            case State.CHILDREN:
                return self._receive_sums(answers, self._shape.leaf_bits)
            case State.LISTS:
                return self._receive_lists(answers)
            case State.DETAIL:
                return self._receive_details(answers)
            case _:
                raise InvariantBroken(f"no answer is expected in state {self.state}")

    # --- what to ask ------------------------------------------------------------------------------------------------

    @property
    def _involved(self) -> list[str]:
        """The regions that did not come clean, and the one that they are compared with."""
        return [self._reference, *self._open]

    def _ask(self, state: State, ask: Ask) -> Round:
        self.state = state
        self.rounds += 1
        return dict.fromkeys(self._involved, ask)

    def _resolve(self, *, may_sketch: bool) -> Round:
        if not self._open:
            return self._ask_details()
        rows = [self._roots[name].count for name in self._involved]
        estimate = max(self._pairs[name].estimate for name in self._open)
        at_most = max(self._pairs[name].at_most for name in self._open) / (1 + self._unsolved)
        chosen = plan(estimate, at_most, rows, self._sketch_bytes, may_sketch=may_sketch)
        self.forms.append(chosen.form)
        self._shape = Shape.of(max(rows))
        self._nodes, self._node_bits = _TOP, 0
        self._node_sums = {name: np.array([self._roots[name].r], np.uint64) for name in self._involved}
        match chosen.form:
            case Form.SKETCH:
                self._sketch_bytes += sketch_bytes(chosen.cells)
                self._salt = mix(self._salt)
                return self._ask(State.SKETCH, AskSketch(chosen.cells, self._salt, 0, _TOP))
            case Form.TREE:
                return self._ask(State.LEVEL, AskChildren(0, self._shape.level_bits, _TOP))
            case Form.LIST if max(rows) > limits.LISTED_ROWS_MAX:
                return self._crowded(self._open)
            case Form.LIST:
                return self._ask(State.LISTS, AskLists(0, _TOP))

    def _ask_details(self) -> Round:
        ks = self._ks
        if not ks:  # the roots differ and nothing that differs was found
            return self._receive_details(dict.fromkeys(self.regions, ()))
        if len(ks) > 2 * limits.SUSPECTS_MAX:
            return self._crowded(self._in_lists or self._largest())
        self.state = State.DETAIL
        self.rounds += 1
        return first_asks(ks, self.regions, self._sealing, self._columns, halves=self._solved)

    @property
    def _solved(self) -> bool:
        """Whether sketches told of all regions how the differing keys' Σr differ: then r′ tells rows apart as well."""
        return not self._in_lists and all(pair.decoded.complete for pair in self._pairs.values())

    @property
    def _ks(self) -> list[int]:
        decoded = (pair.ks for name, pair in self._pairs.items() if name not in self._in_lists)
        return sorted(self._listed.union(*decoded))

    def _largest(self) -> list[str]:
        """The regions with the most differing keys, without which the others' can be looked at."""
        total = 0
        crowded: list[str] = []
        for name in sorted(self._pairs, key=lambda name: len(self._pairs[name].ks)):
            total += len(self._pairs[name].ks)
            if total > limits.SUSPECTS_MAX:
                crowded.append(name)
        return crowded

    def _may_list(self, nodes: int, bits: int) -> bool:
        """Whether so many nodes of that depth can be followed: their leaves' Σr, 8 bytes each, or their rows."""
        if bits < self._shape.leaf_bits:
            return nodes << (self._shape.leaf_bits - bits) <= 3 * limits.LISTED_ROWS_MAX
        return nodes * limits.LEAF_ROWS <= limits.LISTED_ROWS_MAX

    # --- what was answered ------------------------------------------------------------------------------------------

    def _receive_sketches(self, answers: Mapping[str, Answer]) -> Round:
        sketches: dict[str, Sketch] = {}
        for name in self._involved:
            answer = answers[name]
            if not isinstance(answer, Sketch) or answer.salt != self._salt:
                raise _other_question(name)
            if not answer.adds_up_to(self._roots[name].r):
                return self._broken({name: "its sketch does not add up to its root: all keys"})
            sketches[name] = answer
        for name in self._open:
            self._pairs[name].add(sketches[name], sketches[self._reference])
        self._open = [name for name in self._open if not self._pairs[name].decoded.complete]
        self._unsolved += bool(self._open)
        return self._resolve(may_sketch=self._unsolved < SKETCHES_MAX)

    def _receive_sums(self, answers: Mapping[str, Answer], bits: int) -> Round:
        fan_out = 1 << (bits - self._node_bits)
        sums: dict[str, U64] = {}
        for name in self._involved:
            answer = answers[name]
            if not isinstance(answer, np.ndarray) or len(answer) != len(self._nodes) * fan_out:
                raise _other_question(name)
            wrong = answer.reshape(-1, fan_out).sum(axis=1, dtype=np.uint64) != self._node_sums[name]
            if wrong.any():
                where = place(self._nodes[wrong].tolist(), self._node_bits)
                return self._broken({name: f"its children do not add up to their parent: {where}"})
            sums[name] = answer
        at = differing([sums[name] for name in self._involved])
        self._nodes = self._nodes[at // fan_out] * np.uint64(fan_out) + (at % fan_out).astype(np.uint64)
        self._node_sums = {name: sums[name][at] for name in self._involved}
        self._node_bits = bits
        if not len(at):  # the roots differ, their nodes' Σr do not: nothing to follow, and nothing equal
            return self._listed_all([])
        if not self._may_list(len(at), bits):
            return self._crowded(self._open)
        if bits < self._shape.leaf_bits:
            return self._ask(State.CHILDREN, AskChildren(bits, self._shape.leaf_bits, self._nodes))
        return self._ask(State.LISTS, AskLists(bits, self._nodes))

    def _receive_lists(self, answers: Mapping[str, Answer]) -> Round:
        lists: list[RowList] = []
        for name in self._involved:
            answer = answers[name]
            if not isinstance(answer, RowList):
                raise _other_question(name)
            wrong = not_adding_up(answer, self._node_bits, self._nodes, self._node_sums[name])
            if len(wrong):
                where = place(wrong.tolist(), self._node_bits)
                return self._broken({name: f"its rows do not add up to their leaf: {where}"})
            lists.append(answer)
        ks = differing_ks(lists)
        self._lists = {
            name: rows.only(np.array(ks, np.uint64)) for name, rows in zip(self._involved, lists, strict=True)
        }
        return self._listed_all(ks)

    def _listed_all(self, ks: Sequence[int]) -> Round:
        self._listed.update(ks)
        self._in_lists.update(self._open)
        self._open = []
        return self._ask_details()

    def _receive_details(self, answers: Mapping[str, Answer]) -> Round:
        looks: dict[str, tuple[Look, ...]] = {}
        asked = set(self._ks)
        for name in self.regions:
            answer = answers[name]
            if not isinstance(answer, tuple):
                raise _other_question(name)
            if not asked.issuperset(ks_of(answer)):
                return self._broken({name: "it showed keys that it was not asked for"})
            looks[name] = answer
        wrong = self._incomplete(looks)
        if not wrong:
            return self._finish(tuple(self._ks), looks)
        self._open = [name for name in self._pairs if name in wrong and name not in self._in_lists]
        if not self._open:
            return self._broken(self._liars(looks) or dict.fromkeys(self._blamed(wrong), f"{INCOMPLETE}: all keys"))
        may_sketch, self._asked_again = not self._asked_again, True
        return self._resolve(may_sketch=may_sketch)

    def _incomplete(self, looks: Mapping[str, Sequence[Look]]) -> list[str]:
        """The regions whose shown rows do not explain how their root differs from the reference's.

        Where sketches were solved, the differences that they found add up in Σr already.
        """
        shown = {name: shown_sum(looks[name]) for name in self.regions}
        reference, wrong = self._reference, []
        for name in self.regions:
            told, needed = shown[name].minus(shown[reference]), self._roots[name].minus(self._roots[reference])
            if (replace(told, r=needed.r) if self._solved else told) != needed:
                wrong.append(name)
        return wrong

    def _liars(self, looks: Mapping[str, Sequence[Look]]) -> dict[str, str]:
        """The regions that show other rows than they listed, or than the listed region that has their root."""
        liars: dict[str, str] = {}
        for name in self.regions:
            listed = next((self._lists[other] for other in (name, *self._twins(name)) if other in self._lists), None)
            if listed is not None and (ks := unlike(rows_shown(looks[name]), rows_listed(listed)) & self._listed):
                liars[name] = f"{UNLISTED}: {place(ks)}"
        return liars

    def _twins(self, region: str) -> list[str]:
        return [name for name in self.regions if self._roots[name] == self._roots[region] and name != region]

    def _blamed(self, wrong: Sequence[str]) -> Sequence[str]:
        """The reference where it agrees with nobody, else those that do not agree with it."""
        return [self._reference] if len(wrong) == len(self.regions) - 1 > 1 else wrong

    def _broken(self, broken: Mapping[str, str]) -> Round:
        self.state = State.DONE
        self.outcome = Outcome((), {}, self.rounds, broken)
        return {}

    def _crowded(self, regions: Collection[str]) -> Round:
        self.state = State.DONE
        self.outcome = Outcome((), {}, self.rounds, crowded=tuple(regions))
        return {}

    def _finish(self, ks: tuple[int, ...] = (), looks: Mapping[str, tuple[Look, ...]] | None = None) -> Round:
        self.state = State.DONE
        self.outcome = Outcome(ks, looks or {}, self.rounds)
        return {}


def ks_of(looks: Sequence[Look]) -> list[int]:
    """The k of each look."""
    return [int.from_bytes(look.key_digest[:8], "big") for look in looks]


def shown_sum(looks: Sequence[Look]) -> NodeSum:
    """Count, Σr and Σr′ of the indexed rows that a region showed; r counts as 0 where it was left out."""
    count = r = r2 = 0
    for look in looks:
        for digest, copies in counted(look.indexed):
            count += copies
            r += copies * int.from_bytes(digest[:-HALF_BYTES], "little")
            r2 += copies * int.from_bytes(digest[-HALF_BYTES:], "little")
    return NodeSum(count, r & MASK, r2 & MASK)


def _other_question(region: str) -> InvariantBroken:
    return InvariantBroken(f"region {region} answered another question")
