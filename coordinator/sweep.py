"""One sweep: begin in every region, descend, look twice, conclude.

A region that fails on the way is excluded and named; the descent starts again over the others from what they have
already answered, so their comparison is still reported.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog

from coordinator.answered import Answered
from coordinator.asking import Exchanges, NoIndex, RegionLost
from coordinator.course import Course, Surroundings, tallies_as_json
from coordinator.exchanges import (
    gather,
    nodes,
    not_alike,
    ready_of,
)
from coordinator.halt import Rested
from coordinator.ranging import affordable, keep, sample
from coordinator.revealing import revealed
from coordinator.store import Fenced
from coordinator.viewing import View
from paritree.core import limits
from paritree.core.agreement import Agreement
from paritree.core.asks import ANY_AGE, Freshness
from paritree.core.columnplan import ColumnPlan
from paritree.core.descent import Answer, Ask, Descent, Outcome, Round
from paritree.core.errors import SourceError
from paritree.core.findings import judge
from paritree.core.ledger import Tally
from paritree.core.looks import Looks, Wait
from paritree.core.manifest import Conclusion, RegionFacts, ReportContext, conclude, report
from paritree.core.messages import AskDetail, Begin, ByteClass, End, Look, Progress, Ready
from paritree.core.profile import CANONICAL_VERSION, Profile
from paritree.core.ranges import Apart, RangeFinding, far_apart
from paritree.core.recollection import LookAsk
from paritree.core.sampling import Sampled, range_finding
from paritree.core.suspects import Fate, Suspect
from paritree.wire.link import RegionLink

T = TypeVar("T")
BEGUN_MAX: Final = 3
"""How often a sweep begins in one region, whose agent loses its index each time, before the region is unknown."""
_log = structlog.get_logger("paritree.coordinator")


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """How a sweep is run. ``lag_max_s`` seconds between looks; ``purpose`` asks for clear keys; ``limit`` findings.

    ``scope`` and ``bucket``: only the rows of that bucket, whose id only agents can read. ``freshness`` of indexes.
    """

    lag_max_s: float = 2.0
    purpose: str = ""
    limit: int = 1_000
    exchange_timeout_s: float = limits.EXCHANGE_TIMEOUT_S
    scope: str = ""
    bucket: bytes = b""
    freshness: Freshness = ANY_AGE


CLOCK_S_MIN: Final = 0.001
"""No wait is shorter: sums of seconds are rounded, and a clock may stand still for less."""
ProgressCallback = Callable[[str, str, Progress], None]
"""(region, stage, how far): stages are scan, compare, look."""


def unheard(*_: object) -> None:
    """Nobody watches the progress."""


@dataclass(slots=True)
class Sweep:
    """One sweep over the given links; a region of ``regions`` without a link is unknown from the start.

    ``unreachable`` says why a region has no link, where that is known. ``course`` is what makes it durable, limited and
    steerable; without one it is none of that. ``failed`` are the regions that were lost because they did not work.
    """

    profile: Profile
    regions: Sequence[str]
    links: Mapping[str, RegionLink]
    sweep_id: str
    options: SweepOptions = field(default_factory=SweepOptions)
    surroundings: Surroundings = field(default_factory=Surroundings)
    on_progress: ProgressCallback = unheard
    unreachable: Mapping[str, str] = field(default_factory=dict)
    course: Course | None = None
    facts: dict[str, RegionFacts] = field(init=False)
    conclusion: Conclusion | None = field(init=False, default=None)
    failed: set[str] = field(init=False, default_factory=set)
    _course: Course = field(init=False)
    _rounds: int = field(init=False, default=0)
    _rows: dict[str, int] = field(init=False, default_factory=dict)
    _begun: Counter[str] = field(init=False, default_factory=Counter)
    _ranged: RangeFinding | None = field(init=False, default=None)
    _spans: dict[str, float] = field(init=False, default_factory=dict)
    _views: dict[str, View] = field(init=False, default_factory=dict)
    _holding: set[str] = field(init=False)
    """Regions that may hold something of this sweep, of an earlier run of it too: all that did not refuse it."""
    _answered: Answered = field(init=False, default_factory=Answered)
    _looks: list[Looks] = field(init=False, default_factory=list)
    _found: tuple[list[Suspect], dict[str, str]] = field(init=False, default_factory=lambda: ([], {}))

    def __post_init__(self) -> None:
        self._course = self.course or Course.plain(self.surroundings)
        self.facts = {name: RegionFacts(name, max_age_s=self.options.freshness.max_age_s) for name in self.regions}
        self._holding = set(self.links) if self._course.resumed else set()
        for name in self.facts.keys() - self.links.keys():
            self.facts[name].excluded = self.unreachable.get(name, "no agent of this region is connected")

    async def run(self) -> dict[str, Any]:
        """The report. Regions that fail make it `unknown`, never an exception; nor does a halt that ends it early.

        Raises Rested when it was told to rest. Cancelled, it leaves the regions' indexes to whoever takes it up.
        """
        timer = asyncio.create_task(self._watch_time())
        try:
            stopped = await self._course.halt.driving(self._drive(), self._course.journal.live)
        except Rested:
            await self._end(keep=True)
            raise
        except Exception as error:
            if not isinstance(error, SourceError) or not (error.retryable or isinstance(error, Fenced)):
                await self._end()  # else it stays open, and what regions hold is for whoever takes it up
            raise
        finally:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)
        if stopped:
            self._found = self._partly(stopped)
        suspects, incomplete = self._found
        agreement = Agreement.of(self.profile)
        self.conclusion = conclude(suspects, list(self.facts.values()), agreement, incomplete, self._ranged)
        clear = {} if stopped else await self._reveal(self.conclusion)
        await self._end()
        return {**report(self.conclusion, self._context(clear)), "ended_early": stopped or None}

    async def _drive(self) -> None:
        await self._begin()
        self._spans["ready_s"] = self._course.journal.clock()
        self._exclude_other_headers()
        self._found = await self._compare()
        self._answered.clear()

    def _partly(self, reason: str) -> tuple[list[Suspect], dict[str, str]]:
        """What is known when the sweep is ended early: what two looks have settled, the rest unknown."""
        for facts in self.facts.values():
            if facts.ready is None and not facts.excluded:
                facts.excluded = reason
        suspects = [suspect for looks in self._looks for suspect in looks.suspects.values()]
        for suspect in suspects:
            if suspect.fate is Fate.OPEN:
                suspect.fate, suspect.reason = Fate.UNKNOWN, reason
        return suspects, dict.fromkeys(self._comparable, reason)

    async def _watch_time(self) -> None:
        """Halt the sweep when its time is up; the clock of a sweep that was taken up again has gone on already."""
        journal, budget = self._course.journal, self._course.budget
        await journal.live.wait()
        if budget.time_s is not None:
            await self._course.pause(max(0.0, budget.time_s - journal.clock()))
            self._course.halt.ask(budget.spent(time_s=budget.time_s))

    def _watch_cost(self) -> None:
        moved = sum(tally.bytes_sent + tally.bytes_received for tally in self.tallies().values())
        if spent := self._course.budget.spent(bytes_moved=moved, rows=sum(self._rows.values())):
            self._course.halt.ask(spent)

    def tallies(self) -> dict[str, Tally]:
        """The bytes of each region in this sweep, those of earlier runs included."""
        before = self._course.moved_before
        now = {name: self.links[name].ledger.of(self.sweep_id) for name in self.facts if name in self.links}
        return {name: before.get(name, Tally()) + now.get(name, Tally()) for name in self.facts}

    async def _kept(self, work: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
        """One round: every region's part of it, kept for whoever takes the sweep up, a lost region's too."""
        try:
            answers = await gather(work)
        except RegionLost:
            await self._commit()
            raise
        await self._commit()
        return answers

    async def _commit(self) -> None:
        await self._course.journal.commit({"bytes": tallies_as_json(self.tallies())})

    @property
    def _exchanges(self) -> Exchanges:
        return Exchanges(self.links, self.sweep_id, self.options.exchange_timeout_s, self._course, self._watch_cost)

    @property
    def _columns(self) -> ColumnPlan:
        return ColumnPlan.of(self.profile)

    @property
    def _comparable(self) -> dict[str, Ready]:
        return {name: f.ready for name, f in self.facts.items() if f.ready is not None and not f.excluded}

    def _exclude(self, lost: RegionLost) -> None:
        _log.warning("region excluded", sweep=self.sweep_id, region=lost.region, reason=lost.message)
        self.facts[lost.region].excluded = lost.message
        self._answered.forget(lost.region)
        if lost.failed:
            self.failed.add(lost.region)

    async def _begin(self) -> None:
        await gather({name: self._begin_in(name) for name in self.regions if name in self.links})

    async def _begin_in(self, name: str) -> None:
        profile, o = self.profile, self.options
        begin = Begin(profile.dataset, profile.profile_id, CANONICAL_VERSION, o.scope, o.bucket, o.freshness)
        self._begun[name] += 1
        self._holding.add(name)
        try:
            parts = await self._exchanges.parts(name, begin, lambda p: self._scanned(name, p))
            ready = self.facts[name].ready = ready_of(name, parts, begin, self.sweep_id)
            self._rows[name] = ready.rows
            self._watch_cost()
        except RegionLost as lost:
            self._exclude(lost)
            if not lost.failed:
                self._holding.discard(name)
        await self._commit()  # a scan may take hours: it does not wait for the other regions'

    async def _begin_anew(self, lost: NoIndex) -> None:
        """The region's agent was restarted and has no index of this sweep any more: what it has now is compared."""
        if self._begun[lost.region] >= BEGUN_MAX:
            self._exclude(lost)
            return
        _log.info("region begins anew", sweep=self.sweep_id, region=lost.region)
        self._views.pop(lost.region, None)
        self._answered.forget(lost.region)
        await self._begin_in(lost.region)
        self._exclude_other_headers()

    def _scanned(self, name: str, progress: Progress) -> None:
        self._rows[name] = progress.rows
        self.on_progress(name, "scan", progress)

    def _exclude_other_headers(self) -> None:
        headers = {name: ready.header for name, ready in self._comparable.items()}
        for name, reason in not_alike(headers, self.profile.profile_id).items():
            self._exclude(RegionLost(name, reason))

    async def _compare(self) -> tuple[list[Suspect], dict[str, str]]:
        """Descend and look over the comparable regions; start again without a region that was lost on the way.

        Regions that differ in too many keys are set apart, and compared by a sample.
        """
        crowded: set[str] = set()
        while True:
            self._looks.clear()
            apart = far_apart(self._comparable, crowded)
            near = {name: r for name, r in self._comparable.items() if not apart or name not in apart.differing}
            self._rounds = 1 if self._comparable else 0
            outcome = Outcome((), {}, self._rounds)
            try:
                if len(near) >= limits.REGIONS_MIN:
                    began = self._course.journal.clock()
                    outcome = await self._descend(near)
                    self._spans["compared_s"] = self._course.journal.clock() - began
                if outcome.broken or outcome.crowded:
                    crowded.update(outcome.crowded)
                    for name, reason in outcome.broken.items():
                        self._exclude(RegionLost(name, reason))
                    continue
                suspects, incomplete = await self._look(near, outcome)
                self._ranged = await self._range(apart, incomplete) if apart else None
                return suspects, incomplete
            except NoIndex as lost:
                await self._begin_anew(lost)
            except RegionLost as lost:
                self._exclude(lost)

    async def _range(self, apart: Apart, incomplete: dict[str, str]) -> RangeFinding:
        """Sample the regions that are apart, and let them write their keys where that confirms that they differ."""
        ready = {name: self._comparable[name] for name in apart.regions}
        sampled = await sample(ready, apart, self._salt, self._columns, self._ask_round)
        self._rounds += sampled.rounds
        suspects, lacking = await self._look(ready, sampled)
        incomplete.update(lacking)
        ranged = range_finding(apart, sampled, judge(suspects, ready, Agreement.of(self.profile)))
        if ranged.confirmed:
            ranged = ranged.with_files(await keep(self._exchanges, ready, ranged, self.on_progress))
            await self._commit()
        return ranged

    @property
    def _salt(self) -> int:
        return int.from_bytes(hashlib.blake2b(self.sweep_id.encode(), digest_size=8).digest(), "big")

    async def _ask_round(self, asks: Round) -> dict[str, Answer]:
        return await self._kept({name: self._ask_nodes(name, ask) for name, ask in asks.items()})

    async def _descend(self, ready: Mapping[str, Ready]) -> Outcome:
        sealing = [name for name, r in ready.items() if r.sealed_keys]
        spent = self._answered.sketch_bytes
        descent = Descent(ready, sealing=sealing, salt=self._salt, columns=self._columns, spent=spent)
        asks = descent.start()
        while asks:
            asks = descent.receive(await self._ask_round(asks))
        if descent.outcome is None:
            raise AssertionError("the descent ended without an outcome")
        self._rounds = descent.rounds
        return descent.outcome

    async def _ask_nodes(self, name: str, ask: Ask) -> Answer:
        if isinstance(ask, AskDetail):
            return tuple(await self._ask_look(name, ask))

        def told(progress: Progress) -> None:
            self.on_progress(name, "compare", progress)

        header = self._comparable[name].header
        return await self._answered.of(name, ask, lambda: nodes(self._exchanges, name, ask, header, told))

    async def _look(
        self, ready: Mapping[str, Ready], outcome: Outcome | Sampled
    ) -> tuple[list[Suspect], dict[str, str]]:
        ks, first, unaffordable = affordable(outcome.ks, outcome.looks, self._course.budget.differences)
        incomplete = dict.fromkeys(ready, unaffordable) if unaffordable else {}
        looks = Looks(list(ready), ks, self.options.lag_max_s, Agreement.of(self.profile), self._columns)
        self._looks.append(looks)
        clock = self._course.journal.clock
        if ks:
            lacking = looks.receive_first(first)
            looks.receive_lacking(await self._ask_looks(lacking), clock())
        while asks_or_wait := looks.again(clock()):
            if isinstance(asks_or_wait, Wait):
                await self._course.journal.sleep(max(CLOCK_S_MIN, asks_or_wait.until - clock()))
            else:
                looks.receive_again(await self._ask_looks(asks_or_wait), clock())
        if columns := looks.columns():
            looks.receive_columns(await self._ask_looks(columns))
        if looks.unexplained:
            reason = f"{len(looks.unexplained)} keys that differ were not shown by any region"
            incomplete = dict.fromkeys(ready, reason)
        return list(looks.suspects.values()), incomplete

    async def _ask_looks(self, asks: Mapping[str, LookAsk]) -> dict[str, list[Look]]:
        return await self._kept({name: self._ask_look(name, ask) for name, ask in asks.items()})

    async def _ask_look(self, name: str, ask: AskDetail | LookAsk) -> list[Look]:
        def told(progress: Progress) -> None:
            self.on_progress(name, "look", progress)

        view = self._views.setdefault(name, View(self._columns.row))
        return await view.looks(self._exchanges, self._comparable[name].header, name, ask, told)

    async def _reveal(self, conclusion: Conclusion) -> dict[bytes, dict[str, Any]]:
        """Clear keys from the regions whose policy grants them, when a purpose was stated."""
        granting = [name for name, ready in self._comparable.items() if ready.disclosure == "keys"]
        if not self.options.purpose:
            return {}
        return await revealed(self._exchanges, granting, conclusion, self.options.limit, self.options.purpose)

    async def _end(self, *, keep: bool = False) -> None:
        async def one(name: str) -> None:
            try:
                await self._exchanges.parts(name, End(keep), unheard)
            except RegionLost as lost:
                _log.info("region did not hear the end", sweep=self.sweep_id, region=name, reason=lost.message)

        await gather({name: one(name) for name in self.regions if name in self._holding})

    def _context(self, clear: Mapping[bytes, Mapping[str, Any]]) -> ReportContext:
        by_class: Counter[ByteClass] = Counter()
        for name, tally in self.tallies().items():
            self.facts[name].bytes_sent = tally.bytes_sent
            self.facts[name].bytes_received = tally.bytes_received
            by_class.update(tally.by_class)
        notes = [f"{f.name}: {note}" for f in self.facts.values() if f.ready for note in f.ready.notes]
        return ReportContext(
            dataset=self.profile.dataset,
            facts=list(self.facts.values()),
            compared_columns=self.profile.row_columns,
            ignored_columns=self.profile.ignored,
            rounds=self._rounds,
            bytes_by_class=by_class,
            elapsed_s=self._course.journal.clock(),
            spans=self._spans,
            limit=self.options.limit,
            clear=clear,
            notes=notes,
            tolerance=self.profile.tolerances,
            scope=self.options.scope,
            bucket=self.options.bucket,
        )
