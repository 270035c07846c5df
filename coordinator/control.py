"""What operators ask of the coordinator: start or join a sweep, see the state of things, read findings.

Nothing here knows gRPC (``coordinator.control_rpc`` does) or how a sweep is made (a :class:`SweepRunner` does). A sweep
belongs to the coordinator, not to the caller: it goes on when the caller leaves, and the same job id finds it again.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from coordinator.running import Finished, Running
from coordinator.store import NewSweep, Store, SweepRow, SweepState, Traffic
from paritree import __version__
from paritree.config.datasets import Dataset
from paritree.config.toml import near
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError
from paritree.core.limits import REGIONS_MAX, REGIONS_MIN
from paritree.wire.control import FindingsOrder, SweepOrder, SweepProgress

LIMIT: Final = 1_000
"""Findings in a report or page where the caller does not say."""
LIMIT_MAX: Final = 10_000
"""Most findings of one report or page: about 4 MB of JSON. The rest is read page by page."""
SWEEPS_AT_ONCE: Final = 4
"""Sweeps that run at the same time; each may load every source. Further ones wait."""
SWEEPS_OPEN_MAX: Final = 64
"""Sweeps running or waiting; the next one is refused. Bounds what callers can make the coordinator keep."""
TEXT_CHARS_MAX: Final = 255
"""Longest job id and purpose."""
_log = structlog.get_logger("paritree.coordinator")


class SweepRunner(Protocol):
    """Makes one sweep."""

    async def run(
        self,
        dataset: Dataset,
        regions: Sequence[str],
        *,
        sweep_id: str,
        lag_max_s: float | None,
        purpose: str,
        limit: int,
        progress: Callable[[SweepProgress], None],
    ) -> dict[str, Any]:
        """The report of DESIGN.md section 15, with one more key, ``stored``, which is taken out before anyone sees it:

        ``{"findings": [every finding in the report's form], "traffic": [Traffic, …]}``. What the regions' policies do
        not let leave is in neither. ``lag_max_s`` None means the dataset's own; ``purpose`` "" that no clear keys are
        asked for. ``progress`` is called on the event loop. Regions that fail make the report "unknown"; an exception
        is for what makes the whole sweep impossible.
        """
        ...


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
    ) -> None:
        self._store = store
        self._runner = runner
        self._datasets = datasets
        self._connected = connected
        self._new_id = new_id
        self._running: dict[str, Running] = {}
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(SWEEPS_AT_ONCE)
        self._dataset_locks = {name: asyncio.Lock() for name in datasets}
        self._stopping = False

    # --- sweeps -----------------------------------------------------------------------------------------------------

    async def sweep(
        self, order: SweepOrder, operator: str = ""
    ) -> AsyncGenerator[tuple[str, SweepProgress | Finished], None]:
        """Start the sweep or join the one of the same job id: its id with progress, at last with its report.

        Raises ConfigError for what the caller got wrong, PeerError when the coordinator is stopping or full.
        """
        row, running = await self._begun(order, operator)
        if running is None:
            yield row.id, Finished(_report(row))
            return
        async for event in running.follow():
            yield row.id, event

    async def _begun(self, order: SweepOrder, operator: str) -> tuple[SweepRow, Running | None]:
        new = self._new(order, operator)
        async with self._starting:  # between the store's row and our task nobody else may look
            if self._stopping:
                raise PeerError("the coordinator is stopping", retryable=True)
            if len(self._running) >= SWEEPS_OPEN_MAX and new.job_id not in {r.job_id for r in self._running.values()}:
                raise PeerError(f"{SWEEPS_OPEN_MAX} sweeps are open already", next_step="try later", retryable=True)
            row, ours = await asyncio.to_thread(self._store.begin, new)
            if row.state in (SweepState.QUEUED, SweepState.RUNNING) and row.id not in self._running:
                if not ours:  # a coordinator that ended had begun it
                    await asyncio.to_thread(self._store.requeue, row.id)
                self._start(row, order)
            return row, self._running.get(row.id)

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
        for flag, text in (("--job-id", order.job_id), ("--purpose", order.purpose)):
            if len(text) > TEXT_CHARS_MAX or not text.isprintable():
                raise ConfigError(f"{flag}: at most {TEXT_CHARS_MAX} printable characters")
        sweep_id = self._new_id()
        options = {"lag_max_s": order.lag_max_s, "purpose": order.purpose, "limit": _limited(order.limit)}
        profile_id = dataset.profile.profile_id.hex()
        return NewSweep(sweep_id, order.job_id or sweep_id, dataset.name, regions, options, operator, profile_id)

    def _dataset(self, name: str) -> Dataset:
        if name not in self._datasets:
            raise ConfigError(f"the coordinator has no dataset '{name}'", next_step=near(name, self._datasets))
        return self._datasets[name]

    def _start(self, row: SweepRow, order: SweepOrder) -> None:
        running = Running(row.id, row.job_id)
        self._running[row.id] = running
        running.task = asyncio.create_task(self._run(row, order, running), name=f"sweep {row.id}")
        # Its error is told to followers and kept in the store; asyncio need not complain when nobody follows.
        running.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _run(self, row: SweepRow, order: SweepOrder, running: Running) -> Mapping[str, Any]:
        """Run the sweep and keep its outcome, whatever it is."""
        log = _log.bind(sweep=row.id, dataset=row.dataset)
        try:
            running.note(SweepProgress("", "queued"))
            async with self._dataset_locks[row.dataset], self._slots:
                await asyncio.to_thread(self._store.start, row.id)
                log.info("sweep started", regions=list(row.regions), operator=row.operator)
                report = await self._runner.run(
                    self._datasets[row.dataset],
                    row.regions,
                    sweep_id=row.id,
                    lag_max_s=order.lag_max_s,
                    purpose=order.purpose,
                    limit=_limited(order.limit),
                    progress=running.note,
                )
            stored = report.pop("stored", {})
            report["sweep_id"] = row.id
            moved: Sequence[Traffic] = stored.get("traffic", ())
            await asyncio.to_thread(self._store.finish, row.id, report, stored.get("findings", ()), moved)
            log.info("sweep finished", verdict=report["verdict"], findings=report.get("findings_total"))
            return report
        except BaseException as error:
            await self._failed(row.id, error, log)
            raise
        finally:
            del self._running[row.id]

    async def _failed(self, sweep_id: str, error: BaseException, log: Any) -> None:
        state, reason = SweepState.FAILED, f"internal error: {type(error).__name__}"
        if isinstance(error, asyncio.CancelledError):
            state, reason = SweepState.INTERRUPTED, "the coordinator stopped"
        elif isinstance(error, ParitreeError):
            reason = str(error)
            log.error("sweep failed", reason=reason)
        else:
            log.exception("sweep failed")
        try:
            await asyncio.shield(asyncio.to_thread(self._store.fail, sweep_id, reason, state))
        except ParitreeError as second:  # the sweep stays open in the store; the next start marks it interrupted
            log.error("the store did not take the failure", reason=second.message)

    async def stop(self, timeout_s: float) -> None:
        """Take no more sweeps, give those that run ``timeout_s`` seconds, then interrupt them."""
        self._stopping = True
        tasks = [running.task for running in self._running.values() if running.task is not None]
        if not tasks:
            return
        _log.info("waiting for sweeps", sweeps=len(tasks), timeout_s=timeout_s)
        _, late = await asyncio.wait(tasks, timeout=timeout_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    # --- what there is ----------------------------------------------------------------------------------------------

    async def status(self, dataset: str = "") -> dict[str, Any]:
        """Regions with their agents, datasets with their last sweep. Raises ConfigError for an unknown dataset."""
        chosen = [self._dataset(dataset)] if dataset else list(self._datasets.values())
        seen = await asyncio.to_thread(self._store.agents)
        last = {one.name: await asyncio.to_thread(self._store.newest, one.name) for one in chosen}
        now = {(agent.region, agent.agent): agent for agent in self._connected()}
        wanted = {region for one in chosen for region in one.regions}
        regions = []
        for name in sorted(wanted | ({row.region for row in seen} if not dataset else set())):
            agents = [_agent(row, now.get((name, row.agent))) for row in seen if row.region == name]
            regions.append({"name": name, "connected": any(agent["connected"] for agent in agents), "agents": agents})
        return {
            "status": 1,
            "version": __version__,
            "regions": regions,
            "datasets": [_described(one, last[one.name]) for one in chosen],
        }

    async def findings(self, order: FindingsOrder) -> dict[str, Any]:
        """One page of a sweep's findings. Raises ConfigError for a sweep that is not there or not finished."""
        row = await asyncio.to_thread(self._wanted, order)
        if row.state is not SweepState.FINISHED or row.report is None:
            why = f": {row.error}" if row.error else ""
            raise ConfigError(f"sweep {row.id} is {row.state}{why}", next_step="findings are of finished sweeps")
        limit = _limited(order.limit)
        page, total = await asyncio.to_thread(self._store.findings, row.id, limit=limit, offset=order.offset)
        return {
            "findings_page": 1,
            "sweep_id": row.id,
            "dataset": row.dataset,
            "verdict": row.verdict,
            "finished_at": _time(row.finished_at),
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


def _report(row: SweepRow) -> Mapping[str, Any]:
    if row.report is None:
        raise InvariantBroken(f"sweep {row.id} is {row.state} without a report")
    return row.report


def _time(at: Any) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds")


def _agent(row: Any, now: Connected | None) -> dict[str, Any]:
    return {
        "name": row.agent,
        "connected": now is not None,
        "connected_since": _time(row.connected_since) if now else None,
        "last_seen": None if now else _time(row.last_seen),
        "datasets": sorted(now.datasets) if now else [],
    }


def _described(dataset: Dataset, last: SweepRow | None) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "owner": dataset.owner or None,
        "criticality": dataset.criticality,
        "regions": list(dataset.regions),
        "last_sweep": None
        if last is None
        else {
            "sweep_id": last.id,
            "job_id": last.job_id,
            "state": str(last.state),
            "attempts": last.attempts,
            "verdict": last.verdict,
            "started_at": _time(last.started_at),
            "finished_at": _time(last.finished_at),
            "error": last.error,
        },
    }
