"""One exchange at both ends: how parts are numbered, and which answers are not let through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from linked import BEGIN, SWEEP, ScriptedService, ask, header, ready, u64

from paritree.core import limits
from paritree.core import messages as m
from paritree.core.errors import ConfigError, DeadLetter, InvariantBroken, PeerError, SourceError
from paritree.core.ledger import CONNECTION
from paritree.wire import codec
from paritree.wire.answer import AnswerCheck, Part, parts
from paritree.wire.loopback import LoopbackLink

LISTS = m.AskLists(20, u64(1, 2))
ROWS = m.Lists(header(), np.array([1], np.uint32), u64(1), u64(2), u64(3))
CHILDREN = m.AskChildren(1, 3, u64(0, 1))


def script(*bodies: m.ReplyBody | BaseException) -> ScriptedService:
    async def answer(request: m.Request) -> AsyncIterator[m.ReplyBody]:
        for body in bodies:
            if isinstance(body, BaseException):
                raise body
            yield body

    return ScriptedService(answer)


async def sent(service: ScriptedService, body: m.RequestBody = LISTS) -> list[m.Reply]:
    out = []
    async for part in parts(service, m.Request(5, SWEEP, body, 1.0)):
        reply = codec.decode_from_agent(part.data)
        assert isinstance(reply, m.Reply)
        assert part.last == reply.last
        assert part.kind is m.byte_class(reply.body)
        out.append(reply)
    assert [reply.part for reply in out] == list(range(len(out)))
    assert [reply.last for reply in out] == [False] * (len(out) - 1) + [True]
    return out


def kinds(replies: list[m.Reply]) -> list[str]:
    return [type(reply.body).__name__ for reply in replies]


@pytest.mark.asyncio
async def test_the_last_part_of_many_is_marked() -> None:
    progress = m.Progress(0, 1, 0)
    assert kinds(await sent(script(progress, ROWS, progress, ROWS))) == ["Progress", "Lists", "Progress", "Lists"]


@pytest.mark.asyncio
async def test_a_part_that_can_only_be_last_does_not_wait_and_ends_the_answer() -> None:
    assert kinds(await sent(script(ready(), AssertionError("asked for more")), BEGIN)) == ["Ready"]


@pytest.mark.asyncio
async def test_progress_is_sent_without_waiting_for_what_follows() -> None:
    gate = asyncio.Event()

    async def waiting(request: m.Request) -> AsyncIterator[m.ReplyBody]:
        yield m.Progress(0, 1, 0)
        await gate.wait()
        yield ready()

    answer = parts(ScriptedService(waiting), m.Request(5, SWEEP, BEGIN, 1.0))
    async with asyncio.timeout(1):
        first = await anext(answer)
    assert isinstance(first, Part)
    assert not first.last
    gate.set()
    assert (await anext(answer)).last


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (SourceError("down", retryable=True), m.RefusalCode.SOURCE, True),
        (ConfigError("no such table"), m.RefusalCode.CONFIG, False),
        (PeerError("later", retryable=True), m.RefusalCode.BUSY, True),
        (InvariantBroken("impossible"), m.RefusalCode.INTERNAL, False),
        (DeadLetter("odd value"), m.RefusalCode.SOURCE, False),
        (RuntimeError("holds the value 4711"), m.RefusalCode.INTERNAL, False),
    ],
)
async def test_errors_become_refusals(error: Exception, code: m.RefusalCode, retryable: bool) -> None:
    replies = await sent(script(m.Progress(0, 1, 0), error))
    refusal = replies[-1].body
    assert isinstance(refusal, m.Refusal)
    assert (refusal.code, refusal.retryable) == (code, retryable)
    assert "4711" not in refusal.message


@pytest.mark.asyncio
@pytest.mark.parametrize("bodies", [(), (m.Progress(0, 1, 0),)])
async def test_an_empty_answer_is_a_refusal(bodies: Any) -> None:
    refusal = (await sent(script(*bodies)))[-1].body
    assert isinstance(refusal, m.Refusal)
    assert "empty" in refusal.message


@pytest.mark.asyncio
async def test_a_part_that_does_not_fit_is_a_refusal() -> None:
    large = m.Children(header(), np.zeros(1 << 17, np.uint64))
    refusal = (await sent(script(m.Progress(0, 1, 0), large), CHILDREN))[-1].body
    assert isinstance(refusal, m.Refusal)
    assert "larger than 1048576" in refusal.message


def reply(part: int, body: m.ReplyBody, *, last: bool, exchange: int = 5, sweep_id: str = SWEEP) -> m.Reply:
    return m.Reply(exchange, sweep_id, part, last, body)


def sums(count: int) -> m.Children:
    return m.Children(header(), np.zeros(count, np.uint64))


OTHER_HEADER = m.Header("orders", b"p" * 16, 1, b"k" * 8, SWEEP, "another position")
PROGRESS = m.Progress(0, 1, 0)
UNUSABLE: dict[str, tuple[m.RequestBody, list[m.Reply], str]] = {
    "a gap": (LISTS, [reply(1, ROWS, last=True)], "part 0 is missing"),
    "another order": (LISTS, [reply(0, ROWS, last=False), reply(2, ROWS, last=True)], "part 1 is missing"),
    "another exchange": (LISTS, [reply(0, ROWS, last=True, exchange=6)], "another exchange"),
    "another sweep": (LISTS, [reply(0, ROWS, last=True, sweep_id="x")], "another exchange"),
    "another kind": (LISTS, [reply(0, sums(1), last=True)], "Children does not answer AskLists"),
    "ready for nodes": (LISTS, [reply(0, ready(), last=True)], "Ready does not answer AskLists"),
    "only progress": (LISTS, [reply(0, PROGRESS, last=True)], "ends without a result"),
    "more after a refusal": (LISTS, [reply(0, m.Refusal(m.RefusalCode.BUSY, "b"), last=False)], "follows a refusal"),
    "more after ready": (BEGIN, [reply(0, ready(), last=False)], "follows its last part"),
    "more after the end": (LISTS, [reply(0, ROWS, last=True), reply(1, ROWS, last=True)], "part 1 is missing"),
    "two headers": (
        LISTS,
        [reply(0, ROWS, last=False), reply(1, m.Lists(OTHER_HEADER, ROWS.counts, ROWS.k, ROWS.r, ROWS.r2), last=True)],
        "different headers",
    ),
    "too few sums": (CHILDREN, [reply(0, sums(4), last=False), reply(1, sums(3), last=True)], "has 7 sums where 8"),
    "too many sums": (CHILDREN, [reply(0, sums(9), last=False)], "has 9 sums where 8"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_answer_that_is_not_whole_is_not_let_through(case: str) -> None:
    body, replies, reason = UNUSABLE[case]
    check = AnswerCheck(m.Request(5, SWEEP, body, 1.0))
    for one in replies[:-1]:
        check.accept(one)
    with pytest.raises(PeerError) as caught:
        check.accept(replies[-1])
    assert reason in caught.value.message
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("body", "part", "limit"),
    [
        (LISTS, ROWS, "LISTED_ROWS_MAX"),
        (m.AskDetail(u64(1)), m.Details(header(), ()), "DETAIL_PARTS_MAX"),
        (m.AskReveal((b"d" * 16,), "a test"), m.Revealed(header(), {}), "DETAIL_PARTS_MAX"),
    ],
)
def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch, body: Any, part: Any, limit: str) -> None:
    monkeypatch.setattr(limits, limit, 3)
    check = AnswerCheck(m.Request(5, SWEEP, body, 1.0))
    for number in range(3):
        check.accept(reply(number, part, last=False))
    with pytest.raises(PeerError, match="too long") as caught:
        check.accept(reply(3, part, last=False))
    assert not caught.value.retryable


def test_counts_come_where_they_are_asked_for_and_nowhere_else() -> None:
    counted = m.AskChildren(1, 3, u64(0, 1), counts=True)
    eight = m.Children(header(), np.zeros(8, np.uint64), np.zeros(8, np.uint64))
    assert AnswerCheck(m.Request(5, SWEEP, counted, 1.0)).accept(reply(0, eight, last=True)) is eight
    for body, children in ((CHILDREN, eight), (counted, sums(8))):
        with pytest.raises(PeerError, match="sums and counts"):
            AnswerCheck(m.Request(5, SWEEP, body, 1.0)).accept(reply(0, children, last=True))


def test_repeated_parts_change_nothing() -> None:
    check = AnswerCheck(m.Request(5, SWEEP, CHILDREN, 1.0))
    assert check.accept(reply(0, sums(4), last=False)) is not None
    assert check.accept(reply(0, sums(4), last=False)) is None
    assert check.accept(reply(1, sums(4), last=True)) is not None
    assert check.accept(reply(0, sums(4), last=False)) is None
    assert check.complete


@pytest.mark.asyncio
async def test_the_loopback_link_counts_what_it_carries() -> None:
    link = LoopbackLink(ScriptedService())
    assert link.region == "eu"
    assert [type(part).__name__ for part in await ask(link, BEGIN)] == ["Progress", "Ready"]
    assert len(await ask(link, CHILDREN)) == 2
    assert link.ledger.of(SWEEP) + link.ledger.of(CONNECTION) == link.ledger.total()
    assert link.ledger.of(SWEEP).sent[m.ByteClass.NODES] > 12 * 8
    assert link.ledger.of(CONNECTION).bytes_received == 0


@pytest.mark.asyncio
async def test_the_loopback_link_gives_up_on_silence_and_cancels() -> None:
    async def silent(request: m.Request) -> AsyncIterator[m.ReplyBody]:
        await asyncio.sleep(60)
        yield ready()

    service = ScriptedService(silent)
    with pytest.raises(PeerError, match="no sign of life") as caught:
        await ask(LoopbackLink(service), BEGIN, timeout_s=0.05)
    assert caught.value.retryable
    assert len(service.cancelled) == 1


@pytest.mark.asyncio
async def test_leaving_a_loopback_answer_early_closes_the_handler() -> None:
    closed = []

    async def endless(request: m.Request) -> AsyncIterator[m.ReplyBody]:
        try:
            while True:
                yield PROGRESS
        finally:
            closed.append(request)

    answer = LoopbackLink(ScriptedService(endless)).ask(BEGIN, sweep_id=SWEEP, timeout_s=1.0)
    await anext(answer)
    await answer.aclose()
    assert len(closed) == 1
