"""What all sweeps of one coordinator share: time and chance, patience, rates, circuit breakers; and their courses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from coordinator.breakers import Breakers
from coordinator.course import Course, Surroundings, tallies_of_json
from coordinator.gates import Gates
from coordinator.halt import Halt
from coordinator.journal import Journal
from coordinator.store import Answer, Fenced, Store, SweepRow
from paritree.core.budget import Budget
from paritree.core.errors import SourceError
from paritree.core.retry import Retries, RetryPolicy

T = TypeVar("T")
PATIENCE_S: Final = 45.0
"""How long a region that fails or is away in the middle of a sweep is tried: longer than an agent's restart takes, and
than the longest pause between two of its dials."""
STORE_RETRY: Final = RetryPolicy(attempts_max=3, patience_s=20.0, pause_s=0.5, pause_s_max=5.0)
"""A store that is away for longer than a lease lasts cannot be this coordinator's any more."""


@dataclass(frozen=True, slots=True)
class Setting:
    """``breakers`` None: every region is asked. ``returned``: see :class:`Course`."""

    store: Store
    surroundings: Surroundings = field(default_factory=Surroundings)
    gates: Gates | None = None
    breakers: Breakers | None = None
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(patience_s=PATIENCE_S))
    returned: Callable[[str], Awaitable[None]] | None = None

    async def course(self, row: SweepRow, halt: Halt) -> Course:
        """The course of a sweep, which begins where the store says that it had got to."""
        around = self.surroundings
        stored = await self.stored(partial(self.store.answers, row.id))
        course = Course(
            Journal(partial(self._keep, row.id), stored, clock=around.clock, sleep=around.sleep),
            self.gates or Gates(clock=around.clock),
            around,
            halt,
            Budget.of(row.options),
            self.retry,
            resumed=bool(row.resumed),
            moved_before=tallies_of_json((row.checkpoint or {}).get("bytes", {})),
            returned=self.returned,
            held=partial(self.stored, self.store.prove),
        )
        if self.breakers is not None:
            breakers = self.breakers
            course.admit = lambda region: breakers.admit(region, row.dataset)
            course.settle = lambda outcomes: breakers.settle(row.dataset, outcomes, row.regions)
        return course

    async def stored(self, call: Callable[[], T]) -> T:
        """What the store says; asked again for a while when it is away. Raises SourceError, Fenced at once."""
        return await self._tried(lambda _: call())

    async def _keep(self, sweep_id: str, answers: Sequence[Answer], state: Mapping[str, Any]) -> None:
        # A commit may have been made although its connection was lost: then it is made again over itself.
        await self._tried(lambda again: self.store.checkpoint(sweep_id, answers, state, again=again))

    async def _tried(self, call: Callable[[bool], T]) -> T:
        around = self.surroundings
        retries = Retries(STORE_RETRY, around.clock())
        again = False
        while True:
            try:
                return await asyncio.to_thread(call, again)
            except Fenced:
                raise
            except SourceError as error:
                pause = retries.after(error, around.clock(), around.jitter())
                if pause is None:
                    raise
                again = True
            await around.sleep(pause)
