"""Asking a region, by a clock that only waiting moves: retries, busy agents, deadlines, rates, the journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from linked import BEGIN, header, ready

from coordinator.asking import Exchanges, NoIndex, RegionLost
from coordinator.course import Course, Surroundings
from coordinator.gates import Gates, Rates
from coordinator.journal import Diverged, Journal
from coordinator.store import Answer, Fenced
from paritree.core.errors import PeerError, SourceError
from paritree.core.ledger import ByteLedger
from paritree.core.messages import (
    AskChildren,
    AskReveal,
    ByteClass,
    Children,
    End,
    Ended,
    Hello,
    Progress,
    Refusal,
    RefusalCode,
    ReplyBody,
    RequestBody,
    Revealed,
)
from paritree.core.retry import RetryPolicy

pytestmark = pytest.mark.asyncio
SWEEP = "sweep-1"
CHILDREN = AskChildren(0, 1, np.zeros(1, np.uint64))
ANSWER = Children(header(), np.zeros(2, np.uint64))
BUSY = Refusal(RefusalCode.BUSY, "too much to do", True, 5.0)
Step = ReplyBody | Exception


class Clock:
    """Monotonic seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class ScriptedLink:
    """Gives the steps of one try after the other; each part counts ``part_bytes``."""

    region = "eu"

    def __init__(self, *tries: list[Step], part_bytes: int = 100, last: list[Step] | None = None) -> None:
        self.tries = list(tries)
        self.last = last
        self.ledger = ByteLedger()
        self.asked: list[RequestBody] = []
        self.part_bytes = part_bytes

    @property
    def hello(self) -> Hello:
        raise AssertionError

    async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        self.asked.append(body)
        steps = self.tries.pop(0) if self.tries else self.last
        assert steps is not None, "asked once too often"
        for step in steps:
            if isinstance(step, Exception):
                raise step
            self.ledger.count_sent(ByteClass.NODES, self.part_bytes, sweep_id)
            yield step


def cut() -> PeerError:
    return PeerError("the connection was cut", retryable=True)


class Asking:
    def __init__(self, link: ScriptedLink, policy: RetryPolicy | None = None, **course: Any) -> None:
        self.clock = Clock()
        self.link = link
        surroundings = Surroundings(self.clock, self.clock.sleep, lambda: 0.5)
        rates = course.pop("rates", Rates())
        journal = course.pop("journal", None) or Journal(clock=self.clock, sleep=self.clock.sleep)
        gates = Gates(rates, clock=self.clock)
        self.course = Course(journal, gates, surroundings, retry=policy or RetryPolicy(), **course)
        self.exchanges = Exchanges({"eu": link}, SWEEP, 60.0, self.course)  # type: ignore[dict-item]
        self.told: list[Progress] = []

    async def __call__(self, body: RequestBody = CHILDREN) -> list[ReplyBody]:
        return await self.exchanges.parts("eu", body, self.told.append)


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


# --- the journal ----------------------------------------------------------------------------------------------------


class Kept:
    """What a journal gives to be stored."""

    def __init__(self) -> None:
        self.rounds: list[list[Answer]] = []

    async def __call__(self, answers: Any, state: Any) -> None:
        self.rounds.append(list(answers))

    def journal(self, clock: Callable[[], float], **options: Any) -> Journal:
        return Journal(self, [a for answers in self.rounds for a in answers], clock=clock, **options)


async def test_what_was_answered_is_given_again_and_nobody_is_asked() -> None:
    clock, kept = Clock(), Kept()
    first = Asking(ScriptedLink([ready()], [ANSWER]), journal=kept.journal(clock))
    await first(BEGIN)
    await first.course.journal.commit({})
    clock.now += 7.0
    await first(CHILDREN)
    await first.course.journal.commit({})
    again = Asking(ScriptedLink([ANSWER]), journal=kept.journal(clock))
    journal = again.course.journal
    assert (journal.begun, journal.regions, journal.live.is_set()) == (True, {"eu"}, False)
    (part,) = await again(BEGIN)
    assert part.header == ready().header  # type: ignore[union-attr]
    assert journal.clock() == 0.0
    await journal.sleep(5.0)  # that was waited for before
    assert journal.clock() == 5.0
    (children,) = await again(CHILDREN)
    assert isinstance(children, Children)
    assert again.link.asked == []
    assert journal.live.is_set()
    assert journal.clock() == 7.0
    clock.now += 1.0
    assert journal.clock() == 8.0
    await again(CHILDREN)
    assert len(again.link.asked) == 1


async def test_a_round_that_was_not_committed_is_asked_again() -> None:
    clock, kept = Clock(), Kept()
    first = Asking(ScriptedLink([ready()], [ANSWER]), journal=kept.journal(clock))
    await first(BEGIN)
    await first.course.journal.commit({})
    await first(CHILDREN)
    again = Asking(ScriptedLink([ANSWER]), journal=kept.journal(clock))
    await again(BEGIN)
    await again(CHILDREN)
    assert [type(body).__name__ for body in again.link.asked] == ["AskChildren"]


async def test_a_lost_region_is_lost_again_for_the_same_reason() -> None:
    clock, kept = Clock(), Kept()
    refusals: list[Step] = [Refusal(RefusalCode.SOURCE, "permission denied")]
    for journal, link in ((kept.journal(clock), ScriptedLink(refusals)), (None, ScriptedLink())):
        asking = Asking(link, journal=journal or kept.journal(clock))
        with pytest.raises(RegionLost, match=r"permission denied") as caught:
            await asking(BEGIN)
        assert caught.value.failed
        await asking.course.journal.commit({})


async def test_an_index_that_was_lost_is_remembered_as_lost() -> None:
    clock, kept = Clock(), Kept()
    no_index: list[Step] = [Refusal(RefusalCode.NO_INDEX, "no index")]
    for link in (ScriptedLink(no_index), ScriptedLink()):
        asking = Asking(link, journal=kept.journal(clock))
        with pytest.raises(NoIndex, match=r"no index"):
            await asking(CHILDREN)
        await asking.course.journal.commit({})


async def test_other_questions_than_those_answered_are_noticed() -> None:
    clock, kept = Clock(), Kept()
    first = Asking(ScriptedLink([ANSWER]), journal=kept.journal(clock))
    await first(CHILDREN)
    await first.course.journal.commit({})
    again = Asking(ScriptedLink(), journal=kept.journal(clock))
    for _ in range(2):  # and not forgotten again
        with pytest.raises(Diverged):
            await again(AskChildren(0, 2, CHILDREN.prefixes))


async def test_ends_and_clear_keys_are_not_stored() -> None:
    clock, kept = Clock(), Kept()
    revealed = Revealed(header(), {b"d" * 16: '{"id": 4711}'})
    asking = Asking(ScriptedLink([revealed], [Ended()], [ANSWER]), journal=kept.journal(clock))
    await asking(AskReveal((b"d" * 16,), "audit"))
    await asking(End())
    await asking(CHILDREN)
    await asking.course.journal.commit({})
    ((only,),) = kept.rounds
    assert only.number == 0
    assert b"4711" not in b"".join(only.parts)


async def test_nothing_is_stored_of_a_region_that_discloses_nothing() -> None:
    clock, kept = Clock(), Kept()
    silent = replace(ready(), disclosure="nothing")
    asking = Asking(ScriptedLink([silent], [ANSWER]), journal=kept.journal(clock))
    await asking(BEGIN)
    await asking.course.journal.commit({})
    await asking(CHILDREN)
    await asking.course.journal.commit({})
    assert kept.rounds == []


async def test_a_journal_that_is_full_keeps_a_beginning_without_gaps() -> None:
    clock, kept = Clock(), Kept()
    journal = kept.journal(clock, bytes_max=200)
    asking = Asking(ScriptedLink(last=[ANSWER]), journal=journal)
    for _ in range(6):
        await asking(CHILDREN)
        await journal.commit({})
    numbers = [answer.number for answers in kept.rounds for answer in answers]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 6
