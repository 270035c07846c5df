"""Ask one region one question: from the journal if it was answered before, else over its link, with retries.

What fails is tried again after a pause (``paritree.core.retry``), never more than a region's rates allow, and each try
has a deadline. A region whose answer does not come is lost for the sweep; the others go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from coordinator.course import Course
from coordinator.gates import Gate
from coordinator.store import Answer
from paritree.core.errors import ParitreeError, PeerError
from paritree.core.messages import AskReveal, Begin, End, Progress, Refusal, RefusalCode, ReplyBody, RequestBody
from paritree.core.retry import Busy, Retries, RetryPolicy
from paritree.wire.link import RegionLink

ANSWER_S_MAX: Final = 900.0
"""One try of an exchange that scans nothing."""
SCAN_S_MAX: Final = 3 * 86_400.0
"""One try of a Begin, however many signs of life it shows."""
AFTERWARDS: Final = RetryPolicy(attempts_max=2)
"""What comes after the comparison is not worth waiting for: an agent lets go of a sweep by itself, or is told later.

But clear keys are, where the coordinator was away and its regions are expected to dial again.
"""
END_S: Final = 5.0
"""Silence after which an End is given up: nobody needs its answer."""
PAUSE_S_MAX: Final = 5.0
"""Longest pause between two parts of an answer that comes faster than its region's rate."""
_AT_FAULT: Final = frozenset({RefusalCode.SOURCE, RefusalCode.INTERNAL, RefusalCode.BUSY})


class RegionLost(ParitreeError):
    """A region cannot be compared any further; the others go on.

    ``failed``: because it did not work, not because it holds something else; then the circuit breaker counts it.
    """

    def __init__(self, region: str, reason: str, *, failed: bool = True) -> None:
        super().__init__(reason)
        self.region = region
        self.failed = failed


class NoIndex(RegionLost):
    """The region's agent was restarted, and has not kept what it had read for this sweep: it may begin anew."""

    def __init__(self, region: str, refusal: Refusal) -> None:
        super().__init__(region, refusal.message)
        self.refusal = refusal


def unwatched() -> None:
    """Nobody watches the parts."""


@dataclass(slots=True)
class Exchanges:
    """Asks the regions of one sweep. ``on_part`` is called after every part of an answer."""

    links: Mapping[str, RegionLink]
    sweep_id: str
    timeout_s: float
    course: Course
    on_part: Callable[[], None] = unwatched

    async def parts(self, region: str, body: RequestBody, on_progress: Callable[[Progress], None]) -> list[ReplyBody]:
        """The parts of one answer, Progress taken out; a cut exchange is asked again.

        Raises RegionLost, Fenced when an agent has heard of a newer coordinator and there is one, Diverged; SourceError
        when the store, which knows that, is away.
        """
        journal = self.course.journal
        recalled = journal.recall(region, body)
        if isinstance(recalled, Answer):
            raise RegionLost(region, recalled.lost or "", failed=recalled.failed)
        if recalled is not None:
            if isinstance(recalled[0], Refusal):
                raise NoIndex(region, recalled[0])
            return recalled
        try:
            answer = await self._answer(region, body, on_progress)
        except NoIndex as lost:
            journal.note(region, body, [lost.refusal])
            raise
        except RegionLost as lost:
            journal.note_lost(region, body, lost.message, failed=lost.failed)
            raise
        journal.note(region, body, answer)
        return answer

    async def _answer(self, region: str, body: RequestBody, on_progress: Callable[[Progress], None]) -> list[ReplyBody]:
        course = self.course
        afterwards = isinstance(body, End | AskReveal)
        if isinstance(body, Begin) and (refused := await course.admit(region)):
            raise RegionLost(region, refused, failed=False)
        waits = course.patient and isinstance(body, AskReveal)
        retries = Retries(AFTERWARDS if afterwards and not waits else course.retry, course.now())
        gate = course.gates.of(region)
        while True:
            if not afterwards:
                await course.halt.passing()
            if pause := gate.ask(course.now()):
                await course.pause(pause)
            try:
                answer = await self._in_time(region, body, on_progress, retries, gate)
            except (PeerError, Busy) as error:
                if isinstance(error, Busy):
                    gate.busy()
                again = retries.after(error, course.now(), course.chance())
                if again is None:
                    raise RegionLost(region, str(error)) from None
                await (course.pause(again) if isinstance(error, Busy) else course.pause_for(region, again))
            else:
                gate.answered()
                return answer

    async def _in_time(
        self, region: str, body: RequestBody, on_progress: Callable[[Progress], None], retries: Retries, gate: Gate
    ) -> list[ReplyBody]:
        deadline_s = SCAN_S_MAX if isinstance(body, Begin) else ANSWER_S_MAX
        try:
            async with asyncio.timeout(deadline_s):
                return await self._once(region, body, on_progress, retries, gate)
        except TimeoutError:
            raise PeerError(f"no whole answer within {deadline_s:g} s", retryable=True) from None

    async def _once(
        self, region: str, body: RequestBody, on_progress: Callable[[Progress], None], retries: Retries, gate: Gate
    ) -> list[ReplyBody]:
        link = self.links[region]
        parts: list[ReplyBody] = []
        counted = self._moved(link)
        timeout_s = min(self.timeout_s, END_S) if isinstance(body, End) else self.timeout_s
        answers = link.ask(body, sweep_id=self.sweep_id, timeout_s=timeout_s)
        async with aclosing(answers):
            async for part in answers:
                moved = self._moved(link)
                owed_s, counted = gate.moved(moved - counted, self.course.now()), moved
                if isinstance(part, Progress):
                    retries.reached((part.shards_done, part.rows))
                    on_progress(part)
                elif isinstance(part, Refusal):
                    if part.code is RefusalCode.FENCED:  # the store knows, and no agent can end a sweep by saying so
                        await self.course.held()
                    raise _refused(region, part)
                else:
                    parts.append(part)
                self.on_part()
                if owed_s:
                    await self.course.pause(min(owed_s, PAUSE_S_MAX, self.timeout_s / 2))
        if not parts:
            raise PeerError(f"region {region} gave an empty answer", retryable=True)
        return parts

    def _moved(self, link: RegionLink) -> int:
        tally = link.ledger.of(self.sweep_id)
        return tally.bytes_sent + tally.bytes_received


def _refused(region: str, refusal: Refusal) -> ParitreeError:
    if refusal.code is RefusalCode.FENCED:
        return RegionLost(region, "its agent says that another coordinator drives the sweep, and none has the store")
    if refusal.retry_after_s:
        return Busy(refusal.message, refusal.retry_after_s)
    if refusal.retryable:
        return PeerError(refusal.message, retryable=True)
    if refusal.code is RefusalCode.NO_INDEX:
        return NoIndex(region, refusal)
    return RegionLost(region, refusal.message, failed=refusal.code in _AT_FAULT)
