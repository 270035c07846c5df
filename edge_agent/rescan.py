"""An index whose source tells no changes, brought up to date by scanning some of its shards again.

    by version   a file's rows are those of last time as long as nobody wrote it (``fileversion``): changed and new
                 ones are read, but for parts of the same bytes, and rows of vanished ones go, in one step of the index
    by age       a row never leaves its token range, so each range is replaced by itself as soon as it was read:
                 before a sweep those that are too old, between sweeps the oldest, at a bounded rate

What cannot be done shard by shard raises :class:`RescanNeeded`, and the table is scanned as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge_agent.build import Copy, lent_to, load_of
from edge_agent.connections import connections_of
from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.contract import Connector, Plan, Shard
from edge_agent.connectors.registry import connect, connector_class
from edge_agent.executors import Executor, SerialExecutor
from edge_agent.index.changes import Reached, Replaced, Rescanned
from edge_agent.index.durable import CLOCK_SLACK_S, DurableIndex
from edge_agent.index.letters import dead_rows
from edge_agent.index.marks import LOOSE
from edge_agent.index.state import HeldRun, HeldShard, State
from edge_agent.letters.shardfile import letters_path
from edge_agent.letters.sweep import SweepLetters
from edge_agent.pace import LoadWatch
from edge_agent.scan import ScanTask, scan_shard
from paritree.core.errors import SourceError
from paritree.core.messages import Progress

RATE_ROWS_S: Final = 20_000.0
"""Rows a second that are read in the background unless told otherwise: a few percent of a core, a day for 1.7e9."""
DUE_MAX: Final = 1_000
"""Shards whose results wait for one step, at 200 KB each; where more changed, everything is scanned."""
RECUT: Final = 4
"""A table that would be cut into so many times as many shards as the index has is scanned and cut anew."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """What was done: shards that were scanned again, those that are no more, all that there are; rows that moved."""

    scanned: int
    dropped: int
    shards: int
    added: int = 0
    removed: int = 0

    @property
    def note(self) -> str:
        """A sentence for reports."""
        if not self.scanned and not self.dropped:
            return f"all {self.shards} shards are as they were, nothing was scanned"
        gone = f", {self.dropped} are no more" if self.dropped else ""
        return f"scanned, but only {self.scanned} of {self.shards} shards, the others are as they were{gone}"


@dataclass(frozen=True, slots=True)
class Due:
    """A shard to be scanned, and the run that the index has of it now."""

    name: str
    shard: Shard
    run: HeldRun | None


class ShardRescan:
    """Scans shards of one index again. Beside sweeps one thread may call :meth:`oldest`; closed by its index."""

    def __init__(
        self,
        copy: Copy,
        index: DurableIndex,
        *,
        rate_rows_s: float = RATE_ROWS_S,
        clock: Callable[[], float] = time.time,
        told: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``rate_rows_s`` bounds what is read in the background; ``told`` hears how many rows were found other."""
        self._told = told
        self.by_version = connector_class(copy.source.url).rescans == "version"
        self._copy = copy
        self._index = index
        self._rate_rows_s = rate_rows_s
        self._clock = clock
        self.scanned = 0
        """Shards that were scanned again so far."""

    def renew(
        self,
        executor: Callable[[], AbstractContextManager[Executor]],
        progress: Callable[[Progress], None],
        letters: SweepLetters,
        max_age_s: float | None,
        scan: bool,
        more: Collection[str] = (),
    ) -> Renewed:
        """Scan what changed or, by age, what is older than ``max_age_s``; raise RescanNeeded instead without ``scan``.

        By age, shards named in ``more`` are scanned, too. Raises RescanNeeded where all has to be scanned, SchemaDrift,
        SourceError or ConfigError as a scan would.
        """
        copy, as_of = self._copy, self._clock()
        with ExitStack() as opened:
            connector = opened.enter_context(connect(copy.source))
            schema = letters.described(connector, copy.binding)
            opened.enter_context(letters.unreadable())
            demand_same_schema = opened.enter_context(letters.steady(connector, copy.binding, schema))
            running = opened.enter_context(executor())
            plan = opened.enter_context(self._plan(connector, running.workers))
            state = self._state()
            stays: dict[str, Shard] = {}
            if self.by_version:
                due, dropped, stays = self._changed(state, plan)
            else:
                due, dropped = self._old(state, plan, max_age_s or 0.0, more), []
            if (due or dropped) and not scan:
                raise RescanNeeded(f"{len(due)} of {len(plan.shards)} shards are to be scanned again")
            with self._written() as written:
                results = self._results(copy, connector, running, due, written, progress, letters)
                if self.by_version:
                    scanned = [one for _, one in results]
                    moved = self._at_once(scanned, dropped, stays, plan, as_of, demand_same_schema)
                else:
                    moved = self._one_by_one(results, plan)
                    demand_same_schema()
        self._told(max(moved.added, moved.removed))
        if due or dropped:
            self._settle(letters)
        shards = len(self._index.view().state.scanned)
        return Renewed(len(due), len(dropped), shards, moved.added, moved.removed)

    def oldest(self, letters: SweepLetters, age_s: float) -> bool:
        """Scan the oldest shard again if it is older than that, at the rate of the background; whether it was.

        Nothing where there is no index yet, by version, or while the source is loaded. Raises SourceError.
        """
        if self.by_version or self._index.why_not or not self._older(self._index.view().state, age_s):
            return False
        limit = self._copy.throttle.max_rate_rows_s
        rate = self._rate_rows_s if limit is None else min(limit, self._rate_rows_s)
        copy = replace(self._copy, throttle=replace(self._copy.throttle, max_rate_rows_s=rate))
        with connect(copy.source) as connector, self._plan(connector, 1) as plan:
            if load_of(copy, connector):
                return False
            letters.described(connector, copy.binding)
            due = self._old(self._state(), plan, age_s)[:1]
            with SerialExecutor() as running, self._written() as written:
                results = self._results(copy, connector, running, due, written, lambda _: None, letters)
                moved = self._one_by_one(results, plan)
        self._told(max(moved.added, moved.removed))
        self._settle(letters)
        return bool(due)

    # --- what is due ------------------------------------------------------------------------------------------------

    def _state(self) -> State:
        """Raises RescanNeeded for an index whose rows did not all come with shards."""
        state = self._index.view().state
        if state.reached.cursor or LOOSE in state.shards or state.plan is None:
            raise RescanNeeded("the index was made while its table's changes were told")
        return state

    @contextmanager
    def _plan(self, connector: Connector, workers: int) -> Iterator[Plan]:
        rows = self._copy.throttle.shard_rows(self._copy.shard_rows, workers)
        with connector.plan(self._copy.binding, rows) as plan:
            yield plan

    def _changed(self, state: State, plan: Plan) -> tuple[list[Due], list[str], dict[str, Shard]]:
        """The shards of the plan whose rows the index has not; those that are no more; how the others are called now.

        Those are given by the names that they have in the index, unless they are described there as they are now.
        """
        held = {shard.name: shard for shard in state.scanned}
        known = plan.recut(self._copy.binding, [shard.shard for shard in state.scanned])
        names = {shard.label for shard in plan.shards}
        if len(names) < len(plan.shards):
            raise RescanNeeded("several shards have one name")
        if any(name not in held for name in known.values()):
            raise RescanNeeded("shards of the index have other names than in its source")
        there = {known[shard.label]: shard for shard in plan.shards if shard.label in known}
        due = [
            Due(shard.label, shard, held[shard.label].run if shard.label in held else None)
            for shard in plan.shards
            if shard.label not in known
        ]
        if len(due) == len(plan.shards) or len(due) > DUE_MAX:
            raise RescanNeeded(f"{len(due)} of {len(plan.shards)} shards were written")
        dropped = sorted(held.keys() - there.keys() - {one.name for one in due})
        stays = {name: shard for name, shard in there.items() if _about(held[name].shard) != _about(shard)}
        return due, dropped, stays

    def _old(self, state: State, plan: Plan, age_s: float, more: Collection[str] = ()) -> list[Due]:
        """The shards that are older, as the index has cut them, oldest first; then the others of ``more``."""
        planned, shards = len(plan.shards), tuple(held.shard for held in state.scanned)
        if planned > RECUT * len(shards):
            raise RescanNeeded(f"the table has grown from {len(shards)} shards to {planned}")
        if state.plan is None or plan.take_up([state.plan], shards) is None:
            raise RescanNeeded("the shards of the index are cut in another way")
        old = self._older(state, age_s)
        old += [held for held in state.scanned if held.name in more and held not in old]
        return [Due(held.name, held.shard, held.run) for held in old]

    def _older(self, state: State, age_s: float) -> list[HeldShard]:
        """Also those that are newer than the clock: it was set back, and nobody knows how old they are."""
        now = self._clock()
        old = [held for held in state.scanned if not -CLOCK_SLACK_S <= now - held.as_of <= age_s]
        return sorted(old, key=lambda held: held.as_of)

    # --- scanning ---------------------------------------------------------------------------------------------------

    def _results(
        self,
        copy: Copy,
        connector: Connector,
        executor: Executor,
        due: Sequence[Due],
        written: list[Path],
        progress: Callable[[Progress], None],
        letters: SweepLetters,
    ) -> Iterator[tuple[Due, Rescanned]]:
        """Each shard scanned into a run of the index, which is in ``written`` before it is."""
        begun: dict[int, float] = {}
        rows = done = 0

        def tell() -> None:
            progress(Progress(done, len(due), rows))

        def tasks(lent: str) -> Iterator[ScanTask]:
            watch = LoadWatch(copy.throttle, lambda: load_of(copy, connector), alive=tell)
            for number, one in enumerate(due):
                watch.wait(tell)
                begun[number] = self._clock()
                written.append(path := self._index.run_path())
                letters_path(path).unlink(missing_ok=True)  # of a process that was killed
                yield ScanTask(
                    copy.source, copy.binding, copy.profile, copy.keys, replace(one.shard, number=number), path,
                    copy.digester, copy.throttle, executor.workers, letters.kept, lent, copy.rest_key,
                    self.by_version,
                )  # fmt: skip

        with lent_to(copy, connector) as lent:
            limit = connections_of(copy.source.url, copy.throttle.connections_max)
            for result in executor.map(scan_shard, tasks(lent), limit):
                letters.take(result.run_path)
                one, rows, done = due[result.shard], rows + result.rows, done + 1
                self.scanned += 1
                tell()
                yield one, Rescanned(one.name, one.shard, result, begun[result.shard])
        if done < len(due):
            raise SourceError(f"{len(due) - done} of {len(due)} shards gave no answer", retryable=True)

    @contextmanager
    def _written(self) -> Iterator[list[Path]]:
        """Runs that are written in the block; those that the index has not taken over by its end are removed."""
        paths: list[Path] = []
        try:
            yield paths
        finally:
            needed = self._index.view().state.files
            self._index.forget(path for path in paths if path.name not in needed)
            for path in paths:
                letters_path(path).unlink(missing_ok=True)

    # --- putting in -------------------------------------------------------------------------------------------------

    def _at_once(
        self,
        shards: Sequence[Rescanned],
        dropped: Sequence[str],
        stays: Mapping[str, Shard],
        plan: Plan,
        as_of: float,
        check: Callable[[], None],
    ) -> Replaced:
        """All of them in one step, with the position at which the source has been since before they were read."""
        reached = Reached(plan.position(), b"", as_of)
        check()
        if shards or dropped or stays:
            return self._index.replace(shards, dropped=dropped, reached=reached, plan=plan.memento(), stays=stays)
        self._index.advance(reached)
        return Replaced(0, 0, {})

    def _one_by_one(self, results: Iterator[tuple[Due, Rescanned]], plan: Plan) -> Replaced:
        """Each as soon as it was read; one that somebody else has replaced meanwhile stays as it is."""
        moved = Replaced(0, 0, {})
        for due, one in results:
            with self._index.shelf.writing:
                state = self._index.view().state
                held = state.named(due.name)
                if held is None or held.run != due.run:
                    continue
                others = [shard.as_of for shard in state.scanned if shard.name != due.name]
                position = plan.between(min([one.as_of, *others]), max([self._clock(), *others]))
                moved = moved.plus(self._index.replace([one], reached=Reached(position)))
        return moved

    def _settle(self, letters: SweepLetters) -> None:
        """End the letters of rows that are no dead ones any more."""
        view = self._index.view()
        keyless = sum(sum(held.keyless.values()) for held in view.state.scanned)
        letters.rescanned((row.locator for row in dead_rows(view)), keyless)


def _about(shard: Shard) -> tuple[object, ...]:
    """What an index knows a shard by."""
    return shard.number, shard.label, shard.version, shard.content
