"""What a sweep was answered, kept a round at a time, and given again to the sweep that takes it up after a restart.

A sweep is decided by the answers it gets: the same answers lead to the same questions. So its state is not stored, its
answers are, and a sweep that is taken up runs from its start over those until they are used up::

    first run     Begin ── sketch ── details ── ▒ (coordinator killed: this round was not complete)
    stored        Begin    sketch    details
    taken up      Begin ── sketch ── details ──┐   without asking anybody
                                               └── look ── look ── report

A round is stored whole or not at all, so looks of before and after a restart are never mixed in one. The sweep's clock
counts its seconds of work: it stands still while nobody works on it, so it is never ahead of real time, and two looks
that it holds ``lag_max`` apart were at least that far apart.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from coordinator.store import Answer
from paritree.core.errors import InvariantBroken, ParitreeError, PeerError
from paritree.core.messages import AskReveal, End, Ready, Reply, ReplyBody, RequestBody
from paritree.wire import codec

BYTES_MAX: Final = 64 << 20
"""Most bytes of answers kept of one sweep: 100,000 differences with their looks. Later rounds would be asked again."""
Keep = Callable[[Sequence[Answer], Mapping[str, Any]], Awaitable[None]]
"""Stores the answers of one round, and JSON that goes with them, or nothing of it."""


class Diverged(ParitreeError):
    """The sweep asks other questions than those whose answers are stored: another version began it."""


class Journal:
    """The answers of one sweep. Without ``keep`` nothing is stored, and only the clock is of use.

    ``clock`` and ``sleep`` are the real ones, ``stored`` what an earlier run left.
    """

    def __init__(
        self,
        keep: Keep | None = None,
        stored: Sequence[Answer] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        self._keep = keep
        self._stored = {(answer.region, answer.number): answer for answer in stored}
        self._unused = len(self._stored)
        self._clock = clock
        self._sleep = sleep
        self._bytes_left = bytes_max - sum(len(part) for answer in stored for part in answer.parts)
        self._numbers: Counter[str] = Counter()
        self._round: list[Answer] = []
        self._diverged = False
        self._now_s = 0.0
        self._live_at = clock()
        self.live = asyncio.Event()
        """Set once every stored answer was given: from then on regions are asked."""
        if not self._unused:
            self.live.set()

    @property
    def regions(self) -> frozenset[str]:
        """The regions that took part in what is stored."""
        return frozenset(region for region, _ in self._stored)

    @property
    def begun(self) -> bool:
        """Whether what is stored goes beyond the regions' first answers: then it is settled who takes part."""
        return any(number > 0 for _, number in self._stored)

    def clock(self) -> float:
        """Seconds of work on this sweep, by whichever coordinator."""
        return self._now_s + (self._clock() - self._live_at if self.live.is_set() else 0.0)

    async def sleep(self, seconds: float) -> None:
        """Wait; what was waited for before the restart is not waited for again."""
        if self.live.is_set():
            await self._sleep(seconds)
        else:
            self._now_s += seconds

    def recall(self, region: str, body: RequestBody) -> list[ReplyBody] | Answer | None:
        """The stored answer to this question, the Answer itself where the region was lost over it, None if none is.

        Every question of a sweep has to be put here first, in each region's order. Raises Diverged.
        """
        if self._diverged:
            raise _diverged()
        if isinstance(body, End | AskReveal):  # an end has no answer to keep, and clear keys are not kept here
            return None
        number = self._numbers[region]
        self._numbers[region] += 1
        answer = self._stored.get((region, number))
        if answer is None:
            return None
        if answer.request != codec.fingerprint(body):
            self._diverged = True
            raise _diverged()
        self._now_s = max(self._now_s, answer.at_s)
        self._unused -= 1
        if not self._unused:
            self._live_at = self._clock()
            self.live.set()
        self._stored[region, number] = replace(answer, parts=())  # nobody needs it a second time
        return answer if answer.lost is not None else [_decoded(part) for part in answer.parts]

    def note(self, region: str, body: RequestBody, parts: Sequence[ReplyBody]) -> None:
        """A region has answered."""
        if self._keep is None or isinstance(body, End | AskReveal):
            return
        if any(isinstance(part, Ready) and part.disclosure == "nothing" for part in parts):
            self._forbid()  # digests of keys are as good as tokens
            return
        encoded = tuple(_encoded(part) for part in parts)
        self._bytes_left -= sum(map(len, encoded))
        if self._bytes_left < 0:
            self._forbid()
            return
        self._round.append(Answer(region, self._numbers[region] - 1, codec.fingerprint(body), 0.0, encoded))

    def note_lost(self, region: str, body: RequestBody, reason: str, *, failed: bool) -> None:
        """A region was lost over this question."""
        if self._keep is not None and not isinstance(body, End | AskReveal):
            number = self._numbers[region] - 1
            fingerprint = codec.fingerprint(body)
            self._round.append(Answer(region, number, fingerprint, 0.0, lost=reason, failed=failed))

    async def commit(self, state: Mapping[str, Any]) -> None:
        """A round is complete: store what was noted since the last one. Raises what ``keep`` raises."""
        noted, self._round = self._round, []
        if self._keep is not None and noted:
            now_s = self.clock()
            await self._keep([replace(answer, at_s=now_s) for answer in noted], {**state, "at_s": now_s})

    def _forbid(self) -> None:
        """Store nothing any more: a later round without this one could not be given again."""
        self._keep = None
        self._round = []


def _diverged() -> Diverged:
    return Diverged("the stored answers belong to other questions than this version asks")


def _encoded(body: ReplyBody) -> bytes:
    return codec.encode_from_agent(Reply(0, _sweep_of(body), 0, True, body))


def _decoded(data: bytes) -> ReplyBody:
    try:
        reply = codec.decode_from_agent(data)
    except PeerError:
        raise _diverged() from None
    if not isinstance(reply, Reply):
        raise InvariantBroken("a stored answer is not an answer")
    return reply.body


def _sweep_of(body: ReplyBody) -> str:
    header = getattr(body, "header", None)
    return header.sweep_id if header is not None else "-"
