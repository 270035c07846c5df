"""What a seed breaks: who dies when and how, who is overtaken, what is written meanwhile, how slow disks are."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Final

from simulation.network import FAIR, ROUGH, Weather
from simulation.world import Row, planted

from paritree.core.planner import Form

COORDINATOR: Final = "coordinator"
WINDY: Final = replace(ROUGH, lost=0.02, one_way=0.02, faults_max=8)
MOVING: Final = range(20_000, 20_004)
"""Keys that are written during a sweep."""
KINDS: Final = ("kill", "vanish", "power", "stop")
"""How a process ends: its connections are reset, or the machine is gone and nobody is told, or what it wrote last is
damaged besides; or it is told to stop."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of one life of ``who``: at a time (seconds after the sweep was asked for), or at a step of that life."""

    who: str
    how: str
    away_s: float
    at_s: float | None = None
    at_step: int | None = None


@dataclass(frozen=True, slots=True)
class Overtaking:
    """Another coordinator takes the store while the first believes that it is its own.

    ``unaware_s``: for so long after it should have found out it goes on, unless the store or an agent tells it. ``cut``
    is the share of the agents' streams that go over at once.
    """

    at_s: float
    unaware_s: float
    cut: float


@dataclass(frozen=True, slots=True)
class Write:
    """A row is set, or deleted where ``name`` is None."""

    at_s: float
    region: str
    key: int
    name: str | None


@dataclass(frozen=True, slots=True)
class Trial:
    """``liveness``: faults stop at some time, and sweeps before and after them are compared; nothing is written.

    Otherwise they go on as long as the sweep does, up to their number. ``disk_s`` is what work for a thread takes at
    most. ``shard_rows`` rows are read at a time; ``snapshots`` False: every shard as it is when it is read.
    """

    seed: int
    liveness: bool
    weather: Weather
    disk_s: float
    shard_rows: int
    snapshots: bool
    form: Form | None
    crowded: bool
    ends: tuple[End, ...]
    overtakings: tuple[Overtaking, ...]
    writes: tuple[Write, ...]
    tables: dict[str, list[Row]] = field(repr=False)


def trial_of(seed: int) -> Trial:
    """2 or 3 regions, up to five ends of processes, up to two overtakings, writes in every third."""
    rng = random.Random(f"trial {seed}")
    regions, rows = rng.choice([2, 2, 3]), rng.choice([1, 8, 16, 24])
    tables = planted(rng, regions, rows, rng.choice([0, 1, 3, rows // 2]))
    liveness = rng.random() < 0.4
    snapshots = rng.random() < 0.8
    span_s = rng.choice([0.6, 3.0, 12.0])
    ends = tuple(_end(rng, list(tables), span_s) for _ in range(rng.choice([0, 1, 2, 3, 5])))
    overtakings = tuple(
        Overtaking(round(rng.uniform(0, span_s), 3), rng.choice([0.0, 20.0]), round(rng.random(), 3))
        for _ in range(rng.choice([0, 0, 0, 1, 2]))
    )
    writes: tuple[Write, ...] = ()
    if not liveness and rng.random() < 0.5:
        writes = _writes(rng, tables, span_s + 2.0, snapshots=snapshots)
    return Trial(
        seed=seed,
        liveness=liveness,
        weather=rng.choice([FAIR, WINDY]),
        disk_s=rng.choice([0.0, 0.0, 0.05, 0.4, 3.0]),
        shard_rows=rng.choice([3, 7, 30]),
        snapshots=snapshots,
        form=rng.choice([None, *Form]),
        crowded=not writes and not liveness and rng.random() < 0.2,  # samples are drawn by the sweep's id
        ends=ends,
        overtakings=overtakings,
        writes=writes,
        tables=tables,
    )


def _end(rng: random.Random, regions: list[str], span_s: float) -> End:
    who = rng.choice([COORDINATOR, *regions])
    away_s = round(rng.choice([0.1, 1.0, 8.0, 40.0]) * rng.uniform(0.5, 1.0), 3)
    if rng.random() < 0.5:
        return End(who, rng.choice(KINDS), away_s, at_s=round(rng.uniform(0, span_s), 3))
    how = rng.choice([kind for kind in KINDS if kind != "stop"])
    return End(who, how, away_s, at_step=rng.randint(1, 40 if who == COORDINATOR else 14))


def _writes(rng: random.Random, tables: dict[str, list[Row]], span_s: float, *, snapshots: bool) -> tuple[Write, ...]:
    """Writes, and the keys that they are of in the tables as they are before.

    Without snapshots rows stay where they are: an engine that has none reads ranges that rows do not move between.
    """
    for key in MOVING:
        for name, table in tables.items():
            if not snapshots or rng.random() < 0.8:
                table.append((key, f"before {name if rng.random() < 0.2 else ''}", "1.00"))
    made = []
    for number in range(rng.choice([1, 3, 6])):
        key, at_s = rng.choice(MOVING), rng.uniform(0, span_s)
        name = f"written {number}" if not snapshots or rng.random() < 0.7 else None
        to = list(tables) if rng.random() < 0.5 else [rng.choice(list(tables))]
        made += [Write(round(at_s + rng.uniform(0, 1.5), 3), region, key, name) for region in to]
    return tuple(sorted(made, key=lambda write: write.at_s))
