"""A region whose agent keeps dead letters, over a memory table that tests change."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from coordinator.sweep import Sweep, SweepOptions
from edge_agent.build import Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import SerialExecutor
from edge_agent.letters.desk import LetterDesk
from edge_agent.letters.sweep import SweepLetters
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core.deadletters import Letter, LetterAction
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskLetters, DeadLetters, Letters
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type
from paritree.wire.loopback import LoopbackLink

MASTER_KEY = bytes(range(32))
KINDS = {"id": "int", "name": "text", "amount": "decimal"}


class Kept:
    """One region's table ``orders`` and its dead letters."""

    def __init__(self, spool: Path, region: str = "eu") -> None:
        self.spool = spool
        self.store = MemoryStore(f"letters-{id(self)}")
        self.copy = self.copy_of("orders")
        self.profile = self.copy.profile
        self.desk = LetterDesk(region, spool, {"orders": self.copy}, SerialExecutor, DatasetKeys.of(MASTER_KEY, ""))

    def copy_of(self, dataset: str) -> Copy:
        """The table of the dataset's name."""
        profile = Profile(dataset, ("id",), {n: parse_type(t) for n, t in KINDS.items()})
        columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
        binding = Binding(dataset, dataset, ("id",), columns)
        return Copy(Source(self.store.url), profile, binding, DatasetKeys.of(MASTER_KEY, dataset), 2, "plain")

    def put(self, rows: list[tuple[Any, ...]], table: str = "orders", **more: pa.Array) -> None:
        arrays = [
            pa.array([r[0] for r in rows], pa.int64()),
            pa.array([r[1] for r in rows], pa.utf8()),
            pa.array([r[2] for r in rows], pa.utf8()),
        ]
        self.store.put(table, pa.table([*arrays, *more.values()], names=[*KINDS, *more]), key=("id",))

    def sweep(self, sweep_id: str) -> DeadLetters:
        letters = SweepLetters(self.desk.store, self.profile, self.copy.keys, sweep_id)
        return build_index(self.copy, SerialExecutor(), self.spool / sweep_id, lambda _: None, letters).dead

    def ask(self, action: str, *ids: str, dataset: str = "orders", reason: str = "") -> Letters:
        """The parts of the answer as one."""
        parts = self.desk.answer(AskLetters(dataset, LetterAction(action), ids, reason, "ops"))
        joined = [letter for part in parts for letter in part.letters]
        return Letters(tuple(joined), parts[0].not_kept, parts[0].cleared, parts[0].unknown)

    @property
    def letters(self) -> dict[str, Letter]:
        """The letters by the reason that they state."""
        return {letter.reason: letter for letter in self.ask("list").letters}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path / "spool")
    yield made
    made.store.close()


class Neighbours:
    """Two regions whose agents serve two datasets, ``orders`` and ``users``, and keep dead letters."""

    def __init__(self, place: Path) -> None:
        self.regions = {name: Kept(place / name, name) for name in ("eu", "us")}
        self.links = {name: self._link(name, kept) for name, kept in self.regions.items()}
        self._ids = itertools.count()

    def _link(self, region: str, kept: Kept) -> LoopbackLink:
        copies = {"orders": kept.copy, "users": kept.copy_of("users")}
        desk = LetterDesk(region, kept.spool, copies, SerialExecutor, DatasetKeys.of(MASTER_KEY, ""))
        service = Service(
            region, "a1", "i1", copies, spool=kept.spool, executor=SerialExecutor, policy=Policy(), desk=desk
        )
        return LoopbackLink(service)

    def put(self, rows: list[tuple[Any, ...]], table: str = "orders") -> None:
        """The same rows in both regions."""
        for kept in self.regions.values():
            kept.put(rows, table)

    def sweep(self, dataset: str) -> dict[str, Any]:
        return asyncio.run(self.swept(dataset, f"n{next(self._ids)}"))

    async def swept(self, dataset: str, sweep_id: str) -> dict[str, Any]:
        profile = self.regions["eu"].copy_of(dataset).profile
        return await Sweep(profile, ["eu", "us"], self.links, sweep_id, SweepOptions(lag_max_s=0.0)).run()


@pytest.fixture
def neighbours(tmp_path: Path) -> Iterator[Neighbours]:
    made = Neighbours(tmp_path)
    yield made
    for kept in made.regions.values():
        kept.store.close()
