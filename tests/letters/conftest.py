"""A region whose agent keeps dead letters, over a memory table that tests change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from edge_agent.build import Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import SerialExecutor
from edge_agent.letters.desk import LetterDesk
from edge_agent.letters.sweep import SweepLetters
from paritree.core.deadletters import Letter, LetterAction
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskLetters, DeadLetters, Letters
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

MASTER_KEY = bytes(range(32))
KINDS = {"id": "int", "name": "text", "amount": "decimal"}


class Kept:
    """One region's table ``orders`` and its dead letters."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.store = MemoryStore(f"letters-{id(self)}")
        self.profile = Profile("orders", ("id",), {n: parse_type(t) for n, t in KINDS.items()})
        columns = tuple(BoundColumn(n, t, source=n) for n, t in self.profile.columns.items())
        binding = Binding("orders", "orders", ("id",), columns)
        keys = DatasetKeys.of(MASTER_KEY, "orders")
        self.copy = Copy(Source(self.store.url), self.profile, binding, keys, 2, "plain")
        self.desk = LetterDesk("eu", spool, {"orders": self.copy}, SerialExecutor, DatasetKeys.of(MASTER_KEY, ""))

    def put(self, rows: list[tuple[Any, ...]], **more: pa.Array) -> None:
        arrays = [
            pa.array([r[0] for r in rows], pa.int64()),
            pa.array([r[1] for r in rows], pa.utf8()),
            pa.array([r[2] for r in rows], pa.utf8()),
        ]
        table = pa.table([*arrays, *more.values()], names=[*KINDS, *more])
        self.store.put("orders", table, key=("id",))

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
