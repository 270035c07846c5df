"""Run as a program: begins, or goes on with, the scan of an index that follows PostgreSQL, and kills itself in it.

    python scan_crasher.py URL      reads lines ``NUMBER FOLDER``; NUMBER -1 lives to the end

Each line is a process of its own, killed (SIGKILL) at the point of that number: after everything that changes what it
leaves behind, on its disk or at the server. It prints the points that were passed, and whether it was killed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent.scan_case import copy_of, sweep_of

from edge_agent import build, wholescan
from edge_agent.connectors.postgresql import slot
from edge_agent.connectors.postgresql.changes import PostgresqlChanges
from edge_agent.index.durable import DurableIndex
from edge_agent.kept import Kept
from edge_agent.refresh import Refresher
from edge_agent.warm import Following, WarmIndex


def crash_at(number: int, told: int) -> None:
    """Kill this process at that point; every point that is passed is a byte to ``told``."""
    points = 0

    def point(step: str = "") -> None:
        nonlocal points
        if step.startswith(("sync", "write")):  # a process that is killed loses nothing by them
            return
        if points == number:
            os.kill(os.getpid(), signal.SIGKILL)
        points += 1
        os.write(told, b".")

    def after(owner: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            point()
            return result

        setattr(owner, name, counted)

    after(Kept, "_add")
    after(build, "scan_shard")
    after(PostgresqlChanges, "start")
    after(wholescan, "discard")
    after(DurableIndex, "trust")
    after(Refresher, "_take_over")
    after(slot, "advance")
    point()
    opened = DurableIndex.open
    DurableIndex.open = lambda *args, **options: opened(*args, **options, at=point)  # type: ignore[method-assign,assignment]


def begun(url: str, number: int, folder: Path) -> str:
    """One process; what it says."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)  # what it logs is no answer
        crash_at(number, write)
        with WarmIndex(copy_of(url), folder / "index", Following("eu/eu-1")) as index:
            sweep_of(index, folder)
        os._exit(0)
    os.close(write)
    points = 0
    while some := os.read(read, 4_096):
        points += len(some)
    os.close(read)
    _, status = os.waitpid(child, 0)
    ended = os.waitstatus_to_exitcode(status)
    assert ended in (0, -signal.SIGKILL), ended
    return f"{points} {'killed' if ended else 'ended'}"


if __name__ == "__main__":
    for line in sys.stdin:
        number, folder = line.split()
        print(begun(sys.argv[1], int(number), Path(folder)), flush=True)
