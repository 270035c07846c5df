"""What a sweep runs with beside its question: its journal, its budget, who may halt it, and how regions are spared."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from coordinator.gates import Gates
from coordinator.halt import Halt
from coordinator.journal import Journal
from paritree.core.budget import Budget
from paritree.core.ledger import Tally
from paritree.core.messages import ByteClass
from paritree.core.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance, passed in so that a whole sweep can run in a simulation."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random


async def admitted(_region: str) -> str:
    """Every region may be asked."""
    return ""


async def unsettled(_outcomes: Mapping[str, str | None]) -> None:
    """Nobody remembers how it went."""


async def undisputed() -> None:
    """There is no store that another coordinator could have."""


@dataclass(slots=True)
class Course:
    """One run of one sweep. ``moved_before`` are the bytes of the runs before it, by region.

    ``resumed``: there were some. ``patient``: its regions were there when it was begun, so they are waited for as long
    as for any answer. ``admit`` says why a region is not to be asked now, "" if it may be; it is called before its
    Begin. ``settle`` is told at the end how the regions did: None for one that worked, the reason for one that failed.
    ``returned`` waits until a region that is away has connected; for one that is connected it does not return.
    ``held`` raises Fenced where another coordinator has the store.
    """

    journal: Journal
    gates: Gates
    surroundings: Surroundings
    halt: Halt = field(default_factory=Halt)
    budget: Budget = field(default_factory=Budget)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    admit: Callable[[str], Awaitable[str]] = admitted
    settle: Callable[[Mapping[str, str | None]], Awaitable[None]] = unsettled
    moved_before: Mapping[str, Tally] = field(default_factory=dict)
    resumed: bool = False
    patient: bool = False
    returned: Callable[[str], Awaitable[None]] | None = None
    held: Callable[[], Awaitable[None]] = undisputed

    @classmethod
    def plain(cls, surroundings: Surroundings) -> Self:
        """Nothing is stored, nothing limited."""
        journal = Journal(clock=surroundings.clock, sleep=surroundings.sleep)
        return cls(journal, Gates(clock=surroundings.clock), surroundings)

    def now(self) -> float:
        """Monotonic seconds."""
        return self.surroundings.clock()

    def chance(self) -> float:
        """A number in [0, 1)."""
        return self.surroundings.jitter()

    async def pause(self, seconds: float) -> None:
        """Wait."""
        await self.surroundings.sleep(seconds)

    async def pause_for(self, region: str, seconds: float) -> None:
        """Wait, but not longer than until the region, which was away, has connected again."""
        if self.returned is None:
            await self.pause(seconds)
            return
        tasks = {asyncio.ensure_future(self.pause(seconds)), asyncio.ensure_future(self.returned(region))}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def tallies_as_json(tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Bytes by region, direction and class."""
    return {name: {"sent": dict(tally.sent), "received": dict(tally.received)} for name, tally in tallies.items()}


def tallies_of_json(stored: Mapping[str, Any]) -> dict[str, Tally]:
    """What :func:`tallies_as_json` made."""
    return {name: Tally(_classes(both["sent"]), _classes(both["received"])) for name, both in stored.items()}


def _classes(counts: Mapping[str, int]) -> dict[ByteClass, int]:
    return {ByteClass(kind): count for kind, count in counts.items()}
