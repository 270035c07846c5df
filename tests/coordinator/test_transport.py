"""The stream between a real server and a real session, over TLS on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from conftest_tls import agent_tls
from faults import fault_proxy
from linked import BEGIN, FENCE, SWEEP, ScriptedService, answer, ask, coordinator, header, linked, ready, u64

from paritree.core.errors import PeerError, SourceError
from paritree.core.messages import (
    AskChildren,
    AskLists,
    ByteClass,
    Children,
    End,
    Ended,
    Progress,
    Refusal,
    RefusalCode,
    ReplyBody,
    Request,
)

pytestmark = pytest.mark.asyncio


async def test_a_whole_conversation_and_its_bytes(pki_dir: Path) -> None:
    service = ScriptedService()
    async with linked(pki_dir, service) as (_, link, session):
        assert [type(part).__name__ for part in await ask(link, BEGIN)] == ["Progress", "Ready"]
        assert [request.fence for request in service.asked] == [FENCE]
        children = await ask(link, AskChildren(1, 3, u64(0, 1)))
        sums = np.concatenate([part.sums for part in children if isinstance(part, Children)])
        assert sums.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
        assert await ask(link, End()) == [Ended()]
        sweep, whole = link.ledger.of(SWEEP), link.ledger.total()
        await _until(lambda: session.ledger.total() == whole)  # the agent counts a moment later, when it has written
        assert session.ledger.of(SWEEP) == sweep
        connection = link.ledger.of("")
        assert sweep + connection == whole
        assert set(connection.sent) == set(connection.received) == {ByteClass.CONTROL}
        assert sum(whole.by_class.values()) == whole.bytes_sent + whole.bytes_received
        assert sweep.sent[ByteClass.NODES] > 8 * 8 + 4 * 8  # Ready's sums and two parts of children


async def test_many_exchanges_at_once_keep_apart(pki_dir: Path) -> None:
    async with linked(pki_dir, ScriptedService()) as (_, link, _session):
        answers = await asyncio.gather(*(ask(link, AskLists(20, u64(n, n + 1))) for n in range(0, 60, 2)))
        assert [int(parts[0].k[0]) for parts in answers] == list(range(0, 60, 2))  # type: ignore[union-attr]


async def test_a_large_answer_comes_in_parts_with_flow_control(pki_dir: Path) -> None:
    async def large(request: Request) -> AsyncIterator[ReplyBody]:
        for _ in range(64):
            yield Children(header(), np.zeros(1 << 16, np.uint64))

    async with linked(pki_dir, ScriptedService(large)) as (_, link, session):
        parts = await ask(link, AskChildren(0, 22, u64(0)))
        assert sum(len(part.sums) for part in parts) == 1 << 22  # type: ignore[union-attr]
        assert link.ledger.total().sent[ByteClass.NODES] > 32 << 20
        await _until(lambda: session.ledger.total() == link.ledger.total())


async def test_errors_of_the_service_are_refusals(pki_dir: Path) -> None:
    async def failing(request: Request) -> AsyncIterator[ReplyBody]:
        yield Progress(0, 1, 0)
        raise SourceError("the database went away", next_step="look at it", retryable=True)

    async with linked(pki_dir, ScriptedService(failing)) as (_, link, _session):
        assert (await ask(link, BEGIN))[-1] == Refusal(
            RefusalCode.SOURCE, "the database went away; look at it", retryable=True
        )


async def test_silence_ends_the_question_and_the_handler(pki_dir: Path) -> None:
    async def silent(request: Request) -> AsyncIterator[ReplyBody]:
        await asyncio.sleep(60)
        yield ready()

    service = ScriptedService(silent)
    async with linked(pki_dir, service) as (_, link, _session):
        with pytest.raises(PeerError, match=r"no sign of life for 0\.3 s") as caught:
            await ask(link, BEGIN, timeout_s=0.3)
        assert caught.value.retryable
        await _until(lambda: bool(service.cancelled))


async def test_progress_keeps_a_long_answer_alive(pki_dir: Path) -> None:
    async def slow(request: Request) -> AsyncIterator[ReplyBody]:
        for done in range(16):
            await asyncio.sleep(0.4)
            yield Progress(done, 16, done)
        yield ready()

    async with linked(pki_dir, ScriptedService(slow)) as (_, link, _session):
        assert len(await ask(link, BEGIN, timeout_s=5.0)) == 17


async def test_leaving_early_cancels_the_exchange_at_the_agent(pki_dir: Path) -> None:
    async def endless(request: Request) -> AsyncIterator[ReplyBody]:
        while True:
            yield Progress(0, 1, 0)
            await asyncio.sleep(0.01)

    service = ScriptedService(endless)
    async with linked(pki_dir, service) as (_, link, _session):
        parts = link.ask(BEGIN, sweep_id=SWEEP, timeout_s=30.0)
        assert await anext(parts) == Progress(0, 1, 0)
        await parts.aclose()
        await _until(lambda: bool(service.cancelled))
        service.script = answer
        assert await ask(link, End()) == [Ended()]


async def test_a_cut_is_told_at_once_and_the_work_is_not_done_twice(pki_dir: Path) -> None:
    release = asyncio.Event()

    async def waiting(request: Request) -> AsyncIterator[ReplyBody]:
        yield Progress(1, 2, 10)
        await release.wait()
        yield ready()

    service = ScriptedService(waiting)
    async with coordinator(pki_dir) as running, fault_proxy(running.port) as proxy:
        running.dial(service, agent_tls(pki_dir), port=proxy.port)
        link = await running.link()
        parts = link.ask(BEGIN, sweep_id=SWEEP, timeout_s=30.0)
        await anext(parts)
        proxy.cut()
        async with asyncio.timeout(30):
            with pytest.raises(PeerError, match="was cut") as caught:
                await anext(parts)
        assert caught.value.retryable
        again = asyncio.create_task(_ask_when_connected(running, BEGIN))
        await asyncio.sleep(0.1)
        release.set()
        assert [type(part).__name__ for part in await again] == ["Progress", "Ready"]
        assert len(service.asked) == 1
        assert not service.cancelled
        await ask(link, BEGIN)  # asked a second time on purpose, it is another exchange
        assert len(service.asked) == 2


async def test_a_finished_answer_is_repeated_after_a_cut(pki_dir: Path) -> None:
    service = ScriptedService()
    async with coordinator(pki_dir) as running, fault_proxy(running.port) as proxy:
        running.dial(service, agent_tls(pki_dir), port=proxy.port)
        link = await running.link()
        proxy.freeze()  # the request is on its way, the answer never arrives
        asking = asyncio.create_task(ask(link, AskChildren(1, 3, u64(0, 1))))
        await asyncio.sleep(0.1)
        proxy.thaw()
        await _until(lambda: len(service.asked) == 1)
        proxy.cut()
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        if isinstance(outcome, PeerError):  # the cut came before the answer, as it mostly does
            outcome = await _ask_when_connected(running, AskChildren(1, 3, u64(0, 1)))
        assert len(outcome) == 2  # type: ignore[arg-type]
        assert len(service.asked) == 1


async def test_a_half_open_connection_is_found_and_the_agent_comes_back(pki_dir: Path) -> None:
    service = ScriptedService()
    async with coordinator(pki_dir, keepalive_s=0.5) as running, fault_proxy(running.port) as proxy:
        running.dial(service, agent_tls(pki_dir), port=proxy.port, keepalive_s=0.5)
        link = await running.link()
        proxy.freeze()
        async with asyncio.timeout(60):
            await _until(lambda: not link.connected)
        with pytest.raises(PeerError, match="not connected"):
            await ask(link, End())
        proxy.thaw()
        proxy.cut()
        assert (await _ask_when_connected(running, End(), wait_s=20.0)) == [Ended()]


async def test_a_second_agent_of_a_region_waits_for_the_first_to_leave(pki_dir: Path) -> None:
    first, second = ScriptedService(instance="one"), ScriptedService(instance="two")
    async with coordinator(pki_dir) as running:
        _, first_task = running.dial(first, agent_tls(pki_dir))
        link = await running.link()
        session, second_task = running.dial(second, agent_tls(pki_dir))
        await asyncio.sleep(0.5)
        assert not session.connected.is_set()
        assert not second_task.done()
        assert link.hello.instance == "one"
        first_task.cancel()
        async with asyncio.timeout(60):
            await session.connected.wait()
        assert link.hello.instance == "two"
        assert await ask(link, End()) == [Ended()]


async def test_the_same_process_may_come_again_at_once(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        first, _ = running.dial(ScriptedService(instance="one"), agent_tls(pki_dir))
        link = await running.link()
        await first.connected.wait()
        second, _ = running.dial(ScriptedService(instance="one"), agent_tls(pki_dir))
        await _until(lambda: second.connected.is_set() or not first.connected.is_set())
        assert link.connected


async def test_a_stopping_server_ends_questions_and_streams(pki_dir: Path) -> None:
    async def silent(request: Request) -> AsyncIterator[ReplyBody]:
        await asyncio.sleep(60)
        yield ready()

    async with linked(pki_dir, ScriptedService(silent)) as (running, link, session):
        asking = asyncio.create_task(ask(link, BEGIN))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(30):
            await running.server.stop(2.0)
            with pytest.raises(PeerError, match="the coordinator stops"):
                await asking
            await _until(lambda: not session.connected.is_set())


async def test_a_server_on_a_taken_port_says_so(pki_dir: Path) -> None:
    from conftest_tls import coordinator_tls

    from coordinator.regions import Regions
    from coordinator.transport import Server
    from paritree.core.errors import ConfigError

    async with coordinator(pki_dir) as running:
        other = Server(Regions(0), coordinator_tls(pki_dir), trust_domain="test.example", name="x")
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{running.port}"):
            await other.start(f"127.0.0.1:{running.port}")
        await other.stop(0)


async def _ask_when_connected(running, body, *, wait_s: float = 10.0):  # type: ignore[no-untyped-def]
    await asyncio.sleep(0.05)
    return await ask(await running.link(timeout_s=wait_s), body)


async def _until(true, timeout_s: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.01)
