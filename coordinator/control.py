"""What operators ask of the coordinator: start or join a sweep, see the state of things, read findings.

Nothing here knows gRPC (``coordinator.control_rpc`` does) or how a sweep is made (a :class:`SweepRunner` does). A sweep
belongs to the coordinator, not to the caller: it goes on when the caller leaves, and the same job id finds it again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from coordinator.describing import (
    described_agent,
    described_dataset,
    described_sweep,
    described_watch,
    instant,
    part_of,
)
from coordinator.jobs import Jobs, SweepRunner, require_report
from coordinator.running import Finished, Running
from coordinator.setting import Setting
from coordinator.store import NewSweep, Store, SweepRow
from paritree import __version__
from paritree.config.datasets import Dataset
from paritree.config.toml import near
from paritree.core.errors import ConfigError
from paritree.core.limits import BUCKET_BYTES_MAX, NAME_CHARS_MAX, REGIONS_MAX, REGIONS_MIN
from paritree.core.scope_labels import id_text
from paritree.core.watch import Windows
from paritree.wire.control import FindingsOrder, SteerOrder, SweepOrder, SweepProgress

LIMIT: Final = 1_000
"""Findings in a report or page where the caller does not say."""
LIMIT_MAX: Final = 10_000
"""Most findings of one report or page: about 4 MB of JSON. The rest is read page by page."""
TEXT_CHARS_MAX: Final = 255
"""Longest job id and purpose."""
_log = structlog.get_logger("paritree.coordinator")


@dataclass(frozen=True, slots=True)
class Connected:
    """An agent that is connected now, and the datasets that it serves."""

    region: str
    agent: str
    datasets: tuple[str, ...]


class Control:
    """The service behind the command line."""

    def __init__(
        self,
        store: Store,
        runner: SweepRunner,
        datasets: Mapping[str, Dataset],
        connected: Callable[[], Sequence[Connected]],
        *,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        setting: Setting | None = None,
    ) -> None:
        self._store = store
        self._datasets = datasets
        self._connected = connected
        self._new_id = new_id
        self._setting = setting or Setting(store)
        self.jobs = Jobs(self._setting, runner, datasets)
        self.watched: Mapping[str, Windows] = {}
        """The datasets that are validated continuously."""

    # --- sweeps -----------------------------------------------------------------------------------------------------

    async def sweep(
        self, order: SweepOrder, operator: str = ""
    ) -> AsyncGenerator[tuple[str, SweepProgress | Finished], None]:
        """Start the sweep or join the one of the same job id: its id with progress, at last with its report.

        Raises ConfigError for what the caller got wrong, PeerError when the coordinator is stopping or full.
        """
        row, running = await self.begin(order, operator)
        if running is None:
            yield row.id, Finished(require_report(row))
            return
        async for event in running.follow():
            yield row.id, event

    async def begin(self, order: SweepOrder, operator: str = "") -> tuple[SweepRow, Running | None]:
        """The sweep of that order, and its run where it has not ended. Raises as :meth:`sweep`."""
        return await self.jobs.begin(self._new(order, operator))

    def _new(self, order: SweepOrder, operator: str) -> NewSweep:
        dataset = self._dataset(order.dataset)
        for name in order.regions:
            dataset.region(name)
        if len(set(order.regions)) != len(order.regions):
            raise ConfigError("--region: a region is named twice")
        # In the file's order: the same regions in another order are the same sweep.
        regions = tuple(name for name in dataset.regions if not order.regions or name in order.regions)
        if not REGIONS_MIN <= len(regions) <= REGIONS_MAX:
            raise ConfigError(
                f"dataset {dataset.name}: a sweep compares {REGIONS_MIN} to {REGIONS_MAX} regions, not {len(regions)}",
                next_step=f"name at least two of: {', '.join(dataset.regions)}",
            )
        if order.lag_max_s is not None and not 0 <= order.lag_max_s < float("inf"):
            raise ConfigError("--lag-max: must be a finite number of seconds, 0 or more")
        for name, most in order.budget.options().items():
            if most is not None and not 0 < most < float("inf"):
                raise ConfigError(f"--{name.replace('_', '-').removesuffix('-s')}: must be finite and more than 0")
        for flag, text in (("--id", order.job_id), ("--purpose", order.purpose)):
            if len(text) > TEXT_CHARS_MAX or not text.isprintable():
                raise ConfigError(f"{flag}: at most {TEXT_CHARS_MAX} printable characters")
        sweep_id = self._new_id()
        options = {"lag_max_s": order.lag_max_s, "purpose": order.purpose, "limit": _limited(order.limit)}
        options |= {name: most for name, most in order.budget.options().items() if most is not None}
        if bool(order.scope) != bool(order.bucket) or len(order.bucket) > BUCKET_BYTES_MAX:
            raise ConfigError("--scope and --bucket: a bucket is one of a scope", next_step="give both, or neither")
        if not order.scope.isprintable() or len(order.scope) > NAME_CHARS_MAX:
            raise ConfigError(f"--scope: at most {NAME_CHARS_MAX} printable characters")
        if order.scope:
            options |= {"scope": order.scope, "bucket": id_text(order.bucket)}
        if (max_age_s := order.freshness.max_age_s) is not None:
            if not 0 <= max_age_s < float("inf"):
                raise ConfigError("--max-age: must be a finite number of seconds, 0 or more")
            options |= {"max_age_s": max_age_s, "rescan": order.freshness.rescan}
        profile_id = dataset.profile.profile_id.hex()
        return NewSweep(sweep_id, order.job_id or sweep_id, dataset.name, regions, options, operator, profile_id)

    def _dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            raise ConfigError(f"the coordinator has no dataset '{name}'", next_step=near(name, self._datasets))
        return self._datasets[name]

    async def steer(self, order: SteerOrder, operator: str = "") -> dict[str, Any]:
        """Pause, resume or cancel a sweep: what it is after that. Raises ConfigError for what cannot be done."""
        row = await asyncio.to_thread(self._store.sweep, order.sweep_id)
        if row is None:
            raise ConfigError(f"there is no sweep '{order.sweep_id}'", next_step="paritree status lists the open ones")
        match order.action:
            case "pause":
                await self.jobs.pause(row, operator)
            case "resume":
                await self.jobs.resume(row)
            case "cancel":
                await self.jobs.cancel(row, operator)
            case _:
                raise ConfigError(f"a sweep cannot be told to '{order.action}'", next_step="pause, resume or cancel it")
        _log.info("sweep steered", sweep=row.id, action=order.action, operator=operator)
        after = await asyncio.to_thread(self._store.sweep, row.id)
        return {"steered": 1, **described_sweep(after or row, self.jobs.running.get(row.id))}

    async def stop(self, timeout_s: float) -> None:
        """Take no more sweeps, give those that run ``timeout_s`` seconds, then leave them to the next coordinator."""
        await self.jobs.stop(timeout_s)

    # --- what there is ----------------------------------------------------------------------------------------------

    async def status(self, dataset: str = "") -> dict[str, Any]:
        """Regions with agents and circuit breakers, datasets with their last sweep, the sweeps that have not ended.

        Raises ConfigError for an unknown dataset.
        """
        chosen = [self._dataset(dataset)] if dataset else list(self._datasets.values())
        seen = await asyncio.to_thread(self._store.agents)
        last = {one.name: await asyncio.to_thread(self._store.newest, one.name) for one in chosen}
        now = {(agent.region, agent.agent): agent.datasets for agent in self._connected()}
        wanted = {region for one in chosen for region in one.regions}
        regions = []
        for name in sorted(wanted | ({row.region for row in seen} if not dataset else set())):
            agents = [described_agent(row, now.get((name, row.agent))) for row in seen if row.region == name]
            connected = any(agent["connected"] for agent in agents)
            breakers = self._setting.breakers.shown(name) if self._setting.breakers else []
            regions.append({"name": name, "connected": connected, "agents": agents, "breakers": breakers})
        unended = await asyncio.to_thread(self._store.unended)
        return {
            "status": 1,
            "version": __version__,
            "regions": regions,
            "datasets": [described_dataset(one, last[one.name]) for one in chosen],
            "sweeps": [
                described_sweep(row, self.jobs.running.get(row.id))
                for row in unended
                if row.dataset in {one.name for one in chosen}
            ],
            "watches": [
                described_watch(one, self.watched[one.name], await asyncio.to_thread(self._store.watch, one.name))
                for one in chosen
                if one.name in self.watched
            ],
        }

    async def findings(self, order: FindingsOrder) -> dict[str, Any]:
        """One page of a sweep's findings. Raises ConfigError for a sweep that is not there or not finished."""
        row = await asyncio.to_thread(self._wanted, order)
        if row.report is None:
            why = f": {row.error}" if row.error else ""
            raise ConfigError(f"sweep {row.id} is {row.state}{why}", next_step="findings are of finished sweeps")
        limit = _limited(order.limit)
        page, total = await asyncio.to_thread(self._store.findings, row.id, limit=limit, offset=order.offset)
        return {
            "findings_page": 1,
            "sweep_id": row.id,
            "dataset": row.dataset,
            "scope": part_of(row),
            "verdict": row.verdict,
            "finished_at": instant(row.finished_at),
            "findings_total": total,
            "offset": order.offset,
            "findings": page,
        }

    def _wanted(self, order: FindingsOrder) -> SweepRow:
        if order.sweep_id:
            row = self._store.sweep(order.sweep_id)
            if row is None or (order.dataset and row.dataset != order.dataset):
                raise ConfigError(
                    f"there is no sweep '{order.sweep_id}'", next_step="paritree status lists the last ones"
                )
            return row
        dataset = self._dataset(order.dataset)
        row = self._store.newest(dataset.name, finished=True)
        if row is None:
            raise ConfigError(
                f"dataset {dataset.name} has no finished sweep", next_step=f"run paritree sweep {dataset.name}"
            )
        return row


def _limited(limit: int) -> int:
    return min(limit, LIMIT_MAX) if limit else LIMIT
