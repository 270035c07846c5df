"""A coordinator that may not, or cannot, go on with a sweep leaves the regions' scans to whoever takes it up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from durable import SWEEP_ID, Durable, comparable

from coordinator.store import Fenced, Store
from paritree.core.errors import SourceError
from paritree.core.messages import AskDetail

pytestmark = pytest.mark.asyncio


def service_of(durable: Durable, region: str) -> Any:
    return durable.links[region]._service


async def clean(durable: Durable) -> Any:
    async with durable.coordinator() as (control, _):
        return comparable(await durable.swept(control))


def begins(durable: Durable) -> int:
    return sum(kind == "Begin" for _, kind, _ in durable.asked)


async def test_whoever_is_overtaken_does_not_end_the_sweep_in_the_regions(durable: Callable[..., Durable]) -> None:
    """The new coordinator has the store, and no agent has heard of it yet: they are still connected to the old one."""
    expected = await clean(durable())
    one = durable(name="store-overtaken")
    async with one.coordinator() as (control, store):

        def before(body: Any) -> None:
            if isinstance(body, AskDetail) and store._lease is not None:
                store._lease.release()
                store._lease = None
                Store.open(one.url, lease_wait_s=0.0).close()  # a standby takes over

        one.watched["eu"].before = before
        with pytest.raises(Fenced):
            await one.swept(control)
    one.watched["eu"].before = lambda body: None
    assert {r: SWEEP_ID in service_of(one, r)._sweeps for r in ("eu", "us")} == {"eu": True, "us": True}
    asked = begins(one)
    async with one.coordinator() as (control, _):
        await control.jobs.take_up()
        assert comparable(await one.swept(control)) == expected
    assert begins(one) == asked  # nothing is scanned again


async def test_a_store_that_is_away_does_not_end_the_sweep_in_the_regions(durable: Callable[..., Durable]) -> None:
    expected = await clean(durable())
    one = durable(name="store-away")
    async with one.coordinator() as (control, store):
        away = False
        plain = store.checkpoint

        def checkpoint(*args: Any, **kwargs: Any) -> None:
            if away:
                raise SourceError("the server is away", retryable=True)
            plain(*args, **kwargs)

        store.checkpoint = checkpoint  # type: ignore[method-assign]

        def before(body: Any) -> None:
            nonlocal away
            away = away or isinstance(body, AskDetail)

        one.watched["eu"].before = before
        with pytest.raises(SourceError, match="away"):
            await one.swept(control)
        away = False
        one.watched["eu"].before = lambda body: None
        asked = begins(one)
        await control.jobs.take_up()  # as the keeper does every 30 s
        assert comparable(await one.swept(control)) == expected
    assert begins(one) == asked  # nothing is scanned again
