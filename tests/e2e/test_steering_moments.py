"""Steering a sweep at the very moment at which it starts or ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from durable import Durable, comparable, store_url

from paritree.core.errors import PeerError

pytestmark = pytest.mark.asyncio
ROWS = [(n, f"name {n}", "1.5") for n in range(40)]


@pytest.fixture
def durable(memory_regions: Callable[[], Any], tmp_path: Path) -> Durable:
    regions = memory_regions()
    regions.add("eu", ROWS)
    regions.add("us", ROWS)
    return Durable(store_url(tmp_path), regions.profile, regions.links)


async def test_paused_in_the_moment_in_which_it_starts_it_rests(durable: Durable) -> None:
    async with durable.coordinator() as (control, store):
        starting, paused = threading.Event(), threading.Event()
        start = store.start

        def started(sweep_id: str) -> Any:  # the thread that starts it is a little late
            starting.set()
            assert paused.wait(10.0)
            return start(sweep_id)

        pause = store.pause

        def pausing(*args: Any) -> bool:
            said = pause(*args)
            paused.set()
            threading.Event().wait(0.2)  # and the answer takes a moment
            return said

        store.start, store.pause = started, pausing  # type: ignore[method-assign]
        following = asyncio.create_task(durable.swept(control))
        await asyncio.to_thread(starting.wait, 10.0)
        await control.jobs.pause(durable.row(store), "ann")
        assert str(durable.row(store).state) == "paused", durable.row(store).error
        with pytest.raises(PeerError, match="paused by ann"):
            await following
        store.start = start  # type: ignore[method-assign]
        await control.jobs.resume(durable.row(store))
        assert comparable(await durable.swept(control))["verdict"] == "equal"


@pytest.mark.parametrize("what", ["resume", "cancel"])
async def test_steered_while_it_comes_to_rest_it_goes_on(durable: Durable, what: str) -> None:
    """A region is slow to hear that the sweep rests; meanwhile somebody wants it to go on, or to end."""
    async with durable.coordinator() as (control, store):
        reached, resting, heard = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def wait(body: Any) -> None:
            if type(body).__name__ == "Begin" and not reached.is_set():
                reached.set()
                await asyncio.sleep(30.0)
            if type(body).__name__ == "End" and not resting.is_set():
                resting.set()
                await heard.wait()

        durable.watched["eu"].before = wait
        following = asyncio.create_task(durable.swept(control))
        await asyncio.wait_for(reached.wait(), 10.0)
        pausing = asyncio.create_task(control.jobs.pause(durable.row(store), "ann"))
        await asyncio.wait_for(resting.wait(), 10.0)
        row = durable.row(store)
        steering = asyncio.create_task(
            control.jobs.resume(row) if what == "resume" else control.jobs.cancel(row, "bob")
        )
        await asyncio.sleep(0.2)
        heard.set()
        await asyncio.gather(pausing, steering)
        with pytest.raises(PeerError):
            await following
        for _ in range(300):
            if str(durable.row(store).state) in ("finished", "cancelled"):
                break
            await asyncio.sleep(0.1)
        assert str(durable.row(store).state) in ("finished", "cancelled"), "nobody runs it"
