"""Coordinators and agents that kill themselves (SIGKILL) at one exact point of their work; run as a program.

``python crashing.py coordinators FILE`` forks a coordinator for each line that it reads, so that none has to import
everything again: ``METHOD NUMBER before|after`` for one that dies at that call of the store's method, ``-`` for one
that lives. It prints the process's id, and how it ended when it has.

``python crashing.py agent FILE NUMBER`` is an agent that dies when so many shards are recorded as done; 0 for never. It
dials again without growing pauses.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any


def crash() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def crash_in_store(method: str, number: int, when: str) -> None:
    """Make the store's method crash before its transaction begins, or after it was committed."""
    from coordinator.store import Store

    real = getattr(Store, method)
    calls = itertools.count(1)  # threads may call at the same time

    def crashing(self: Any, *args: Any, **options: Any) -> Any:
        call = next(calls)
        if call == number and when == "before":
            crash()
        result = real(self, *args, **options)
        if call == number:
            crash()
        return result

    setattr(Store, method, crashing)


def coordinators(file: str) -> int:
    """Fork them as they are asked for."""
    from coordinator.serve import run_coordinator
    from paritree.cli.logs import configure
    from paritree.config.coordinator import load_coordinator

    configure("json", "info")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            if line.strip() != "-":
                method, number, when = line.split()
                crash_in_store(method, int(number), when)
            os._exit(run_coordinator(load_coordinator(Path(file))))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return 0


def agent(file: str, number: str) -> int:
    """Run an agent that will crash."""
    from edge_agent.kept import Done, Kept
    from edge_agent.serve import run_agent
    from paritree.cli.logs import configure
    from paritree.config.agent import load_agent
    from paritree.core import limits

    configure("json", "info")
    limits.RECONNECT_S_MAX = limits.RECONNECT_S_MIN  # type: ignore[misc] # the test's coordinators live for a moment
    real = Kept.note_done

    def crashing(self: Kept, done: Done) -> None:
        real(self, done)
        if len(self.done) == int(number):
            crash()

    Kept.note_done = crashing  # type: ignore[method-assign]
    return run_agent(load_agent(Path(file)))


if __name__ == "__main__":
    sys.exit({"coordinators": coordinators, "agent": agent}[sys.argv[1]](*sys.argv[2:]))
