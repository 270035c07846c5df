"""Keeps the store this coordinator's own, and its open sweeps going, for as long as the process runs.

It also tells when the process has no file handle left, as the server that takes connections then only waits.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from coordinator.jobs import Jobs
from coordinator.store import Fenced, Store
from paritree.core.errors import SourceError, exhausted

TAKE_UP_S: Final = 30.0
"""Between two looks for sweeps that are open and run nowhere, because the store was away when they were to be kept."""
RENEWALS: Final = 3
"""Renewals in the time of a lease: two may fail."""
_log = structlog.get_logger("paritree.coordinator")


class Keeper:
    """``clock`` gives monotonic seconds, ``sleep`` waits them."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        lease_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._lease_s = lease_s
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Renew and take up until cancelled. Raises Fenced, or SourceError when the lease may be over unrenewed."""
        renewed_at = self._clock()
        looked_at = renewed_at
        while True:
            began = self._clock()
            try:
                async with asyncio.timeout(self._lease_s / RENEWALS):  # a server that is cut off does not answer at all
                    await asyncio.to_thread(self._store.renew)
                renewed_at = began
                if began - looked_at >= TAKE_UP_S:
                    looked_at = began
                    async with asyncio.timeout(self._lease_s / RENEWALS):
                        await self._jobs.take_up()
            except Fenced:
                raise
            except (SourceError, TimeoutError) as error:
                _log.error("lease not renewed", reason=str(error) or "no answer in time")
                if self._clock() - renewed_at >= self._lease_s:
                    self._store.abandon()  # or threads that wait for it would keep the process from ending
                    raise SourceError(
                        f"the store could not be reached for {self._lease_s:g} s: another coordinator may have it",
                        next_step="start the coordinator again when the store is back; its sweeps go on",
                        retryable=True,
                    ) from error
            _tell_want()
            await self._sleep(self._lease_s / RENEWALS)


def _tell_want() -> None:
    """Log that nobody can connect any more, and why."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        _log.error("nobody can connect", reason=str(exhausted(error) or error))
