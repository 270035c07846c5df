"""Asking a region, by a clock that only waiting moves: retries, busy agents, deadlines, rates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from asking import ANSWER, BUSY, CHILDREN, Asking, ScriptedLink, Step, cut
from linked import BEGIN, header

from coordinator.asking import RegionLost
from coordinator.course import Surroundings
from coordinator.gates import Rates
from coordinator.store import Fenced
from paritree.core.errors import SourceError
from paritree.core.messages import (
    AskReveal,
    End,
    Progress,
    Refusal,
    RefusalCode,
    ReplyBody,
    RequestBody,
    Revealed,
)
from paritree.core.retry import RetryPolicy

pytestmark = pytest.mark.asyncio


async def test_what_is_cut_is_asked_again_after_growing_pauses() -> None:
    asking = Asking(ScriptedLink([cut()], [cut()], [cut()], [Progress(1, 1, 1), ANSWER]))
    assert await asking() == [ANSWER]
    assert asking.clock.waits == [0.5, 1.0, 2.0]
    assert asking.told == [Progress(1, 1, 1)]


async def test_a_region_that_comes_back_is_asked_at_once() -> None:
    back = asyncio.Event()

    async def returned(region: str) -> None:
        assert region == "eu"
        await back.wait()

    asking = Asking(ScriptedLink([cut()], [cut()], [ANSWER]), returned=returned)
    asking.course.surroundings = Surroundings(asking.clock, lambda _: asyncio.Event().wait(), lambda: 0.5)
    answering = asyncio.create_task(asking())
    await asyncio.sleep(0.02)
    assert len(asking.link.asked) == 1
    back.set()
    assert await asyncio.wait_for(answering, 5.0) == [ANSWER]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("patient", "body", "tries"),
    [(False, AskReveal((b"d" * 16,), "audit"), 2), (False, End(), 2), (True, End(), 2), (True, CHILDREN, 4)],
)
async def test_what_comes_afterwards_is_not_waited_for(patient: bool, body: RequestBody, tries: int) -> None:
    asking = Asking(ScriptedLink(*[[cut()]] * tries), patient=patient)
    with pytest.raises(RegionLost):
        await asking(body)
    assert len(asking.link.asked) == tries


async def test_clear_keys_are_waited_for_where_regions_dial_again_after_a_restart() -> None:
    revealed = Revealed(header(), {b"d" * 16: '{"id": 4711}'})
    asking = Asking(ScriptedLink(*[[cut()]] * 3, [revealed]), patient=True)
    assert await asking(AskReveal((b"d" * 16,), "audit")) == [revealed]
    assert asking.clock.waits == [0.5, 1.0, 2.0]


async def test_patience_ends_with_the_region_lost_and_the_reason() -> None:
    asking = Asking(ScriptedLink(last=[cut()]), RetryPolicy(attempts_max=4, patience_s=45.0))
    with pytest.raises(RegionLost, match=r"the connection was cut") as caught:
        await asking()
    assert caught.value.failed
    assert 45.0 <= asking.clock.now - 100.0 <= 60.0


@pytest.mark.parametrize(
    ("refusal", "failed"),
    [
        (Refusal(RefusalCode.SOURCE, "permission denied"), True),
        (Refusal(RefusalCode.INTERNAL, "a mistake"), True),
        (Refusal(RefusalCode.PROFILE_DIFFERS, "another profile"), False),
        (Refusal(RefusalCode.CONFIG, "no such table"), False),
        (Refusal(RefusalCode.UNKNOWN_DATASET, "no such dataset"), False),
    ],
)
async def test_a_refusal_that_no_retry_mends_ends_it_at_once(refusal: Refusal, failed: bool) -> None:
    asking = Asking(ScriptedLink([refusal]))
    with pytest.raises(RegionLost, match=refusal.message) as caught:
        await asking()
    assert caught.value.failed == failed
    assert asking.clock.waits == []


async def test_a_busy_agent_is_asked_when_it_says_and_slower_from_then_on() -> None:
    tries: list[list[Step]] = [[BUSY]] * 6 + [[ANSWER]] * 3
    asking = Asking(ScriptedLink(*tries), RetryPolicy(attempts_max=2))
    await asking()
    assert asking.clock.waits[::2] == [5.5] * 6  # as long as it says, with jitter
    assert asking.clock.waits[1::2] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]  # and a pause before each request
    asking.clock.waits.clear()
    await asking()
    await asking()
    assert asking.clock.waits == pytest.approx([2.4, 1.8])  # fading while it answers


async def test_an_agent_that_stays_busy_is_lost_in_the_end() -> None:
    asking = Asking(ScriptedLink(last=[BUSY]), RetryPolicy(busy_s_max=60.0))
    with pytest.raises(RegionLost, match=r"too much to do") as caught:
        await asking()
    assert caught.value.failed
    assert asking.clock.now - 100.0 < 200.0


async def test_a_scan_that_comes_further_is_not_given_up() -> None:
    """Twenty cuts of a long scan, each after some progress; cuts without progress end it."""
    tries: list[list[Step]] = [[Progress(n, 100, n * 10), cut()] for n in range(1, 21)]
    asking = Asking(ScriptedLink(*tries, last=[Progress(20, 100, 200), cut()]), RetryPolicy(attempts_max=3))
    with pytest.raises(RegionLost):
        await asking(BEGIN)
    assert len(asking.link.asked) == 20 + 2


async def test_a_try_has_a_deadline_however_alive_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.asking.ANSWER_S_MAX", 0.05)

    class Endless(ScriptedLink):
        async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
            self.asked.append(body)
            while True:
                await asyncio.sleep(0.01)
                yield Progress(0, 1, 0)

    asking = Asking(Endless(), RetryPolicy(attempts_max=2))
    with pytest.raises(RegionLost, match=r"no whole answer within 0.05 s"):
        await asyncio.wait_for(asking(), 5.0)
    assert len(asking.link.asked) == 2


async def test_an_empty_answer_is_no_answer() -> None:
    asking = Asking(ScriptedLink([Progress(1, 1, 1)], [ANSWER]))
    assert await asking() == [ANSWER]
    assert len(asking.link.asked) == 2


async def test_requests_and_bytes_are_kept_below_the_regions_rates() -> None:
    asking = Asking(ScriptedLink(last=[ANSWER]), rates=Rates(requests_per_s=2.0))
    for _ in range(20):
        await asking()
    assert asking.clock.now - 100.0 == pytest.approx((20 - 2) / 2.0, abs=0.6)
    asking = Asking(ScriptedLink(last=[ANSWER] * 5, part_bytes=995), rates=Rates(bytes_per_s=1_000.0))
    for _ in range(4):
        await asking()
    assert asking.clock.now - 100.0 == pytest.approx(20.0 - 1.0, abs=1.1)
    assert max(asking.clock.waits) <= 5.0  # never so long that an exchange would look dead


async def test_a_region_that_is_left_alone_is_not_asked() -> None:
    async def admit(region: str) -> str:
        return f"{region} is left alone"

    asking = Asking(ScriptedLink(), admit=admit)
    with pytest.raises(RegionLost, match=r"eu is left alone") as caught:
        await asking(BEGIN)
    assert not caught.value.failed  # being left alone is no further failure
    assert asking.link.asked == []
    asking = Asking(ScriptedLink([ANSWER]), admit=admit)
    assert await asking(CHILDREN) == [ANSWER]  # a sweep that has begun goes on


FENCED = Refusal(RefusalCode.FENCED, "another coordinator drives this sweep")


async def test_agents_that_know_a_newer_coordinator_stop_this_one() -> None:
    async def held() -> None:
        raise Fenced

    asking = Asking(ScriptedLink([FENCED]), held=held)
    with pytest.raises(Fenced):
        await asking()
    assert asking.clock.waits == []


async def test_an_agent_that_only_says_so_is_lost_alone() -> None:
    asked: list[str] = []

    async def held() -> None:
        asked.append("the store")

    asking = Asking(ScriptedLink([FENCED]), held=held)
    with pytest.raises(RegionLost, match="none has the store") as caught:
        await asking()
    assert (asked, caught.value.failed) == (["the store"], True)


async def test_nothing_is_decided_while_the_store_cannot_say() -> None:
    async def held() -> None:
        raise SourceError("the store is away", retryable=True)

    with pytest.raises(SourceError, match="away"):
        await Asking(ScriptedLink([FENCED]), held=held)()
