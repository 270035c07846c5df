"""The Control service: sweeps that belong to the coordinator, joined by job id; status; findings."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from coordinator import jobs as jobs_module
from coordinator.control import LIMIT, LIMIT_MAX, Connected, Control
from coordinator.running import Finished
from coordinator.store import Store, SweepState, Traffic
from paritree.config.datasets import Dataset, Region
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError, SourceError
from paritree.core.profile import Profile
from paritree.core.types import parse_type
from paritree.wire.control import FindingsOrder, SweepOrder, SweepProgress

FINDINGS = [
    {"key": None, "token": f"T{n}", "kind": "missing", "groups": [["eu"]], "missing_in": ["us"]} for n in range(5)
]
REPORT = {"report": 1, "dataset": "orders", "verdict": "different", "findings_total": 5, "findings": FINDINGS[:2]}
Script = Callable[..., Awaitable[dict[str, Any]]]


def dataset(name: str, *regions: str) -> Dataset:
    profile = Profile(name, ("id",), {"id": parse_type("int")})
    return Dataset(profile, {region: Region(region) for region in regions}, owner="payments", file="datasets.toml")


DATASETS = {"orders": dataset("orders", "eu", "us", "ap"), "users": dataset("users", "eu", "us")}


async def reported(**_: Any) -> dict[str, Any]:
    return {**REPORT, "stored": {"findings": FINDINGS, "traffic": [Traffic("eu", 0, "nodes", 10, 20)]}}


@dataclass
class ScriptedRunner:
    """A sweep whose course a test writes; remembers what it was asked."""

    script: Script = reported
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def run(self, dataset: Dataset, regions: Sequence[str], **options: Any) -> dict[str, Any]:
        asked = {"dataset": dataset.name, "regions": tuple(regions), **options}
        self.asked.append(asked)
        return await self.script(**asked)


@asynccontextmanager
async def controlled(
    script: Script = reported, connected: Sequence[Connected] = (), url: str = "sqlite://"
) -> AsyncIterator[tuple[Control, ScriptedRunner, Store]]:
    runner, numbers = ScriptedRunner(script), itertools.count(1)
    with Store.open(url) as store:
        control = Control(store, runner, DATASETS, lambda: connected, new_id=lambda: f"sweep-{next(numbers)}")
        try:
            yield control, runner, store
        finally:
            await control.stop(0.0)


async def outcome(control: Control, order: SweepOrder, operator: str = "ann") -> tuple[str, list[Any]]:
    told = [(sweep_id, event) async for sweep_id, event in control.sweep(order, operator)]
    (sweep_id,) = {sweep_id for sweep_id, _ in told}
    return sweep_id, [event for _, event in told]


def timeless(events: list[Any]) -> list[Any]:
    """Progress without how long it took."""
    return [replace(one, elapsed_s=0.0, eta_s=None) if isinstance(one, SweepProgress) else one for one in events]


@pytest.mark.asyncio
async def test_a_sweep_is_run_reported_and_kept() -> None:
    async with controlled() as (control, runner, store):
        order = SweepOrder("orders", ("us", "eu"), purpose="audit", lag_max_s=0.5, limit=2)
        sweep_id, events = await outcome(control, order)
        (asked,) = runner.asked
        assert asked.pop("progress")
        assert asked.pop("course").journal.live.is_set()
        assert asked == {
            "dataset": "orders",
            "regions": ("eu", "us"),
            "sweep_id": sweep_id,
            "lag_max_s": 0.5,
            "purpose": "audit",
            "limit": 2,
        }
        assert events[-1] == Finished({**REPORT, "sweep_id": sweep_id})
        row = store.sweep(sweep_id)
        assert row is not None
        assert (row.state, row.verdict, row.operator, row.job_id) == (SweepState.FINISHED, "different", "ann", sweep_id)
        assert row.report == {**REPORT, "sweep_id": sweep_id}
        assert store.findings(sweep_id, limit=9) == (FINDINGS, 5)
        assert store.traffic(sweep_id) == [Traffic("eu", 0, "nodes", 10, 20)]


@pytest.mark.asyncio
async def test_what_is_not_said_is_the_datasets_own() -> None:
    async with controlled() as (control, runner, _):
        await outcome(control, SweepOrder("orders"))
        await outcome(control, SweepOrder("orders", limit=10**6))
        first, second = runner.asked
        assert first["regions"] == ("eu", "us", "ap")
        assert (first["lag_max_s"], first["purpose"], first["limit"]) == (None, "", LIMIT)
        assert second["limit"] == LIMIT_MAX


@pytest.mark.asyncio
async def test_followers_of_one_job_see_one_sweep() -> None:
    go = asyncio.Event()

    async def slow(progress: Callable[[SweepProgress], None], **_: Any) -> dict[str, Any]:
        progress(SweepProgress("eu", "scan", 1, 2, 10))
        await go.wait()
        return dict(REPORT)

    async with controlled(slow) as (control, runner, _):
        order = SweepOrder("orders", ("eu", "us"), job_id="nightly")
        followers = [asyncio.create_task(outcome(control, order)) for _ in range(4)]
        while not runner.asked:
            await asyncio.sleep(0.01)
        late = asyncio.create_task(outcome(control, SweepOrder("orders", ("us", "eu"), job_id="nightly")))
        await asyncio.sleep(1.0)
        go.set()
        outcomes = [await follower for follower in (*followers, late)]
        assert {sweep_id for sweep_id, _ in outcomes} == {outcomes[0][0]}
        for sweep_id, events in outcomes:
            assert SweepProgress("eu", "scan", 1, 2, 10) in timeless(events)
            assert events[-1].report["sweep_id"] == sweep_id
        assert len(runner.asked) == 1
        assert (await outcome(control, order))[1] == [outcomes[0][1][-1]]
        assert len(runner.asked) == 1


@pytest.mark.asyncio
async def test_a_sweep_goes_on_when_its_caller_leaves() -> None:
    go = asyncio.Event()

    async def slow(**_: Any) -> dict[str, Any]:
        await go.wait()
        return dict(REPORT)

    async with controlled(slow) as (control, runner, store):
        caller = asyncio.create_task(outcome(control, SweepOrder("orders", job_id="nightly")))
        while not runner.asked:
            await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        go.set()
        _, events = await outcome(control, SweepOrder("orders", job_id="nightly"))
        assert events[-1].report["verdict"] == "different"
        row = store.newest("orders")
        assert row is not None
        assert (row.state, row.attempts) == (SweepState.FINISHED, 1)


@pytest.mark.asyncio
async def test_progress_that_is_overtaken_is_told_once() -> None:
    async def hasty(progress: Callable[[SweepProgress], None], **_: Any) -> dict[str, Any]:
        for done in range(5_000):
            progress(SweepProgress("eu", "scan", done, 5_000))
            if done % 1_000 == 0:
                await asyncio.sleep(0)
        progress(SweepProgress("us", "scan", 1, 1))
        return dict(REPORT)

    async with controlled(hasty) as (control, _, _):
        _, events = await outcome(control, SweepOrder("orders"))
        told = [event.shards_done for event in events if isinstance(event, SweepProgress) and event.region == "eu"]
        assert told[-1] == 4_999
        assert told == sorted(set(told))
        assert len(told) < 20
        assert SweepProgress("us", "scan", 1, 1) in timeless(events)


@pytest.mark.asyncio
async def test_sweeps_of_one_dataset_wait_for_each_other_and_all_for_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[str] = []
    most: dict[str, int] = {"orders": 0, "users": 0, "all": 0}

    async def counted(dataset: str, **_: Any) -> dict[str, Any]:
        under_way.append(dataset)
        most[dataset] = max(most[dataset], under_way.count(dataset))
        most["all"] = max(most["all"], len(under_way))
        await asyncio.sleep(0.02)
        under_way.remove(dataset)
        return {**REPORT, "dataset": dataset}

    async with controlled(counted) as (control, runner, _):
        orders = [SweepOrder(name) for name in ("orders", "users") for _ in range(3)]
        await asyncio.gather(*(outcome(control, order) for order in orders))
        assert most == {"orders": 1, "users": 1, "all": 2}
        assert len(runner.asked) == 6
    monkeypatch.setattr(jobs_module, "SWEEPS_AT_ONCE", 1)
    async with controlled(counted) as (control, _, _):
        most["all"] = 0
        await asyncio.gather(*(outcome(control, order) for order in orders))
        assert most["all"] == 1


@pytest.mark.asyncio
async def test_too_many_sweeps_are_refused_but_a_known_job_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "SWEEPS_OPEN_MAX", 1)
    go = asyncio.Event()

    async def slow(**_: Any) -> dict[str, Any]:
        await go.wait()
        return dict(REPORT)

    async with controlled(slow) as (control, runner, _):
        first = asyncio.create_task(outcome(control, SweepOrder("orders", job_id="one")))
        while not runner.asked:
            await asyncio.sleep(0.01)
        with pytest.raises(PeerError, match=r"1 sweeps are open already") as caught:
            await outcome(control, SweepOrder("users", job_id="two"))
        assert caught.value.retryable
        joined = asyncio.create_task(outcome(control, SweepOrder("orders", job_id="one")))
        await asyncio.sleep(0.05)
        go.set()
        assert (await first)[0] == (await joined)[0]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("raised", "family", "message", "stored"),
    [
        (ConfigError("no such column", next_step="add it"), ConfigError, "no such column", "no such column; add it"),
        (SourceError("disk full"), SourceError, "disk full", "disk full"),
        (KeyError("secret value"), InvariantBroken, "KeyError", "internal error: KeyError"),
        (MemoryError(), SourceError, "out of memory", "out of memory; give it more memory"),
    ],
)
async def test_a_sweep_that_fails_says_so_and_may_be_run_again(
    raised: Exception, family: type[ParitreeError], message: str, stored: str
) -> None:
    fails = [True]

    async def failing(**_: Any) -> dict[str, Any]:
        if fails.pop() if fails else False:
            raise raised
        return dict(REPORT)

    async with controlled(failing) as (control, _, store):
        order = SweepOrder("orders", job_id="nightly")
        with pytest.raises(family, match=message) as caught:
            await outcome(control, order)
        assert "secret" not in str(caught.value)
        row = store.newest("orders")
        assert row is not None
        assert (row.state, row.verdict) == (SweepState.FAILED, None)
        assert str(row.error).startswith(stored)
        sweep_id, events = await outcome(control, order)
        assert sweep_id == row.id
        assert events[-1].report["verdict"] == "different"


@pytest.mark.asyncio
async def test_stopping_waits_then_leaves_the_sweep_open() -> None:
    async def endless(**_: Any) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async with controlled(endless) as (control, runner, store):
        follower = asyncio.create_task(outcome(control, SweepOrder("orders")))
        while not runner.asked:
            await asyncio.sleep(0.01)
        await control.stop(0.05)
        with pytest.raises(PeerError, match=r"the coordinator stopped during the sweep") as caught:
            await follower
        assert caught.value.retryable
        row = store.newest("orders")
        assert row is not None
        assert (row.state, row.error) == (SweepState.RUNNING, None)
        with pytest.raises(PeerError, match=r"the coordinator is stopping"):
            await outcome(control, SweepOrder("users"))


@pytest.mark.asyncio
async def test_stopping_lets_a_sweep_end() -> None:
    async def short(**_: Any) -> dict[str, Any]:
        await asyncio.sleep(0.1)
        return dict(REPORT)

    async with controlled(short) as (control, runner, _):
        follower = asyncio.create_task(outcome(control, SweepOrder("orders")))
        while not runner.asked:
            await asyncio.sleep(0.01)
        await control.stop(10.0)
        assert (await follower)[1][-1].report["verdict"] == "different"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("order", "message", "fix"),
    [
        (SweepOrder("ordrs"), "the coordinator has no dataset 'ordrs'", "'orders'"),
        (SweepOrder("orders", ("eu", "su")), "dataset orders: no region 'su'", "eu, us"),
        (SweepOrder("orders", ("eu", "eu")), "a region is named twice", ""),
        (SweepOrder("orders", ("eu",)), "a sweep compares 2 to 64 regions, not 1", "eu, us, ap"),
        (SweepOrder("orders", lag_max_s=-1.0), "--lag-max", ""),
        (SweepOrder("orders", lag_max_s=float("nan")), "--lag-max", ""),
        (SweepOrder("orders", lag_max_s=float("inf")), "--lag-max", ""),
        (SweepOrder("orders", job_id="x" * 256), "--id: at most 255", ""),
        (SweepOrder("orders", purpose="a\x1b[2J"), "--purpose: at most 255 printable", ""),
    ],
)
async def test_an_order_that_cannot_be_is_the_callers_mistake(order: SweepOrder, message: str, fix: str) -> None:
    async with controlled() as (control, runner, store):
        with pytest.raises(ConfigError) as caught:
            await outcome(control, order)
        assert message in caught.value.message
        assert fix in caught.value.next_step
        assert not runner.asked
        assert store.newest("orders") is None


@pytest.mark.asyncio
async def test_status_tells_who_is_connected_and_how_the_last_sweep_ended() -> None:
    connected = [Connected("eu", "eu-1", ("orders", "users"))]
    async with controlled(connected=connected) as (control, _, store):
        store.agent_connected("eu", "eu-1", "one")
        store.agent_connected("us", "us-1", "two")
        store.agent_gone("us", "us-1", "two")
        sweep_id, _ = await outcome(control, SweepOrder("orders"))
        status = await control.status()
        assert {region["name"]: region["connected"] for region in status["regions"]} == {
            "ap": False,
            "eu": True,
            "us": False,
        }
        eu = next(region for region in status["regions"] if region["name"] == "eu")
        assert eu["agents"][0]["datasets"] == ["orders", "users"]
        assert eu["agents"][0]["connected_since"].endswith("+00:00")
        us = next(region for region in status["regions"] if region["name"] == "us")
        assert us["agents"][0]["connected_since"] is None
        assert us["agents"][0]["last_seen"]
        orders, users = status["datasets"]
        assert (orders["name"], orders["owner"], orders["regions"]) == ("orders", "payments", ["eu", "us", "ap"])
        assert (orders["last_sweep"]["sweep_id"], orders["last_sweep"]["verdict"]) == (sweep_id, "different")
        assert users["last_sweep"] is None
        only = await control.status("users")
        assert [region["name"] for region in only["regions"]] == ["eu", "us"]
        assert [one["name"] for one in only["datasets"]] == ["users"]
        with pytest.raises(ConfigError, match=r"no dataset 'user'"):
            await control.status("user")


@pytest.mark.asyncio
async def test_findings_page_by_page() -> None:
    async with controlled() as (control, _, _):
        sweep_id, _ = await outcome(control, SweepOrder("orders"))
        page = await control.findings(FindingsOrder(dataset="orders", limit=2, offset=4))
        assert (page["sweep_id"], page["findings_total"], page["offset"]) == (sweep_id, 5, 4)
        assert page["findings"] == FINDINGS[4:]
        by_id = await control.findings(FindingsOrder(sweep_id=sweep_id))
        assert by_id["findings"] == FINDINGS


@pytest.mark.asyncio
async def test_findings_that_are_not_there() -> None:
    async def failing(**_: Any) -> dict[str, Any]:
        raise SourceError("disk full")

    async with controlled(failing) as (control, _, store):
        for order, message in (
            (FindingsOrder(dataset="orders"), "dataset orders has no finished sweep"),
            (FindingsOrder(dataset="ordrs"), "no dataset 'ordrs'"),
            (FindingsOrder(sweep_id="gone"), "there is no sweep 'gone'"),
        ):
            with pytest.raises(ConfigError, match=message):
                await control.findings(order)
        with pytest.raises(SourceError):
            await outcome(control, SweepOrder("orders"))
        row = store.newest("orders")
        assert row is not None
        with pytest.raises(ConfigError, match=r"is failed: disk full"):
            await control.findings(FindingsOrder(sweep_id=row.id))
        with pytest.raises(ConfigError, match=r"there is no sweep"):
            await control.findings(FindingsOrder(sweep_id=row.id, dataset="users"))
