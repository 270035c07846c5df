"""The store behind ``memory://name``: immutable Arrow tables under names, replaced as a whole."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

import pyarrow as pa

from edge_agent.connectors.contract import Shard
from edge_agent.connectors.names import absent
from paritree.core.errors import ConfigError
from paritree.core.schema import SourceColumn

Hook = Callable[[Shard], None]


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a table. ``columns`` overrides what the Arrow schema says of a column."""

    number: int
    data: pa.Table
    key: tuple[str, ...] = ()
    columns: Mapping[str, SourceColumn] = field(default_factory=dict)
    empty_is_null: bool = False


class MemoryStore:
    """Tables of one store, found by its name in this process until :meth:`close`.

    ``snapshots`` False behaves as an engine without snapshots: each shard reads the table as it is when it is scanned.
    ``before_shard`` is called before each shard is read, for tests that change data during a sweep.
    """

    _stores: ClassVar[dict[str, MemoryStore]] = {}

    def __init__(self, name: str, *, snapshots: bool = True) -> None:
        if name in self._stores:
            raise ConfigError(f"there is a memory store '{name}' already", next_step="close it or take another name")
        self.name = name
        self.snapshots = snapshots
        self.before_shard: Hook | None = None
        self.tables: dict[str, Version] = {}
        self.snapshot_of_plan: dict[int, Version] = {}
        self.plan_numbers = itertools.count()
        self._version_numbers = itertools.count(1)
        self._stores[name] = self

    @property
    def identity(self) -> str:
        """Tells this store from one of the same name in another process, or of another time."""
        return f"{os.getpid()}-{id(self)}"

    @property
    def url(self) -> str:
        return f"memory://{self.name}"

    def put(
        self,
        name: str,
        data: pa.Table,
        *,
        key: tuple[str, ...] = (),
        columns: Mapping[str, SourceColumn] | None = None,
        empty_is_null: bool = False,
    ) -> None:
        """Set or replace a table. Raises ConfigError where column names repeat or the key is not among them."""
        names = data.schema.names
        if len(set(names)) < len(names):
            raise ConfigError(f"memory table '{name}' has two columns of one name")
        if missing := next((part for part in key if part not in names), None):
            raise absent("key column", missing, names, f"memory table '{name}'")
        self.tables[name] = Version(next(self._version_numbers), data, key, columns or {}, empty_is_null)

    def table(self, name: str) -> Version:
        """The table as it is now. Raises ConfigError where it is absent."""
        if name not in self.tables:
            raise absent("table", name, self.tables, self.url)
        return self.tables[name]

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """The store of that name. Raises ConfigError where this process has none."""
        if name not in cls._stores:
            raise absent("memory store", name, cls._stores)
        return cls._stores[name]

    def close(self) -> None:
        """Forget the store. Idempotent."""
        if self._stores.get(self.name) is self:
            del self._stores[self.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
