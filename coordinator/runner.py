"""The coordinator's sweeps over the regions that are connected: a ``SweepRunner`` on top of :class:`Sweep`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from coordinator.course import Course, Surroundings
from coordinator.store import Traffic
from coordinator.sweep import Sweep, SweepOptions
from paritree.config.datasets import Dataset
from paritree.core.messages import ANY_AGE, ByteClass, Freshness, Progress
from paritree.wire.control import SweepProgress
from paritree.wire.link import RegionLink

LOOK_S = 0.2
"""Between two looks for regions that are waited for."""
WHOLE_SWEEP = 0
"""The round of traffic that is counted for the sweep as a whole."""


class LinkRunner:
    """Runs sweeps over the links that ``links`` gives for a sweep's regions; a region without one is unknown.

    ``away`` gives a link to a region that is not connected at the moment: for sweeps that are taken up again before
    all of their regions have come back.
    """

    def __init__(
        self,
        links: Callable[[Sequence[str]], Awaitable[Mapping[str, RegionLink]]],
        *,
        exchange_timeout_s: float,
        surroundings: Surroundings | None = None,
        away: Callable[[str], RegionLink] | None = None,
    ) -> None:
        self._links = links
        self._exchange_timeout_s = exchange_timeout_s
        self._surroundings = surroundings or Surroundings()
        self._away = away

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
        course: Course | None = None,
        scope: str = "",
        bucket: bytes = b"",
        freshness: Freshness = ANY_AGE,
    ) -> dict[str, Any]:
        """See ``coordinator.jobs.SweepRunner``."""
        course = course or Course.plain(self._surroundings)

        def told(region: str, stage: str, how_far: Progress) -> None:
            progress(SweepProgress(region, stage, how_far.shards_done, how_far.shards_total, how_far.rows))

        progress(SweepProgress("", "connect"))
        links = await self._connected_unless_halted(regions, course)
        sweep = Sweep(
            dataset.profile,
            regions,
            links,
            sweep_id,
            SweepOptions(
                lag_max_s=dataset.lag_max_s if lag_max_s is None else lag_max_s,
                purpose=purpose,
                limit=limit,
                exchange_timeout_s=self._exchange_timeout_s,
                scope=scope,
                bucket=bucket,
                freshness=freshness,
            ),
            self._surroundings,
            told,
            course=course,
        )
        try:
            report = await sweep.run()
            return {**report, "stored": {"findings": _every(sweep, report), "traffic": _traffic(sweep)}}
        finally:
            await course.settle(_outcomes(sweep))
            for link in links.values():
                link.ledger.forget(sweep_id)

    async def _connected_unless_halted(self, regions: Sequence[str], course: Course) -> Mapping[str, RegionLink]:
        """The links of the sweep; none where it is told to halt before they are there."""
        connecting = asyncio.create_task(self._connected(regions, course))
        try:
            await course.halt.unless_asked(connecting)
            return connecting.result() if connecting.done() else {}
        finally:
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)

    async def _connected(self, regions: Sequence[str], course: Course) -> Mapping[str, RegionLink]:
        """The links of the sweep: as they were when it began, where it has got beyond its beginning."""
        journal = course.journal
        if self._away is None or not journal.regions:
            return await self._waited_for(regions, course) if course.patient else await self._links(regions)
        took_part = [name for name in regions if name in journal.regions]
        if journal.begun:  # the other regions were not there when it was begun
            return {name: self._away(name) for name in took_part}
        found = await self._waited_for(regions, course)
        return {**{name: self._away(name) for name in took_part}, **found}

    async def _waited_for(self, regions: Sequence[str], course: Course) -> Mapping[str, RegionLink]:
        """The coordinator was away, and agents dial again after pauses: wait for them as long as patience lasts."""
        deadline = course.now() + course.retry.patience_s
        while len(found := await self._links(regions)) < len(regions) and course.now() < deadline:
            await course.pause(LOOK_S)
        return found


def _every(sweep: Sweep, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All findings in the report's form: those of the report, with the keys that were granted, and those cut off."""
    listed: list[dict[str, Any]] = list(report["findings"])
    if sweep.conclusion is None:
        return listed
    keys = sum(finding["kind"] != "range" for finding in listed)  # a range comes first, whatever the limit
    return listed + [finding.report(None) for finding in sweep.conclusion.findings[keys:]]


def _outcomes(sweep: Sweep) -> dict[str, str | None]:
    """For the circuit breakers: None for a region that worked, the reason where it failed; {} before the end."""
    if sweep.conclusion is None:
        return {}
    worked = {name: None for name, facts in sweep.facts.items() if facts.ready is not None and not facts.excluded}
    return {**worked, **{name: sweep.facts[name].excluded for name in sorted(sweep.failed)}}


def _traffic(sweep: Sweep) -> list[Traffic]:
    return [
        Traffic(name, WHOLE_SWEEP, str(kind), tally.sent.get(kind, 0), tally.received.get(kind, 0))
        for name, tally in sweep.tallies().items()
        for kind in ByteClass
        if tally.sent.get(kind) or tally.received.get(kind)
    ]
