"""Exchanges of an agent: what is remembered, for how long, and how much memory it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from linked import BEGIN, ScriptedService, answer, header, no_task_left, ready, u64

from edge_agent.exchanges import AHEAD_BYTES_MAX, Exchanges
from paritree.core import limits
from paritree.core.messages import (
    AskChildren,
    Children,
    End,
    Progress,
    Refusal,
    RefusalCode,
    Reply,
    ReplyBody,
    Request,
)
from paritree.wire import codec
from paritree.wire.answer import Part
from paritree.wire.frames import Cancel

pytestmark = pytest.mark.asyncio
LARGE = 1 << 16  # u64 sums: half a MiB a part


class Outlet:
    """A stream that keeps what it was given; ``gate`` closed, it stays behind."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def put(self, part: Part, sweep_id: str) -> None:
        await self.gate.wait()
        reply = codec.decode_from_agent(part.data)
        assert isinstance(reply, Reply)
        assert reply.sweep_id == sweep_id
        self.replies.append(reply)

    async def whole(self, answers: int = 1) -> list[Reply]:
        async with asyncio.timeout(60):
            while sum(reply.last for reply in self.replies) < answers:
                await asyncio.sleep(0.005)
        return self.replies


def asked(exchange: int, body: Any = BEGIN, *, sweep_id: str = "sweep-1", timeout_s: float = 5.0) -> Request:
    return Request(exchange, sweep_id, body, timeout_s)


def large(parts: int) -> ScriptedService:
    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        for _ in range(parts):
            yield Children(header(request.sweep_id), np.zeros(LARGE, np.uint64))

    return ScriptedService(script)


CHILDREN = AskChildren(0, 16, u64(0))


async def test_a_handler_does_not_run_away_from_a_slow_stream() -> None:
    produced = 0

    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        nonlocal produced
        for _ in range(100):
            produced += 1
            yield Children(header(), np.zeros(LARGE, np.uint64))

    exchanges, outlet = Exchanges(ScriptedService(script)), Outlet()
    outlet.gate.clear()
    exchanges.receive(asked(1, CHILDREN), outlet)
    await asyncio.sleep(0.3)
    assert produced * LARGE * 8 <= AHEAD_BYTES_MAX + 3 * LARGE * 8
    outlet.gate.set()
    assert len(await outlet.whole()) == 100
    await exchanges.close()
    await no_task_left()


async def test_a_small_answer_is_repeated_a_large_one_is_not() -> None:
    service = large(80)  # 40 MiB, more than is kept
    exchanges, outlet = Exchanges(service), Outlet()
    exchanges.receive(asked(1, CHILDREN), outlet)
    await outlet.whole()
    assert len(outlet.replies) == 80
    again = Outlet()
    exchanges.receive(asked(1, CHILDREN), again)
    (reply,) = await again.whole()
    assert isinstance(reply.body, Refusal)
    assert reply.body.code is RefusalCode.BUSY
    assert reply.body.retryable
    assert "too large to be repeated" in reply.body.message
    assert len(service.asked) == 1
    service.script = answer  # type: ignore[assignment]
    small = Outlet()
    for _ in range(2):
        exchanges.receive(asked(2), small)
        await small.whole()
    await small.whole(2)
    assert len(service.asked) == 2
    await exchanges.close()
    await no_task_left()


async def test_the_oldest_answers_make_room() -> None:
    service = large(8)  # 4 MiB each
    exchanges = Exchanges(service)
    for number in range(10):
        outlet = Outlet()
        exchanges.receive(asked(number, CHILDREN), outlet)
        await outlet.whole()
    await asyncio.sleep(0.05)
    assert len(service.asked) == 10
    for number in (9, 0):
        outlet = Outlet()
        exchanges.receive(asked(number, CHILDREN), outlet)
        await outlet.whole()
    assert [request.exchange for request in service.asked[10:]] == [0]  # 9 was remembered
    await exchanges.close()
    await no_task_left()


async def test_the_number_of_answers_kept_is_bounded() -> None:
    service = ScriptedService()
    exchanges = Exchanges(service)
    for number in range(limits.ANSWERS_KEPT_MAX + 50):
        outlet = Outlet()
        exchanges.receive(asked(number, AskChildren(1, 2, u64(0))), outlet)
        await outlet.whole()
    assert len(exchanges._known) <= limits.ANSWERS_KEPT_MAX + 1
    await exchanges.close()


async def test_the_end_of_a_sweep_forgets_it_and_leaves_others_alone() -> None:
    service = ScriptedService()
    exchanges = Exchanges(service)
    for number, sweep_id in ((1, "one"), (2, "other")):
        outlet = Outlet()
        exchanges.receive(asked(number, sweep_id=sweep_id), outlet)
        await outlet.whole()
    outlet = Outlet()
    exchanges.receive(asked(3, End(), sweep_id="one"), outlet)
    exchanges.receive(asked(3, End(), sweep_id="one"), outlet)
    await outlet.whole()
    assert {key[0] for key in exchanges._known} == {"one", "other"}
    assert [key[1] for key in exchanges._known if key[0] == "one"] == [3]
    assert len(service.asked) == 3
    await exchanges.close()
    await no_task_left()


async def test_an_orphan_works_on_until_it_expires() -> None:
    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        for done in range(1_000):
            await asyncio.sleep(0.02)
            yield Progress(done, 1_000, done)
        yield ready()

    service = ScriptedService(script)
    exchanges, outlet = Exchanges(service), Outlet()
    exchanges.receive(asked(1, timeout_s=3.0), outlet)
    await asyncio.sleep(4.0)
    assert not service.cancelled  # somebody listens, and there is progress
    exchanges.detach(outlet)
    heard = len(outlet.replies)
    await asyncio.sleep(0.1)
    assert not service.cancelled
    second = Outlet()
    exchanges.receive(asked(1, timeout_s=3.0), second)
    async with asyncio.timeout(60):
        while len(second.replies) <= heard:  # from the first part on
            await asyncio.sleep(0.01)
    assert len(outlet.replies) == heard
    exchanges.detach(second)
    async with asyncio.timeout(60):
        while not service.cancelled:
            await asyncio.sleep(0.01)
    assert len(service.asked) == 1
    await exchanges.close()
    await no_task_left()


async def test_a_repeat_moves_the_answer_to_the_newer_stream() -> None:
    gate = asyncio.Event()

    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        yield Progress(0, 1, 0)
        await gate.wait()
        yield ready()

    exchanges, first, second = Exchanges(ScriptedService(script)), Outlet(), Outlet()
    exchanges.receive(asked(1), first)
    async with asyncio.timeout(60):
        while not first.replies:
            await asyncio.sleep(0.01)
    exchanges.receive(asked(1), second)
    gate.set()
    assert [reply.part for reply in await second.whole()] == [0, 1]
    assert [reply.part for reply in first.replies] == [0]
    await exchanges.close()
    await no_task_left()


async def test_closing_ends_everything_and_waits_for_it() -> None:
    cleaned = []

    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        try:
            await asyncio.sleep(60)
            yield ready()
        finally:
            await asyncio.sleep(0.05)
            cleaned.append(request.exchange)

    exchanges, outlet = Exchanges(ScriptedService(script)), Outlet()
    for number in range(5):
        exchanges.receive(asked(number), outlet)
    await asyncio.sleep(0.05)
    exchanges.cancel(Cancel(0, "sweep-1"))
    await exchanges.close()
    assert sorted(cleaned) == [0, 1, 2, 3, 4]
    await no_task_left()
