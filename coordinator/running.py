"""A sweep that is under way in this process, and everyone who follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from paritree.core.errors import InvariantBroken, ParitreeError, PeerError
from paritree.wire.control import SweepProgress

PAUSE_S: Final = 0.1
"""Least time between two looks of a follower: what changes faster is told once."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The report that ends a sweep."""

    report: Mapping[str, Any]


class Running:
    """Remembers the newest progress of each region only, so a slow follower costs nothing and misses nothing."""

    def __init__(self, sweep_id: str, job_id: str) -> None:
        self.sweep_id = sweep_id
        self.job_id = job_id
        self.task: asyncio.Task[Mapping[str, Any]] | None = None
        self._version = 0
        self._newest: dict[str, tuple[int, SweepProgress]] = {}
        self._changed = asyncio.Event()

    def note(self, progress: SweepProgress) -> None:
        """Progress of one region, on the event loop."""
        self._version += 1
        self._newest[progress.region] = self._version, progress
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

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
            changed = asyncio.ensure_future(self._changed.wait())
            if self._version == told:
                await asyncio.wait({self.task, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            if not self.task.done():
                await asyncio.wait({self.task}, timeout=PAUSE_S)
        yield Finished(self._outcome(self.task))

    def _outcome(self, task: asyncio.Task[Mapping[str, Any]]) -> Mapping[str, Any]:
        if task.cancelled():
            raise PeerError("the coordinator stopped during the sweep", next_step="run it again", retryable=True)
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, ParitreeError):
            raise error
        raise InvariantBroken(f"the sweep failed with {type(error).__name__}; the coordinator's log has more")
