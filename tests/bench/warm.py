"""Warm sweeps of three regions beside the cold one before them: agents and coordinator as processes of their own."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import psutil
import psycopg
from conftest_tls import make_pki
from faulty import operator_of
from measure import median
from psycopg import sql
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer
from tables import KINDS, load_postgresql

from paritree.cli.client import Coordinator
from paritree.wire.control import SweepOrder

REGIONS: Final = ("eu", "us", "ap")
CHANGED: Final = 300
TURNS: Final = 5
CONNECT_S: Final = 300.0
"""A bench may wait for its agents beside other work."""


@dataclass(slots=True)
class Warm:
    """Seconds from the request to the report; ``compared_s`` until the differing keys were known, looks left out.

    ``…cpu_s`` are of the coordinator and all agents together, what they do in the background included: unlike the time,
    that is nearly the same beside other work.
    """

    cold_s: float = 0.0
    quiet_s: list[float] = field(default_factory=list)
    quiet_cpu_s: list[float] = field(default_factory=list)
    changed_s: list[float] = field(default_factory=list)
    changed_cpu_s: list[float] = field(default_factory=list)
    compared_s: list[float] = field(default_factory=list)

    def rows(self, count: int) -> list[list[str]]:
        """Lines of the reach table."""
        size = f"warm sweep, {len(REGIONS)} × {count:,} rows"
        quiet = f"{median(self.quiet_s):.3f} s (CPU {median(self.quiet_cpu_s):.3f} s), no scan"
        changed = f"{median(self.compared_s):.3f} s, with looks {median(self.changed_s):.3f} s"
        return [
            [f"{size}, no change", "≤ 0.15 s, no scan", f"{quiet}; cold in the same run {self.cold_s:.1f} s"],
            [
                f"{size}, {CHANGED} changed",
                "≤ 0.5 s and looks",
                f"{changed} (CPU {median(self.changed_cpu_s):.3f} s), no scan",
            ],
        ]


def warm_sweeps(server: PostgresqlServer, rows: int) -> Warm:
    """One cold sweep, then warm ones: of nothing new, and of rows that changed in one region each."""
    first = server.create_database(f"warm_{REGIONS[0]}")
    load_postgresql(first, rows)
    with server.connect() as connection:
        for region in REGIONS[1:]:
            connection.execute(f"CREATE DATABASE warm_{region} TEMPLATE warm_{REGIONS[0]} STRATEGY file_copy")
    measured = Warm()
    try:
        with tempfile.TemporaryDirectory(prefix="paritree-warm-") as folder:
            asyncio.run(_swept(server, Path(folder), rows, measured))
    finally:
        for region in REGIONS:
            server.drop_database(f"warm_{region}")
    return measured


async def _swept(server: PostgresqlServer, folder: Path, rows: int, measured: Warm) -> None:
    make_pki(folder)
    columns = "".join(f'{name} = "{kind}"\n' for name, kind in KINDS.items())
    bound = "".join(f'[dataset.orders.regions.{r}]\nconnection = "main"\ntable = "orders"\n' for r in REGIONS)
    refresh = '[refresh.orders]\nchanges = "slot"\ninterval_s = 2\n'
    with Fleet(folder, folder) as fleet:
        fleet.datasets(f'[dataset.orders]\nkey = ["id"]\nlag_max_s = 0\n[dataset.orders.columns]\n{columns}{bound}')
        fleet.start_coordinator()
        for region in REGIONS:
            url = server.url(f"warm_{region}")
            fleet.start_agent(region, url, extra=DISCLOSE, edit=lambda text: text + refresh)
        await asyncio.to_thread(fleet.wait_connected, REGIONS, within_s=CONNECT_S)
        async with operator_of(folder) as operator:
            measured.cold_s, report = await _sweep(operator)
            assert report["verdict"] == "equal", report["verdicts"]
            for turn in range(TURNS):
                await asyncio.sleep(1.0)
                before_s = _cpu_s(fleet)
                took_s, report = await _sweep(operator)
                _check(report, 0)
                measured.quiet_s.append(took_s)
                measured.quiet_cpu_s.append(_cpu_s(fleet) - before_s)
                changed = _chosen(rows, turn)
                for region, ids in changed.items():
                    await asyncio.to_thread(_change, server, region, ids)
                before_s = _cpu_s(fleet)
                took_s, report = await _sweep(operator)
                _check(report, CHANGED)
                measured.changed_s.append(took_s)
                measured.changed_cpu_s.append(_cpu_s(fleet) - before_s)
                measured.compared_s.append(sum(report["spans"].values()))
                for region in REGIONS:  # the same everywhere again
                    others = [id_ for other, ids in changed.items() if other != region for id_ in ids]
                    await asyncio.to_thread(_change, server, region, others)
                _check((await _sweep(operator))[1], 0)


DISCLOSE: Final = 'policy = { disclosure = "keys", sealed_keys = true }'


async def _sweep(operator: Coordinator) -> tuple[float, dict[str, Any]]:
    began = time.perf_counter()
    report = await operator.sweep(SweepOrder("orders", limit=10_000), lambda _: None, lambda _: None)
    return time.perf_counter() - began, report


def _cpu_s(fleet: Fleet) -> float:
    """CPU seconds of the coordinator and the agents so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in fleet.processes.values()]
    return sum(one.user + one.system for one in times)


def _check(report: dict[str, Any], findings: int) -> None:
    """What was found is what was changed, and nothing was scanned for it."""
    assert report["findings_total"] == findings, report["verdicts"]
    assert report["verdict"] == ("different" if findings else "equal"), report["verdicts"]
    warm = [note for note in report["notes"] if "nothing was scanned" in note]
    assert len(warm) == len(REGIONS), report["notes"]


def _chosen(rows: int, turn: int) -> dict[str, list[int]]:
    """Scattered ids that change in one region each."""
    step = rows // CHANGED
    ids = [1 + turn + step * number for number in range(CHANGED)]
    return {region: ids[place :: len(REGIONS)] for place, region in enumerate(REGIONS)}


def _change(server: PostgresqlServer, region: str, ids: list[int]) -> None:
    with psycopg.connect(server.url(f"warm_{region}"), autocommit=True) as connection:
        connection.execute(sql.SQL("UPDATE orders SET amount = amount + 1 WHERE id = ANY(%s)"), [ids])
