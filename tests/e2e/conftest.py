"""Regions in this process: memory tables, real services and the real sweep over loopback links."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from durable import Durable, store_url

from coordinator.sweep import Surroundings, Sweep, SweepOptions
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import open_executor
from edge_agent.policy import Policy
from edge_agent.service import Service
from paritree.core.digest import DatasetKeys
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.scope import Scope
from paritree.core.types import parse_type
from paritree.wire.loopback import LoopbackLink

MASTER_KEY = bytes(range(32))
COLUMNS = {"id": "int", "name": "text", "amount": "decimal"}


class Regions:
    """Memory regions of one dataset ``orders`` and sweeps over them."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.stores: dict[str, MemoryStore] = {}
        self.links: dict[str, LoopbackLink] = {}
        self.profile = Profile("orders", ("id",), {n: parse_type(t) for n, t in COLUMNS.items()})
        self._ids = itertools.count()

    def add(
        self,
        region: str,
        rows: list[tuple[Any, ...]],
        *,
        policy: Policy | None = None,
        master_key: bytes = MASTER_KEY,
        profile: Profile | None = None,
        executor: str = "serial",
        digester: str = "plain",
        shard_rows: int = 1000,
        scopes: tuple[Scope, ...] = (),
        keeps_keys: bool = True,
    ) -> None:
        store = self.stores[region] = MemoryStore(f"{region}-{id(self)}")
        self.put(region, rows)
        profile = profile or self.profile
        columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
        binding = Binding("orders", "orders", profile.lookup_key, columns)
        keys = DatasetKeys.of(master_key, "orders")
        copy = Copy(Source(store.url), profile, binding, keys, shard_rows, digester)
        service = Service(
            region,
            "a1",
            "i1",
            {"orders": copy},
            spool=self.spool / region,
            executor=lambda: open_executor(executor, 2),
            policy=policy or Policy(),
            scopes={"orders": {scope.name: scope for scope in scopes}},
            keeps_keys=keeps_keys,
        )
        self.links[region] = LoopbackLink(service)

    def put(self, region: str, rows: list[tuple[Any, ...]]) -> None:
        arrays = [
            pa.array([r[0] for r in rows], pa.int64()),
            pa.array([r[1] for r in rows], pa.utf8()),
            pa.array([r[2] for r in rows], pa.utf8()),
        ]
        self.stores[region].put("orders", pa.table(arrays, names=list(COLUMNS)), key=("id",))

    def sweep(
        self, *, regions: list[str] | None = None, surroundings: Surroundings | None = None, **options: Any
    ) -> dict[str, Any]:
        options.setdefault("lag_max_s", 0.0)
        names = regions or list(self.links)
        around = surroundings or Surroundings()
        run = Sweep(self.profile, names, self.links, f"s{next(self._ids)}", SweepOptions(**options), around)
        return asyncio.run(run.run())

    def close(self) -> None:
        for store in self.stores.values():
            store.close()


@pytest.fixture
def memory_regions(tmp_path: Path) -> Iterator[Callable[[], Regions]]:
    made: list[Regions] = []

    def make() -> Regions:
        made.append(Regions(tmp_path / f"spool{len(made)}"))
        return made[-1]

    yield make
    for regions in made:
        regions.close()


@pytest.fixture
def summary_of() -> Callable[[Mapping[str, Any]], list[tuple[Any, ...]]]:
    """The findings of a report as comparable tuples, sorted."""

    def collect(report: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        return sorted(
            (f["key"]["id"], f["kind"], tuple(f.get("columns", ())), tuple(f.get("missing_in", ())))
            for f in report["findings"]
        )

    return collect


@pytest.fixture
def durable(memory_regions: Callable[[], Regions], tmp_path: Path) -> Callable[..., Durable]:
    """Makes coordinators over eu and us, which differ in ``different`` rows, and us lacks one more."""

    def make(different: int = 3, name: str = "store") -> Durable:
        regions, rows = memory_regions(), [(n, f"name {n}", "1.5") for n in range(400)]
        regions.add("eu", rows)
        regions.add("us", [(n, f"other {n}" if n < different else text, v) for n, text, v in rows[:-1]])
        return Durable(store_url(tmp_path, name), regions.profile, regions.links)

    return make
