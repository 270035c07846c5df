"""An agent with a good certificate and bad manners: the coordinator and the other regions go on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conftest_tls import agent_tls
from linked import BEGIN, SWEEP, Coordinator, ScriptedService, ask, coordinator, header, linked, ready, u64

from paritree.core import limits
from paritree.core.errors import InvariantBroken, PeerError
from paritree.core.ledger import CONNECTION
from paritree.core.messages import AskChildren, AskDetail, ByteClass, Children, End, Ended, Reply, Request
from paritree.wire import codec
from paritree.wire.dial import Address, open_stream
from paritree.wire.frames import Cancel, Welcome

pytestmark = pytest.mark.asyncio
CHILDREN = AskChildren(1, 2, u64(0))


class PlayedAgent:
    """The agent's side of a stream, message by message."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def request(self) -> Request:
        """The next request; a Cancel before it is passed over."""
        message = codec.decode_to_agent(await self.call.read())
        while isinstance(message, Cancel):
            message = codec.decode_to_agent(await self.call.read())
        assert isinstance(message, Request)
        return message

    async def send(self, data: bytes) -> None:
        await self.call.write(data)

    async def reply(self, request: Request, body: Any, *, part: int = 0, last: bool = True, exchange: int = 0) -> None:
        reply = Reply(exchange or request.exchange, request.sweep_id, part, last, body)
        await self.send(codec.encode_from_agent(reply))


@contextlib.asynccontextmanager
async def played(running: Coordinator, folder: Path, region: str = "eu") -> AsyncIterator[PlayedAgent]:
    """Connected and welcomed. The messages are not bounded on this side."""
    tls = agent_tls(folder, region)
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
    async with grpc.aio.secure_channel(str(Address.parse(f"localhost:{running.port}")), credentials) as channel:
        call = open_stream(channel, codec.ATTACH)
        await call.write(codec.encode_from_agent(ScriptedService(region=region).hello()))
        assert codec.decode_to_agent(await call.read()) == Welcome("test")  # type: ignore[arg-type]
        try:
            yield PlayedAgent(call)
        finally:
            call.cancel()


@pytest.mark.parametrize("bad", ["garbage", "empty", "second hello", "hostile body", "too large"])
async def test_bad_messages_cost_the_agent_its_connection_and_nobody_else(pki_dir: Path, bad: str) -> None:
    data = {
        "garbage": b"\xff" * 50,
        "empty": b"",
        "second hello": codec.encode_from_agent(ScriptedService().hello()),
        "hostile body": codec.encode_from_agent(Reply(1, SWEEP, 0, True, ready()))[:-5],
        "too large": bytes(limits.MESSAGE_BYTES_MAX + 1),
    }[bad]
    async with coordinator(pki_dir) as running, played(running, pki_dir) as agent:
        running.dial(ScriptedService(region="us"), agent_tls(pki_dir, "us"))
        link = await running.link()
        asking = asyncio.create_task(ask(link, BEGIN))
        await agent.request()
        await agent.send(data)
        async with asyncio.timeout(30):
            with pytest.raises(PeerError, match="was cut") as caught:
                await asking
        assert caught.value.retryable
        assert not link.connected
        assert await ask(await running.link("us"), End()) == [Ended()]
        with pytest.raises(grpc.aio.AioRpcError):
            await agent.call.read()
        kept = (
            [(data, "spiffe://test.example/region/eu/agent/a1")] if bad in ("garbage", "empty", "hostile body") else []
        )
        assert [(content, peer) for content, _, peer in running.unreadable] == kept


async def test_answers_that_nobody_asked_for_change_nothing(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running, played(running, pki_dir) as agent:
        link = await running.link()
        asking = asyncio.create_task(ask(link, CHILDREN))
        request = await agent.request()
        before = link.ledger.of(CONNECTION).bytes_sent
        stray = Reply(request.exchange, "another-sweep", 0, True, Children(header("another-sweep"), u64(6, 6)))
        await agent.send(codec.encode_from_agent(stray))
        await agent.reply(request, Children(header(), u64(7, 7)), exchange=999)
        await agent.reply(request, Children(header(), u64(1, 2)))
        await agent.reply(request, Children(header(), u64(8, 8)))
        (answer,) = await asking
        assert answer.sums.tolist() == [1, 2]  # type: ignore[union-attr]
        assert link.connected
        assert link.ledger.of(CONNECTION).bytes_sent > before
        assert not link.ledger.knows("another-sweep")


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([(1, u64(1, 2), True)], "part 0 is missing"),
        ([(0, u64(1), False), (2, u64(2), True)], "part 1 is missing"),
        ([(0, u64(1), True)], "1 sums where 2 were asked for"),
        ([(0, u64(1, 2, 3), True)], "3 sums where 2 were asked for"),
    ],
)
async def test_an_unusable_answer_fails_alone(pki_dir: Path, parts: Any, reason: str) -> None:
    async with coordinator(pki_dir) as running, played(running, pki_dir) as agent:
        link = await running.link()
        asking = asyncio.create_task(ask(link, CHILDREN))
        request = await agent.request()
        for part, sums, last in parts:
            await agent.reply(request, Children(header(), sums), part=part, last=last)
        with pytest.raises(PeerError, match=reason) as caught:
            await asking
        assert caught.value.retryable
        again = asyncio.create_task(ask(link, CHILDREN))
        await agent.reply(await agent.request(), Children(header(), u64(1, 2)))
        assert len(await again) == 1


async def test_repeated_parts_are_counted_but_not_used(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running, played(running, pki_dir) as agent:
        link = await running.link()
        asking = asyncio.create_task(ask(link, CHILDREN))
        request = await agent.request()
        for _ in range(3):
            await agent.reply(request, Children(header(), u64(1)), last=False)
        await agent.reply(request, Children(header(), u64(2)), part=1)
        assert [part.sums.tolist() for part in await asking] == [[1], [2]]  # type: ignore[union-attr]
        one = len(codec.encode_from_agent(Reply(request.exchange, SWEEP, 0, False, Children(header(), u64(1)))))
        assert link.ledger.of(SWEEP).sent[ByteClass.NODES] >= 4 * (one + 5)


async def test_an_agent_that_says_nothing_is_sent_away(pki_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELLO_TIMEOUT_S", 0.3)
    async with coordinator(pki_dir) as running:
        tls = agent_tls(pki_dir)
        credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
        async with grpc.aio.secure_channel(f"localhost:{running.port}", credentials) as channel:
            call = open_stream(channel, codec.ATTACH)
            async with asyncio.timeout(30):
                with pytest.raises(grpc.aio.AioRpcError, match=r"no hello within 0\.3 s"):
                    await call.read()


async def test_a_request_that_is_too_large_is_not_sent(pki_dir: Path) -> None:
    sealed = {number.to_bytes(16, "big"): bytes(200) for number in range(8_000)}
    large = AskDetail(np.zeros(0, np.uint64), (), sealed)
    assert not codec.fits(large)
    async with linked(pki_dir, ScriptedService()) as (_, link, _session):
        before = link.ledger.total()
        with pytest.raises(InvariantBroken, match="larger than 1048576"):
            await ask(link, large)
        assert link.ledger.total() == before
        assert await ask(link, End()) == [Ended()]


AGENT = textwrap.dedent(
    """
    import asyncio, random, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from conftest_tls import agent_tls
    from linked import ScriptedService
    from edge_agent.session import AgentSession
    from paritree.cli.logs import configure
    from paritree.wire.dial import Address

    async def silent(request):
        await asyncio.sleep(60)
        yield None

    configure(level="error")
    folder, port, instance = Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    service = ScriptedService(silent, instance=instance)
    session = AgentSession(service, Address.parse("127.0.0.1:" + port), agent_tls(folder), rng=random.Random(1))
    asyncio.run(session.run())
    """
)


async def _agent_process(folder: Path, port: int, instance: str) -> asyncio.subprocess.Process:
    tests = str(Path(__file__).parents[1])
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", AGENT, tests, str(folder), str(port), instance, stderr=asyncio.subprocess.PIPE
    )


async def test_a_killed_agent_process_is_noticed_at_once_and_replaced(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        first = await _agent_process(pki_dir, running.port, "first")
        link = await running.link(timeout_s=60)
        asking = asyncio.create_task(ask(link, BEGIN, timeout_s=60))
        await asyncio.sleep(0.2)
        os.kill(first.pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(PeerError, match="was cut"):
                await asking
        _, said = await first.communicate()
        second = await _agent_process(pki_dir, running.port, "second")
        link = await running.link(timeout_s=60)
        assert link.hello.instance == "second"
        os.kill(second.pid, signal.SIGKILL)
        _, also_said = await second.communicate()
        assert said + also_said == b""  # gRPC prints nothing of its own


NOISE = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import paritree  # as in every process of ours
    from conftest_tls import grpc_channel, now, with_credential
    from linked import Address, coordinator
    from paritree.cli.logs import configure
    from paritree.pki import Authority
    from paritree.wire.dial import open_stream

    async def main(folder):
        stranger = Authority.create("test.example", now=now()).agent("eu", "a1", now=now())
        async with coordinator(folder) as running:
            address = Address.parse(f"127.0.0.1:{running.port}")
            async with grpc_channel(address, with_credential(folder, stranger)) as one:
                try:
                    await open_stream(one, "/x/Y").read()
                except Exception as error:
                    print(type(error).__name__)
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"GET / HTTP/1.0\\r\\n\\r\\n")
            await reader.read()
            writer.close()

    configure(level="error")
    asyncio.run(main(Path(sys.argv[2])))
    """
)


async def test_grpc_prints_nothing_of_its_own(pki_dir: Path) -> None:
    tests = str(Path(__file__).parents[1])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        NOISE,
        tests,
        str(pki_dir),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        assert await process.communicate() == (b"AioRpcError\n", b"")
