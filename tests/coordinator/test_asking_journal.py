"""Asking a region that was asked before: what the journal gives again, and what it never keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from asking import ANSWER, CHILDREN, Asking, Clock, ScriptedLink, Step
from linked import BEGIN, header, ready

from coordinator.asking import NoIndex, RegionLost
from coordinator.journal import Diverged, Journal
from coordinator.store import Answer
from paritree.core.messages import (
    AskChildren,
    AskReveal,
    Children,
    End,
    Ended,
    Refusal,
    RefusalCode,
    Revealed,
)

pytestmark = pytest.mark.asyncio


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
