"""Sweeps over tables that are written to all the time, by an application that copies late; see ``--help``.

PostgreSQL is followed by its slot, Cassandra is scanned; agents and coordinator are processes of their own. Writes are
lost and rows edited by hand meanwhile. Each report is held against that: nothing else may be in it, and everything that
was done before the sweep was asked for has to be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
from conftest_tls import make_pki
from faulty import operator_of
from live.application import Application
from live.copier import CREATE, Copier
from servers.cassandra import CassandraServer
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer

from paritree.cli.client import Coordinator
from paritree.wire.control import SweepOrder

KEYSPACE: Final = "live"
DATASETS: Final = {"orders": "", "versioned": 'version = "version"\n'}
"""The table as two datasets: versions as the engines tell them (commit time, write time), and a declared column."""
REFRESH: Final = "".join(f'[refresh.{name}]\nchanges = "slot"\ninterval_s = 1\n' for name in DATASETS)
EXCUSED_MAX: Final = 50
"""One finding for so many planted rows may be excused. Runs at three times the cores' load have excused none: where it
is more, the machine was too busy for the run to show that nothing late is reported."""
LATE_MIN: Final = 1_500
"""Writes that are not copied yet when the first sweep begins. 100 rows a second and a lag of 30 s come to as many."""
CONNECT_S: Final = 180.0
"""Agents start beside an application at work."""
PIECE_MIN: Final = 10.0
"""Minutes of one life of the servers, at most."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: seconds of writing, rows at the start, rows written a second, lag in seconds, what is planted.

    ``lag_max_s`` is what the datasets declare: the lag, and what the machine may take to copy one row.
    """

    seconds: float
    rows: int
    rate: float
    lag_s: float
    lag_max_s: float
    losses: int
    edits: int
    seed: int


@dataclass
class Totals:
    """What has happened, over all runs with the same state file."""

    seconds: float = 0.0
    sweeps: int = 0
    written: int = 0
    planted: Counter[str] = field(default_factory=Counter)
    found: int = 0
    healed: int = 0
    unsettled: int = 0
    late_copies: int = 0
    excused: int = 0
    worst_lag_s: float = 0.0
    slowest_s: float = 0.0
    scans: int = 0
    false: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    load: list[float] = field(default_factory=list)

    @property
    def excuses_much(self) -> bool:
        """Whether more findings were excused than a run may have that is to show anything."""
        return self.excused > self.planted.total() // EXCUSED_MAX

    @classmethod
    def read(cls, file: Path | None) -> Totals:
        totals = cls()
        if file is not None and file.exists():
            for name, value in json.loads(file.read_text()).items():
                setattr(totals, name, Counter(value) if name == "planted" else value)
        return totals

    def write(self, file: Path | None) -> None:
        if file is not None:
            file.with_suffix(".part").write_text(json.dumps(vars(self), indent=1))
            os.replace(file.with_suffix(".part"), file)


def datasets(lag_max_s: float) -> str:
    """The datasets file."""
    text = ""
    for name, version in DATASETS.items():
        text += f'[dataset.{name}]\nkey = ["id"]\nlag_max_s = {lag_max_s}\n{version}'
        text += f'[dataset.{name}.columns]\nid = "int"\ncode = "text"\namount = "decimal"\nversion = "int"\n'
        for region in ("eu", "us"):
            text += f'[dataset.{name}.regions.{region}]\nconnection = "main"\ntable = "orders"\n'
    return text


class Judge:
    """Holds reports against what was planted."""

    def __init__(self, application: Application, totals: Totals) -> None:
        self.application, self.totals = application, totals

    def report(self, report: Mapping[str, Any], since: float, until: float) -> None:
        """One report of a sweep between two times (monotonic)."""
        totals, plants = self.totals, dict(self.application.plants)
        must = {key: plant.kind for key, plant in plants.items() if plant.done < since}
        may = {key: plant.kind for key, plant in plants.items() if plant.began < until}
        found = {finding["key"]["id"]: finding["kind"] for finding in report["findings"]}
        said = f"{report['dataset']} {report['sweep_id']}"
        for key in found.keys() - may.keys():
            if self.application.copier.overdue(key, since, until):
                totals.excused += 1  # the application's doing: it copied later than was promised to the sweep
            else:
                finding = next(finding for finding in report["findings"] if finding["key"]["id"] == key)
                late = self.application.copier.late.get(key, [])
                totals.false.append(f"{said}: {finding}; swept {since:.2f} to {until:.2f}, copied late {late}")
        for key, kind in must.items():
            if found.get(key) != kind:
                totals.missed.append(f"{said}: {key}, {plants[key]}: {found.get(key)}")
        if report["findings_total"] != len(found) or (must and report["verdict"] != "different"):
            totals.false.append(f"{said}: {report['verdict']}, {report['findings_total']} findings")
        for stated in report["verdicts"]:
            if stated["verdict"] in ("unknown", "equal"):
                totals.missed.append(f"{said}: {stated}")
        totals.sweeps += 1
        totals.healed += report["summary"]["healed"]
        totals.unsettled += report["summary"]["unsettled"]
        print(f"{said}: {until - since:.1f} s, {report['spans']}, {report['summary']}", flush=True)
        totals.slowest_s = max(totals.slowest_s, round(until - since, 1))
        totals.scans += any(note.startswith("eu: scanned") for note in report["notes"])
        totals.load.append(round(psutil.getloadavg()[0], 1))


class Live:
    """One run: the application at work, sweeps of both datasets beside each other."""

    def __init__(self, application: Application, operator: Coordinator, plan: Plan, totals: Totals) -> None:
        self.application, self.operator, self.plan, self.totals = application, operator, plan, totals
        self.judge = Judge(application, totals)
        self._run = f"{time.time_ns():x}"
        self._number = 0

    async def run(self) -> None:
        """Sweep while the application writes, and once more from the moment when it has written its last."""
        await self._late()
        until = time.monotonic() + self.plan.seconds
        closing = asyncio.create_task(self._close(until))
        await asyncio.gather(closing, *(self._sweeps(name, until) for name in DATASETS))
        self.totals.found += closing.result()

    async def _late(self) -> None:
        """Wait until many copies are late: a quick first sweep would begin before any is."""
        due = time.monotonic() + 60
        while not self.application.planting and self.application.copier.waiting() < LATE_MIN:
            assert time.monotonic() < due, "the application does not get to write"
            await asyncio.sleep(0.1)

    async def _plant(self, until: float) -> None:
        """A little every second, over four fifths of the time."""
        left_losses, left_edits = self.plan.losses, self.plan.edits
        steps = max(1, round(0.8 * self.plan.seconds))
        for step in range(steps, 0, -1):
            losses, edits = -(-left_losses // step), -(-left_edits // step)
            self.application.plant(losses, edits)
            left_losses, left_edits = left_losses - losses, left_edits - edits
            await asyncio.sleep(1.0)
        while self.application.planting:
            await asyncio.sleep(0.1)
            assert time.monotonic() < until + 60, "the application does not get to plant what it is told to"

    async def _sweeps(self, name: str, until: float) -> None:
        """Sweeps one after the other, the last one begun before the time is up."""
        chance = random.Random(name)
        while time.monotonic() < until:
            await self.sweep(name)
            await asyncio.sleep(chance.uniform(0.0, 1.0))

    async def _close(self, until: float) -> int:
        """One sweep of each dataset, ordered while copies are late still; how many of what was planted each found."""
        await self._plant(until)
        await asyncio.sleep(until - time.monotonic())
        await asyncio.to_thread(self.application.rest)
        return min(await asyncio.gather(*map(self.sweep, DATASETS)))

    async def sweep(self, name: str) -> int:
        """One sweep, judged; how many of what was planted it found."""
        self._number += 1
        order = SweepOrder(name, job_id=f"{self._run}-{self._number}", purpose="live test", limit=100_000)
        since = time.monotonic()
        report = await self.operator.sweep(order, lambda _: None, lambda _: None)
        self.judge.report(report, since, time.monotonic())
        planted = self.application.plants.keys()
        return len(planted & {finding["key"]["id"] for finding in report["findings"]})


@contextlib.asynccontextmanager
async def running(
    folder: Path, postgresql: PostgresqlServer, cassandra: CassandraServer, plan: Plan, totals: Totals
) -> AsyncIterator[Live]:
    """Everything at work; what was written and copied is in ``totals`` afterwards."""
    make_pki(folder)
    url = postgresql.create_database("live")
    with cassandra.session() as session, Fleet(folder, folder) as fleet:
        session.execute(f"DROP KEYSPACE IF EXISTS {KEYSPACE}")
        strategy = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {strategy}")
        session.execute(CREATE.format(KEYSPACE))
        copier = Copier(session, KEYSPACE, plan.lag_s, plan.lag_max_s, random.Random(plan.seed))
        application = Application(url, session, KEYSPACE, copier, plan.rate, plan.seed)
        await asyncio.to_thread(application.begin, plan.rows)
        fleet.datasets(datasets(plan.lag_max_s))
        fleet.start_coordinator()
        policy = 'policy = { disclosure = "keys", sealed_keys = %s }'  # us reads keys of eu, eu scans for those of us
        fleet.start_agent("eu", url, extra=policy % "true", edit=lambda text: text + REFRESH)
        fleet.start_agent("us", f"{cassandra.url}/{KEYSPACE}", extra=policy % "false")
        async with operator_of(folder) as operator:
            await asyncio.to_thread(fleet.wait_connected, ("eu", "us"), within_s=CONNECT_S)
            copier.start()
            application.start()
            try:
                yield Live(application, operator, plan, totals)
            finally:
                await asyncio.to_thread(application.stop)
                await asyncio.to_thread(fleet.stop_all)
        totals.written += application.written
        totals.planted.update(plant.what for plant in application.plants.values())
        totals.late_copies += sum(map(len, copier.late.values()))
        totals.worst_lag_s = max(totals.worst_lag_s, round(copier.worst_s, 2))
        session.execute(f"DROP KEYSPACE {KEYSPACE}")
    postgresql.drop_database("live")


async def lived(
    folder: Path, postgresql: PostgresqlServer, cassandra: CassandraServer, plan: Plan, totals: Totals
) -> None:
    """One run; what was false and what was missed is in ``totals``."""
    async with running(folder, postgresql, cassandra, plan, totals) as live:
        await live.run()
    totals.seconds += plan.seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of all runs with the same state file together")
    parser.add_argument("--piece", type=float, default=PIECE_MIN, help="minutes of one run at most")
    parser.add_argument("--state", type=Path, help="go on from this file, and write it")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=1_000.0, help="rows written a second")
    parser.add_argument("--lag", type=float, default=30.0, help="longest lag of the copies, in seconds")
    parser.add_argument(
        "--lag-max", type=float, help="what the datasets declare; default: the lag and 10 %%, 2 s at least"
    )
    parser.add_argument("--losses", type=int, default=200)
    parser.add_argument("--edits", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    totals = Totals.read(options.state)
    seed = random.randrange(10**9) if options.seed is None else options.seed
    lag_max = options.lag + max(2.0, options.lag / 10) if options.lag_max is None else options.lag_max
    plan = Plan(0, options.rows, options.rate, options.lag, lag_max, 0, 0, seed)
    while (left := options.minutes * 60 - totals.seconds) > 1 and not totals.false and not totals.missed:
        print(f"seed {plan.seed}", flush=True)
        seconds = min(left, options.piece * 60)
        gone = sum(count for what, count in totals.planted.items() if what.startswith("lost"))
        edited = totals.planted.total() - gone
        share = seconds / left
        plan = replace(
            plan,
            seconds=seconds,
            losses=round((options.losses - gone) * share),
            edits=round((options.edits - edited) * share),
        )
        with (
            PostgresqlServer() as postgresql,
            CassandraServer() as cassandra,
            tempfile.TemporaryDirectory(prefix="paritree-live-") as folder,
        ):
            asyncio.run(lived(Path(folder), postgresql, cassandra, plan, totals))
        totals.write(options.state)
        plan = replace(plan, seed=plan.seed + 1)
    print(json.dumps(vars(totals), indent=1))
    whole = totals.found == totals.planted.total() >= options.losses + options.edits
    return 0 if whole and not totals.false and not totals.missed and not totals.excuses_much else 1


if __name__ == "__main__":
    sys.exit(main())
