"""What processes hold: memory, file handles, threads, asyncio tasks, connections, files on the spool."""

from __future__ import annotations

import os
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

COUNTED: Final = [
    *(sys.executable, "-c"),
    """
import asyncio, os, signal, sys
from paritree.core import limits
limits.KEEPALIVE_S, limits.RECONNECT_S_MAX = 1.0, 4.0
def count(*_):
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        return
    with open(os.environ["SOAK_COUNTS"] + f"/{os.getpid()}.part", "w") as file:
        file.write(str(tasks))
    os.replace(file.name, file.name.removesuffix(".part"))
signal.signal(signal.SIGUSR1, count)
from paritree.cli.main import main
main()
""",
]
"""The command line, which on SIGUSR1 writes how many tasks its event loop has."""
GROWTH_MAX: Final = 0.05
WARM: Final = 150
"""Samples of a life whose memory is judged: with fewer, a quarter of them is no warm-up (measured: 6 to 8 % at 60,
below 1.3 % at 170). Of a shorter life nothing is known, and the summary says so."""
COUNTS_SLACK: Final = 6
"""Handles and threads that come and go with pools; a leak has one for every sweep or connection."""


@dataclass(frozen=True, slots=True)
class Held:
    """Of one process at a quiet moment; ``pss_kb`` its share of memory."""

    pss_kb: int
    handles: int
    threads: int
    tasks: int


def pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


def held_by(pid: int, counts: Path) -> Held:
    """What a process started with COUNTED holds now."""
    file = counts / str(pid)
    file.unlink(missing_ok=True)
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 10.0
    while not file.exists():
        if time.monotonic() > deadline:
            raise AssertionError(f"process {pid} did not count its tasks")
        time.sleep(0.01)
    fds, tasks = len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    return Held(pss_kb(pid), fds, tasks, int(file.read_text()))


@dataclass
class Life:
    """One process from a start to its end, or to now."""

    name: str
    seen: list[Held] = field(default_factory=list)

    def growth(self, what: str) -> tuple[float, float]:
        """After warm-up and at the end: medians of an eighth of the samples, the first quarter left out."""
        values = [getattr(held, what) for held in self.seen]
        some = max(3, len(values) // 8)
        start = len(values) // 4
        return statistics.median(values[start : start + some]), statistics.median(values[-some:])

    def leaks(self) -> list[str]:
        """What has grown."""
        found = []
        before, after = self.growth("pss_kb")
        if len(self.seen) >= WARM and after > before * (1 + GROWTH_MAX):
            found.append(f"{self.name}: memory grew from {before:.0f} to {after:.0f} KiB")
        for what in ("handles", "threads", "tasks"):
            before, after = self.growth(what)
            if after > before + COUNTS_SLACK:
                found.append(f"{self.name}: {what} grew from {before:.0f} to {after:.0f}")
        return found


def left_on_spools(folder: Path) -> list[str]:
    """Files of sweeps, which are to be gone when no sweep is open."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.glob("spool-*/*/*/*")
        if path.is_file() and path.suffix in (".run", ".partial", ".letters")
    )


def summary(lives: Sequence[Life]) -> Mapping[str, Mapping[str, float]]:
    """Growth of memory in per cent and samples, by process; ``judged`` whether that counts as a leak."""
    told = {}
    for life in lives:
        before, after = life.growth("pss_kb")
        told[life.name] = {"samples": len(life.seen), "pss_mib": round(after / 1024, 1)}
        told[life.name]["growth_percent"] = round(100 * (after / before - 1), 2)
        told[life.name]["judged"] = len(life.seen) >= WARM
    return told
