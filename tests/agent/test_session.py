"""The agent's side of the connection: whom it refuses to talk to, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest_tls import TRUST_DOMAIN, agent_tls, coordinator_tls, now, with_credential
from cryptography import x509
from faults import fault_proxy
from linked import BEGIN, ScriptedService, answer, ask, coordinator, no_task_left, ready, u64

from edge_agent.session import AgentSession
from paritree.certificate import CLIENT, SERVER
from paritree.core import limits
from paritree.core.errors import ConfigError, PeerError
from paritree.core.messages import AskChildren, Refusal, RefusalCode, Reply, ReplyBody, Request
from paritree.pki import Authority, Credential
from paritree.wire import codec
from paritree.wire.dial import Address
from paritree.wire.frames import Cancel, Welcome
from paritree.wire.handshake import look

pytestmark = pytest.mark.asyncio
EU = x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}/region/eu/agent/a1")
LOCAL = x509.DNSName("localhost")
Make = Callable[[Authority], Credential]


def signed(*names: x509.GeneralName, purposes: Any = (SERVER,), name: str = "coordinator") -> Make:
    return lambda authority: authority.sign(name, names, list(purposes), now=now(), days=1)


def expired(authority: Authority) -> Credential:
    return authority.coordinator(["localhost"], now=now() - dt.timedelta(days=10), days=3)


def not_yet_valid(authority: Authority) -> Credential:
    return authority.coordinator(["localhost"], now=now() + dt.timedelta(days=10))


def of_another_authority(_: Authority) -> Credential:
    return Authority.create(TRUST_DOMAIN, now=now()).coordinator(["localhost"], now=now())


REFUSED_COORDINATORS: dict[str, tuple[Make, str]] = {
    "an agent's": (lambda authority: authority.agent("eu", "a1", now=now()), "for clients, not for servers"),
    "a DNS name, for clients only": (signed(LOCAL, purposes=[CLIENT]), "for clients, not for servers (localhost)"),
    "for both": (signed(LOCAL, purposes=[SERVER, CLIENT]), "for servers and clients, not for servers only"),
    "without a purpose": (signed(LOCAL, purposes=()), "without a stated purpose, not for servers only"),
    "another DNS name": (lambda a: a.coordinator(["other.example"], now=now()), "for other.example, not for localhost"),
    "a wildcard of another domain": (signed(x509.DNSName("*.example")), "not for localhost"),
    "only a common name": (signed(name="localhost"), "it has no host names"),
    "a URI name besides": (signed(LOCAL, EU), "it has a URI name"),
    "expired": (expired, "it expired on"),
    "not yet valid": (not_yet_valid, "it is valid only from"),
    "another authority": (of_another_authority, "unknown authority"),
}


@pytest.mark.parametrize("case", REFUSED_COORDINATORS)
async def test_a_coordinator_is_refused_with_the_cause_and_the_next_step(pki_dir: Path, case: str) -> None:
    make, reason = REFUSED_COORDINATORS[case]
    service = ScriptedService()
    async with coordinator(pki_dir, tls=with_credential(pki_dir, make(Authority.load(pki_dir)))) as running:
        session = AgentSession(
            service, Address.parse(f"127.0.0.1:{running.port}", "localhost"), agent_tls(pki_dir), rng=random.Random(1)
        )
        async with asyncio.timeout(60):
            with pytest.raises(PeerError, match="the coordinator's certificate is refused") as caught:
                await session.run()
        assert reason in caught.value.message
        assert caught.value.next_step
        assert not caught.value.retryable
        assert not running.regions.links


async def test_addresses_of_a_certificate_count_as_names(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        for host in ("127.0.0.1", "localhost"):
            await look(Address.parse(f"{host}:{running.port}"), agent_tls(pki_dir))


async def test_nobody_there_is_worth_another_try(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        port = running.port
    with pytest.raises(PeerError, match="cannot be reached") as caught:
        await look(Address.parse(f"127.0.0.1:{port}"), agent_tls(pki_dir))
    assert caught.value.retryable


async def test_something_else_there_is_named(pki_dir: Path) -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(web, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PeerError, match=r"no TLS with 127\.0\.0\.1") as caught:
            await look(Address.parse(f"127.0.0.1:{port}"), agent_tls(pki_dir))
    assert "another service" in caught.value.next_step


async def test_a_peer_that_says_nothing_is_given_up(pki_dir: Path) -> None:
    held: list[asyncio.StreamWriter] = []

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(PeerError, match=r"no answer within 0\.3 s"):
            await look(Address.parse(f"127.0.0.1:{port}"), agent_tls(pki_dir), timeout_s=0.3)
        for writer in held:
            writer.close()


@pytest.mark.parametrize("text", ["", "host", "host:", ":1", "host:0", "host:65536", "host:x", "host:-1", "host:٣"])
async def test_an_address_is_host_and_port(text: str) -> None:
    with pytest.raises(ConfigError, match="not host:port"):
        Address.parse(text)


async def test_addresses_are_written_as_they_are_dialled() -> None:
    assert str(Address.parse("[::1]:7443")) == "[::1]:7443"
    assert Address.parse("[::1]:7443").server_name == "::1"
    assert Address.parse("proxy:1", "coordinator.example").server_name == "coordinator.example"


async def test_pauses_grow_with_full_jitter_and_start_anew(pki_dir: Path) -> None:
    pauses: list[float] = []
    clock = [0.0]

    class Upper(random.Random):
        def uniform(self, a: float, b: float) -> float:
            assert a == 0.0
            return b

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 9:
            raise asyncio.CancelledError

    async with coordinator(pki_dir) as running:
        port = running.port
    session = AgentSession(
        ScriptedService(),
        Address.parse(f"127.0.0.1:{port}"),
        agent_tls(pki_dir),
        rng=Upper(),
        sleep=sleep,
        now=lambda: clock[0],
    )
    with pytest.raises(asyncio.CancelledError):
        await session.run()
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    await no_task_left()


async def test_it_reconnects_after_every_cut(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running, fault_proxy(running.port) as proxy:
        session, _ = running.dial(ScriptedService(), agent_tls(pki_dir), port=proxy.port)
        for _ in range(3):
            async with asyncio.timeout(60):
                await session.connected.wait()
                link = await running.link()
                assert (await ask(link, BEGIN))[-1] == _same_ready(await ask(link, BEGIN))
                proxy.cut()
                while session.connected.is_set():
                    await asyncio.sleep(0.01)


def _same_ready(parts: list[ReplyBody]) -> Any:
    """Ready holds an array, so it compares by what it says."""

    class Same:
        def __eq__(self, other: object) -> bool:
            return repr(parts[-1]) == repr(other)

        __hash__ = None  # type: ignore[assignment]

    return Same()


async def test_it_outlives_a_restart_of_the_coordinator(pki_dir: Path) -> None:
    service = ScriptedService()
    async with coordinator(pki_dir) as first:
        session, task = first.dial(service, agent_tls(pki_dir))
        await session.connected.wait()
        port = first.port
        await first.server.stop(0)
        first._sessions.clear()
        from linked import Regions, Server

        regions = Regions(5_000)
        second = Server(regions, coordinator_tls(pki_dir), trust_domain=TRUST_DOMAIN, name="second")
        await second.start(f"127.0.0.1:{port}")
        assert "eu" in await regions.wait_for({"eu"}, 15)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await second.stop(0)


# --- against a coordinator that a test plays ------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def played(folder: Path, script: Callable[[Any], Any]) -> AsyncIterator[int]:
    """A coordinator's port; ``script(context)`` runs for every stream after Hello was read."""

    async def attach(_: Any, context: Any) -> None:
        await context.read()
        await script(context)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handlers = {"Attach": grpc.stream_stream_rpc_method_handler(attach)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(codec.SERVICE, handlers),))
    tls = coordinator_tls(folder)
    pair = (tls.credential.key, tls.credential.certificate)
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], tls.authority, True))
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)
        await no_task_left()


@contextlib.asynccontextmanager
async def agent(folder: Path, port: int, service: Any) -> AsyncIterator[tuple[AgentSession, asyncio.Task[None]]]:
    address = Address.parse(f"127.0.0.1:{port}")
    session = AgentSession(service, address, agent_tls(folder), rng=random.Random(3))
    task = asyncio.create_task(session.run())
    try:
        yield session, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def request(exchange: int, body: Any = BEGIN, timeout_s: float = 10.0) -> bytes:
    return codec.encode_to_agent(Request(exchange, "s", body, timeout_s))


async def replies(context: Any, count: int) -> list[Reply]:
    out = []
    for _ in range(count):
        message = codec.decode_from_agent(await context.read())
        assert isinstance(message, Reply)
        out.append(message)
    return out


WELCOME = codec.encode_to_agent(Welcome("played"))


async def test_another_protocol_ends_the_session_for_good(pki_dir: Path) -> None:
    async def script(context: Any) -> None:
        await context.write(codec.encode_to_agent(Welcome("played", 7)))
        await context.read()

    async with played(pki_dir, script) as port, agent(pki_dir, port, ScriptedService()) as (_, task):
        async with asyncio.timeout(60):
            with pytest.raises(PeerError, match="the coordinator speaks protocol 7, this agent 3") as caught:
                await task
        assert "same paritree version" in caught.value.next_step


@pytest.mark.parametrize("bad", [b"\xff\xff\xff", b"", WELCOME, request(1, timeout_s=1.0)[:-3]])
async def test_what_cannot_be_read_ends_the_connection_not_the_agent(pki_dir: Path, bad: bytes) -> None:
    streams = []

    async def script(context: Any) -> None:
        streams.append(context)
        await context.write(WELCOME)
        if len(streams) == 1:
            await context.write(bad)
        await context.read()

    async with played(pki_dir, script) as port, agent(pki_dir, port, ScriptedService()) as (_, task):
        async with asyncio.timeout(60):
            while len(streams) < 2:
                await asyncio.sleep(0.02)
        assert not task.done()


async def test_a_cancelled_call_does_not_cancel_the_agent(pki_dir: Path) -> None:
    streams = []

    async def script(context: Any) -> None:
        streams.append(context)
        await context.write(WELCOME)
        if len(streams) == 1:
            await context.abort(grpc.StatusCode.CANCELLED, "enough")
        await context.read()

    async with played(pki_dir, script) as port, agent(pki_dir, port, ScriptedService()) as (_, task):
        async with asyncio.timeout(60):
            while len(streams) < 2:
                await asyncio.sleep(0.02)
        assert not task.done()


async def test_a_repeated_request_is_answered_alike_and_handled_once(pki_dir: Path) -> None:
    service = ScriptedService()
    seen: list[list[Reply]] = []

    async def script(context: Any) -> None:
        await context.write(WELCOME)
        for _ in range(3):
            await context.write(request(9, AskChildren(1, 3, u64(0, 1))))
            seen.append(await replies(context, 2))
        await context.write(request(9, AskChildren(1, 3, u64(1))))
        seen.append(await replies(context, 1))

    async with played(pki_dir, script) as port, agent(pki_dir, port, service):
        async with asyncio.timeout(60):
            while len(seen) < 4:
                await asyncio.sleep(0.02)
    assert repr(seen[0]) == repr(seen[1]) == repr(seen[2])
    assert len([one for one in service.asked if len(one.body.prefixes) == 2]) == 1  # type: ignore[union-attr]
    refusal = seen[3][0].body
    assert isinstance(refusal, Refusal)
    assert refusal.code is RefusalCode.INTERNAL
    assert "used for two requests" in refusal.message


async def test_a_cancelled_or_expired_request_ends_its_handler(pki_dir: Path) -> None:
    async def silent(request: Request) -> AsyncIterator[ReplyBody]:
        await asyncio.sleep(60)
        yield ready()

    service = ScriptedService(silent)
    done = asyncio.Event()

    async def script(context: Any) -> None:
        await context.write(WELCOME)
        await context.write(request(1))
        await context.write(request(2, timeout_s=0.2))
        while len(service.asked) < 2:
            await asyncio.sleep(0.01)
        await context.write(codec.encode_to_agent(Cancel(1, "s")))
        await context.write(codec.encode_to_agent(Cancel(77, "never asked")))
        while len(service.cancelled) < 2:
            await asyncio.sleep(0.01)
        service.script = answer  # type: ignore[assignment]
        await context.write(request(2, timeout_s=5.0))  # it had expired: now it is worked on anew
        assert (await replies(context, 2))[1].last
        done.set()

    async with played(pki_dir, script) as port, agent(pki_dir, port, service), asyncio.timeout(60):
        await done.wait()


async def test_more_requests_than_an_agent_works_on_are_refused_as_busy(pki_dir: Path) -> None:
    release = asyncio.Event()

    async def waiting(request: Request) -> AsyncIterator[ReplyBody]:
        await release.wait()
        yield ready("s")

    outcome: list[Reply] = []

    async def script(context: Any) -> None:
        await context.write(WELCOME)
        for number in range(limits.EXCHANGES_OPEN_MAX + 1):
            await context.write(request(number))
        outcome.extend(await replies(context, 1))
        release.set()
        outcome.extend(await replies(context, limits.EXCHANGES_OPEN_MAX))

    async with played(pki_dir, script) as port, agent(pki_dir, port, ScriptedService(waiting)):
        async with asyncio.timeout(60):
            while len(outcome) <= limits.EXCHANGES_OPEN_MAX:
                await asyncio.sleep(0.02)
    busy = outcome[0]
    assert busy.exchange == limits.EXCHANGES_OPEN_MAX
    assert isinstance(busy.body, Refusal)
    assert busy.body.code is RefusalCode.BUSY
    assert busy.body.retryable
