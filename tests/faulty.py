"""A coordinator and two agents as processes, one of the agents behind a proxy whose faults strike chosen messages."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from faults import Fault, FaultProxy, fault_proxy
from servers.fleet import Fleet

from paritree.cli.client import Coordinator, coordinator
from paritree.config.coordinator import ClientConfig, load_client
from paritree.core.errors import ParitreeError
from paritree.wire.control import SweepOrder

LIMITS: Final = {
    "KEEPALIVE_S": 0.4,
    "RECONNECT_S_MIN": 0.2,
    "SUSPECTS_MAX": 1_000,
    "RECONNECT_S_MAX": 2.0,
    "SAMPLE_ROWS_MAX": 400,
}
"""A half-open connection is found within 1.2 s, a range begins with a thousand keys."""
EXCHANGE_TIMEOUT_S: Final = 2.0
PATIENCE_S: Final = 3 * float(LIMITS["RECONNECT_S_MAX"])
"""An agent that was cut off while the machine is busy may fail to dial more than once."""
PAUSE_S: Final = 0.3
"""Bound of the pause before the second try; it doubles."""
START_S: Final = 120.0
"""Until the agents are there: other processes may be starting, or compiling kernels, at the same time."""
TREE_ROWS: Final = 1_700
TABLES: Final[Mapping[str, tuple[int, int, int]]] = {
    "few": (300, 3, 1),
    "many": (2_000, 500, 0),
    "tree": (TREE_ROWS, 600, 0),
    "range": (1_600, 0, 1_400),
}
"""Of each dataset its rows in eu, how many of them differ in us, and how many us lacks."""
HOOKED: Final = [sys.executable, str(Path(__file__).with_name("hooked.py"))]


def datasets_file(tables: Sequence[str]) -> str:
    return "\n".join(
        f'[dataset.{name}]\nkey = ["id"]\nlag_max_s = 0\n[dataset.{name}.columns]\nid = "int"\nname = "text"\n'
        + "\n".join(f'[dataset.{name}.regions.{r}]\nconnection = "main"\ntable = "{name}"' for r in ("eu", "us"))
        for name in tables
    )


def fill(file: Path, tables: Mapping[str, tuple[int, int, int]], *, changed: bool) -> None:
    """The tables of one region: eu's, or (``changed``) us's."""
    database = sqlite3.connect(file)
    with database:
        for name, (rows, different, missing) in tables.items():
            database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT)")
            kept = range(rows - missing) if changed else range(rows)
            values = [(n, f"other {n}" if changed and n < different else f"row {n}") for n in kept]
            database.executemany(f"INSERT INTO {name} VALUES (?, ?)", values)
    database.close()


@dataclass
class Hooks:
    """Hears of every message that is about to leave the coordinator or the agent behind the proxy."""

    proxy: FaultProxy
    port: int = 0
    heard: list[str] = field(default_factory=list)
    _waiting: tuple[str, int, Fault] | None = None
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    def strike(self, fault: Fault, kind: str, nth: int = 1) -> None:
        """Arm the fault when the ``nth`` message of that kind from now on is about to leave."""
        self.heard.clear()
        self._waiting = (kind, nth, fault)

    @property
    def waiting(self) -> bool:
        """Whether the message has not come yet."""
        return self._waiting is not None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while kind := (await reader.readline()).decode().strip():
                self.heard.append(kind)
                if self._waiting is not None and self._waiting[:2] == (kind, self.heard.count(kind)):
                    self.proxy.arm(self._waiting[2])
                    self._waiting = None
                writer.write(b"\n")
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass  # the process was killed, or the test is over
        finally:
            writer.close()


@dataclass
class Wired:
    """The running processes, the proxy between eu and the coordinator, and an operator's connection."""

    fleet: Fleet
    proxy: FaultProxy
    hooks: Hooks
    operator: Coordinator
    urls: Mapping[str, str]
    watches: str = ""
    """Tables ``[watch.…]`` for the coordinator's file."""
    refreshes: str = ""
    """Tables ``[refresh.…]`` for the agents' files."""

    def written(self, region: str, statement: str) -> None:
        """Write to a region's tables in SQLite."""
        with closing(sqlite3.connect(self.fleet.folder / f"{region}.db", timeout=30.0)) as database, database:
            database.execute(statement)

    async def swept(self, dataset: str, **order: Any) -> tuple[dict[str, Any], float]:
        """The report of a sweep, and the seconds that it took."""
        began = time.monotonic()
        report = await self.operator.sweep(SweepOrder(dataset, **order), lambda _: None, lambda _: None)
        return report, time.monotonic() - began

    def struck(self) -> None:
        """The fault that waited for a message has struck. Raises AssertionError."""
        assert not self.hooks.waiting, f"the message was not sent: {self.hooks.heard}"
        assert not self.proxy.armed, "the message was sent, but nothing struck it"

    def launch_coordinator(self) -> None:
        self.fleet.start_coordinator(command=_hooked(self.hooks.port, "coordinator"), extra=COORDINATOR + self.watches)

    def launch_agent(self, region: str) -> None:
        behind = region == "eu"
        port = self.proxy.port if behind else self.fleet.port
        settings = _hooked(self.hooks.port, "agent") if behind else HOOKED_PLAIN
        self.fleet.start_agent(
            region,
            self.urls[region],
            command=settings,
            extra='executor = "serial"\npolicy = { disclosure = "keys", sealed_keys = true }\n' + self.refreshes,
            edit=lambda text: text.replace(f"localhost:{self.fleet.port}", f"127.0.0.1:{port}"),
        )

    async def connected(self, *regions: str, within_s: float = 30.0) -> None:
        """Until these regions are connected. Raises AssertionError with the logs."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                status = await self.operator.status()
            except ParitreeError:
                status = {"regions": []}
            if set(regions) <= {region["name"] for region in status["regions"] if region["connected"]}:
                return
            if time.monotonic() > deadline:
                raise AssertionError("\n".join(self.fleet.log(name)[-4_000:] for name in self.fleet.processes))
            await asyncio.sleep(0.05)


COORDINATOR: Final = f"exchange_timeout_s = {EXCHANGE_TIMEOUT_S}\npatience_s = {PATIENCE_S}\n"
HOOKED_PLAIN: Final = [
    *(sys.executable, "-c"),
    "import sys; from paritree.core import limits; limits.KEEPALIVE_S = 0.4; limits.RECONNECT_S_MAX = 2.0\n"
    "from paritree.cli.main import main; main()",
]


def _hooked(port: int, side: str) -> list[str]:
    settings = {"port": port, "side": side, "limits": LIMITS, "pause_s": PAUSE_S, "tree_rows": TREE_ROWS}
    return [*HOOKED, json.dumps(settings)]


@asynccontextmanager
async def wired(
    folder: Path,
    pki: Path,
    tables: Mapping[str, tuple[int, int, int]] = TABLES,
    urls: Mapping[str, str] | None = None,
    **files: str,
) -> AsyncIterator[Wired]:
    """Everything running and connected; stopped at the end. ``urls``: of databases that have their tables."""
    if urls is None:
        urls = {region: f"sqlite:///{folder}/{region}.db" for region in ("eu", "us")}
        for region in urls:
            fill(folder / f"{region}.db", tables, changed=region == "us")
    with Fleet(folder, pki) as fleet:
        fleet.datasets(datasets_file(list(tables)))
        async with fault_proxy(fleet.port) as proxy:
            hooks = Hooks(proxy)
            await hooks.start()
            running = Wired(fleet, proxy, hooks, None, urls, **files)  # type: ignore[arg-type]
            running.launch_coordinator()
            for region in urls:
                running.launch_agent(region)
            async with operator_of(folder) as running.operator:
                await running.connected(*urls, within_s=START_S)
                yield running
            await asyncio.to_thread(fleet.stop_all)
            await hooks.stop()


class Operator:
    """An operator who connects anew for every call, as each command does; see :class:`Coordinator`."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            async with coordinator(self._config) as connected:
                return await getattr(connected, name)(*arguments)

        return call


@asynccontextmanager
async def operator_of(folder: Path) -> AsyncIterator[Coordinator]:
    """An operator, once the coordinator listens."""
    config = load_client(folder / "coordinator.toml", {})
    for _ in range(300):
        try:
            async with coordinator(config):
                break
        except ParitreeError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.1)
    yield cast(Coordinator, Operator(config))
