"""A world that a seed decides: regions with planted differences, the weather between them, one region that may lie.

    rows planted ─▶ MemoryStore ─▶ Service ─▶ AgentSession ═══ network ═══ GrpcLink ─▶ Sweep ─▶ report
      (truth)        (real)        (real)       (real)        (faults)      (real)     (real)   (checked)

Everything but gRPC's call, the clock and the threads is the product's own. ``simulation.lives`` adds coordinators with
a store, and what dies and comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from simulation.clock import background, run
from simulation.network import FAIR, ROUGH, STORM, End, Network, Weather, attached, keep_connected

from coordinator.course import Course
from coordinator.regions import Regions
from coordinator.sweep import Surroundings, Sweep, SweepOptions
from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.memory.store import MemoryStore
from edge_agent.executors import open_executor
from edge_agent.policy import Policy
from edge_agent.service import Service
from edge_agent.session import AgentSession
from paritree.core import descent, limits, pairs, planner
from paritree.core.decode import Decoded
from paritree.core.digest import DatasetKeys
from paritree.core.planner import Form, Plan, Shape
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.retry import RetryPolicy
from paritree.core.sketch import Sketch
from paritree.core.types import parse_type
from paritree.wire.dial import Address
from paritree.wire.link import AgentService

Row = tuple[int, str, str]
COLUMNS: Final = {"id": "int", "name": "text", "amount": "decimal"}
PROFILE: Final = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in COLUMNS.items()})
KEYS: Final = DatasetKeys.of(bytes(range(32)), "orders")
BINDING: Final = Binding("orders", "orders", ("id",), tuple(BoundColumn(n, t, n) for n, t in PROFILE.columns.items()))
LAG_S: Final = 2.0
PATIENCE_S: Final = 120.0
"""How long a region may be away: an agent in a storm is back within a minute."""


@dataclass
class World:
    """What a seed decides. ``hostile`` is the region that lies, or "".

    ``form`` is how nodes are resolved, whatever is cheapest: small tables would be decoded from the probe alone. None
    leaves it to the planner. ``crowded``: few differing keys are many, so ranges are sampled.
    """

    seed: int
    tables: dict[str, list[Row]]
    weather: Weather
    hostile: str
    form: Form | None
    crowded: bool
    rng: random.Random


def world_of(seed: int) -> World:
    """2, 3, 5 or 8 regions, from no difference to all rows, in fair weather, rough weather or a storm."""
    rng = random.Random(seed)
    regions = rng.choices([2, 3, 5, 8], [10, 10, 4, 1])[0]
    rows = rng.choices([0, 1, 6, 24, 70], [1, 1, 5, 6, 3])[0]
    changes = rng.choice([0, 1, 3, rows // 8, rows // 2, rows])
    tables = planted(rng, regions, rows, changes)
    weather = rng.choices([FAIR, ROUGH, STORM], [4, 4, 2])[0]
    hostile = rng.choice(list(tables)) if rng.random() < 0.4 else ""
    form = rng.choice([None, *Form])
    return World(seed, tables, weather, hostile, form, not hostile and rng.random() < 0.2, rng)


def planted(rng: random.Random, regions: int, rows: int, changes: int) -> dict[str, list[Row]]:
    """Tables that differ in so many ways: rows changed in one column or two, lost, added and doubled."""
    tables = {f"r{i}": [(key, f"name {key}", f"{key}.50") for key in range(rows)] for i in range(regions)}
    for number in range(changes):
        table = tables[rng.choice(list(tables))]
        what = rng.randrange(5) if table else 4
        at = rng.randrange(len(table)) if table else 0
        if what == 0:
            table[at] = (table[at][0], table[at][1], f"{rng.randrange(3)}.25")
        elif what == 1:
            table[at] = (table[at][0], f"edited {rng.randrange(3)}", "7.00")
        elif what == 2:
            del table[at]
        elif what == 3:
            table += [table[at]] * rng.choice([1, 1, 1, 20])
        else:
            table.append((10_000 + number, "new", "1.00"))
    return tables


Disguise = Callable[[AgentService], AgentService]
"""Puts something between a region's service and its session; its ``spoil``, where it has one, changes messages."""


@dataclass
class Region:
    """One region: its rows, and the agent that serves them."""

    name: str
    rows: list[Row]
    spool: Path
    rng: random.Random
    disguise: Disguise = lambda service: service
    store: MemoryStore = field(init=False)
    spoil: Callable[[bytes], bytes] = bytes
    shard_rows: int = 30

    def __post_init__(self) -> None:
        self.store = MemoryStore(f"{self.name}-{id(self)}")
        self.put(self.rows)

    def put(self, rows: list[Row]) -> None:
        """Replace the table."""
        kinds = (pa.int64(), pa.utf8(), pa.utf8())
        arrays = [pa.array([row[i] for row in rows], kind) for i, kind in enumerate(kinds)]
        self.store.put("orders", pa.table(arrays, names=list(COLUMNS)), key=("id",))

    def start(self) -> AgentSession:
        """A new process of the agent, which knows nothing of an earlier one but what is on its spool."""
        copy = Copy(Source(self.store.url), PROFILE, BINDING, KEYS, self.shard_rows, "plain")
        instance = f"i{self.rng.getrandbits(32):x}"
        service = Service(
            self.name,
            "a1",
            instance,
            {"orders": copy},
            spool=self.spool / self.name,
            executor=lambda: open_executor("serial", 1),
            policy=Policy(),
        )
        disguised = self.disguise(service)
        self.spoil = getattr(disguised, "spoil", bytes)
        return AgentSession(
            disguised,
            Address.parse("localhost:1"),
            None,  # type: ignore[arg-type]
            rng=self.rng,
            now=lambda: asyncio.get_running_loop().time(),
        )


@contextlib.asynccontextmanager
async def connected(world: World, spool: Path, disguise: Disguise, trace: Any = None) -> AsyncIterator[Regions]:
    """The regions of a world, connected to a coordinator or on their way."""
    network = Network(world.rng, world.weather, trace)
    regions = Regions(world.rng.getrandbits(61))
    made = [
        Region(name, rows, spool, world.rng, *([disguise] if name == world.hostile else []))
        for name, rows in world.tables.items()
    ]
    sessions = [region.start() for region in made]

    def attach(end: End) -> contextlib.AbstractAsyncContextManager[None]:
        return background(attached(regions, end))

    try:
        streams = zip(made, sessions, strict=True)
        async with background(*(keep_connected(network, attach, one, region.spoil) for region, one in streams)):
            yield regions
    finally:
        regions.close("the simulation ends")
        for session in sessions:
            await session._exchanges.close()
        for region in made:
            region.store.close()


async def swept(world: World, spool: Path, disguise: Disguise, trace: Any = None) -> dict[str, Any]:
    """The report of one sweep over the world."""
    loop = asyncio.get_running_loop()
    async with connected(world, spool, disguise, trace) as regions:
        links = await regions.wait_for(set(world.tables), 60.0)
        around = Surroundings(loop.time, asyncio.sleep, world.rng.random)
        options = SweepOptions(lag_max_s=LAG_S, limit=100_000)
        course = Course.plain(around)
        course.retry = RetryPolicy(patience_s=PATIENCE_S)
        sweep = Sweep(PROFILE, list(world.tables), links, f"s-{world.seed}", options, around, course=course)
        return await sweep.run()


def simulate(world: World, spool: Path, disguise: Disguise, trace: Any = None) -> dict[str, Any]:
    """:func:`swept` in virtual time."""
    with pytest.MonkeyPatch.context() as patch:
        narrow(patch, world.form, crowded=world.crowded)
        return run(swept(world, spool, disguise, trace))


def narrow(patch: pytest.MonkeyPatch, form: Form | None, *, crowded: bool) -> None:
    """Small tables have levels, nodes are resolved in that form, and few keys are many where it is ``crowded``."""
    patch.setattr(limits, "LEVEL_BITS_MAX", 2)
    patch.setattr(limits, "LEAF_ROWS", 4)
    if form is not None:
        patch.setattr(pairs, "decode", _no_probe(pairs.decode))
        patch.setattr(descent, "plan", _only(form))
    if crowded:
        patch.setattr(limits, "SUSPECTS_MAX", 12)
        patch.setattr(limits, "SAMPLE_KEYS", 4)


def _no_probe(decode: Callable[[Sequence[Sketch]], Decoded]) -> Callable[[Sequence[Sketch]], Decoded]:
    """A probe alone is too small."""
    return lambda sketches: decode(sketches) if len(sketches) > 1 else Decoded({}, False)


def _only(form: Form) -> Callable[..., Plan]:
    """One form wherever it can be had, and lists where it cannot."""

    def plan(differences: float, at_most: float, rows: Sequence[int], spent: int, *, may_sketch: bool) -> Plan:
        cells = planner.size_for(max(at_most, 16))  # a hostile region may have made it any number
        if form is Form.SKETCH and may_sketch and cells <= limits.SKETCH_CELLS_MAX:
            return Plan(form, cells)
        return Plan(Form.TREE if form is Form.TREE and Shape.of(max(rows)).leaf_bits else Form.LIST)

    return plan
