"""What a sweep leaves behind besides its report: the regions' dead letters are asked for, and a sweep that came to no
report becomes a dead letter itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import structlog

from coordinator.letters import DeadLetters
from coordinator.store import Fenced, NewSweep, Store, SweepRow
from paritree.config.datasets import Dataset
from paritree.core.errors import ConfigError, PeerError

_log = structlog.get_logger("paritree.coordinator")


class Runner(Protocol):
    """Makes one sweep; see ``SweepRunner``."""

    @property
    def run(self) -> Callable[..., Awaitable[dict[str, Any]]]:
        """The report, or why there is none."""


class Aftermath:
    """A runner of sweeps around another one."""

    def __init__(self, runner: Runner, letters: DeadLetters, store: Store) -> None:
        self._runner = runner
        self._letters = letters
        self._store = store

    async def run(self, dataset: Dataset, regions: Sequence[str], **options: Any) -> dict[str, Any]:
        """See ``SweepRunner``; options are passed on as they are."""
        report = await self._runner.run(dataset, regions, **options)
        try:
            await self._look_after(dataset.name, str(options["sweep_id"]), report)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 - there is a report: what comes after it must not lose it
            _log.error("dead letters not asked for", dataset=dataset.name, reason=f"{type(error).__name__}: {error}")
        return report

    async def _look_after(self, dataset: str, sweep_id: str, report: dict[str, Any]) -> None:
        row = await self._row(sweep_id)
        if row is not None:
            await self._letters.job_done(job_id=row.job_id, dataset=dataset)
        if await self._has_letters(dataset, report):
            await self._letters.refresh(dataset)

    async def failed(self, sweep_id: str, reason: str) -> None:
        """A sweep came to no report, and will not go on by itself."""
        row = await self._row(sweep_id)
        if row is not None:
            job = {"job_id": row.job_id, "sweep_id": row.id, "dataset": row.dataset}
            await self._letters.job_failed(**job, reason=reason)

    async def _row(self, sweep_id: str) -> SweepRow | None:
        """The sweep, which has a number behind its id where it was begun again."""
        row = await asyncio.to_thread(self._store.sweep, sweep_id)
        return row or await asyncio.to_thread(self._store.sweep, sweep_id.partition(".")[0])

    async def _has_letters(self, dataset: str, report: dict[str, Any]) -> bool:
        """Whether a region has letters, or had some that may have ended: a sweep of good data costs nothing more."""
        told = any(region.get("dead_letters") or not region.get("compared", True) for region in report["regions"])
        return told or bool(await asyncio.to_thread(self._store.letters, dataset=dataset))


def beginning_again(store: Store, begin: Callable[[NewSweep], Awaitable[Any]]) -> Callable[[str, str], Awaitable[None]]:
    """What tries a failed job again, by the id of its sweep and for an operator, with all that it was begun with."""

    async def again(sweep_id: str, operator: str) -> None:
        row = await asyncio.to_thread(store.sweep, sweep_id)
        if row is None:
            raise PeerError(f"sweep {sweep_id} is not in the store any more", next_step="begin it anew")
        new = NewSweep(
            row.id, row.job_id, row.dataset, row.regions, row.options, operator, profile_id=row.profile_id or ""
        )
        try:
            await begin(new)
        except ConfigError as error:
            raise PeerError(error.message, next_step=error.next_step) from error

    return again
