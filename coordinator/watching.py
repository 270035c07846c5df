"""Continuous validation: the check of each window, begun when it is due, taken up after a restart, decided once.

A check is a sweep of its own job id over indexes that are brought up to date after the window has closed (``max_age``
0), so where all regions keep an index that follows its table, it costs what has changed. What stands in the store
decides everything: a window that was opened is checked by whoever comes next, under the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from coordinator.control import Control
from coordinator.store import Fenced, Store, SweepRow, SweepState
from paritree.config.datasets import Dataset
from paritree.core.asks import Freshness
from paritree.core.errors import ConfigError, ParitreeError
from paritree.core.watch import Judged, Windows, held, job_id, judged, watch_id
from paritree.wire.control import SweepOrder

LOOK_S_MAX: Final = 5.0
"""Between two looks at the clock, which may be set, and at a check that rests."""
OPERATOR: Final = "watch"
"""Who asks for the sweeps."""
_log = structlog.get_logger("paritree.coordinator")


@dataclass(frozen=True, slots=True)
class _Watched:
    """One dataset's watch."""

    dataset: Dataset
    windows: Windows
    watch_id: str

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
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._control = control
        self._datasets = datasets
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled. Raises Fenced."""
        async with asyncio.TaskGroup() as tasks:
            for name, windows in self._control.watched.items():
                tasks.create_task(self._follow(name, windows), name=f"watch {name}")
            await asyncio.Event().wait()

    async def _follow(self, name: str, windows: Windows) -> None:
        dataset = self._datasets[name]
        one = _Watched(dataset, windows, watch_id(name, dataset.profile.profile_id, tuple(dataset.regions)))
        while True:
            try:
                await self._sleep(min(LOOK_S_MAX, await self.step(one)))
            except Fenced:
                self._control.jobs.overtaken.set()
                await asyncio.Event().wait()  # the process ends
            except ParitreeError as error:
                _log.warning("watch waits", dataset=name, reason=str(error))
                await self._sleep(LOOK_S_MAX)

    async def step(self, one: _Watched) -> float:
        """Open and check the next window, if one is due; seconds until the next one. Raises ParitreeError."""
        name = one.dataset.name
        mark = await asyncio.to_thread(self._store.open_window, name, one.watch_id, one.windows, self._clock())
        if mark.opened is None:
            return one.windows.wait_s(mark.decided or 0, self._clock())
        outcome, sweep_id = await self._checked(one, mark.opened)
        if outcome is None:
            return LOOK_S_MAX
        settle = partial(self._store.settle_window, name, one.watch_id, mark.opened, outcome, one.regions, sweep_id)
        if await asyncio.to_thread(settle):
            told = {"verdict": outcome.verdict, "verified": outcome.verified, "reasons": dict(outcome.reasons)}
            _log.info("window decided", dataset=name, window=mark.opened, sweep=sweep_id, **told)
        return 0.0

    async def _checked(self, one: _Watched, end_s: int) -> tuple[Judged | None, str | None]:
        """What the window's check came to, with its sweep; None where it has not come to its end."""
        named = job_id(one.watch_id, one.windows, end_s)
        order = SweepOrder(one.dataset.name, job_id=named, freshness=Freshness(0.0, rescan=True))
        try:
            row, running = await self._control.begin(order, OPERATOR)
        except ConfigError as error:  # asking again would not help
            return held(str(error), one.regions), None
        if running is not None and running.task is not None:
            await asyncio.wait({running.task})
        again = await asyncio.to_thread(self._store.sweep, row.id)
        return _judged(again or row, one, end_s), row.id


def _judged(row: SweepRow, one: _Watched, end_s: int) -> Judged | None:
    if row.report is not None:
        if row.started_at.timestamp() < end_s:  # somebody else has used the id
            return held(f"sweep {row.id} began before the window had closed", one.regions)
        return judged(row.report, one.regions)
    if row.state in (SweepState.FAILED, SweepState.INTERRUPTED):
        return held(row.error or f"its check {row.state}", one.regions)
    return None
