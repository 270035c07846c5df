"""Sweeps back to back over three regions in three engines, with a fault every so many seconds; see ``--help``.

Every report is held against the true difference; at the end nothing may have grown: memory, handles, threads, tasks,
connections, files. Processes are killed in the first third, so that the rest is one life of each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest_tls import make_pki
from faults import Direction, Fault, FaultProxy, Kind, fault_proxy
from faulty import operator_of
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer
from soak.measures import COUNTED, Life, held_by, left_on_spools, summary
from soak.world import DATASET, REGIONS, DuckdbRegion, PostgresqlRegion, Region, SqliteRegion, World

from coordinator.store.engine import POOL_SIZE
from paritree.cli.client import Coordinator
from paritree.core.errors import ParitreeError
from paritree.wire.control import SweepOrder

SWEEP_S_MAX: Final = 120.0
"""A sweep that takes longer, with every fault that can happen meanwhile, hangs."""
SWEEPS_AT_REST: Final = 6
FAULTS_MIN: Final = 5
"""Of a run, which goes on for longer than was asked for until they are over."""
SAMPLES: Final = 8
"""Of one life of a process: with fewer, nothing is said of what it holds."""
SETTINGS: Final = "exchange_timeout_s = 5\npatience_s = 10"
FOLLOWED: Final = '[refresh.orders]\nchanges = "slot"\ninterval_s = 1\n'
"""PostgreSQL's region keeps an index that follows the table; the others are scanned by every sweep."""


@dataclass
class Totals:
    """What has happened, over all runs with the same state file."""

    seconds: float = 0.0
    sweeps: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    processes: dict[str, Any] = field(default_factory=dict)
    slowest_s: float = 0.0

    @classmethod
    def read(cls, file: Path | None) -> Totals:
        totals = cls()
        if file is not None and file.exists():
            for name, value in json.loads(file.read_text()).items():
                setattr(totals, name, Counter(value) if name in ("verdicts", "faults") else value)
        return totals

    def write(self, file: Path | None) -> None:
        if file is not None:
            file.with_suffix(".part").write_text(json.dumps(vars(self), indent=1))
            os.replace(file.with_suffix(".part"), file)


class Soak:
    """The processes of one run, and what is done to them."""

    def __init__(self, fleet: Fleet, world: World, proxies: dict[str, FaultProxy], totals: Totals, seed: int) -> None:
        self.fleet, self.world, self.proxies, self.totals = fleet, world, proxies, totals
        self.chance = random.Random(seed)
        self.lives: dict[str, Life] = {}
        self.quiet = asyncio.Event()
        self.quiet.set()
        self.counts = fleet.folder / "counts"
        self.counts.mkdir()
        os.environ["SOAK_COUNTS"] = str(self.counts)

    def start(self, name: str) -> None:
        if name == "coordinator":
            self.fleet.start_coordinator(command=COUNTED, extra=SETTINGS)
        else:
            port = self.proxies[name].port
            refresh = FOLLOWED if name == "eu" else ""
            self.fleet.start_agent(
                name,
                self.world.regions[name].url,
                command=COUNTED,
                extra='executor = "serial"\npolicy = { disclosure = "keys" }',
                edit=lambda text: text.replace(f"localhost:{self.fleet.port}", f"127.0.0.1:{port}") + refresh,
            )
        self.lives[name] = Life(name)

    def kill(self, name: str) -> None:
        self.fleet.stop(name if name == "coordinator" else f"agent-{name}", signal.SIGKILL)

    async def fault(self, *, may_kill: bool) -> None:
        """One fault, and its end."""
        chance = self.chance
        kills = ("kill agent", "kill coordinator") * 4 if may_kill else ()
        what = chance.choice([*Kind, "cut", "refuse", "freeze", *kills])
        region = chance.choice(REGIONS)
        proxy = self.proxies[region]
        self.totals.faults[str(what)] += 1
        if isinstance(what, Kind):
            proxy.arm(Fault(what, chance.choice(list(Direction)), chance.choice((0, 30, 5_000, 20_000))))
            await asyncio.sleep(3.0)
            proxy.heal()
        elif what == "cut":
            proxy.cut()
        elif what == "refuse":
            proxy.refusing = True
            proxy.cut()
            await asyncio.sleep(3.0)
            proxy.heal()
        elif what == "freeze":
            proxy.freeze()
            await asyncio.sleep(4.0)
            proxy.thaw()
            proxy.cut()
        else:
            name = "coordinator" if what == "kill coordinator" else region
            await asyncio.to_thread(self.kill, name)
            await asyncio.sleep(1.0)
            self.start(name)
            await asyncio.to_thread(self.fleet.wait_connected, REGIONS)  # before that it cannot be measured

    async def faults(self, every_s: float, until: float, kill_until: float) -> None:
        while time.monotonic() < until or sum(self.totals.faults.values()) < FAULTS_MIN:
            await asyncio.sleep(every_s)
            self.quiet.clear()
            await self.fault(may_kill=time.monotonic() < kill_until)
            self.quiet.set()

    async def swept(self, operator: Coordinator, job: str) -> dict[str, Any]:
        """The report, asked for again under the same job id for as long as the coordinator is away."""
        async with asyncio.timeout(SWEEP_S_MAX):
            while True:
                try:
                    order = SweepOrder("orders", job_id=job, purpose="soak", limit=10_000)
                    return await operator.sweep(order, lambda _: None, lambda _: None)
                except ParitreeError as error:
                    if not error.retryable:
                        raise
                    await asyncio.sleep(0.3)

    async def writing(self, region: PostgresqlRegion) -> None:
        while True:
            await asyncio.to_thread(region.touch, self.chance)
            await asyncio.sleep(0.05)

    async def run(self, operator: Coordinator, minutes: float, every_s: float) -> None:
        began = time.monotonic()
        until = began + minutes * 60
        disturbing = asyncio.create_task(self.faults(every_s, until, began + minutes * 20))
        writing: asyncio.Task[None] | None = None
        run = f"{time.time_ns():x}"
        try:
            while time.monotonic() < until or not disturbing.done():
                await asyncio.to_thread(self.world.change)
                if self.chance.random() < 0.3:
                    writing = asyncio.create_task(self.writing(self.world.regions["eu"]))  # type: ignore[arg-type]
                started = time.monotonic()
                report = await self.swept(operator, f"{run}-{self.totals.sweeps}")
                took_s = time.monotonic() - started
                if writing is not None:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
                    writing = None
                self._note(report, took_s)
                if self.quiet.is_set() and not disturbing.done():
                    self._measure()
        finally:
            disturbing.cancel()
            await asyncio.gather(disturbing, *([writing] if writing else []), return_exceptions=True)
            self.totals.seconds += time.monotonic() - began
        await self._at_rest(operator)

    def _note(self, report: dict[str, Any], took_s: float) -> None:
        totals = self.totals
        totals.sweeps += 1
        totals.verdicts[report["verdict"]] += 1
        totals.slowest_s = max(totals.slowest_s, round(took_s, 2))
        wrong = self.world.judge(report)
        if wrong:
            totals.wrong.append(f"sweep {report['sweep_id']}: {wrong}")

    def _measure(self) -> None:
        for name, life in self.lives.items():
            process = self.fleet.processes[name if name == "coordinator" else f"agent-{name}"]
            if process.poll() is not None:
                raise AssertionError(f"{name} ended with {process.returncode}:\n{self._log(name)[-3_000:]}")
            life.seen.append(held_by(process.pid, self.counts))

    def _log(self, name: str) -> str:
        return self.fleet.log(name if name == "coordinator" else f"agent-{name}")

    async def _at_rest(self, operator: Coordinator) -> None:
        """Everything is healed: the next sweeps are right and whole, and nothing is left of the earlier ones."""
        for proxy in self.proxies.values():
            proxy.heal()
            proxy.thaw()
        await asyncio.to_thread(self.fleet.wait_connected, REGIONS)
        for _ in range(SWEEPS_AT_REST):
            report = await self.swept(operator, f"last-{time.time_ns():x}")
            self._note(report, 0.0)
            if report["verdict"] == "unknown":
                self.totals.wrong.append(f"unknown after the faults: {report['verdicts']}")
            self._measure()
        await asyncio.sleep(1.0)
        left = left_on_spools(self.fleet.folder)
        self.totals.leaks += [f"left on the spool: {left}"] if left else []
        for life in self.lives.values():
            self.totals.leaks += life.leaks() if len(life.seen) >= SAMPLES else []
        for name in ("coordinator", *REGIONS):
            if "Traceback" in self._log(name):
                self.totals.wrong.append(f"{name} has a traceback in its log:\n{self._log(name)[-2_000:]}")
        self.totals.processes = dict(summary([life for life in self.lives.values() if len(life.seen) >= SAMPLES]))


@contextlib.asynccontextmanager
async def soaking(folder: Path, server: PostgresqlServer, totals: Totals, seed: int) -> AsyncIterator[tuple[Soak, Any]]:
    """Everything running and connected."""
    (pki := folder / "pki").mkdir()
    make_pki(pki)
    url = server.create_database("soak")
    store = server.create_database("soak_store")
    async with contextlib.AsyncExitStack() as stack:
        regions: dict[str, Region] = {
            "eu": PostgresqlRegion(stack.enter_context(server.connect("soak")), url),
            "us": SqliteRegion(folder / "us.db"),
            "ap": DuckdbRegion(folder / "ap.duckdb"),
        }
        world = World(regions, random.Random(seed))
        world.begin()
        fleet = stack.enter_context(Fleet(folder, pki, store=store))
        fleet.datasets(DATASET)
        proxies = {name: await stack.enter_async_context(fault_proxy(fleet.port)) for name in REGIONS}
        soak = Soak(fleet, world, proxies, totals, seed)
        for name in ("coordinator", *REGIONS):
            soak.start(name)
        operator = await stack.enter_async_context(operator_of(folder))
        await asyncio.to_thread(fleet.wait_connected, REGIONS)
        yield soak, operator
        await asyncio.to_thread(fleet.stop_all)


OTHERS_MAX = POOL_SIZE + 2
"""What the store's pool keeps once it needed it, its lease, and the one by which rows are written here."""


def connections(server: PostgresqlServer) -> tuple[int, int]:
    """Open connections of agents to the databases of the soak, and of others: the coordinator's store, and ours."""
    ours = "SELECT count(*) FILTER (WHERE named), count(*) FILTER (WHERE NOT named) FROM"
    with server.connect() as connection:
        found = connection.execute(
            f"{ours} (SELECT application_name = 'paritree' AS named FROM pg_stat_activity WHERE datname LIKE 'soak%') s"
        ).fetchone()
    assert found is not None
    return int(found[0]), int(found[1])


def slots(server: PostgresqlServer) -> int:
    """Replication slots of the soak's database."""
    with server.connect("soak") as connection:
        found = connection.execute("SELECT count(*) FROM pg_replication_slots WHERE database = 'soak'").fetchone()
    return int(found[0]) if found else 0


async def soaked(
    server: PostgresqlServer, folder: Path, totals: Totals, minutes: float, every_s: float, seed: int
) -> None:
    """One run; what went wrong and what leaked is in ``totals``."""
    async with soaking(folder, server, totals, seed) as (soak, operator):
        await soak.swept(operator, "first")
        await asyncio.sleep(0.5)
        before = connections(server)
        await soak.run(operator, minutes, every_s)
        after = connections(server)
        if after[0] > before[0] + 1:  # a refresh that is under way
            totals.leaks.append(f"agents' connections to PostgreSQL grew from {before[0]} to {after[0]}")
        if after[1] > OTHERS_MAX:
            totals.leaks.append(f"{after[1]} connections of the store and of this program, of {OTHERS_MAX} at most")
        if (left := slots(server)) != 1:
            totals.leaks.append(f"{left} replication slots are there, and one index is kept")
    server.drop_database("soak")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0, help="of all runs with the same state file together")
    parser.add_argument("--piece", type=float, default=60.0, help="minutes of one life of the processes at most")
    parser.add_argument("--fault-every", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--state", type=Path, help="go on from this file, and write it")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    totals = Totals.read(options.state)
    seed = random.randrange(10**9) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    while (left := options.minutes - totals.seconds / 60) > 0.05 and not totals.wrong:
        with PostgresqlServer() as server, tempfile.TemporaryDirectory(prefix="paritree-soak-") as folder:
            asyncio.run(soaked(server, Path(folder), totals, min(left, options.piece), options.fault_every, seed))
        totals.write(options.state)
        seed += 1
    print(json.dumps(vars(totals), indent=1))
    return 1 if totals.wrong or totals.leaks else 0


if __name__ == "__main__":
    sys.exit(main())
