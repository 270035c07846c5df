"""One exchange, at both ends: a service's bodies become numbered parts; received parts become bodies again, checked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from paritree.core import limits
from paritree.core import messages as m
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, PeerError, exhausted
from paritree.core.retry import Busy
from paritree.core.sketch import TABLES, WORDS
from paritree.wire import codec
from paritree.wire.link import AgentService

T = TypeVar("T")
_log = structlog.get_logger(__name__)
ALWAYS_LAST: Final = (m.Ready, m.Rooted, m.Kept, m.Refusal, m.Ended)
"""Bodies after which nothing can follow: they are sent at once, while others wait to know whether they are the last."""
ANSWERS: Final[dict[type[m.RequestBody], type[m.ReplyBody]]] = {
    m.Begin: m.Ready,
    m.AskRoot: m.Rooted,
    m.AskChildren: m.Children,
    m.AskLists: m.Lists,
    m.AskSketch: m.Sketched,
    m.AskDetail: m.Details,
    m.AskAgain: m.Details,
    m.AskReveal: m.Revealed,
    m.AskKeep: m.Kept,
    m.AskLetters: m.Letters,
    m.End: m.Ended,
}
"""What answers what; Progress and Refusal may answer everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """One encoded reply and the class in which it is counted, but for the ``sketched`` bytes of it."""

    data: bytes
    kind: m.ByteClass
    last: bool
    sketched: int = 0


async def parts(service: AgentService, request: m.Request) -> AsyncGenerator[Part, None]:
    """The service's answer as encoded parts. Every error of the service becomes a Refusal; exactly one part is last."""
    numbered = _Numbered(request)
    held: m.ReplyBody | None = None
    try:
        async with closing(service.handle(request)) as bodies:
            async for body in bodies:
                if held is not None:
                    yield numbered.part(held, last=False)
                    held = None
                if isinstance(body, ALWAYS_LAST):
                    yield numbered.part(body, last=True)
                    return
                if isinstance(body, m.Progress):
                    yield numbered.part(body, last=False)
                else:
                    held = body
        if held is None:
            raise InvariantBroken("the agent's answer is empty")
        yield numbered.part(held, last=True)
    except ParitreeError as error:
        yield numbered.part(refusal_of(error), last=True)
    except Exception as error:  # noqa: BLE001 - a mistake in one answer must not end the other exchanges of the stream
        lacking = exhausted(error)
        if lacking is not None:
            _log.error("request_failed", exchange=request.exchange, sweep=request.sweep_id, reason=lacking.message)
            yield numbered.part(refusal_of(lacking), last=True)
            return
        _log.exception("request_failed", exchange=request.exchange, sweep=request.sweep_id)
        failure = InvariantBroken(f"internal error in the agent ({type(error).__name__})", next_step="see its log")
        yield numbered.part(refusal_of(failure), last=True)


def refusal_of(error: ParitreeError) -> m.Refusal:
    """The refusal that tells the coordinator of an error."""
    match error:
        case Busy():
            return m.Refusal(m.RefusalCode.BUSY, str(error), retryable=True, retry_after_s=error.retry_after_s)
        case ConfigError():
            code = m.RefusalCode.CONFIG
        case InvariantBroken():
            code = m.RefusalCode.INTERNAL
        case PeerError():
            code = m.RefusalCode.BUSY
        case _:
            code = m.RefusalCode.SOURCE
    return m.Refusal(code, str(error), error.retryable)


class _Numbered:
    """Encodes the parts of one answer; a body that cannot be encoded takes no number, so the refusal fits after it."""

    def __init__(self, request: m.Request) -> None:
        self._request = request
        self._next = 0

    def part(self, body: m.ReplyBody, *, last: bool) -> Part:
        """Raises InvariantBroken when the body does not fit into a message."""
        reply = m.Reply(self._request.exchange, self._request.sweep_id, self._next, last, body)
        data = codec.encode_from_agent(reply)
        self._next += 1
        return Part(data, m.byte_class(body), last, m.sketched_bytes(body))


@asynccontextmanager
async def closing(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Like ``contextlib.aclosing``, for an iterator that may or may not be a generator."""
    try:
        yield items
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


class AnswerCheck:
    """Takes the parts of one exchange in the order they arrive and lets only a whole and fitting answer through."""

    def __init__(self, request: m.Request) -> None:
        self._request = request
        self._next = 0
        self._header: m.Header | None = None
        self._sums = 0
        self._rows = 0
        self._looks = 0
        self.complete = False

    def accept(self, reply: m.Reply) -> m.ReplyBody | None:
        """The body, or None for a part that was seen before (a repeated part changes nothing).

        Raises PeerError for a gap, for a body that does not answer the request, and for an answer that is too short
        or too long.
        """
        if (reply.exchange, reply.sweep_id) != (self._request.exchange, self._request.sweep_id):
            raise self._wrong("a part belongs to another exchange")
        if reply.part < self._next:
            return None
        if reply.part > self._next or self.complete:
            raise self._wrong(f"part {self._next} is missing")
        self._check(reply.body, last=reply.last)
        self._next += 1
        self.complete = reply.last
        return reply.body

    def _check(self, body: m.ReplyBody, *, last: bool) -> None:
        if isinstance(body, m.Refusal):
            if not last:
                raise self._wrong("something follows a refusal")
            return
        if isinstance(body, m.Progress):
            if last:
                raise self._wrong("it ends without a result")
            return
        if not isinstance(body, ANSWERS[type(self._request.body)]):
            raise self._wrong(f"{type(body).__name__} does not answer {type(self._request.body).__name__}")
        if isinstance(body, ALWAYS_LAST) and not last:
            raise self._wrong("something follows its last part")
        if not isinstance(body, m.Ended | m.Letters):
            if self._header not in (None, body.header):
                raise self._wrong("its parts have different headers")
            self._header = body.header
        if isinstance(body, m.Children | m.Sketched):
            self._count_sums(len(body.sums), last=last)
        if isinstance(body, m.Lists):
            self._rows += len(body.k)
        if isinstance(body, m.Details | m.Revealed):
            self._looks += 1
        if self._rows > limits.LISTED_ROWS_MAX or self._looks > limits.DETAIL_PARTS_MAX:
            raise PeerError("the answer of a region is too long", next_step="see its log")
        if isinstance(body, m.Children) and len(body.counts) != len(body.sums) * self._counted:
            raise self._wrong("its sums and counts are not as many as were asked for")

    @property
    def _counted(self) -> bool:
        """Whether counts were asked for beside sums."""
        return isinstance(self._request.body, m.AskChildren) and self._request.body.counts

    def _count_sums(self, sums: int, *, last: bool) -> None:
        match self._request.body:
            case m.AskChildren(bits=bits, to_bits=to_bits, prefixes=prefixes):
                expected = len(prefixes) << (to_bits - bits)
            case m.AskSketch(cells=cells):
                expected = cells * TABLES * WORDS
            case _:
                raise InvariantBroken("sums were let through as the answer to something else")
        self._sums += sums
        if self._sums > expected or (last and self._sums != expected):
            raise self._wrong(f"it has {self._sums} sums where {expected} were asked for")

    def _wrong(self, reason: str) -> PeerError:
        return PeerError(f"the answer of a region cannot be used: {reason}", retryable=True)
