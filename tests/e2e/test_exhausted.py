"""What a machine runs out of: disk, file handles, memory, connections. Real processes, whose limits are lowered and
lifted while they run: a sweep says what is missing and what to do, and the next one is right again without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from faulty import HOOKED_PLAIN, operator_of
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer

from coordinator.store.lease import LEASE_S
from paritree.cli.client import Coordinator
from paritree.core.errors import ParitreeError
from paritree.wire.control import SweepOrder

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROWS: Final = {"small": 500, "large": 200_000}
NONE: Final = resource.RLIM_INFINITY
DATASETS: Final = "\n".join(
    f'[dataset.{name}]\nkey = ["id"]\nlag_max_s = 0\n[dataset.{name}.columns]\nid = "int"\nname = "text"\n'
    + "\n".join(f'[dataset.{name}.regions.{r}]\nconnection = "main"\ntable = "{name}"' for r in regions)
    for name, regions in {"small": ("eu", "us"), "large": ("eu", "us"), "kept": ("us", "ap")}.items()
)


class Site:
    """A coordinator, agents eu and us over SQLite and ap over PostgreSQL, and an operator."""

    def __init__(self, fleet: Fleet, operator: Coordinator) -> None:
        self.fleet, self.operator = fleet, operator

    def pid(self, name: str) -> int:
        process = self.fleet.processes[name]
        assert process.poll() is None, self.fleet.log(name)[-3_000:]
        return process.pid

    async def swept(self, dataset: str) -> dict[str, Any]:
        async with asyncio.timeout(60.0):
            return await self.operator.sweep(SweepOrder(dataset), lambda _: None, lambda _: None)

    async def demand_right(self, dataset: str = "small") -> None:
        report = await self.swept(dataset)
        assert report["verdict"] == "different", report["verdicts"]
        assert report["findings_total"] == 3

    @contextmanager
    def limited(self, name: str, what: int, soft: int) -> Iterator[None]:
        """The process may have so much of it, for a while."""
        pid = self.pid(name)
        _, hard = resource.prlimit(pid, what)
        resource.prlimit(pid, what, (soft, hard))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):  # it ended by that
                resource.prlimit(pid, what, (hard, hard))


def fill(file: Path, *, changed: bool) -> None:
    with sqlite3.connect(file) as database:
        for name, rows in {**ROWS, "kept": 500}.items():
            database.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT)")
            values = ((n, f"other {n}" if changed and n < 3 else f"row {n}") for n in range(rows))
            database.executemany(f"INSERT INTO {name} VALUES (?, ?)", values)
    database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, pki_dir: Path, postgresql: PostgresqlServer
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("exhausted")
    fill(folder / "eu.db", changed=False)
    fill(folder / "us.db", changed=True)
    url = postgresql.create_database("exhausted")
    with postgresql.connect("exhausted") as connection:
        connection.execute("DROP ROLE IF EXISTS capped")
        connection.execute("CREATE ROLE capped LOGIN")
        connection.execute("CREATE TABLE kept (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO kept SELECT n, 'row ' || n FROM generate_series(0, 499) n")
        connection.execute("GRANT SELECT ON kept TO capped")
    async with running(folder, pki_dir, url.replace("postgres@", "capped@", 1)) as made:
        yield made
    with postgresql.connect() as connection:
        connection.execute("DROP DATABASE exhausted WITH (FORCE)")
        connection.execute("DROP ROLE capped")


@asynccontextmanager
async def running(folder: Path, pki: Path, url: str) -> AsyncIterator[Site]:
    with Fleet(folder, pki) as fleet:
        fleet.datasets(DATASETS)
        fleet.start_coordinator(command=HOOKED_PLAIN, extra="patience_s = 1")
        for region, at in {**{r: f"sqlite:///{folder}/{r}.db" for r in ("eu", "us")}, "ap": url}.items():
            fleet.start_agent(region, at, command=HOOKED_PLAIN, extra='executor = "serial"')
        async with operator_of(folder) as operator:
            await asyncio.to_thread(fleet.wait_connected, ("eu", "us", "ap"))
            yield Site(fleet, operator)
        await asyncio.to_thread(fleet.stop_all)


def reason_of(report: dict[str, Any], region: str) -> str:
    """Why nothing is known of the region."""
    assert report["verdict"] == "unknown", report
    (reason,) = {stated["reason"] for stated in report["verdicts"] if region in stated["regions"]}
    return str(reason)


async def test_a_full_spool(site: Site) -> None:
    await site.demand_right()
    with site.limited("agent-eu", resource.RLIMIT_FSIZE, 512):
        reason = reason_of(await site.swept("small"), "eu")
    assert "free space in the spool" in reason
    await site.demand_right()
    assert not list((site.fleet.folder / "spool-eu").glob("*/*/*.run")), "a sweep that failed left its runs"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
async def test_a_full_disk_under_the_store(site: Site, tmp_path: Path, pki_dir: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(tmp_path)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small file system: {mounted.stderr}")
    try:
        site.fleet.stop("coordinator")
        site.fleet.store = f"sqlite:///{tmp_path}/store.db"
        site.fleet.start_coordinator(command=HOOKED_PLAIN, extra="patience_s = 1")
        await asyncio.to_thread(site.fleet.wait_connected, ("eu", "us", "ap"))
        await site.demand_right()
        with (tmp_path / "filler").open("wb", buffering=0) as filler:
            for block in (4096, 1):
                try:
                    while filler.write(bytes(block)):
                        pass
                except OSError:
                    continue
        for _ in range(20):  # what the store has room for inside its files
            try:
                await site.swept("small")
            except ParitreeError as error:
                told = str(error)
                break
        else:
            pytest.fail("the disk is not full")
        assert "full" in told
        assert "free space" in told
        (tmp_path / "filler").unlink()
        await site.demand_right()
    finally:
        site.fleet.stop("coordinator")
        subprocess.run(["umount", str(tmp_path)], check=True)
        site.fleet.store = "sqlite:///coordinator.db"
        site.fleet.start_coordinator(command=HOOKED_PLAIN, extra="patience_s = 1")
        await asyncio.to_thread(site.fleet.wait_connected, ("eu", "us", "ap"))


async def test_an_agent_without_file_handles(site: Site) -> None:
    await site.demand_right()
    with site.limited("agent-eu", resource.RLIMIT_NOFILE, handles(site.pid("agent-eu"))):
        reason = reason_of(await site.swept("small"), "eu")
    assert "out of file handles" in reason
    assert "ulimit -n" in reason
    await site.demand_right()


async def test_a_coordinator_without_file_handles(site: Site) -> None:
    """Who is connected stays so; a sweep is refused or is right, and nothing is lost."""
    await site.demand_right()
    with site.limited("coordinator", resource.RLIMIT_NOFILE, handles(site.pid("coordinator"))):
        refused = await asyncio.to_thread(site.fleet.command, "status")
        assert refused.returncode == 3, refused.stdout
        with contextlib.suppress(ParitreeError):
            assert (await site.swept("small"))["findings_total"] == 3
        async with asyncio.timeout(2 * LEASE_S):
            while "out of file handles" not in site.fleet.log("coordinator"):
                await asyncio.sleep(0.2)
    await asyncio.to_thread(site.fleet.wait_connected, ("eu", "us", "ap"))
    await site.demand_right()


async def test_a_coordinator_without_memory(site: Site) -> None:
    """A sweep is right or refused, as native code may end the process; nothing is lost."""
    await site.demand_right("large")
    with site.limited("coordinator", resource.RLIMIT_AS, mapped(site.pid("coordinator"))):
        for _ in range(3):
            with contextlib.suppress(ParitreeError):
                assert (await site.swept("large"))["findings_total"] == 3
    if site.fleet.processes["coordinator"].poll() is not None:
        site.fleet.start_coordinator(command=HOOKED_PLAIN, extra="patience_s = 1")
    await asyncio.to_thread(site.fleet.wait_connected, ("eu", "us", "ap"))
    await site.demand_right("large")


def mapped(pid: int) -> int:
    """Bytes of address space that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()


def handles(pid: int) -> int:
    """The least number that no open file has: with that as its limit, it can open none more."""
    taken = {int(one) for one in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in range(len(taken) + 1) if number not in taken)


async def test_an_agent_without_memory(site: Site) -> None:
    await site.demand_right()  # everything is loaded that is needed anyway
    with site.limited("agent-eu", resource.RLIMIT_AS, mapped(site.pid("agent-eu")) + (8 << 20)):
        reason = reason_of(await site.swept("large"), "eu")
    assert "out of memory" in reason
    assert "shard_rows" in reason
    await site.demand_right("large")


async def test_a_server_without_connections(site: Site, postgresql: PostgresqlServer) -> None:
    report = await site.swept("kept")
    assert report["verdict"] == "different", report["verdicts"]
    with postgresql.connect() as connection:
        connection.execute("ALTER ROLE capped CONNECTION LIMIT 0")
        reason = reason_of(await site.swept("kept"), "ap")
        assert "too many connections" in reason
        assert "connections_max" in reason
        connection.execute("ALTER ROLE capped CONNECTION LIMIT -1")
    report = await site.swept("kept")
    assert report["verdict"] == "different", report["verdicts"]
