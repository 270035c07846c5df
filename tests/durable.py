"""A coordinator over memory regions whose store can crash at any write, and what its regions were asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from coordinator.control import Control
from coordinator.course import Surroundings
from coordinator.runner import LinkRunner
from coordinator.setting import Setting
from coordinator.store import Store, SweepRow
from paritree.config.datasets import Dataset, Region
from paritree.core.errors import InvariantBroken
from paritree.core.ledger import ByteLedger
from paritree.core.messages import Hello, ReplyBody, RequestBody
from paritree.core.profile import Profile
from paritree.core.retry import RetryPolicy
from paritree.wire import codec
from paritree.wire.control import SweepOrder
from paritree.wire.link import RegionLink

SWEEP_ID = "sweep-1"
ORDER = SweepOrder("orders", job_id="nightly", lag_max_s=0.0)


class Crash(BaseException):
    """The process is gone: nobody handles it, and nothing is written any more."""


class CrashingStore(Store):
    """A store that crashes at its ``crash_at``-th write, before or after it was committed."""

    crash_at: int | None = None
    committed = False
    writes = 0
    dead = False

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        self._living()
        number, self.writes = self.writes, self.writes + 1
        if number == self.crash_at and not self.committed:
            self._die()
        with super()._writing() as connection:
            yield connection
        if number == self.crash_at:
            self._die()

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        self._living()
        with super()._reading() as connection:
            yield connection

    def _living(self) -> None:
        if self.dead:
            raise Crash

    def _die(self) -> None:
        self.dead = True
        raise Crash


class Watched:
    """A link that notes what it was asked; ``before`` may do something first, or fail."""

    def __init__(self, link: RegionLink, asked: list[tuple[str, str, bytes]]) -> None:
        self._link = link
        self._asked = asked
        self.before: Callable[[RequestBody], Any] = lambda body: None

    @property
    def region(self) -> str:
        return self._link.region

    @property
    def hello(self) -> Hello:
        return self._link.hello

    @property
    def ledger(self) -> ByteLedger:
        return self._link.ledger

    async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        self._asked.append((self.region, type(body).__name__, codec.fingerprint(body)))
        waiting = self.before(body)
        if waiting is not None:
            await waiting
        async for part in self._link.ask(body, sweep_id=sweep_id, timeout_s=timeout_s):
            yield part


async def at_once(_seconds: float) -> None:
    """Nobody waits in these tests."""
    await asyncio.sleep(0)


@dataclass
class Durable:
    """Coordinators, one after the other, over the same regions and the same store."""

    url: str
    profile: Profile
    links: Mapping[str, RegionLink]
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    watched: dict[str, Watched] = field(init=False)
    setting: dict[str, Any] = field(default_factory=dict)
    sleep: Callable[[float], Awaitable[None]] = at_once

    def __post_init__(self) -> None:
        self.watched = {name: Watched(link, self.asked) for name, link in self.links.items()}

    @property
    def datasets(self) -> dict[str, Dataset]:
        regions = {name: Region(name) for name in self.links}
        return {"orders": Dataset(self.profile, regions, file="datasets.toml", lag_max_s=0.0)}

    @asynccontextmanager
    async def coordinator(
        self, crash_at: int | None = None, *, committed: bool = False
    ) -> AsyncIterator[tuple[Control, CrashingStore]]:
        """A coordinator that has the store, until the block ends; it takes nothing up by itself."""
        store = CrashingStore.open(self.url, lease_wait_s=0.0)
        try:
            store.crash_at, store.committed, store.writes = crash_at, committed, 0
            around = Surroundings(sleep=self.sleep, jitter=lambda: 0.0)
            setting = Setting(store, around, retry=RetryPolicy(), **self.setting)

            async def links(names: Sequence[str]) -> Mapping[str, RegionLink]:
                return {name: self.watched[name] for name in names}

            runner = LinkRunner(
                links, exchange_timeout_s=30.0, surroundings=around, away=lambda name: self.watched[name]
            )
            control = Control(store, runner, self.datasets, list, new_id=lambda: SWEEP_ID, setting=setting)
            yield control, store
            await control.stop(0.0)
        finally:
            store.close()

    async def swept(self, control: Control, order: SweepOrder = ORDER) -> Mapping[str, Any]:
        """The report of the sweep, begun or joined."""
        told: list[Any] = [event async for _, event in control.sweep(order, "ann")]
        return told[-1].report  # type: ignore[no-any-return]

    async def crashed(self, crash_at: int, *, committed: bool, order: SweepOrder = ORDER) -> int:
        """Run the sweep, begun or taken up, until the coordinator dies: how many writes it made; -1 if it did not."""
        async with self.coordinator(crash_at, committed=committed) as (control, store):
            try:
                await control.jobs.take_up()
                await self.swept(control, order)
            except (Crash, InvariantBroken):  # the latter is what followers are told of the former
                if not store.dead:
                    raise
                return store.writes
            return -1

    def row(self, store: Store) -> SweepRow:
        row = store.sweep(SWEEP_ID)
        assert row is not None
        return row

    def row_state(self, store: Store) -> Mapping[str, Any]:
        """What the last checkpoint says."""
        return self.row(store).checkpoint or {}


def comparable(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report without what may differ from run to run: times, and bytes of what was asked twice."""
    left_out = ("elapsed_s", "spans", "bytes", "resumed")
    kept = {name: value for name, value in report.items() if name not in left_out}
    regions = [
        {name: value for name, value in region.items() if name not in ("scan_s", "bytes_sent", "bytes_received")}
        for region in report["regions"]
    ]
    return {**kept, "regions": regions}


def store_url(folder: Path, name: str = "store") -> str:
    """An empty SQLite store."""
    return f"sqlite:///{folder}/{name}.db"
