"""Whether somebody still wants what a thread reads: scans ask between batches, so nobody waits for a whole shard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from paritree.core.errors import SourceError

Demand = Callable[[], None]
"""Raises Cancelled when nobody wants the rest."""
Task = TypeVar("Task")
Result = TypeVar("Result")
REST_S: Final = 0.2
"""Of a longer rest, so much before it is asked again."""
_thread = threading.local()


class Cancelled(SourceError):
    """The sweep was ended while its scan ran, or ``rests``: then another goes on with the scan."""

    rests: bool = False


def demand_wanted() -> None:
    """To be called between batches. Raises what the demand of this thread's work raises."""
    if (demand := _demand()) is not None:
        demand()


def rest(seconds: float) -> None:
    """Sleep, but no longer than somebody wants what comes then. Raises as :func:`demand_wanted`."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        demand_wanted()
        time.sleep(min(left, REST_S))


@contextmanager
def asking(demand: Demand | None) -> Iterator[None]:
    """What this thread does inside is for whoever the demand speaks for."""
    before, _thread.demand = _demand(), demand
    try:
        yield
    finally:
        _thread.demand = before


def for_the_same(work: Callable[[Task], Result]) -> Callable[[Task], Result]:
    """The work for other threads, with the demand of this one."""
    demand = _demand()

    def asked(task: Task) -> Result:
        with asking(demand):
            return work(task)

    return asked


def _demand() -> Demand | None:
    found: Demand | None = getattr(_thread, "demand", None)
    return found
