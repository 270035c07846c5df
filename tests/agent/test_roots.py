"""Roots that regions tell of their kept indexes: real services over files, in one process, and what they cost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent.rescan_case import PROFILE, RESCAN, Kept

from coordinator.roots import Roots
from edge_agent.connectors import fileversion
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.notices import Notices
from edge_agent.policy import Policy
from edge_agent.service import Service
from edge_agent.warm import Following, WarmIndex
from paritree.config.datasets import Dataset, Region
from paritree.core.messages import AskRoot, Begin, ByteClass, Hello, Ready, Refusal, RefusalCode, Rooted
from paritree.core.watch import Before, Judged
from paritree.wire.loopback import LoopbackLink

pytestmark = pytest.mark.asyncio
DATASET = Dataset(PROFILE, {"eu": Region("eu"), "us": Region("us")}, file="d")
ASK = AskRoot("orders", PROFILE.profile_id, 1, 0.0)
ROWS = 200
TICK_S = 0.02
"""The clock of this machine's file systems, with room."""


@pytest.fixture(autouse=True)
def fine_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fileversion, "SETTLED_NS", int(TICK_S * 1e9))


class Side:
    """One region: a file, its kept index, the agent's service and a link to it."""

    def __init__(self, folder: Path, region: str, following: Following = RESCAN) -> None:
        folder.mkdir()
        self.sweeps = 0
        self.file = folder / "orders.db"
        self.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        rows = ", ".join(f"({n}, 'order {n}')" for n in range(ROWS))
        self.run(f"INSERT INTO orders VALUES {rows}")
        self.kept = Kept(Source(f"sqlite://{self.file}"), "orders", folder, following=following)
        self.service = self.serve(region, {"orders": self.kept.index})
        self.link = LoopbackLink(self.service)

    def serve(self, region: str, warm: dict[str, WarmIndex]) -> Service:
        copies = {"orders": self.kept.copy}
        spool = self.kept.folder / "spool"
        return Service(region, "a1", "i1", copies, spool=spool, executor=SerialExecutor, policy=Policy(), warm=warm)

    def run(self, statement: str) -> None:
        with closing(sqlite3.connect(self.file)) as database:
            database.execute(statement)
            database.commit()
        time.sleep(2 * TICK_S)

    async def begin(self) -> Ready:
        """A sweep of its own begins."""
        self.sweeps += 1
        begin, name = Begin("orders", PROFILE.profile_id, 1), f"s{self.sweeps}"
        async with aclosing(self.link.ask(begin, sweep_id=name, timeout_s=30)) as parts:
            (ready,) = [part async for part in parts if isinstance(part, Ready)]
            return ready

    async def root(self, ask: AskRoot = ASK) -> Any:
        async with aclosing(self.link.ask(ask, sweep_id="root-1", timeout_s=30)) as parts:
            return [part async for part in parts][-1]

    def close(self) -> None:
        self.kept.index.close()


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[dict[str, Side]]:
    made = {name: Side(tmp_path / name, name) for name in ("eu", "us")}
    yield dict(made)
    for side in made.values():
        side.close()


async def judged(sides: dict[str, Side], before: Before | None = None) -> Judged | None:
    return await Roots(lambda: {name: side.link for name, side in sides.items()}, 30.0).judge(DATASET, 0.0, before)


async def test_roots_are_those_of_a_sweep_and_equal_ones_say_so(sides: dict[str, Side]) -> None:
    assert await judged(sides) is None, "there is no index yet, and none is made"
    ready = {name: await side.begin() for name, side in sides.items()}
    found = await judged(sides)
    assert found is not None
    assert (found.verdict, found.verified) == ("equal", True)
    assert found.roots == {name: one.root for name, one in ready.items()}
    assert found.positions == {name: one.header.position for name, one in ready.items()}
    assert all(side.kept.index._rescan is not None and not side.kept.index._rescan.scanned for side in sides.values())


async def test_what_is_not_proven_takes_a_sweep(sides: dict[str, Side]) -> None:
    for side in sides.values():
        await side.begin()
    sides["us"].run("DELETE FROM orders WHERE id = 7")
    assert await judged(sides) is None, "its file was written"
    await sides["us"].begin()
    roots = {name: (await side.root()).root for name, side in sides.items()}
    assert await judged(sides) is None, "they differ"
    assert (await judged(sides, Before("different", roots))) is not None
    assert await judged({"eu": sides["eu"]}) is None, "a region is away"
    sides["us"].run("UPDATE orders SET name = x'ff' WHERE id = 8")
    for side in sides.values():
        await side.begin()
    assert (await sides["us"].root()).doubt == "1 rows are dead letters"
    roots = {name: (await side.root()).root for name, side in sides.items()}
    assert await judged(sides, Before("different", roots)) is None


async def test_a_region_that_cannot_tell_its_root_is_not_taken_to_tell_changes(sides: dict[str, Side]) -> None:
    for side in sides.values():
        (offer,) = side.link.hello.datasets
        side.link.hello = Hello(side.link.region, "a1", "i1", (replace(offer, tells=True),))
    roots = Roots(lambda: {name: side.link for name, side in sides.items()}, 30.0)
    assert roots.tells(DATASET)
    assert await roots.judge(DATASET, 0.0, None) is None, "there is no index"
    assert not roots.tells(DATASET)
    for side in sides.values():
        await side.begin()
    assert await roots.judge(DATASET, 0.0, None) is not None
    assert roots.tells(DATASET)
    del sides["us"]
    assert not roots.tells(DATASET)


async def test_a_root_is_refused_to_whoever_asks_for_something_else(sides: dict[str, Side]) -> None:
    side = sides["eu"]
    for ask, code in (
        (AskRoot("users", PROFILE.profile_id, 1, 0.0), RefusalCode.UNKNOWN_DATASET),
        (AskRoot("orders", b"x" * 16, 1, 0.0), RefusalCode.PROFILE_DIFFERS),
        (AskRoot("orders", PROFILE.profile_id, 9, 0.0), RefusalCode.CANONICAL_DIFFERS),
    ):
        answer = await side.root(ask)
        assert isinstance(answer, Refusal)
        assert answer.code is code
    side.link = LoopbackLink(side.serve("eu", {}))
    answer = await side.root()
    assert isinstance(answer, Refusal)
    assert answer.code is RefusalCode.NO_INDEX
    assert [(one.tells, one.rooted) for one in side.link.hello.datasets] == [(False, False)]


async def test_a_root_costs_a_region_some_hundred_bytes(sides: dict[str, Side]) -> None:
    side = sides["eu"]
    await side.begin()
    sweep = side.link.ledger.of("s1")
    assert isinstance(await side.root(), Rooted)
    tally = side.link.ledger.of("root-1")
    print(f"a root: {tally.bytes_sent} bytes sent, {tally.bytes_received} received; a Begin: {sweep.bytes_sent} sent")
    assert tally.bytes_sent + tally.bytes_received < 512 < sweep.bytes_sent // 10
    assert set(tally.sent) <= {ByteClass.NODES, ByteClass.CONTROL}


async def test_agents_of_an_older_version_are_asked_for_nothing(sides: dict[str, Side]) -> None:
    for side in sides.values():
        await side.begin()
    old = sides["us"].link
    old.hello = Hello("us", "a1", "i1", tuple(type(one)(*_old(one)) for one in old.hello.datasets))
    asked = old.ledger.total().bytes_received
    roots = Roots(lambda: {name: side.link for name, side in sides.items()}, 30.0)
    assert await roots.judge(DATASET, 0.0, None) is None
    assert not roots.tells(DATASET)
    assert old.ledger.total().bytes_received == asked


def _old(offer: Any) -> tuple[Any, ...]:
    return offer.dataset, offer.profile_id, offer.canonical_version, offer.key_id


async def test_a_rescan_that_found_something_is_told(tmp_path: Path) -> None:
    side = Side(tmp_path / "eu", "eu")
    notices = Notices()
    notices.watch(["orders"])
    side.kept.index._notices = notices
    try:
        await side.begin()
        side.kept.built()
        assert not notices._waiting
        side.run("DELETE FROM orders WHERE id < 3")
        side.kept.built()
        told = await notices.next()
        assert (told.keys, told.first_us) == (3, 0), "a file does not say when it was written"
    finally:
        side.close()
