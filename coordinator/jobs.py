"""The sweeps of this coordinator as jobs: begun once, taken up after a restart, paused, resumed, cancelled.

What a sweep is stands in the store; this process only drives it. So a coordinator that stops, however it stops, leaves
its sweeps open, and the next one takes them up where the stored answers end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final, Protocol

import structlog

from coordinator.course import Course
from coordinator.halt import Rested
from coordinator.journal import Diverged
from coordinator.running import Running, resting
from coordinator.setting import Setting
from coordinator.store import Fenced, NewSweep, SweepRow, SweepState, Traffic
from paritree.config.datasets import Dataset
from paritree.core.asks import ANY_AGE, Freshness
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError, SourceError, exhausted
from paritree.core.scope_labels import id_bytes
from paritree.wire.control import SweepProgress

SWEEPS_AT_ONCE: Final = 4
"""Sweeps that run at the same time; each may load every source. Further ones wait."""
SWEEPS_OPEN_MAX: Final = 64
"""Sweeps running or waiting; the next one is refused. Bounds what callers can make the coordinator keep."""
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
        course: Course,
        scope: str = "",
        bucket: bytes = b"",
        freshness: Freshness = ANY_AGE,
    ) -> dict[str, Any]:
        """The report (``core/manifest``), with one more key, ``stored``, which is taken out before anyone sees it:

        ``{"findings": [every finding in the report's form], "traffic": [Traffic, …]}``. What the regions' policies do
        not let leave is in neither. ``lag_max_s`` None means the dataset's own; ``purpose`` "" that no clear keys are
        asked for. ``progress`` is called on the event loop. Regions that fail make the report "unknown"; an exception
        is for what makes the whole sweep impossible. A ``course`` that has been run partly is taken up where it ended.
        ``ended_early`` in the report is the reason for which its halt ended it, else None. With ``scope`` and
        ``bucket`` only the rows of that bucket are compared. ``freshness``: how old indexes may be.
        """
        ...


def _part(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the dataset is swept, where it is not the whole, and how old indexes may be, where that was said."""
    of = {"scope": options["scope"], "bucket": id_bytes(options["bucket"])} if options.get("scope") else {}
    if (max_age_s := options.get("max_age_s")) is not None:
        of |= {"freshness": Freshness(max_age_s, options["rescan"])}
    return of


class Jobs:
    """Drives sweeps. ``overtaken`` is set once another coordinator has the store: everything has to stop then."""

    def __init__(self, setting: Setting, runner: SweepRunner, datasets: Mapping[str, Dataset]) -> None:
        self._setting = setting
        self._store = setting.store
        self._runner = runner
        self._datasets = datasets
        self._running: dict[str, Running] = {}
        self._changing = asyncio.Lock()
        self._slots = asyncio.Semaphore(SWEEPS_AT_ONCE)
        self._dataset_locks = {name: asyncio.Lock() for name in datasets}
        self._stopping = False
        self.overtaken = asyncio.Event()
        self.failed: Callable[[str, str], Awaitable[None]] | None = None
        """Told of each sweep that came to no report, by its id, with the reason."""

    @property
    def running(self) -> Mapping[str, Running]:
        """The sweeps that this process runs, by id."""
        return self._running

    # --- begin and take up ------------------------------------------------------------------------------------------

    async def begin(self, new: NewSweep) -> tuple[SweepRow, Running | None]:
        """The sweep of that job id, and its run where it has not ended. Raises ConfigError, PeerError, SourceError."""
        async with self._changing:  # between the store's row and our task nobody else may look
            self._demand_going()
            if len(self._running) >= SWEEPS_OPEN_MAX and new.job_id not in {r.job_id for r in self._running.values()}:
                raise PeerError(f"{SWEEPS_OPEN_MAX} sweeps are open already", next_step="try later", retryable=True)
            row, _ = await self._told(partial(self._store.begin, new))
            if row.state is SweepState.PAUSED:
                raise resting(row.id, f"paused by {row.paused_by}")
            if row.state in (SweepState.QUEUED, SweepState.RUNNING) and row.id not in self._running:
                await self._start(row)
            return row, self._running.get(row.id)

    async def take_up(self) -> None:
        """Go on with the sweeps that the coordinator before this one left. Raises SourceError."""
        async with self._changing:
            for row in await self._told(self._store.left_open):
                if row.id not in self._running:
                    _log.info("sweep taken up", sweep=row.id, dataset=row.dataset, state=str(row.state))
                    await self._start(row, patient=True)

    async def _start(self, row: SweepRow, *, patient: bool = False) -> None:
        if row.state is SweepState.RUNNING:  # whoever ran it is gone
            await self._told(partial(self._store.requeue, row.id))
        running = Running(row.id, row.job_id, clock=self._setting.surroundings.clock)
        running.patient = patient
        self._running[row.id] = running
        running.task = asyncio.create_task(self._run(row, running), name=f"sweep {row.id}")
        # Its error is told to followers and kept in the store; asyncio need not complain when nobody follows.
        running.task.add_done_callback(lambda task: task.cancelled() or task.exception())

    # --- steering ---------------------------------------------------------------------------------------------------

    async def pause(self, row: SweepRow, operator: str) -> None:
        """Let it rest, here and over restarts. Raises ConfigError when it has ended."""
        async with self._changing:
            if not await self._told(partial(self._store.pause, row.id, operator)):
                raise _ended(row, "paused")
            if row.id in self._running:
                self._running[row.id].halt.ask(f"paused by {operator}", rest=True)
        await self._left(row)

    async def resume(self, row: SweepRow) -> None:
        """Go on with a paused sweep. Raises ConfigError when it is not paused."""
        async with self._changing:
            self._demand_going()
            if not await self._told(partial(self._store.resume, row.id)):
                raise ConfigError(f"sweep {row.id} is {row.state}, not paused")
            again = await self._told(partial(self._store.sweep, row.id))
            await self._come_to_rest(row)
            if again is not None and row.id not in self._running:
                await self._start(again)

    async def cancel(self, row: SweepRow, operator: str) -> None:
        """End it with what it has found. Raises ConfigError when it has ended."""
        async with self._changing:
            self._demand_going()
            if not await self._told(partial(self._store.cancel, row.id, operator)):
                raise _ended(row, "cancelled")
            await self._come_to_rest(row)
            if row.id not in self._running:
                again = await self._told(partial(self._store.sweep, row.id))
                if again is not None:
                    await self._start(again)
            self._running[row.id].halt.ask(_cancelled(operator))
        await self._left(row)

    async def _come_to_rest(self, row: SweepRow) -> None:
        """Wait for a run that was told to rest, and cannot be told anything else any more."""
        if (running := self._running.get(row.id)) is not None and running.halt.rest:
            await self._left(row)

    async def _left(self, row: SweepRow) -> None:
        """Wait until this process has let go of the sweep."""
        running = self._running.get(row.id)
        if running is not None and running.task is not None:
            await asyncio.wait({running.task})

    # --- one run ----------------------------------------------------------------------------------------------------

    async def _run(self, row: SweepRow, running: Running) -> Mapping[str, Any]:
        """Run the sweep and keep its outcome, whatever it is; stopped or overtaken, leave it open."""
        log = _log.bind(sweep=row.id, dataset=row.dataset)
        try:
            async with AsyncExitStack() as turn:
                running.note(SweepProgress("", "queued"))
                await self._turn(turn, row, running)
                started = await self._started(row)
                log.info("sweep started", regions=list(row.regions), operator=row.operator, resumed=started.resumed)
                report = await self._driven(started, running)
            stored = report.pop("stored", {})
            report["sweep_id"] = row.id
            if started.resumed:
                report["resumed"] = started.resumed
            moved: Sequence[Traffic] = stored.get("traffic", ())
            cancelled = started.cancelled_by is not None or running.halt.reason.startswith(_cancelled(""))
            early = bool(report.get("ended_early"))
            keep = partial(self._store.finish, row.id, report, stored.get("findings", ()), moved)
            await self._finish(row.id, report, partial(keep, cancelled=cancelled and early))
            log.info("sweep finished", verdict=report["verdict"], findings=report.get("findings_total"))
            return report
        except asyncio.CancelledError:
            log.info("sweep left open")
            raise
        except Rested as rested:
            log.info("sweep rests", reason=rested.message)
            raise
        except Fenced:
            log.error("another coordinator has the store")
            self.overtaken.set()
            raise
        except Exception as error:
            if isinstance(error, SourceError) and error.retryable:  # the store is away: nothing is lost or decided
                log.error("sweep left open", reason=str(error))
            else:
                await self._failed(row.id, error, log)
            raise
        finally:
            del self._running[row.id]

    async def _started(self, row: SweepRow) -> SweepRow:
        """It begins to run. Raises Rested where it was paused in this moment."""
        try:
            return await self._told(partial(self._store.start, row.id))  # type: ignore[no-any-return]
        except InvariantBroken:
            now = await self._told(partial(self._store.sweep, row.id))
            if now is None or now.paused_by is None:
                raise
            raise Rested(f"paused by {now.paused_by}") from None

    async def _turn(self, turn: AsyncExitStack, row: SweepRow, running: Running) -> None:
        """Wait for the sweep's turn; one that shall end needs none. Raises Rested."""
        waiting = asyncio.create_task(self._entered(turn, row))
        try:
            await running.halt.unless_asked(waiting)
        finally:
            if not waiting.done():
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
        if running.halt.rest:
            raise Rested(running.halt.reason)

    async def _entered(self, turn: AsyncExitStack, row: SweepRow) -> None:
        if row.dataset in self._dataset_locks:
            await turn.enter_async_context(self._dataset_locks[row.dataset])
        if self._setting.gates is not None:
            await turn.enter_async_context(self._setting.gates.sweeping(row.regions))
        await turn.enter_async_context(self._slots)

    async def _driven(self, row: SweepRow, running: Running) -> dict[str, Any]:
        dataset = self._datasets.get(row.dataset)
        if dataset is None or (row.profile_id and dataset.profile.profile_id.hex() != row.profile_id):
            raise ConfigError(
                f"dataset {row.dataset} is not the one any more that the sweep was begun with",
                next_step="sweep it again",
            )
        if row.cancelled_by is not None:
            running.halt.ask(_cancelled(row.cancelled_by))
        try:
            return await self._once(row, dataset, running)
        except Diverged as error:
            _log.warning("stored answers are of no use", sweep=row.id, reason=error.message)
            await self._told(partial(self._store.forget_answers, row.id))
            return await self._once(row, dataset, running)

    async def _once(self, row: SweepRow, dataset: Dataset, running: Running) -> dict[str, Any]:
        course = await self._setting.course(row, running.halt)
        course.patient = running.patient
        return await self._runner.run(
            dataset,
            row.regions,
            sweep_id=row.id if row.attempts == 1 else f"{row.id}.{row.attempts}",
            lag_max_s=row.options.get("lag_max_s"),
            purpose=row.options.get("purpose", ""),
            limit=row.options["limit"],
            progress=running.note,
            course=course,
            **_part(row.options),
        )

    async def _finish(self, sweep_id: str, report: Mapping[str, Any], finish: Callable[[], None]) -> None:
        try:
            await self._setting.stored(finish)
        except InvariantBroken:  # the store took it, but its word was lost, and it was told a second time
            row = await self._told(partial(self._store.sweep, sweep_id))
            if row is None or row.report is None or row.report.get("elapsed_s") != report.get("elapsed_s"):
                raise

    async def _failed(self, sweep_id: str, error: BaseException, log: Any) -> None:
        known = error if isinstance(error, ParitreeError) else exhausted(error)
        if known is not None:
            reason = str(known)
            log.error("sweep failed", reason=reason)
        else:
            reason = f"internal error: {type(error).__name__}"
            log.exception("sweep failed")
        try:
            await self._told(partial(self._store.fail, sweep_id, reason))
            if self.failed is not None:
                await self.failed(sweep_id, reason)
        except Fenced:
            self.overtaken.set()
        except ParitreeError as second:  # it stays open in the store: the next coordinator, or request, takes it up
            log.error("the store did not take the failure", reason=second.message)

    async def _told(self, call: Callable[[], Any]) -> Any:
        """A call of the store, in a thread. Raises what it raises."""
        try:
            return await asyncio.to_thread(call)
        except Fenced:
            self.overtaken.set()
            raise

    def _demand_going(self) -> None:
        if self._stopping:
            raise PeerError("the coordinator is stopping", retryable=True)

    async def stop(self, timeout_s: float) -> None:
        """Take no more sweeps, give those that run ``timeout_s`` seconds, then leave them to the next coordinator."""
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


def _cancelled(operator: str) -> str:
    return f"cancelled by {operator}"


def _ended(row: SweepRow, what: str) -> ConfigError:
    return ConfigError(f"sweep {row.id} is {row.state}: it cannot be {what}")


def require_report(row: SweepRow) -> Mapping[str, Any]:
    """The report of an ended sweep. Raises InvariantBroken where there is none."""
    if row.report is None:
        raise InvariantBroken(f"sweep {row.id} is {row.state} without a report")
    return row.report
