"""Budgets, circuit breakers and waiting in line, through the coordinator's control over memory regions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from durable import ORDER, SWEEP_ID, Durable, store_url

from coordinator.breakers import Breakers
from coordinator.course import Surroundings
from coordinator.gates import Gates, Rates
from coordinator.store import Store
from coordinator.sweep import Sweep, SweepOptions
from edge_agent.connectors.memory.store import MemoryStore
from paritree.core.budget import Budget
from paritree.core.errors import ConfigError, PeerError
from paritree.core.messages import AskAgain, AskDetail, Begin
from paritree.wire.control import SteerOrder

pytestmark = pytest.mark.asyncio
ROWS = [(n, f"name {n}", "1.5") for n in range(200)]


@pytest.fixture
def durable(memory_regions: Callable[[], Any], tmp_path: Path) -> Callable[..., Durable]:
    def make(different: int = 3, **setting: Any) -> Durable:
        regions = memory_regions()
        regions.add("eu", ROWS)
        regions.add("us", [(n, f"other {n}" if n < different else name, v) for n, name, v in ROWS])
        return Durable(store_url(tmp_path), regions.profile, regions.links, setting=setting)

    return make


async def budgeted(durable: Durable, budget: Budget) -> Any:
    async with durable.coordinator() as (control, store):
        report = await durable.swept(control, replace(ORDER, budget=budget))
        assert str(durable.row(store).state) == "finished"
        return report


async def test_a_budget_that_is_not_used_up_changes_nothing(durable: Callable[..., Durable]) -> None:
    one = durable()
    one.sleep = asyncio.sleep
    report = await budgeted(one, Budget(time_s=600.0, bytes=10**9, rows=10**9, differences=3))
    assert (report["verdict"], report["findings_total"], report["ended_early"]) == ("different", 3, None)


async def test_rows_used_up_end_the_scan(durable: Callable[..., Durable]) -> None:
    report = await budgeted(durable(), Budget(rows=250))
    assert report["ended_early"] == "the budget of 250 rows is used up"
    assert report["verdict"] == "unknown"
    assert report["findings"] == []


async def test_bytes_used_up_end_the_descent(durable: Callable[..., Durable]) -> None:
    one = durable()
    report = await budgeted(one, Budget(bytes=20_000))  # two probes are more than that
    assert report["ended_early"] == "the budget of 20,000 bytes is used up"
    assert report["verdict"] == "unknown"
    assert sum(report["bytes"].values()) < 2 * 20_000


async def test_time_used_up_ends_even_a_region_that_is_silent(durable: Callable[..., Durable]) -> None:
    one = durable()
    # The coordinator's own sleep is a step of the loop in these tests, so the time is up at once.
    one.watched["us"].before = lambda body: asyncio.sleep(30.0) if isinstance(body, AskDetail) else None
    async with asyncio.timeout(10.0):
        report = await budgeted(one, Budget(time_s=0.001))
    assert report["ended_early"] == "the budget of 0.001 s is used up"
    assert report["verdict"] == "unknown"


async def test_differences_used_up_leave_the_confirmed_ones(durable: Callable[..., Durable]) -> None:
    report = await budgeted(durable(40), Budget(differences=10))
    assert report["findings_total"] == 10
    assert report["verdict"] == "different"
    reasons = {stated["reason"] for stated in report["verdicts"] if stated["verdict"] == "unknown"}
    assert reasons == {"the budget of 10 differences is used up: 30 more keys differ in one look"}
    assert report["ended_early"] is None


async def test_what_two_looks_settled_is_listed_when_it_ends_early(durable: Callable[..., Durable]) -> None:
    """Ended while a third look is asked for, because one of four keys still moves: the other three are findings."""
    one = durable(4)
    looks: list[str] = []

    def before(body: Any) -> Any:
        if not isinstance(body, AskDetail | AskAgain):
            return None
        looks.append("us")
        move(one, len(looks))
        return asyncio.sleep(30.0) if len(looks) == 3 else None

    one.watched["us"].before = before
    async with one.coordinator() as (control, store):
        following = asyncio.create_task(one.swept(control))
        async with asyncio.timeout(10.0):
            while len(looks) < 3:
                await asyncio.sleep(0.01)
        await control.steer(SteerOrder(SWEEP_ID, "cancel"), "bob")
        report = await following
        assert str(one.row(store).state) == "cancelled"
    assert report["ended_early"] == "cancelled by bob"
    assert report["verdict"] == "different"
    assert report["findings_total"] == 3
    assert report["summary"]["unknown"] == 1
    assert store_has(one, 3)


def move(durable: Durable, step: int) -> None:
    """Row 3 of us is written again."""
    (name,) = (name for name in MemoryStore._stores if name.startswith("us-"))
    store = MemoryStore.named(name)
    table = store.table("orders").data
    rows = table.to_pylist()
    rows[3]["name"] = f"moving {step}"
    store.put("orders", type(table).from_pylist(rows, schema=table.schema), key=("id",))


def store_has(durable: Durable, findings: int) -> bool:
    with Store.open(durable.url) as store:
        return store.findings(SWEEP_ID, limit=9)[1] == findings


# --- breakers -------------------------------------------------------------------------------------------------------


async def test_a_region_that_fails_three_sweeps_is_not_asked_in_the_fourth(durable: Callable[..., Durable]) -> None:
    one = durable()

    def fail(body: Any) -> Any:
        if isinstance(body, Begin):
            raise PeerError("the disk is on fire")
        return None

    one.watched["us"].before = fail
    with Store.open(one.url) as store:
        breakers = Breakers(store, chance=lambda: 0.0)
    for number in range(5):
        async with one.coordinator() as (control, store):
            breakers._store = store
            control._setting = control.jobs._setting = replace(control._setting, breakers=breakers)
            control._new_id = lambda: f"sweep-{number}"  # noqa: B023 - used before the next turn
            begins = sum(kind == "Begin" for region, kind, _ in one.asked if region == "us")
            report = await one.swept(control, replace(ORDER, job_id=f"job-{number}"))
            asked = sum(kind == "Begin" for region, kind, _ in one.asked if region == "us") - begins
            status = await control.status()
            us = next(region for region in status["regions"] if region["name"] == "us")
            if number == 3:
                assert asked == 0
                assert "left alone after 3 sweeps in a row that lost it" in str(report["verdicts"])
                assert "the disk is on fire" in str(report["verdicts"])
                assert [one["state"] for one in us["breakers"]] == ["open"]
                one.watched["us"].before = lambda body: None
                breakers.connected("us", "a new process")
            elif number < 3:
                assert asked == 1
                assert us["breakers"][0]["failures"] == number + 1
            else:
                assert report["verdict"] == "different"
                assert us["breakers"] == []


async def test_an_overloaded_agent_slows_a_sweep_and_does_not_end_it(
    durable: Callable[..., Durable], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent takes one sweep at a time: the second one is told when to come back, and has the same result."""
    monkeypatch.setattr("edge_agent.service.SWEEPS_MAX", 1)
    one = durable()
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0.01)

    around = Surroundings(sleep=sleep, jitter=lambda: 0.5)
    options = SweepOptions(lag_max_s=0.0)
    first, second = (Sweep(one.profile, ["eu", "us"], one.watched, f"s{n}", options, around) for n in range(2))
    one.watched["us"].before = lambda body: asyncio.sleep(0.3) if isinstance(body, AskDetail) else None
    begun = asyncio.create_task(first.run())
    while not all(first.facts[name].ready for name in ("eu", "us")):
        await asyncio.sleep(0.01)
    reports = await asyncio.wait_for(asyncio.gather(begun, second.run()), 30.0)
    assert [report["verdict"] for report in reports] == ["different"] * 2
    assert waited.count(10.5) >= 2  # as long as the agents said, and something by chance
    assert all(region["compared"] for report in reports for region in report["regions"])


# --- waiting in line ------------------------------------------------------------------------------------------------


async def test_a_region_has_no_more_sweeps_at_a_time_than_it_may(durable: Callable[..., Durable]) -> None:
    gates = Gates(Rates(), {"us": Rates(sweeps_max=1)}, clock=lambda: 0.0)
    most = 0

    async def sweep(regions: tuple[str, ...]) -> None:
        nonlocal most
        async with gates.sweeping(regions):
            under_way.append(regions)
            most = max(most, sum("us" in one for one in under_way))
            await asyncio.sleep(0.01)
            under_way.remove(regions)

    under_way: list[tuple[str, ...]] = []
    every = [("eu", "us"), ("us", "eu"), ("ap", "us"), ("ap", "eu")] * 3
    await asyncio.wait_for(asyncio.gather(*map(sweep, every)), 10.0)
    assert most == 1


@pytest.mark.parametrize("action", ["pause", "cancel"])
async def test_a_sweep_that_waits_in_line_is_steered_at_once(durable: Callable[..., Durable], action: str) -> None:
    gates = Gates(Rates(sweeps_max=1), clock=lambda: 0.0)
    one = durable(gates=gates)
    async with one.coordinator() as (control, _), gates.sweeping(("eu",)):
        following = asyncio.create_task(one.swept(control))
        while not control.jobs.running:
            await asyncio.sleep(0.01)
        status = await control.status()
        assert [sweep["progress"][0]["stage"] for sweep in status["sweeps"]] == ["queued"]
        after = await asyncio.wait_for(control.steer(SteerOrder("nightly", action), "ann"), 5.0)
        if action == "cancel":
            assert after["state"] == "cancelled"
            assert (await following)["verdict"] == "unknown"
        else:
            assert (after["state"], after["paused_by"]) == ("paused", "ann")
            with pytest.raises(PeerError, match=r"paused by ann"):
                await following
            assert (await control.steer(SteerOrder("nightly", "resume"), "ann"))["state"] == "queued"
            with pytest.raises(ConfigError, match=r"is queued, not paused"):
                await control.steer(SteerOrder("nightly", "resume"), "ann")
        assert one.asked == []


async def test_what_cannot_be_done_with_a_sweep_is_said(durable: Callable[..., Durable]) -> None:
    one = durable()
    async with one.coordinator() as (control, _):
        await one.swept(control)
        for action, message in (
            ("pause", "is finished: it cannot be paused"),
            ("resume", "is finished, not paused"),
            ("cancel", "is finished: it cannot be cancelled"),
            ("stop", "cannot be told to 'stop'"),
        ):
            with pytest.raises(ConfigError, match=message):
                await control.steer(SteerOrder(SWEEP_ID, action), "ann")
        with pytest.raises(ConfigError, match=r"there is no sweep 'x'"):
            await control.steer(SteerOrder("x", "pause"), "ann")
