"""Circuit breakers around whole sweeps: what opens them, what they spare, what operators see of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from coordinator.breakers import Breakers
from coordinator.store import Store
from paritree.core.breaker import FAILURES_MAX, OPEN_S, Circuit

pytestmark = pytest.mark.asyncio
Opened = Callable[..., Store]
BOTH = ("eu", "us")


class Wall:
    """Seconds since 1970, moved by the test."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def breakers(store: Store, wall: Wall) -> Breakers:
    return Breakers(store, now=wall, chance=lambda: 0.0)


async def swept(breakers: Breakers, outcomes: Mapping[str, str | None], dataset: str = "orders") -> dict[str, str]:
    """A sweep with these outcomes: what it was told of each region before it asked."""
    told = {region: await breakers.admit(region, dataset) for region in BOTH}
    asked = {region: outcome for region, outcome in outcomes.items() if not told[region]}
    await breakers.settle(dataset, asked, BOTH)
    return told


async def test_a_region_that_keeps_failing_is_left_alone_and_its_neighbours_are_not(opened: Opened) -> None:
    store, wall = opened(), Wall()
    some = breakers(store, wall)
    for _ in range(FAILURES_MAX):
        assert await swept(some, {"eu": None, "us": "timeout"}) == {"eu": "", "us": ""}
    told = await swept(some, {"eu": None})
    assert told["eu"] == ""
    assert told["us"] == "left alone after 3 sweeps in a row that lost it, until 2023-11-14T22:13:50+00:00: timeout"
    assert await some.admit("us", "users") == ""  # another dataset may work
    assert store.breakers()["us", "orders"].circuit is Circuit.OPEN
    assert some.shown("us") == [
        {
            "dataset": "orders",
            "state": "open",
            "failures": 3,
            "next_try_at": "2023-11-14T22:13:50+00:00",
            "reason": "timeout",
        }
    ]
    assert some.shown("eu") == []


async def test_after_its_time_one_sweep_tries_it_and_closes_it(opened: Opened) -> None:
    store, wall = opened(), Wall()
    some = breakers(store, wall)
    for _ in range(FAILURES_MAX):
        await swept(some, {"eu": None, "us": "timeout"})
    wall.now += OPEN_S
    assert await some.admit("us", "orders") == ""
    assert "another sweep is trying" in await some.admit("us", "orders")
    await some.settle("orders", {"eu": None, "us": None}, BOTH)
    assert await swept(some, {"eu": None, "us": None}) == {"eu": "", "us": ""}
    assert store.breakers() == {}


async def test_a_sweep_that_came_to_nothing_leaves_the_try_to_the_next(opened: Opened) -> None:
    store, wall = opened(), Wall()
    some = breakers(store, wall)
    for _ in range(FAILURES_MAX):
        await swept(some, {"us": "timeout"})
    wall.now += OPEN_S
    assert await some.admit("us", "orders") == ""
    await some.settle("orders", {}, BOTH)
    assert await some.admit("us", "orders") == ""


async def test_a_restart_neither_forgets_nor_blocks(opened: Opened) -> None:
    store, wall = opened(), Wall()
    store.agent_connected("us", "us-1", "one")
    some = breakers(store, wall)
    some.connected("us", "one")
    for _ in range(FAILURES_MAX):
        await swept(some, {"us": "timeout"})
    store.close()
    store = opened()
    some = breakers(store, wall)
    some.connected("us", "one")  # the same agent comes back: nothing has changed about it
    assert "left alone" in await some.admit("us", "orders")
    wall.now += OPEN_S
    assert await some.admit("us", "orders") == ""
    store.close()  # in the middle of the try
    store = opened()
    some = breakers(store, wall)
    assert await some.admit("us", "orders") == ""


async def test_another_process_of_the_agent_is_given_a_chance_at_once(opened: Opened) -> None:
    store, wall = opened(), Wall()
    store.agent_connected("us", "us-1", "one")
    some = breakers(store, wall)
    for _ in range(FAILURES_MAX):
        await swept(some, {"us": "timeout"})
    some.connected("eu", "one")
    assert "left alone" in await some.admit("us", "orders")
    some.connected("us", "two")
    assert await some.admit("us", "orders") == ""


async def test_sweeps_at_once_agree_on_who_tries(opened: Opened) -> None:
    store, wall = opened(), Wall()
    some = breakers(store, wall)
    for _ in range(FAILURES_MAX):
        await swept(some, {"us": "timeout"})
    wall.now += OPEN_S
    told: list[Any] = await asyncio.gather(*(some.admit("us", "orders") for _ in range(8)))
    assert told.count("") == 1
