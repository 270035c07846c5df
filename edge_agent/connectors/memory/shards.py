"""Shards by row ranges ``[start, stop)``; the last has no stop, so that a grown table is read to its end."""

from __future__ import annotations

from typing import Any

from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.memory.store import MemoryStore
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding


class MemoryPlan(Plan):
    """Row ranges of one table; keeps its state for the scans where the store has snapshots."""

    def __init__(self, store: MemoryStore, binding: Binding, shard_rows: int) -> None:
        if shard_rows < 1:
            raise ConfigError("shard_rows is at least 1")
        self._store, self._table = store, binding.table
        self._shard_rows = shard_rows
        self._version = store.table(binding.table)
        self._number = next(store.plan_numbers)
        if store.snapshots:
            store.snapshot_of_plan[self._number] = self._version
        starts = range(0, max(self._version.data.num_rows, 1), shard_rows)
        self.shards = tuple(
            Shard(number, f"rows from {start}", self._range(start, start + shard_rows, starts[-1]), shard_rows)
            for number, start in enumerate(starts)
        )

    def _range(self, start: int, stop: int, last: int) -> dict[str, int | None]:
        return {"plan": self._number, "start": start, "stop": None if start == last else stop}

    def position(self) -> Position:
        """The table's version; an interval of versions where each shard read its own."""
        first, now = self._version.number, self._store.table(self._table).number
        if self._store.snapshots or first == now:
            return Position(f"version {first}", point=True)
        return Position(f"versions {first} to {now}", point=False)

    def memento(self) -> dict[str, Any]:
        """The version of the table; another process has no part in a store of this one's memory."""
        return {"store": self._store.identity, "version": self._version.number, "shard_rows": self._shard_rows}

    def close(self) -> None:
        self._store.snapshot_of_plan.pop(self._number, None)
