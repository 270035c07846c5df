"""Switches of the in-process tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pyarrow as pa
from switches.arrow import ARROW_SAMPLES, table_of, typed_table
from switches.base import Hole, Refused, Row, Switches, Typed, never

from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory import MemoryStore
from paritree.core.types import LogicalType


class Memory(Switches):
    engine: ClassVar[str] = "memory"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.arrow",)
    samples: ClassVar[Mapping[str, Typed | Refused]] = {f"arrow:{name}": s for name, s in ARROW_SAMPLES.items()}
    holes: ClassVar[Mapping[str, Hole]] = {
        "test_expressions_and_where_are_the_engines_own": never("in-process tables have no query language"),
        "test_shards_are_scanned_in_another_process": never("the tables are in the process that put them there"),
        "test_the_first_batch_comes_before_all_is_read": never("all is in memory before it is scanned"),
    }

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        self.store = MemoryStore(str(place))

    @property
    def source(self) -> Source:
        return Source(self.store.url)

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        self.store.put(table, table_of(columns, rows), key=tuple(key))
        return table

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        self.store.put(table, typed_table(declared, natives))
        return table

    def change(self, table: str) -> None:
        rows = self.store.table(table).data.to_pylist()
        changed = [{"id": 1, "v": -1}, *rows[2:], {"id": 1000, "v": 10_000}]
        self.store.put(table, pa.Table.from_pylist(changed), key=("id",))

    def fingerprint(self) -> object:
        return {name: version.number for name, version in self.store.tables.items()}

    def unreachable(self) -> Sequence[Source]:
        return [Source("memory://absent")]

    def close(self) -> None:
        self.store.close()
