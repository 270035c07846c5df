"""``python tests/simulation/seeds.py SEED …`` replays worlds, ``--trial SEED …`` trials, and shows what happens."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import pprint
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
from simulation.survival import survive
from simulation.trial import Trial, trial_of
from simulation.world import World, simulate, world_of

from coordinator.store import Store

MEMORY = Path("/dev/shm")
"""Where spools cost no disk, on Linux."""


def play(seed: int, trace: Any = None) -> tuple[World, dict[str, Any]]:
    """Simulate a seed and check the report. Raises AssertionError that says how to replay it."""
    world = world_of(seed)
    spool = _folder()
    try:
        report = simulate(world, spool, lambda service: Liar(service, random.Random(f"lies {seed}")), trace)
        check(world, report)
    except Exception as error:
        options = pprint.pformat(world, width=110)
        raise AssertionError(f"replay with: python tests/simulation/seeds.py {seed}\n{options}") from error
    finally:
        shutil.rmtree(spool)
    return world, report


def play_trial(seed: int, trace: Any = None) -> tuple[Trial, dict[str, int], list[dict[str, Any]]]:
    """Let a trial's processes die: what happened, and the reports. Raises AssertionError that says how to replay it."""
    trial = trial_of(seed)
    folder = _folder()
    try:
        (folder / "store.db").write_bytes(_empty_store())
        met, reports = survive(trial, folder / "spools", folder / "store.db", trace or (lambda _: None))
    except Exception as error:
        options = pprint.pformat(trial, width=110)
        again = f"replay with: python tests/simulation/seeds.py --trial {seed}"
        raise AssertionError(f"{again}\n{options}\n{trial.tables}") from error
    finally:
        shutil.rmtree(folder)
    return trial, met, reports


def _folder() -> Path:
    """A new folder, in memory. Always of the same name in a process, so that its store's engine is made once."""
    parent = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    folder = parent / f"simulated-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


@functools.cache
def _empty_store() -> bytes:
    """A store with its tables: making them takes longer than a trial."""
    with tempfile.TemporaryDirectory() as folder:
        Store.open(f"sqlite:///{folder}/store.db").close()
        return Path(folder, "store.db").read_bytes()


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
    tell = sys.stdout.write
    trials, seeds = "--trial" in sys.argv, [int(argument) for argument in sys.argv[1:] if argument != "--trial"]
    for seed in seeds:
        if trials:
            tell(f"{pprint.pformat(trial_of(seed), width=110)}\n")
            _, _, reports = play_trial(seed, lambda what: tell(f"  {what}\n") and None)
        else:
            world = world_of(seed)
            sizes = {name: len(rows) for name, rows in world.tables.items()}
            tell(f"seed {seed}: rows {sizes}, weather {world.weather}, hostile {world.hostile or 'nobody'}\n")
            reports = [play(seed, lambda what: tell(f"  {what}\n") and None)[1]]
        for report in reports:
            tell(f"  {report['verdict']}, {len(report['findings'])} findings, {len(compared(report))} compared\n")


if __name__ == "__main__":
    with quiet(logging.WARNING):
        main()
