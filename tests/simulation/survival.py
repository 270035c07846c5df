"""One trial: sweeps over processes that die, and what their reports may say.

Safety: whatever happens, a report says what is true of the regions that it calls compared, and ``equal`` only of all.
Liveness: once faults stop, the sweep under way ends within the time in which the last of them is found out, and the
next one compares all regions, within twice the time that the same sweep took before there were any faults.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from simulation import mortal
from simulation.check import Versions, check, compared, entry, token_of, versions
from simulation.clock import VirtualLoop, run
from simulation.lives import Fleet
from simulation.network import ROUGH
from simulation.trial import MOVING, Trial, Write
from simulation.world import LAG_S, Row, World, narrow

from coordinator.store import SweepState, Traffic
from coordinator.store import store as opening
from coordinator.store.engine import make_engine
from edge_agent import kept, service, signs
from paritree.core.errors import ParitreeError
from paritree.core.limits import KEEPALIVE_S
from paritree.core.retry import PAUSE_S_MAX
from paritree.wire.control import SweepOrder

CALM_S: Final = 15.0
"""Faults of a trial for liveness stop that long after they began; lives that ended come back later still."""
AWAY_S: Final = 40.0
"""Longest that an end of a life, or a coordinator's ignorance, lasts."""
UNHEARD_S: Final = 20.0 + 2 * KEEPALIVE_S
"""In which a lost message, or a half-open link, is found out."""
NOTICED_S: Final = AWAY_S + UNHEARD_S + 3 * PAUSE_S_MAX
"""After which everything is back and heard: the longest outage, the silence allowed, and pauses before tries."""
HANG_S: Final = 3_600.0


class Ledger:
    """What each region held of each key that is written, from the beginning on."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.held: dict[str, dict[int, list[list[Row]]]] = {
            name: {key: [[row for row in rows if row[0] == key]] for key in MOVING}
            for name, rows in fleet.trial.tables.items()
        }

    def write(self, write: Write) -> None:
        """The row is there, or gone."""
        region = self._fleet.agents[write.region].region
        row = [] if write.name is None else [(write.key, write.name, "2.00")]
        at = next((i for i, old in enumerate(region.rows) if old[0] == write.key), len(region.rows))
        region.rows[at : at + 1] = row
        region.put(region.rows)
        self.held[write.region][write.key].append(row)

    def possible(self, key: int, regions: Sequence[str]) -> list[Versions]:
        """Every combination of what the regions held."""
        states = [self.held[name][key] for name in regions]
        return [dict(zip(regions, rows, strict=True)) for rows in itertools.product(*states)]


async def survived(trial: Trial, folder: Path, store: Path, trace: Any) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """What happened, and the reports. Raises AssertionError for anything that must not be."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    fleet = Fleet(trial, folder, store, trace)
    slow = random.Random(f"disk {trial.seed}")
    loop.disk_s = lambda: slow.uniform(trial.disk_s / 2, trial.disk_s) if mortal.running() else 0.0
    ledger = Ledger(fleet)
    due = list(trial.writes)
    for agent in fleet.agents.values():
        agent.region.store.before_shard = functools.partial(_before_shard, ledger, due, fleet.rng)
    fleet.start()
    try:
        async with asyncio.timeout(HANG_S):
            reports = [await _lively(fleet)] if trial.liveness else [await _safely(fleet, ledger, due)]
    finally:
        await fleet.close()
    return fleet.met, reports


def _before_shard(ledger: Ledger, due: list[Write], chance: random.Random, _shard: Any) -> None:
    mortal.step()
    if due and chance.random() < 0.3:
        ledger.write(due.pop(0))


async def _safely(fleet: Fleet, ledger: Ledger, due: list[Write]) -> dict[str, Any]:
    def write() -> None:
        if due:
            ledger.write(due.pop(0))

    for one in fleet.trial.writes:
        fleet.later(one.at_s, write)
    fleet.unleash()
    report = await _swept(fleet, "during")
    if fleet.trial.writes:
        _check_written(fleet.trial, ledger, report)
    else:
        _check(fleet.trial, report)
    return report


async def _lively(fleet: Fleet) -> dict[str, Any]:
    trial, clock = fleet.trial, asyncio.get_running_loop().time
    await _connected(fleet)
    began = clock()
    before = await _swept(fleet, "before")
    fair_s = clock() - began
    _check(trial, before, whole=True)
    fleet.unleash()
    calm_at = clock() + CALM_S
    fleet.later(CALM_S, fleet.calm)
    during = await _swept(fleet, "during")
    took_s = clock() - calm_at
    assert took_s <= NOTICED_S + 2 * fair_s, (
        f"it ended {took_s:.1f} s after the last fault, alone it takes {fair_s:.1f}"
    )
    _check(trial, during)
    await asyncio.sleep(max(0.0, calm_at - clock()))
    await asyncio.sleep(NOTICED_S)
    await _connected(fleet)
    began = clock()
    after = await _swept(fleet, "after")
    assert clock() - began <= 2 * fair_s, f"after the faults it takes {clock() - began:.2f} s, before {fair_s:.2f}"
    _check(trial, after, whole=True)
    return during


async def _connected(fleet: Fleet) -> None:
    """Wait until every region is."""
    while not fleet.coordinator.process.alive or fleet.coordinator.regions.links.keys() < fleet.agents.keys():
        await asyncio.sleep(0.1)


async def _swept(fleet: Fleet, job: str) -> dict[str, Any]:
    """The report, asked for again under the same job id for as long as nobody gives it."""
    while True:
        one = fleet.coordinator
        if one.process.alive:
            asking = one.process.spawn(_last(one.control, job))
            await asyncio.wait({asking})
            error = None if asking.cancelled() else asking.exception()
            if not asking.cancelled() and error is None:
                report = asking.result()
                break
            known = isinstance(error, ParitreeError) and error.retryable
            if one.process.alive and fleet.coordinator is one and not known:
                raise AssertionError(f"a sweep failed: {error}") from error
        await asyncio.sleep(0.2)
    await _stored(fleet, job, report)
    return report


async def _last(control: Any, job: str) -> dict[str, Any]:
    order = SweepOrder("orders", job_id=job, limit=10_000, lag_max_s=LAG_S)
    told = [event async for _, event in control.sweep(order, "ann")]
    return dict(told[-1].report)


async def _stored(fleet: Fleet, job: str, report: Mapping[str, Any]) -> None:
    """The store says the same as was told, once."""
    while not fleet.coordinator.process.alive:
        await asyncio.sleep(0.1)
    store = fleet.coordinator._store
    row = store.sweep(job)
    assert row is not None
    assert (row.state, row.report) == (SweepState.FINISHED, report)
    found, total = store.findings(row.id, limit=10_000, offset=0)
    assert [_said(one) for one in found] == [_said(one) for one in report["findings"]]
    assert total == report["findings_total"]
    assert store.answers(row.id) == []
    _same_traffic(store.traffic(row.id), report)
    fleet.met["resumed"] = fleet.met.get("resumed", 0) + bool(row.resumed)


def _same_traffic(kept: Sequence[Traffic], report: Mapping[str, Any]) -> None:
    """The store's ledger is the report's: by class, and by region and direction."""
    for region in report["regions"]:
        own = [traffic for traffic in kept if traffic.region == region["name"]]
        sent, received = sum(t.bytes_sent for t in own), sum(t.bytes_received for t in own)
        assert (sent, received) == (region["bytes_sent"], region["bytes_received"])
    classes: Counter[str] = Counter()
    for traffic in kept:
        classes[traffic.byte_class] += traffic.bytes_sent + traffic.bytes_received
    assert dict(classes) == {kind: count for kind, count in report["bytes"].items() if count}


def _said(finding: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in finding.items() if value is not None}


def _check(trial: Trial, report: Mapping[str, Any], *, whole: bool = False) -> None:
    check(World(trial.seed, trial.tables, ROUGH, "", trial.form, trial.crowded, random.Random()), report)
    if whole:
        assert len(compared(report)) == len(trial.tables), report["verdicts"]
        assert report["verdict"] == ("different" if versions(trial.tables, list(trial.tables)) else "equal")


def _check_written(trial: Trial, ledger: Ledger, report: Mapping[str, Any]) -> None:
    """Keys that nobody wrote are judged as ever; one that was written is reported as it was at some time."""
    regions = compared(report)
    said = {v["verdict"] for v in report["verdicts"]}
    if len(regions) < len(trial.tables):
        assert "unknown" in said
        assert "equal" not in said
    moving = {token_of(key): key for key in MOVING}
    still = {name: [row for row in rows if row[0] not in MOVING] for name, rows in trial.tables.items()}
    truth = versions(still, regions) if len(regions) > 1 else {}
    found = {finding["token"]: finding for finding in report["findings"]}
    assert {t: f for t, f in found.items() if t not in moving} == {t: entry(t, rows) for t, rows in truth.items()}
    open_keys = {e["token"] for e in (*report["unknown_keys"], *report["unsettled_keys"])}
    assert open_keys <= moving.keys()
    for token, key in moving.items():
        possible = ledger.possible(key, regions) if len(regions) > 1 else []
        if token in found:
            assert _alike(found[token]) in [_alike(entry(token, rows)) for rows in possible if _differ(rows)]
        elif possible and all(map(_differ, possible)):
            assert token in open_keys, f"key {key} differed all the time"


def _differ(rows_of: Versions) -> bool:
    return len({tuple(rows) for rows in rows_of.values()}) > 1


def _alike(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Without the columns, which are asked for later than the rows."""
    return {name: value for name, value in finding.items() if name != "columns"}


def survive(trial: Trial, folder: Path, store: Path, trace: Any) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """:func:`survived` in virtual time."""
    add = kept.Kept._add

    def added(self: kept.Kept, kind: str, values: Any) -> None:
        mortal.step()
        add(self, kind, values)
        mortal.step()

    with pytest.MonkeyPatch.context() as patch:
        narrow(patch, trial.form, crowded=trial.crowded)
        virtual = SimpleNamespace(monotonic=lambda: asyncio.get_running_loop().time())
        patch.setattr(signs, "time", virtual)
        patch.setattr(service, "time", virtual)
        patch.setattr(opening, "migrate", lambda _: None)  # the store's file has its tables
        patch.setattr(opening, "make_engine", _engine)
        patch.setattr(kept.Kept, "_add", added)
        return run(survived(trial, folder, store, trace))


@functools.cache
def _engine(url: str, password: str | None = None) -> Any:
    """One engine for all coordinators of all trials: it remembers the statements that it has compiled."""
    return make_engine(url, password)
