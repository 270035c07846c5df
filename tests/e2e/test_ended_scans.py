"""A sweep that is ended during its scans ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from durable import ORDER, SWEEP_ID, Durable, store_url

from paritree.core.budget import Budget
from paritree.core.errors import PeerError
from paritree.core.messages import Begin, End

pytestmark = pytest.mark.asyncio
ROWS = [(n, f"name {n}", "1.5") for n in range(40)]


@pytest.mark.parametrize("how", ["cancel", "time"])
async def test_a_sweep_that_is_ended_during_a_scan_ends_the_scan(
    memory_regions: Callable[[], Any], tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = memory_regions()
    regions.add("eu", ROWS)
    regions.add("us", ROWS)
    one = Durable(store_url(tmp_path), regions.profile, regions.links, sleep=asyncio.sleep)
    service = one.links["eu"]._service
    scanning, ended = asyncio.Event(), []
    build = service._build

    def slow(sweep: Any, begin: Any) -> Any:  # a table that takes long
        loop.call_soon_threadsafe(scanning.set)
        ended.append(sweep.cancel.wait(60.0))
        return build(sweep, begin)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(service, "_build", slow)
    order = replace(ORDER, budget=Budget(time_s=2.0)) if how == "time" else ORDER
    async with one.coordinator() as (control, store):
        following = asyncio.create_task(one.swept(control, order))
        await asyncio.wait_for(scanning.wait(), 60.0)
        if how == "cancel":
            await control.jobs.cancel(one.row(store), "ann")
        report = await following
        assert report["ended_early"]
        assert report["verdict"] == "unknown"
        still = SWEEP_ID in service._sweeps
        while not ended:
            await asyncio.sleep(0.1)
        assert ("eu", "End") in [(region, kind) for region, kind, _ in one.asked]
        assert ended == [True], "the scan went on to its end"
        assert not still


async def test_a_sweep_that_is_cancelled_while_it_rests_ends_in_every_region(
    memory_regions: Callable[[], Any], tmp_path: Path
) -> None:
    """It was paused during its scans, of which the regions keep what is done: nobody wants that any more."""
    regions = memory_regions()
    regions.add("eu", ROWS)
    regions.add("us", ROWS)
    one = Durable(store_url(tmp_path), regions.profile, regions.links)
    reached, said = asyncio.Event(), []

    async def wait(body: Any) -> None:
        if isinstance(body, Begin) and not reached.is_set():
            reached.set()
            await asyncio.sleep(30.0)
        if isinstance(body, End):
            said.append(body.keep)

    async with one.coordinator() as (control, store):
        one.watched["eu"].before = wait
        following = asyncio.create_task(one.swept(control))
        await asyncio.wait_for(reached.wait(), 10.0)
        await control.jobs.pause(one.row(store), "ann")
        with pytest.raises(PeerError, match="paused"):
            await following
        assert said == [True]
        await control.jobs.cancel(one.row(store), "bob")
        assert str(one.row(store).state) == "cancelled"
    assert said == [True, False]
