"""Faults of a connection × what is said between sweeps: roots that are asked for, notices, the first words.

Both datasets follow PostgreSQL tables by slots. One has its roots asked for every second, the other one only when
something was told. Both differ, always. So a window is verified as different, or not verified for a reason, and after
every fault a later one is verified.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import pytest_asyncio
from faults import LASTING, Direction, Fault, Kind
from faulty import Wired, wired
from servers.postgresql import PostgresqlServer

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]
ASKED, TOLD = "asked", "told"
WATCHES: Final = (
    f"[watch.{ASKED}]\nwindow_s = 1\nlate_s = 0\nidle_s = 0\n[watch.{TOLD}]\nwindow_s = 1\nlate_s = 0\nidle_s = 3600\n"
)
REFRESHES: Final = "".join(f'[refresh.{name}]\nchanges = "slot"\ncheck_interval_s = 0\n' for name in (ASKED, TOLD))
DATABASES: Final = {"eu": "faults_eu", "us": "faults_us"}
HANG_S: Final = 30.0
"""A watch that comes to nothing for longer hangs."""
STRIKES: Final = sorted(set(Kind) - LASTING)


@pytest.fixture(scope="module")
def tables(postgresql: PostgresqlServer) -> Iterator[dict[str, psycopg.Connection]]:
    """A connection to each region's database."""
    opened = {}
    for region, name in DATABASES.items():
        postgresql.create_database(name)
        opened[region] = postgresql.connect(name)
        for table in (ASKED, TOLD):
            opened[region].execute(f"CREATE TABLE {table} (id bigint PRIMARY KEY, name text)")
            opened[region].execute(f"INSERT INTO {table} SELECT i, 'row ' || i FROM generate_series(1, 50) AS i")
            opened[region].execute(f"UPDATE {table} SET name = 'of {region}' WHERE id = 1")
    yield opened
    for region, connection in opened.items():
        connection.close()
        postgresql.drop_database(DATABASES[region])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, pki_dir: Path, postgresql: PostgresqlServer, tables: object
) -> AsyncIterator[Wired]:
    folder, urls = tmp_path_factory.mktemp("watched"), {r: postgresql.url(name) for r, name in DATABASES.items()}
    datasets = {ASKED: (50, 1, 0), TOLD: (50, 1, 0)}
    async with wired(folder, pki_dir, datasets, urls, watches=WATCHES, refreshes=REFRESHES) as running:
        for dataset in datasets:
            await verified(running, dataset, 0)
        yield running


def windows(site: Wired, dataset: str, since: float) -> list[tuple[str, bool, Any]]:
    """The windows that ended later than a time and are decided: verdict, whether verified, reasons."""
    asked = "SELECT verdict, verified, outcome FROM watch_windows WHERE dataset = ? AND ended > ? ORDER BY ended"
    with closing(sqlite3.connect(site.fleet.folder / "coordinator.db", timeout=30.0)) as store:
        rows = store.execute(asked, (dataset, since)).fetchall()
    return [(verdict, bool(well), json.loads(outcome)["reasons"]) for verdict, well, outcome in rows]


async def verified(site: Wired, dataset: str, since: float) -> None:
    """Until a window is verified that ended later; whatever was decided since is different, or says why it is not."""
    decided = windows(site, dataset, since)
    try:
        async with asyncio.timeout(HANG_S):
            while not any(well for _, well, _ in decided):
                await asyncio.sleep(0.05)
                decided = windows(site, dataset, since)
    except TimeoutError:
        logs = "\n".join(site.fleet.log(name)[-3_000:] for name in ("coordinator", "agent-eu"))
        pytest.fail(f"no window is verified any more; said so far: {site.hooks.heard}\n{decided}\n{logs}")
    for verdict, well, reasons in decided:
        assert verdict == ("different" if well else "unknown")
        assert well or reasons


async def sent(site: Wired) -> None:
    """Until the message that a fault waits for has left, and was struck."""
    async with asyncio.timeout(HANG_S):
        while site.hooks.waiting or site.proxy.armed:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("message", "direction", "dials"),
    [
        ("AskRoot", Direction.DOWN, False),
        ("Rooted", Direction.UP, False),
        ("Hello", Direction.UP, True),
        ("Welcome", Direction.DOWN, True),
    ],
)
@pytest.mark.parametrize("kind", STRIKES)
async def test_what_is_lost_is_asked_for_or_said_again(
    site: Wired, kind: Kind, message: str, direction: Direction, dials: bool
) -> None:
    """Roots, and (``dials``) the first words, which are said again where the connection is cut."""
    await site.connected("eu", "us")
    site.hooks.strike(Fault(kind, direction, 30), message)
    if dials:
        site.proxy.cut()
    await sent(site)
    site.proxy.heal()
    await verified(site, ASKED, time.time())


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("kind", sorted(LASTING))
async def test_windows_are_verified_over_a_fault_that_lasts(site: Wired, kind: Kind, direction: Direction) -> None:
    await site.connected("eu", "us")
    site.proxy.arm(Fault(kind, direction))
    try:
        await verified(site, ASKED, time.time())
    finally:
        site.proxy.heal()


@pytest.mark.parametrize("kind", STRIKES)
async def test_what_a_lost_notice_told_is_looked_after(
    site: Wired, tables: dict[str, psycopg.Connection], kind: Kind
) -> None:
    """Nobody would look at this dataset for an hour: only the notice says when, or the connection after it."""
    await site.connected("eu", "us")
    site.hooks.strike(Fault(kind, Direction.UP, 30), "Notice")
    tables["eu"].execute(f"UPDATE {TOLD} SET name = 'of eu, {kind}' WHERE id = 1")
    began = time.time()
    await sent(site)
    site.proxy.heal()
    await verified(site, TOLD, began)
