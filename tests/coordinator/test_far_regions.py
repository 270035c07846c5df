"""Regions 120 ms of a round trip away: how long a comparison of built indexes takes, and what of it is waiting."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest_tls import agent_tls
from faults import Direction, FaultProxy, fault_proxy
from linked import Coordinator, ask, coordinator

from coordinator.link import GrpcLink
from coordinator.sweep import Sweep, SweepOptions
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import open_executor
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskSketch, Begin, Ready, Sketched
from paritree.core.profile import CANONICAL_VERSION, Binding, BoundColumn, Profile
from paritree.core.types import parse_type

pytestmark = pytest.mark.asyncio
PROFILE = Profile("t", ("id",), {"id": parse_type("int"), "v": parse_type("text")})
KEYS = DatasetKeys.of(bytes(range(32)), "t")
SWEEP = "far"
ONE_WAY_S = 0.06
WITHIN_S = 0.6
ROWS = 30_000


def service(region: str, rows: list[tuple[int, str]], folder: Path) -> Service:
    store = MemoryStore(f"{folder.name}-{region}")
    table = pa.table({"id": pa.array([i for i, _ in rows]), "v": pa.array([v for _, v in rows])})
    store.put("t", table, key=("id",))
    columns = tuple(BoundColumn(name, kind, source=name) for name, kind in PROFILE.columns.items())
    copy = Copy(Source(store.url), PROFILE, Binding("t", "t", ("id",), columns), KEYS, shard_rows=10_000)
    return Service(
        region,
        "a1",
        f"{region}-1",
        {"t": copy},
        spool=folder / region,
        executor=lambda: open_executor("serial", 1),
        policy=Policy(),
    )


@contextlib.asynccontextmanager
async def far_away(running: Coordinator, pki: Path, services: dict[str, Service]) -> AsyncIterator[list[FaultProxy]]:
    """Every region behind a proxy of its own that delays each direction, once all are connected."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = []
        for region, one in services.items():
            proxy = await stack.enter_async_context(fault_proxy(running.port))
            running.dial(one, agent_tls(pki, region), port=proxy.port)
            await running.link(region)
            for direction in Direction:
                proxy.lines[direction].latency_s = ONE_WAY_S
            proxies.append(proxy)
        yield proxies


def drifted(rows: list[tuple[int, str]], differences: int) -> list[tuple[int, str]]:
    """Of so many rows 60 % are changed and the rest are gone."""
    changed = differences * 6 // 10
    return [(i, "other" if i < changed else v) for i, v in rows if not changed <= i < differences]


async def built(links: dict[str, GrpcLink], sweep_id: str = SWEEP) -> None:
    """The indexes of the sweep, before it begins."""
    begin = Begin("t", PROFILE.profile_id, CANONICAL_VERSION)
    for link in links.values():
        ready = await ask(link, begin, sweep_id=sweep_id, timeout_s=30)
        assert isinstance(ready[-1], Ready)


async def test_a_hundred_differences_take_two_round_trips_and_little_else(pki_dir: Path, tmp_path: Path) -> None:
    rows = [(i, f"v{i}") for i in range(ROWS)]
    services = {"eu": service("eu", rows, tmp_path), "us": service("us", drifted(rows, 100), tmp_path)}
    async with coordinator(pki_dir) as running, far_away(running, pki_dir, services):
        links = {name: await running.link(name) for name in services}
        for sweep_id in ("first", "again, as the machine was busy", "and again", "a last time"):
            await built(links, sweep_id)
            sweep = Sweep(PROFILE, list(links), links, sweep_id, SweepOptions(lag_max_s=0))
            report = await sweep.run()
            assert (report["findings_total"], report["rounds"]) == (100, 2)
            ready_s, compared_s = report["spans"]["ready_s"], report["spans"]["compared_s"]
            assert min(ready_s, compared_s) >= 2 * ONE_WAY_S  # the delay is there, and the spans have it
            # what us lacks, the second look
            assert report["elapsed_s"] >= ready_s + compared_s + 2 * 2 * ONE_WAY_S
            if ready_s + compared_s <= WITHIN_S:
                break
    assert ready_s + compared_s <= WITHIN_S


async def test_a_long_answer_does_not_wait_for_windows_to_open(pki_dir: Path, tmp_path: Path) -> None:
    """1.5 MB in a few round trips: HTTP/2's first window of 64 KiB alone would make it 24."""
    times = []
    for name in ("compiling", "busy", "last"):  # each a connection of its own: windows grow with use
        folder = tmp_path / name
        folder.mkdir()
        services = {"eu": service("eu", [(i, f"v{i}") for i in range(ROWS)], folder)}
        async with coordinator(pki_dir) as running, far_away(running, pki_dir, services):
            links = {"eu": await running.link()}
            await built(links)
            began = time.monotonic()
            parts = await ask(links["eu"], AskSketch(16_384, 7, 0, np.zeros(1, np.uint64)), sweep_id=SWEEP)
            times.append(time.monotonic() - began)
        assert sum(part.sums.nbytes for part in parts if isinstance(part, Sketched)) > 1_500_000
    # What is under way is bounded for slow lines, so it is several round trips; and making the sketch takes its time.
    assert 2 * ONE_WAY_S <= min(times) <= 16 * 2 * ONE_WAY_S
