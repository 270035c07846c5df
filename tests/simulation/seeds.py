"""``python tests/simulation/seeds.py SEED …`` replays seeds, and shows what the network does to messages."""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

import structlog
from simulation.check import check, compared
from simulation.hostile import Liar
from simulation.world import World, simulate, world_of

MEMORY = Path("/dev/shm")
"""Where spools cost no disk, on Linux."""


def play(seed: int, trace: Any = None) -> tuple[World, dict[str, Any]]:
    """Simulate a seed and check the report. Raises AssertionError that says how to replay it."""
    world = world_of(seed)
    spool = Path(tempfile.mkdtemp(prefix="simulated-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        report = simulate(world, spool, lambda service: Liar(service, random.Random(f"lies {seed}")), trace)
        check(world, report)
    except Exception as error:
        raise AssertionError(f"replay with: python tests/simulation/seeds.py {seed}") from error
    finally:
        shutil.rmtree(spool)
    return world, report


@contextlib.contextmanager
def quiet(level: int = logging.CRITICAL) -> Iterator[None]:
    """Only logs of that level and above."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield
    finally:
        structlog.configure(**before)


def main() -> None:
    """Replay and tell."""
    for seed in map(int, sys.argv[1:]):
        world = world_of(seed)
        sizes = {name: len(rows) for name, rows in world.tables.items()}
        sys.stdout.write(f"seed {seed}: rows {sizes}, weather {world.weather}, hostile {world.hostile or 'nobody'}\n")
        _, report = play(seed, lambda what: sys.stdout.write(f"  {what}\n"))
        sys.stdout.write(
            f"  {report['verdict']}, {len(report['findings'])} findings, {len(compared(report))} compared\n"
        )


if __name__ == "__main__":
    with quiet(logging.WARNING):
        main()
