"""The lives of agents and coordinators in one trial: what survives a death is what is on disk.

A region's spool is renamed when its agent dies, and a coordinator's store refuses it from then on, so nothing that
still runs in a dead process changes what the next one finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from simulation.mortal import MortalStore, Process
from simulation.network import FAIR, End, Network, Stream, attached, keep_connected
from simulation.trial import COORDINATOR, Overtaking, Trial
from simulation.trial import End as LifeEnd
from simulation.world import LAG_S, PATIENCE_S, PROFILE, Region

from coordinator.breakers import Breakers
from coordinator.control import Control
from coordinator.course import Surroundings
from coordinator.gates import Gates
from coordinator.keeping import Keeper
from coordinator.regions import Regions
from coordinator.runner import LinkRunner
from coordinator.setting import Setting
from coordinator.store import Fenced
from edge_agent.service import Service
from edge_agent.spool import clear_spool
from paritree.config.datasets import Dataset
from paritree.config.datasets import Region as Named
from paritree.core.errors import PeerError
from paritree.core.retry import RetryPolicy

LEASE_S: Final = 15.0
CONNECT_WAIT_S: Final = 60.0
BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Fleet:
    """Everything that runs in a trial. ``store`` is the file of a store that has its tables."""

    def __init__(self, trial: Trial, folder: Path, store: Path, trace: Callable[[str], None]) -> None:
        self.trial = trial
        self.rng = random.Random(f"chance {trial.seed}")
        self.network = Network(self.rng, FAIR, trace, least_s=0.05)
        self._due: list[LifeEnd] | None = None
        self.url = f"sqlite:///{store}"
        self.context = contextvars.copy_context()
        self.closing = False
        self.calmed = False
        self.trace = trace
        self.names = (f"s-{trial.seed}-{number}" for number in itertools.count())
        self.met: dict[str, int] = {}
        self.processes: list[Process] = []
        self.agents = {
            name: Agent(self, Region(name, list(rows), folder / name, self.rng, shard_rows=trial.shard_rows))
            for name, rows in trial.tables.items()
        }
        self.coordinator = Coordinator(self)

    def note(self, what: str) -> None:
        """It has come to this."""
        self.met[what] = self.met.get(what, 0) + 1
        self.trace(f"{asyncio.get_running_loop().time():8.3f}  {what}")

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Do something outside of every process."""
        asyncio.get_running_loop().call_later(seconds, call, context=self.context)

    def start(self) -> None:
        self.coordinator.start()
        for agent in self.agents.values():
            agent.start()

    def unleash(self) -> None:
        """From now on things go wrong as the trial says."""
        trial = self.trial
        self.network.weather = trial.weather
        self._due = [end for end in trial.ends if end.at_step is not None]
        for one in (self.coordinator, *self.agents.values()):
            self.doom(one)
        for end in trial.ends:
            if end.at_s is not None:
                self.later(end.at_s, functools.partial(self.end_of, end))
        for overtaking in trial.overtakings:
            self.later(overtaking.at_s, functools.partial(self.overtake, overtaking))

    def calm(self) -> None:
        """From now on nothing goes wrong any more."""
        self.network.weather = FAIR
        self._due = None
        self.calmed = True
        for one in (self.coordinator, *self.agents.values()):
            one.process.fatal = None

    def doom(self, one: Agent | Coordinator) -> None:
        """Let a life end at the step that is the next one planned for its like."""
        planned = next((end for end in self._due or () if end.who == one.process.name), None)
        if planned is not None and planned.at_step is not None and self._due is not None:
            self._due.remove(planned)
            one.planned, one.process.fatal = planned, one.process.steps + planned.at_step

    @contextlib.asynccontextmanager
    async def attach(self, agent: Agent, end: End) -> AsyncIterator[None]:
        """A stream to whoever is the coordinator now. Raises PeerError where nobody is."""
        coordinator = self.coordinator
        if not coordinator.process.alive:
            raise PeerError("nobody listens", retryable=True)
        agent.stream = end.stream
        coordinator.streams.append(end.stream)
        coordinator.process.spawn(attached(coordinator.regions, end))
        yield

    def end_of(self, end: LifeEnd) -> None:
        """Let a process die now, and come back."""
        one = self.coordinator if end.who == COORDINATOR else self.agents[end.who]
        if one.process.alive and not self.calmed:
            one.end(end)

    def overtake(self, how: Overtaking) -> None:
        """Another coordinator takes the store; the one before goes on until it notices."""
        before = self.coordinator
        if not before.process.alive or self.calmed:
            return
        self.note("overtaken")
        before.let_go(how.unaware_s)
        self.coordinator = Coordinator(self)
        self.coordinator.start()
        for stream in before.streams:
            if self.rng.random() < how.cut:
                stream.cut()

    async def close(self) -> None:
        self.closing = True
        for process in self.processes:
            process.die()
        for process in self.processes:
            await process.gone()
        for agent in self.agents.values():
            agent.region.store.close()


class Agent:
    """A region's agents, one after the other."""

    def __init__(self, fleet: Fleet, region: Region) -> None:
        self._fleet = fleet
        self.region = region
        self._folder = region.spool
        self._life = 0
        self.planned: LifeEnd | None = None
        self.process = Process(region.name)
        self.stream: Stream | None = None
        region.store.snapshots = fleet.trial.snapshots

    def start(self) -> None:
        """Begin a life."""
        if self._fleet.closing:
            return
        self._life += 1
        self.planned = None
        self.process = Process(self.region.name)
        self._fleet.doom(self)
        self.process.on_death.append(self._died)
        self._fleet.processes.append(self.process)
        self.region.spool = self._folder / str(self._life)
        self.process.spawn(self._run())

    async def _run(self) -> None:
        clear_spool(self.region.spool / self.region.name, runs=True)  # as a spool is held
        session = self.region.start()
        self._service = session._service
        await keep_connected(self._fleet.network, functools.partial(self._fleet.attach, self), session)

    def end(self, how: LifeEnd | None) -> None:
        self.planned = how
        if how is not None and how.how == "stop":
            self.process.spawn(self._stop())
        else:
            self.process.die()

    async def _stop(self) -> None:
        service = getattr(self, "_service", None)
        if isinstance(service, Service):
            await service.close()
        self.process.die()

    def _died(self) -> None:
        planned = self.planned
        with contextlib.suppress(FileNotFoundError):
            self.region.spool.rename(self._folder / str(self._life + 1))
        if self._fleet.closing:
            return
        how, away_s = (planned.how, planned.away_s) if planned else ("kill", 0.5)
        self._fleet.note(f"agent: {how}")
        if how == "power":
            damage(self._folder / str(self._life + 1), self._fleet.rng)
        if self.stream is not None and how in ("vanish", "power"):
            self.stream.half_open(0, 1)
        self._fleet.later(away_s, self.start)


class Coordinator:
    """One coordinator, with what it has in memory; another one takes its place when it dies."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.planned: LifeEnd | None = None
        self._unaware_s = 0.0
        self.process = Process(COORDINATOR)
        self.streams: list[Stream] = []

    def start(self) -> None:
        """Take the store and begin."""
        fleet = self._fleet
        if fleet.closing or fleet.coordinator is not self:
            return
        loop = asyncio.get_running_loop()
        self.planned = None
        process = self.process = Process(COORDINATOR)
        fleet.doom(self)
        fleet.processes.append(process)
        self.streams = []
        store = self._store = MortalStore.open(fleet.url, lease_wait_s=0.0, clock=_wall)
        store.process = process
        process.on_death.append(self._died)
        breakers = Breakers(store, now=lambda: _wall().timestamp(), chance=fleet.rng.random)
        first = fleet.rng.getrandbits(61)
        regions = self.regions = Regions(
            first, lambda hello: breakers.connected(hello.region, hello.instance), fence=store.token
        )
        around = Surroundings(loop.time, asyncio.sleep, fleet.rng.random)
        retry = RetryPolicy(patience_s=PATIENCE_S)
        setting = Setting(store, around, Gates(clock=loop.time), breakers, retry, regions.returned)
        runner = LinkRunner(
            lambda names: regions.wait_for(names, CONNECT_WAIT_S),
            exchange_timeout_s=20.0,
            surroundings=around,
            away=regions.away,
        )
        dataset = Dataset(PROFILE, {name: Named(name) for name in fleet.agents}, file="simulated", lag_max_s=LAG_S)
        self.control = Control(
            store, runner, {"orders": dataset}, list, new_id=lambda: next(fleet.names), setting=setting
        )
        process.spawn(self._serve())

    async def _serve(self) -> None:
        """As ``coordinator.serve`` does."""
        jobs = self.control.jobs
        keeper = Keeper(self._store, jobs, LEASE_S, clock=asyncio.get_running_loop().time)
        keeping = asyncio.create_task(self._kept(keeper))
        try:
            with contextlib.suppress(Fenced):
                await jobs.take_up()
            overtaken = asyncio.create_task(jobs.overtaken.wait())
            await asyncio.wait({keeping, overtaken}, return_when=asyncio.FIRST_COMPLETED)
            self._fleet.note("fenced")
            await self.control.stop(0.0)
        finally:
            self.process.die()

    async def _kept(self, keeper: Keeper) -> None:
        with contextlib.suppress(Fenced):
            await keeper.run()
        await asyncio.sleep(self._unaware_s)

    def let_go(self, unaware_s: float) -> None:
        """Its session at the database was lost, and the lock with it."""
        self._unaware_s = unaware_s
        if self._store._lease is not None:
            self._store._lease.release()

    def end(self, how: LifeEnd | None) -> None:
        self.planned = how
        if how is not None and how.how == "stop":
            self.process.spawn(self._stop())
        else:
            self.process.die()

    async def _stop(self) -> None:
        await self.control.stop(0.5)
        self.process.die()

    def _died(self) -> None:
        self._store.close()
        fleet, planned = self._fleet, self.planned
        if fleet.closing:
            return
        how, away_s = (planned.how, planned.away_s) if planned else ("kill", 0.5)
        fleet.note(f"coordinator: {how}")
        for stream in self.streams:
            if how in ("vanish", "power"):
                stream.half_open(0, 1)
            else:
                stream.cut()
        if fleet.coordinator is self:
            successor = fleet.coordinator = Coordinator(fleet)
            successor.process.die()
            fleet.later(away_s, successor.start)


def _wall() -> datetime:
    return BEGAN + timedelta(seconds=asyncio.get_running_loop().time())


def damage(folder: Path, rng: random.Random) -> None:
    """What was written last did not reach the disk, or not as it was written."""
    files = sorted(path for path in folder.rglob("*") if path.name == "progress" or path.suffix == ".run")
    if not files:
        return
    file = rng.choice(files)
    data: Any = bytearray(file.read_bytes())
    if not data:
        return
    if rng.random() < 0.5:
        del data[-rng.randint(1, min(len(data), 60)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
