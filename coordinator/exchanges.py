"""Exchanges of a sweep: ask regions in parallel, put the parts of an answer together, name the region that failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np

from paritree.core import limits
from paritree.core.descent import Answer, Ask
from paritree.core.errors import ParitreeError, PeerError
from paritree.core.listing import RowList
from paritree.core.messages import (
    AskChildren,
    AskDetail,
    AskSketch,
    Children,
    Details,
    Header,
    Lists,
    Look,
    Progress,
    Refusal,
    ReplyBody,
    RequestBody,
    Sketched,
)
from paritree.core.sketch import TABLES, WORDS, Sketch
from paritree.wire.link import RegionLink

T = TypeVar("T")

ATTEMPTS_MAX: Final = 4
"""Tries of one exchange: the agent reconnects within seconds, or it is gone."""
PAUSE_S: Final = 0.5
"""Mean pause before the second try; doubled each time, with full jitter."""
_KEY_BYTES: Final = 64
"""A key digest, named twice where the key is sealed, with the tags and lengths around it."""
_SEALED_BYTES_MAX: Final = limits.PART_BYTES_MAX // 2
"""A longer sealed key is left out: with its digests it would fill a message alone."""


class RegionLost(ParitreeError):
    """A region cannot be compared any further; the others go on."""

    def __init__(self, region: str, reason: str) -> None:
        super().__init__(reason)
        self.region = region


@dataclass(frozen=True, slots=True)
class Exchanges:
    """Asks the regions of one sweep. ``jitter`` gives numbers in [0, 1), ``sleep`` waits seconds."""

    links: Mapping[str, RegionLink]
    sweep_id: str
    timeout_s: float
    sleep: Callable[[float], Awaitable[None]]
    jitter: Callable[[], float]

    async def parts(self, region: str, body: RequestBody, on_progress: Callable[[Progress], None]) -> list[ReplyBody]:
        """The parts of one answer, Progress taken out; a cut exchange is asked again. Raises RegionLost."""
        pause = PAUSE_S
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                return await self._once(region, body, on_progress)
            except PeerError as error:
                if not error.retryable or attempt == ATTEMPTS_MAX:
                    raise RegionLost(region, str(error)) from None
                await self.sleep(pause * 2 * self.jitter())
                pause *= 2
        raise AssertionError("unreachable")

    async def _once(self, region: str, body: RequestBody, on_progress: Callable[[Progress], None]) -> list[ReplyBody]:
        parts: list[ReplyBody] = []
        answers = self.links[region].ask(body, sweep_id=self.sweep_id, timeout_s=self.timeout_s)
        async with aclosing(answers):
            async for part in answers:
                if isinstance(part, Progress):
                    on_progress(part)
                elif isinstance(part, Refusal):
                    if part.retryable:
                        raise PeerError(part.message, retryable=True)
                    raise RegionLost(region, part.message)
                else:
                    parts.append(part)
        if not parts:
            raise PeerError(f"region {region} gave an empty answer", retryable=True)
        return parts


async def gather(work: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
    """Run one coroutine a region to its end; then raise the first RegionLost, or anything else that was raised."""
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return dict(zip(work, results, strict=True))  # type: ignore[arg-type]


def check_headers(region: str, parts: Sequence[ReplyBody], expected: Header) -> None:
    """Every part belongs to this sweep and to the state that Ready announced. Raises RegionLost."""
    for part in parts:
        header = getattr(part, "header", None)
        if header is not None and header != expected:
            raise RegionLost(region, "its answer is about another state than the one it announced")


def nodes_answer(region: str, ask: Ask, parts: Sequence[ReplyBody]) -> Answer:
    """The parts of a node answer as one. Raises RegionLost for parts of another kind or a wrong amount."""
    if isinstance(ask, AskChildren):
        sums = [part.sums for part in parts if isinstance(part, Children)]
        expected = len(ask.prefixes) << (ask.to_bits - ask.bits)
        if len(sums) != len(parts) or sum(map(len, sums)) != expected:
            raise RegionLost(region, f"its answer does not have the {expected} sums that were asked for")
        return np.concatenate(sums)
    if isinstance(ask, AskSketch):
        words = [part.sums for part in parts if isinstance(part, Sketched)]
        shape = (TABLES, ask.cells, WORDS)
        if len(words) != len(parts) or sum(map(len, words)) != int(np.prod(shape)):
            raise RegionLost(region, f"its answer is not the sketch of {ask.cells} cells that was asked for")
        return Sketch(ask.salt, np.concatenate(words).reshape(shape))
    lists = [part for part in parts if isinstance(part, Lists)]
    if len(lists) != len(parts):
        raise RegionLost(region, "its answer is not the lists that were asked for")
    return RowList(*(np.concatenate([getattr(part, name) for part in lists]) for name in ("k", "r", "r2")))


def chunks(ask: Ask) -> Sequence[Ask]:
    """The same question in requests of bounded size, one after the other; their answers are concatenated."""
    if isinstance(ask, AskDetail):
        return detail_chunks(ask)
    if isinstance(ask, AskSketch):
        return [ask]
    step = limits.NODES_A_REQUEST_MAX
    return [replace(ask, prefixes=ask.prefixes[i : i + step]) for i in range(0, max(1, len(ask.prefixes)), step)]


def detail_chunks(ask: AskDetail) -> list[AskDetail]:
    """The same looks in requests of at most limits.KEYS_A_DETAIL_MAX keys that fit into a message.

    A k goes with its key digests. A sealed key that fits into no message is left out: the region searches for it.
    """
    by_k: dict[int, list[bytes]] = {int(k): [] for k in ask.ks}
    for digest in ask.key_digests:
        by_k.setdefault(int.from_bytes(digest[:8], "big"), []).append(digest)
    sealed = {digest: text for digest, text in ask.sealed.items() if len(text) <= _SEALED_BYTES_MAX}
    groups: list[list[int]] = [[]]
    size = 0
    for k in sorted(by_k):
        k_bytes = 8 + sum(_KEY_BYTES + len(sealed.get(digest, b"")) for digest in by_k[k])
        if groups[-1] and (len(groups[-1]) >= limits.KEYS_A_DETAIL_MAX or size + k_bytes > limits.PART_BYTES_MAX):
            groups.append([])
            size = 0
        groups[-1].append(k)
        size += k_bytes
    out: list[AskDetail] = []
    for ks in groups:
        digests = tuple(digest for k in ks for digest in by_k[k])
        some = {digest: sealed[digest] for digest in digests if digest in sealed}
        out.append(replace(ask, ks=np.array(ks, np.uint64), key_digests=digests, sealed=some))
    return out


def looks_answer(region: str, ask: AskDetail, parts: Sequence[ReplyBody]) -> list[Look]:
    """The looks of all parts. Raises RegionLost where a key that was asked for by digest has no look."""
    if not all(isinstance(part, Details) for part in parts):
        raise RegionLost(region, "its answer is not the details that were asked for")
    looks = [look for part in parts if isinstance(part, Details) for look in part.looks]
    if set(ask.key_digests) - {look.key_digest for look in looks}:
        raise RegionLost(region, "it did not look at every key that was asked for")
    return looks
