"""The shards of a plan, read in snapshots that are never held longer than a limit.

One snapshot over all shards is the rule. Where the limit passes first, the plan is renewed: the same shards over the
table as it is by then. A row that was updated in between may have moved from a block that is still to be read to one
that has been, and nobody would have seen it. So further passes read, of every shard, the rows that changed since the
snapshot in which it was last read, until a pass ends in one snapshot::

    shards     0    1    2    3    4          every row of snapshot C was read: in the pass before,
    pass 1    |--- A ---|---- B -----|        or, where it came later, in the last one
    pass 2    |-C: changed since A, B|

Rows that were read in two versions, or twice, are duplicates: suspects that are looked at again. An old snapshot is
given up as soon as no shard under way needs it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from edge_agent.connections import Connections
from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.executors import Executor
from paritree.core.errors import SourceError

PASSES_MAX: Final = 4
"""The first reads everything, later ones only what changed, a pass of blocks that sends next to nothing."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Marked:
    """Work on a task that remembers the number of its plan; picklable."""

    work: Callable[[Any], Any]

    def __call__(self, task: tuple[int, Any]) -> tuple[int, Any]:
        return task[0], self.work(task[1])


@dataclass(frozen=True, slots=True)
class Past:
    """What was read before: the ``plans`` by which, ``read_in`` the number of the plan for each shard that was.

    ``passes`` have numbers of shards already. ``told``: what changes in a shard that was read, by whomever, is told
    otherwise, so that each is read once.
    """

    plans: Sequence[Plan] = ()
    read_in: Mapping[int, int] = field(default_factory=dict)
    passes: int = 0
    told: bool = False


class Snapshots(Generic[Result]):
    """All shards of ``plan``, which it renews and closes. Use it as a context.

    ``past`` is what an earlier process has read; then only what is missing, or has changed since, is read.
    """

    def __init__(
        self,
        plan: Plan,
        max_s: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        past: Past | None = None,
    ) -> None:
        past = past or Past()
        self._plans = [*past.plans, plan]
        self._first_pass = past.passes + 1
        self._max_s = max_s
        self._clock = clock
        self._taken_at = clock()
        self._under_way: Counter[int] = Counter()
        self._read_in: dict[int, int] = dict(past.read_in)
        self._told = past.told
        self._closing = ExitStack()
        self._closing.enter_context(plan)
        self.given = 0
        self.passes = 0
        self.read_by = 0
        """The number of the plan by which the newest result was read."""
        self.kept = len(past.read_in)
        self._due_at_first = sum(1 for number in range(len(plan.shards)) if self._due(number) is not None)

    def __enter__(self) -> Snapshots[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def total(self) -> int:
        """Tasks of the passes that have begun, and what an earlier process has read."""
        further = max(0, self.passes - self._first_pass)
        return self.kept + self._due_at_first + len(self._plans[0].shards) * further

    @property
    def plans(self) -> Sequence[Plan]:
        """All plans by number."""
        return self._plans

    def results(
        self,
        executor: Executor,
        work: Callable[[Any], Result],
        task_of: Callable[[Shard], Any],
        *,
        connections: Connections,
        before: Callable[[Callable[[], None]], None],
    ) -> Generator[Result, None, None]:
        """The results of all shards' tasks. ``before`` is called before each, with what it has to call while it waits.

        Shards of later passes have numbers of their own. Raises SourceError, also where snapshots do not suffice.
        """
        first_pass = self._first_pass
        for self.passes in range(first_pass, first_pass + PASSES_MAX):
            if self.passes > self._first_pass:
                self._renew()
            first = len(self._plans)
            tasks = self._tasks(task_of, before)
            for plan, result in executor.map(Marked(work), tasks, connections):
                self._under_way[plan] -= 1
                self._close_unused()
                self.read_by = plan
                yield result
            if lost := self._under_way.total() + sum(1 for _ in tasks):
                raise SourceError(f"{lost} of {len(self._plans[0].shards)} shards gave no answer", retryable=True)
            if len(self._plans) == first:
                return
            if self.passes == self._first_pass and not self._movable():
                return
        raise SourceError(
            f"the table could not be read in snapshots of {self._max_s:g} s: reading what had changed took longer",
            next_step="raise snapshot_max_s, or max_rate_rows_s, in [throttle]",
        )

    def position(self) -> Position:
        """The plan's position, or an interval from the first snapshot to the last."""
        if len(self._plans) == 1:
            return self._plans[0].position()
        return Position(f"{self._plans[0].position().text} .. {self._plans[-1].position().text}", point=False)

    def note(self) -> str:
        """A sentence for the report, "" where one snapshot was enough."""
        went_on = f"{self.kept} of {len(self._plans[0].shards)} shards had been read before the scan was interrupted"
        said = [went_on] if self.kept else []
        if len(self._plans) > 1:
            held = "" if self._max_s is None else f", none for longer than {self._max_s:g} s and the shards under way "
            limit = "" if self._max_s is None else "(snapshot_max_s)"
            said.append(
                f"read in {len(self._plans)} snapshots{held}{limit}: rows written meanwhile were looked at again"
            )
        return "; ".join(said)

    def _tasks(
        self, task_of: Callable[[Shard], Any], before: Callable[[Callable[[], None]], None]
    ) -> Iterator[tuple[int, Any]]:
        for number in range(len(self._plans[0].shards)):
            before(self._keep_young)
            self._keep_young()
            shard = self._due(number)
            self._read_in[number] = len(self._plans) - 1
            if shard is not None:
                self._under_way[len(self._plans) - 1] += 1
                self.given += 1
                yield len(self._plans) - 1, task_of(shard)

    def _due(self, number: int) -> Shard | None:
        plan = self._plans[-1]
        if number not in self._read_in:
            return plan.shards[number]
        if self._told:
            return None
        changed = plan.changed_since(self._plans[self._read_in[number]], plan.shards[number])
        later = (max(self.passes, self._first_pass) - 1) * len(plan.shards) + number
        return None if changed is None else replace(changed, number=later)

    def _movable(self) -> bool:
        """Whether rows can have moved between shards that were read in different snapshots."""
        last = self._plans[-1]
        return not self._told and any(last.changed_since(self._plans[0], shard) is not None for shard in last.shards)

    def _keep_young(self) -> None:
        if self._max_s is not None and self._clock() - self._taken_at > self._max_s:
            self._renew()

    def _renew(self) -> None:
        renewed = self._plans[-1].renewed()
        if renewed is None:  # there is no snapshot to give up
            self._max_s = None
            return
        self._closing.enter_context(renewed)
        self._plans.append(renewed)
        self._taken_at = self._clock()
        self._close_unused()

    def _close_unused(self) -> None:
        for number, plan in enumerate(self._plans[:-1]):
            if not self._under_way[number]:
                plan.close()
