"""The keeper by a clock that only waiting moves: renewals, a store that is away, one that somebody else has."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from coordinator.keeping import RENEWALS, TAKE_UP_S, Keeper
from coordinator.store import Fenced
from paritree.core.errors import SourceError

pytestmark = pytest.mark.asyncio
LEASE_S = 15.0


class Script:
    """A store and the jobs behind it: each renewal takes the next step; None is a renewal that works."""

    def __init__(self, *steps: Exception | None, cost_s: float = 0.0) -> None:
        self.now = 0.0
        self.steps = list(steps)
        self.cost_s = cost_s
        self.renewed_at: list[float] = []
        self.taken_up_at: list[float] = []
        self.abandoned = False

    def abandon(self) -> None:
        self.abandoned = True

    def renew(self) -> None:
        step = self.steps.pop(0) if self.steps else asyncio.CancelledError()
        self.now += self.cost_s
        if step is not None:
            raise step
        self.renewed_at.append(self.now)

    async def take_up(self) -> None:
        self.taken_up_at.append(self.now)

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def run(self) -> None:
        script: Any = self
        await Keeper(script, script, LEASE_S, clock=lambda: self.now, sleep=self.sleep).run()


def away() -> SourceError:
    return SourceError("the server is away", retryable=True)


async def test_a_lease_is_renewed_several_times_before_it_is_over_and_open_sweeps_are_looked_for() -> None:
    script = Script(*[None] * 20)
    with pytest.raises(asyncio.CancelledError):
        await script.run()
    steps = [later - earlier for earlier, later in zip(script.renewed_at, script.renewed_at[1:], strict=False)]
    assert set(steps) == {LEASE_S / RENEWALS}
    assert script.taken_up_at == [TAKE_UP_S, 2 * TAKE_UP_S, 3 * TAKE_UP_S]


async def test_whoever_was_overtaken_stops_at_once() -> None:
    script = Script(None, Fenced())
    with pytest.raises(Fenced):
        await script.run()
    assert script.now == LEASE_S / RENEWALS


async def test_a_store_that_is_away_for_less_than_a_lease_is_waited_for() -> None:
    script = Script(None, away(), away(), None, away(), away(), None)
    with pytest.raises(asyncio.CancelledError):
        await script.run()
    assert len(script.renewed_at) == 3


@pytest.mark.parametrize("cost_s", [0.0, 3.0])
async def test_a_store_that_is_away_for_longer_may_be_somebody_elses(cost_s: float) -> None:
    """Counted from the beginning of the last renewal that worked: that is where the server counts from, or later."""
    script = Script(None, *[away()] * 9, cost_s=cost_s)
    with pytest.raises(SourceError, match=r"another coordinator may have it") as caught:
        await script.run()
    assert not isinstance(caught.value, Fenced)
    assert script.abandoned
    assert caught.value.next_step
    assert LEASE_S <= script.now < LEASE_S * 1.6


async def test_a_server_that_does_not_answer_at_all_is_away_too() -> None:
    """A connection that was cut off without a word: the thread waits, the keeper does not."""
    released = threading.Event()
    script = Script(*[None] * 9)
    script.renew = lambda: released.wait(60.0)  # type: ignore[method-assign]
    store: Any = script
    keeper = Keeper(store, store, 0.3, clock=asyncio.get_running_loop().time)
    try:
        with pytest.raises(SourceError, match=r"could not be reached for 0.3 s"):
            await asyncio.wait_for(keeper.run(), 30.0)
    finally:
        released.set()


async def test_a_store_that_does_not_answer_while_sweeps_are_taken_up_is_away_too() -> None:
    released = threading.Event()

    class Hanging:
        def abandon(self) -> None:
            """Nobody waits for it."""

        def renew(self) -> None:
            if hung:
                released.wait(60.0)

        async def take_up(self) -> None:
            hung.append(True)
            await asyncio.to_thread(released.wait, 60.0)

    hung: list[bool] = []
    script: Any = Hanging()
    loop, slept = asyncio.get_running_loop(), [0.0]

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        slept[0] += 0.0 if hung else TAKE_UP_S

    keeper = Keeper(script, script, 0.3, clock=lambda: loop.time() + slept[0], sleep=sleep)
    try:
        with pytest.raises(SourceError, match="could not be reached"):
            await asyncio.wait_for(keeper.run(), 30.0)
    finally:
        released.set()
