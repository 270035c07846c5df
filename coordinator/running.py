"""A sweep that is under way in this process, and everyone who follows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from coordinator.halt import Halt, Rested
from paritree.core.errors import InvariantBroken, ParitreeError, PeerError, exhausted
from paritree.wire.control import SweepProgress

PAUSE_S: Final = 0.1
"""Least time between two looks of a follower: what changes faster is told once."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The report that ends a sweep."""

    report: Mapping[str, Any]


class Running:
    """Remembers the newest progress of each region only, so a slow follower costs nothing and misses nothing.

    ``clock`` gives monotonic seconds; ``halt`` tells the sweep to end or rest.
    """

    def __init__(self, sweep_id: str, job_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.sweep_id = sweep_id
        self.job_id = job_id
        self.halt = Halt()
        self.patient = False
        """Whether its regions are expected to come back: it was begun before this process."""
        self.task: asyncio.Task[Mapping[str, Any]] | None = None
        self._clock = clock
        self._began_at = clock()
        self._version = 0
        self._newest: dict[str, tuple[int, SweepProgress]] = {}
        self._stages: dict[str, tuple[str, float, int]] = {}
        self._changed = asyncio.Event()

    def note(self, progress: SweepProgress) -> None:
        """Progress of one region, on the event loop; how long it took and will take is added here."""
        now = self._clock()
        stage, since, done = self._stages.get(progress.region, ("", now, 0))
        if progress.stage != stage:
            since, done = now, progress.shards_done
            self._stages[progress.region] = progress.stage, since, done
        eta_s = None
        if progress.shards_total and progress.shards_done > done:
            left = progress.shards_total - progress.shards_done
            eta_s = round((now - since) / (progress.shards_done - done) * left, 1)
        self._version += 1
        told = replace(progress, elapsed_s=round(now - self._began_at, 1), eta_s=eta_s)
        self._newest[progress.region] = self._version, told
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def newest(self) -> list[SweepProgress]:
        """How far every region is."""
        return [progress for _, progress in self._newest.values()]

    async def follow(self) -> AsyncGenerator[SweepProgress | Finished, None]:
        """What changes, then the report. Raises what the sweep raised; leaving early does not stop it."""
        if self.task is None:
            raise InvariantBroken(f"sweep {self.sweep_id} has no task")
        told = 0
        while True:
            fresh = sorted((entry for entry in self._newest.values() if entry[0] > told), key=lambda entry: entry[0])
            told = self._version
            for _, progress in fresh:
                yield progress
            if self.task.done():
                break
            if self._version == told:
                await self._news(self.task)
            if not self.task.done():
                await asyncio.wait({self.task}, timeout=PAUSE_S)
        yield Finished(self._outcome(self.task))

    async def _news(self, task: asyncio.Task[Mapping[str, Any]]) -> None:
        """Wait until there is progress, or the end."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            await asyncio.gather(changed, return_exceptions=True)

    def _outcome(self, task: asyncio.Task[Mapping[str, Any]]) -> Mapping[str, Any]:
        if task.cancelled():
            raise PeerError(
                "the coordinator stopped during the sweep",
                next_step=f"it goes on when the coordinator runs again: paritree sweep --id {self.job_id} finds it",
                retryable=True,
            )
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, Rested):
            raise resting(self.sweep_id, error.message)
        if isinstance(error, ParitreeError):
            raise error
        failed = InvariantBroken(f"the sweep failed with {type(error).__name__}; the coordinator's log has more")
        raise exhausted(error) or failed


def resting(sweep_id: str, reason: str) -> PeerError:
    """What a follower of a paused sweep is told."""
    return PeerError(f"the sweep was {reason}", next_step=f"paritree sweep resume {sweep_id}")
