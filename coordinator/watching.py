"""Continuous validation: the check of each window, begun when it is due and wanted, taken up after a restart, decided
once.

A check first asks the regions for the roots of the indexes that they keep: equal roots, or those that were verified
last, are all it takes. Else it is a sweep of its own job id. Either way an index may be ``late_s`` old: no check begins
sooner after its window, so that is no older than the window's end. What stands in the store decides everything: a
window that was opened is checked by whoever comes next, under the same id.

Agents tell, unasked, that something has changed. That is counted by window and kept in the store within ``EVENTS_S``;
what is lost before that, or while nobody was connected, is made good by looking after every new connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from coordinator.control import Control
from coordinator.roots import Roots
from coordinator.store import Fenced, Store, SweepRow, SweepState
from paritree.config.datasets import Dataset
from paritree.core.asks import Freshness
from paritree.core.errors import ConfigError, ParitreeError
from paritree.core.messages import Hello
from paritree.core.watch import Events, Judged, Windows, held, job_id, judged, watch_id
from paritree.wire.control import SweepOrder
from paritree.wire.frames import Notice

LOOK_S_MAX: Final = 5.0
"""Between two looks at the clock, which may be set, and at a check that rests."""
EVENTS_S: Final = 1.0
"""Between two times that what was told is put into the store."""
OPERATOR: Final = "watch"
"""Who asks for the sweeps."""
_log = structlog.get_logger("paritree.coordinator")


@dataclass(slots=True)
class _Watched:
    """One dataset's watch, and what was told of it and is not in the store yet."""

    dataset: Dataset
    windows: Windows
    watch_id: str
    told: Events = field(default_factory=Events)

    @property
    def regions(self) -> tuple[str, ...]:
        return tuple(self.dataset.regions)


class Watcher:
    """Watches ``control.watched``. ``clock`` gives seconds since 1970, ``sleep`` waits them."""

    def __init__(
        self,
        store: Store,
        control: Control,
        datasets: Mapping[str, Dataset],
        roots: Roots | None = None,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Without ``roots`` every due window is swept."""
        self._store = store
        self._control = control
        self._roots = roots
        self._clock = clock
        self._sleep = sleep
        self._watched = {name: watched(datasets[name], windows) for name, windows in control.watched.items()}

    async def run(self) -> None:
        """Until cancelled. Raises Fenced."""
        async with asyncio.TaskGroup() as tasks:
            for name, one in self._watched.items():
                tasks.create_task(self._follow(one), name=f"watch {name}")
            tasks.create_task(self._keep_events(), name="watch: what was told")
            await asyncio.Event().wait()

    # --- what was told ----------------------------------------------------------------------------------------------

    def notice(self, region: str, notice: Notice) -> None:
        """A region tells that a dataset has changed. One that nobody watches there, or anywhere, is passed over."""
        one = self._watched.get(notice.dataset)
        if one is not None and region in one.regions and notice.keys:
            span_s = (notice.first_us / 1e6, notice.last_us / 1e6) if notice.last_us else None
            one.told = one.told.told(one.windows, notice.keys, span_s, self._clock())

    def connected(self, hello: Hello) -> None:
        """An agent has connected: what it told before may have been lost on the way."""
        for one in self._watched.values():
            if hello.region in one.regions:
                one.told = one.told.told(one.windows, 0, None, self._clock())

    async def _keep_events(self) -> None:
        while True:
            await self._sleep(EVENTS_S)
            for one in self._watched.values():
                try:
                    await self.keep_events(one)
                except Fenced:
                    await self._overtaken()
                except ParitreeError as error:
                    _log.warning("watch: what was told waits", dataset=one.dataset.name, reason=str(error))

    async def keep_events(self, one: _Watched) -> None:
        """Put what was told into the store. Raises ParitreeError, and then it is put there the next time."""
        told, one.told = one.told, Events()
        if told == Events():
            return
        try:
            await asyncio.to_thread(self._store.note_events, one.dataset.name, one.watch_id, told)
        except BaseException:
            one.told = told.plus(one.told)  # at worst it is there twice, and one check more is made
            raise

    # --- windows ----------------------------------------------------------------------------------------------------

    async def _follow(self, one: _Watched) -> None:
        while True:
            try:
                await self._sleep(min(LOOK_S_MAX, await self.step(one)))
            except Fenced:
                await self._overtaken()
            except ParitreeError as error:
                _log.warning("watch waits", dataset=one.dataset.name, reason=str(error))
                await self._sleep(LOOK_S_MAX)

    async def _overtaken(self) -> None:
        self._control.jobs.overtaken.set()
        await asyncio.Event().wait()  # the process ends

    async def step(self, one: _Watched) -> float:
        """Open and check the next window, if one is due and wanted; seconds until another. Raises ParitreeError."""
        name = one.dataset.name
        await self.keep_events(one)
        tells = self._roots is not None and self._roots.tells(one.dataset)
        opening = partial(self._store.open_window, name, one.watch_id, one.windows, self._clock(), told=tells)
        mark = await asyncio.to_thread(opening)
        if mark.opened is None:
            now_s = self._clock()
            return one.windows.wait_s(max(mark.decided or 0, one.windows.due(now_s)), now_s)
        outcome, sweep_id = await self._checked(one, mark.opened)
        if outcome is None:
            return LOOK_S_MAX
        settle = partial(self._store.settle_window, name, one.watch_id, mark.opened, outcome, one.regions, sweep_id)
        if await asyncio.to_thread(settle):
            told = {"verdict": outcome.verdict, "verified": outcome.verified, "reasons": dict(outcome.reasons)}
            _log.info("window decided", dataset=name, window=mark.opened, sweep=sweep_id, **told)
        return 0.0

    async def _checked(self, one: _Watched, end_s: int) -> tuple[Judged | None, str | None]:
        """What the window's check came to, with its sweep, if it took one; None where it has not come to its end."""
        age_s, now_s = float(one.windows.late_s), self._clock()
        named = job_id(one.watch_id, one.windows, end_s)
        due = now_s >= end_s + age_s  # else the clock was set back since the window was opened
        if due and self._roots is not None and await asyncio.to_thread(self._store.sweep, named) is None:
            before = await asyncio.to_thread(self._store.verified_before, one.dataset.name, one.watch_id)
            if (outcome := await self._roots.judge(one.dataset, age_s, before)) is not None:
                return outcome, None
        order = SweepOrder(one.dataset.name, job_id=named, freshness=Freshness(age_s, rescan=True))
        try:
            row, running = await self._control.begin(order, OPERATOR)
        except ConfigError as error:  # asking again would not help
            return held(str(error), one.regions), None
        if running is not None and running.task is not None:
            await asyncio.wait({running.task})
        again = await asyncio.to_thread(self._store.sweep, row.id)
        return _judged(again or row, one, end_s), row.id


def watched(dataset: Dataset, windows: Windows) -> _Watched:
    """The watch of a dataset."""
    name = watch_id(dataset.name, dataset.profile.profile_id, tuple(dataset.regions))
    return _Watched(dataset, windows, name)


def _judged(row: SweepRow, one: _Watched, end_s: int) -> Judged | None:
    if row.report is not None:
        if row.started_at.timestamp() < end_s + one.windows.late_s:  # the clock was set back, or somebody used the id
            return held(f"sweep {row.id} began before its window was due", one.regions)
        return judged(row.report, one.regions)
    if row.state in (SweepState.FAILED, SweepState.INTERRUPTED):
        return held(row.error or f"its check {row.state}", one.regions)
    return None
