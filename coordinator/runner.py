"""The coordinator's sweeps over the regions that are connected: a ``SweepRunner`` on top of :class:`Sweep`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from coordinator.course import Surroundings
from coordinator.store import Traffic
from coordinator.sweep import Sweep, SweepOptions
from paritree.config.datasets import Dataset
from paritree.core.messages import ByteClass, Progress
from paritree.wire.control import SweepProgress
from paritree.wire.link import RegionLink

WHOLE_SWEEP = 0
"""The round of traffic that is counted for the sweep as a whole."""


class LinkRunner:
    """Runs sweeps over the links that ``links`` gives for a sweep's regions; a region without one is unknown."""

    def __init__(
        self,
        links: Callable[[Sequence[str]], Awaitable[Mapping[str, RegionLink]]],
        *,
        exchange_timeout_s: float,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._links = links
        self._exchange_timeout_s = exchange_timeout_s
        self._surroundings = surroundings or Surroundings()

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
        """See ``coordinator.control.SweepRunner``."""

        def told(region: str, stage: str, how_far: Progress) -> None:
            progress(SweepProgress(region, stage, how_far.shards_done, how_far.shards_total, how_far.rows))

        progress(SweepProgress("", "connect"))
        links = await self._links(regions)
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
            ),
            self._surroundings,
            told,
        )
        try:
            report = await sweep.run()
            return {**report, "stored": {"findings": _every(sweep, report), "traffic": _traffic(links, sweep_id)}}
        finally:
            for link in links.values():
                link.ledger.forget(sweep_id)


def _every(sweep: Sweep, report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All findings in the report's form: those of the report, with the keys that were granted, and those cut off."""
    listed: list[dict[str, Any]] = list(report["findings"])
    if sweep.conclusion is None:
        return listed
    keys = len(listed) - (sweep.conclusion.loss is not None)  # a range comes first, whatever the limit
    return listed + [finding.report(None) for finding in sweep.conclusion.findings[keys:]]


def _traffic(links: Mapping[str, RegionLink], sweep_id: str) -> list[Traffic]:
    tallies = {name: link.ledger.of(sweep_id) for name, link in links.items()}
    return [
        Traffic(name, WHOLE_SWEEP, str(kind), tally.sent.get(kind, 0), tally.received.get(kind, 0))
        for name, tally in tallies.items()
        for kind in ByteClass
        if tally.sent.get(kind) or tally.received.get(kind)
    ]
