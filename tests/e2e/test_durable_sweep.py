"""Sweeps over coordinators that crash at every write of their store: the same report, and nobody is asked twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from durable import SWEEP_ID, Crash, Durable, comparable

from coordinator.store import Fenced, Store
from edge_agent.service import Service
from paritree.core.errors import PeerError
from paritree.core.messages import AskAgain, AskDetail, AskLists, Begin
from paritree.core.types import parse_type
from paritree.wire.loopback import LoopbackLink

pytestmark = pytest.mark.asyncio
AFTERWARDS = ("End",)


async def clean(durable: Durable) -> tuple[Any, Counter[tuple[str, str]], int]:
    """What an undisturbed sweep reports, asks and writes."""
    async with durable.coordinator() as (control, store):
        report = await durable.swept(control)
        return comparable(report), asked_of(durable), store.writes


def asked_of(durable: Durable) -> Counter[tuple[str, str]]:
    return Counter((region, kind) for region, kind, _ in durable.asked if kind not in AFTERWARDS)


@pytest.mark.parametrize("committed", [False, True])
async def test_killed_at_any_write_a_sweep_goes_on_without_asking_again(
    durable: Callable[..., Durable], committed: bool
) -> None:
    expected, asked, writes = await clean(durable())
    assert expected["verdict"] == "different"
    assert expected["findings_total"] == 4
    assert writes >= 7  # begin, start, two first answers, details, second look, outcome
    for crash_at in range(writes):
        one = durable(name=f"store-{crash_at}")
        assert await one.crashed(crash_at, committed=committed) > crash_at
        before = asked_of(one)
        async with one.coordinator() as (control, store):
            row = store.sweep(SWEEP_ID)
            ended = row is not None and row.report is not None
            stored = Counter(answer.region for answer in store.answers(SWEEP_ID))
            await control.jobs.take_up()
            report = await one.swept(control)
            assert comparable(report) == expected, crash_at
            assert one.row(store).attempts == 1
            assert store.answers(SWEEP_ID) == []
        again = asked_of(one) - before
        for region in ("eu", "us"):
            left = 0 if ended else total(asked, region) - stored[region]
            assert total(again, region) == left, (crash_at, again, stored)


async def test_a_coordinator_that_dies_at_each_of_its_next_writes_ends_all_the_same(
    durable: Callable[..., Durable],
) -> None:
    """Lists and many suspects; each coordinator lives for a few writes only, and none starts from the beginning."""
    expected, asked, writes = await clean(durable(390))
    assert ("eu", AskLists.__name__) in asked
    one, lives = durable(390, "store-lives"), 0
    while await one.crashed(3, committed=True) > 0:
        lives += 1
        assert lives < writes, "it does not come further"
    assert lives >= 3
    async with one.coordinator() as (control, _):
        assert comparable(await one.swept(control)) == expected
    assert asked_of(one) == asked


async def test_bytes_and_seconds_of_all_runs_are_reported(durable: Callable[..., Durable]) -> None:
    one = durable()
    async with one.coordinator() as (control, _):
        whole = await one.swept(control)
    two = durable(name="store-two")
    assert await two.crashed(4, committed=True) > 0
    async with two.coordinator() as (control, store):
        state = two.row_state(store)
        report = await two.swept(control)
    assert report["resumed"] == 1
    assert report["elapsed_s"] >= state["at_s"] - 0.001
    assert sum(report["bytes"].values()) == sum(
        region["bytes_sent"] + region["bytes_received"] for region in report["regions"]
    )
    # The same but for signs of life, which depend on time.
    for name in ("nodes", "sketches", "details"):
        assert report["bytes"][name] == pytest.approx(whole["bytes"][name], rel=0.05), name


# --- steering -------------------------------------------------------------------------------------------------------


async def paused_at(durable: Durable, kind: type) -> str:
    """Begin the sweep and pause it while eu is asked that: what its follower was told."""
    async with durable.coordinator() as (control, store):
        reached = asyncio.Event()

        async def wait(body: Any) -> None:
            if isinstance(body, kind):
                reached.set()
                await asyncio.sleep(30.0)

        durable.watched["eu"].before = wait
        following = asyncio.create_task(durable.swept(control))
        await asyncio.wait_for(reached.wait(), 10.0)
        while kind is Begin and [answer.region for answer in store.answers(SWEEP_ID)] != ["us"]:
            await asyncio.sleep(0.01)
        durable.watched["eu"].before = lambda body: None
        await asyncio.wait_for(control.jobs.pause(durable.row(store), "ann"), 5.0)
        with pytest.raises(PeerError) as caught:
            await following
        assert not control.jobs.running
        return str(caught.value)


@pytest.mark.parametrize("kind", [Begin, AskDetail])
async def test_paused_a_sweep_rests_over_restarts_and_is_resumed(durable: Callable[..., Durable], kind: type) -> None:
    expected, _, _ = await clean(durable())
    one = durable(name="store-paused")
    told = await paused_at(one, kind)
    assert f"paused by ann; paritree sweep resume {SWEEP_ID}" in told
    assert one.asked[-2:].count(("eu", "End", one.asked[-1][2])) == 1  # told to rest, before anything else
    async with one.coordinator() as (control, store):
        await control.jobs.take_up()
        assert not control.jobs.running
        assert str(one.row(store).state) == "paused"
        with pytest.raises(PeerError, match=r"paused by ann"):
            await one.swept(control)
        before = asked_of(one)
        await control.jobs.resume(one.row(store))
        assert comparable(await one.swept(control)) == expected
        begins = sum(n for (_, name), n in (asked_of(one) - before).items() if name == "Begin")
        assert begins == (1 if kind is Begin else 0)
        assert one.row(store).resumed == 1


@pytest.mark.parametrize("kind", [Begin, AskDetail])
async def test_cancelled_a_sweep_ends_with_what_it_has(durable: Callable[..., Durable], kind: type) -> None:
    one = durable()
    await paused_at(one, kind)
    async with one.coordinator() as (control, store):
        await control.jobs.cancel(one.row(store), "bob")
        row = one.row(store)
        assert str(row.state) == "cancelled"
        report = await one.swept(control)
        assert report == row.report
        assert report["verdict"] == "unknown"
        assert report["ended_early"] == "cancelled by bob"
        assert {stated["reason"] for stated in report["verdicts"]} == {"cancelled by bob"}
        asked = asked_of(one)
        await one.swept(control)
        assert asked_of(one) == asked


async def test_a_sweep_of_a_dataset_that_is_declared_otherwise_by_now_fails(durable: Callable[..., Durable]) -> None:
    one = durable()
    await one.crashed(4, committed=True)
    one.profile = replace(one.profile, columns={**one.profile.columns, "name": parse_type("bytes")})
    async with one.coordinator() as (control, store):
        await control.jobs.take_up()
        while control.jobs.running:
            await asyncio.sleep(0.01)
        row = one.row(store)
        assert str(row.state) == "failed"
        assert row.error is not None
        assert "is not the one any more that the sweep was begun with" in row.error


async def test_a_cancel_survives_the_coordinator_that_took_it(durable: Callable[..., Durable]) -> None:
    one = durable()
    await paused_at(one, AskDetail)
    async with one.coordinator() as (control, store):
        store.crash_at = store.writes  # the wish itself is kept, then the process is gone
        store.committed = True
        with pytest.raises(Crash):
            await control.jobs.cancel(one.row(store), "bob")
    async with one.coordinator() as (control, store):
        await control.jobs.take_up()
        assert (await one.swept(control))["ended_early"] == "cancelled by bob"
        assert str(one.row(store).state) == "cancelled"


def total(asked: Counter[tuple[str, str]], region: str) -> int:
    return sum(count for (name, _), count in asked.items() if name == region)


# --- agents that are restarted --------------------------------------------------------------------------------------


def service_of(durable: Durable, region: str) -> Service:
    link = durable.links[region]
    assert isinstance(link, LoopbackLink)
    service = link._service
    assert isinstance(service, Service)
    return service


def restarting(durable: Durable, region: str, kind: type, *, forget: bool) -> list[str]:
    """Before the first question of a kind, the region's agent is restarted, with or without what it had kept."""
    done: list[str] = []

    async def restart() -> None:
        service = service_of(durable, region)
        await service.close()
        if forget:
            await service._end(SWEEP_ID, keep=False)

    def before(body: Any) -> Any:
        if not isinstance(body, kind) or done:
            return None
        done.append(region)
        return restart()

    durable.watched[region].before = before
    return done


@pytest.mark.parametrize("kind", [AskDetail, AskAgain])
@pytest.mark.parametrize("forget", [False, True])
async def test_an_agent_that_is_restarted_goes_on_or_begins_anew(
    durable: Callable[..., Durable], kind: type, forget: bool
) -> None:
    expected, asked, _ = await clean(durable())
    one = durable(name="store-restart")
    done = restarting(one, "eu", kind, forget=forget)
    async with one.coordinator() as (control, _):
        assert comparable(await one.swept(control)) == expected
    assert done == ["eu"]
    begins = asked_of(one)["eu", "Begin"]
    assert begins == (2 if forget else 1)
    if not forget:  # what had been told is asked about in full again, and nothing else
        assert asked_of(one)["us", "Begin"] == 1
        assert sum(asked_of(one).values()) <= sum(asked.values()) + 1


async def test_an_agent_that_loses_its_index_each_time_is_unknown(durable: Callable[..., Durable]) -> None:
    one = durable()

    def before(body: Any) -> Any:
        return service_of(one, "eu")._end(SWEEP_ID, keep=False) if isinstance(body, AskDetail) else None

    one.watched["eu"].before = before
    async with one.coordinator() as (control, store):
        report = await one.swept(control)
        assert report["verdict"] == "unknown"
        assert "holds no index" in report["verdicts"][0]["reason"]
        assert asked_of(one)["eu", "Begin"] == 3
        assert str(one.row(store).state) == "finished"


async def test_killed_after_a_region_began_anew_it_goes_on_with_that(
    durable: Callable[..., Durable],
) -> None:
    expected, _, _ = await clean(durable())
    one = durable(name="store-anew")
    restarting(one, "eu", AskDetail, forget=True)
    lives = 0
    while await one.crashed(3, committed=True) > 0:
        lives += 1
        assert lives < 20
    async with one.coordinator() as (control, _):
        assert comparable(await one.swept(control)) == expected
    assert asked_of(one)["eu", "Begin"] == 2


async def test_an_older_coordinator_is_refused_by_agents_and_stops(durable: Callable[..., Durable]) -> None:
    """Its requests carry a lower token than the sweep has had, whichever of the two has the connection."""
    one = durable()
    async with one.coordinator() as (control, store):

        def before(body: Any) -> None:
            if isinstance(body, AskDetail):
                assert store._lease is not None
                store._lease.release()
                with Store.open(one.url, lease_wait_s=0.0) as newer:  # and it has asked
                    service_of(one, "eu")._fences.admit(SWEEP_ID, newer.token)

        one.watched["eu"].before = before
        with pytest.raises(Fenced):
            await one.swept(control)
        assert control.jobs.overtaken.is_set()
        row = one.row(store)
        assert (str(row.state), row.report, row.error) == ("running", None, None)  # it is the other one's to end


async def test_an_agent_that_only_says_that_there_is_a_newer_coordinator_ends_nothing(
    durable: Callable[..., Durable],
) -> None:
    """The store knows better: its region is unknown, the sweep comes to its report, and the coordinator goes on."""
    one = durable()

    def before(body: Any) -> None:
        if isinstance(body, AskDetail):
            service_of(one, "eu")._fences.admit(SWEEP_ID, 9)

    one.watched["eu"].before = before
    async with one.coordinator() as (control, store):
        report = await one.swept(control)
        assert report["verdict"] == "unknown"
        assert "none has the store" in report["verdicts"][0]["reason"]
        assert not control.jobs.overtaken.is_set()
        assert str(one.row(store).state) == "finished"
