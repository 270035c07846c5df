"""Who may connect: every certificate that must be refused, one by one, over real TLS."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest_tls import REGIONS, TRUST_DOMAIN, Role, agent_tls, grpc_channel, now, tls_of, with_credential
from cryptography import x509
from linked import ScriptedService, coordinator

from paritree.certificate import CLIENT, SERVER
from paritree.core.errors import PeerError
from paritree.core.messages import PROTOCOL_VERSION, Hello
from paritree.pki import Authority, Credential
from paritree.tls import Tls
from paritree.wire import codec, control
from paritree.wire.dial import Address, open_stream
from paritree.wire.frames import Welcome
from paritree.wire.status import received

EU = f"spiffe://{TRUST_DOMAIN}/region/eu/agent/a1"
Make = Callable[[Authority], Credential]


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def signed(*names: x509.GeneralName, purposes: Any = (CLIENT,)) -> Make:
    return lambda authority: authority.sign("agent a1 of eu", names, list(purposes), now=now(), days=1)


def expired(authority: Authority) -> Credential:
    return authority.agent("eu", "a1", now=now() - dt.timedelta(days=10), days=3)


def not_yet_valid(authority: Authority) -> Credential:
    return authority.agent("eu", "a1", now=now() + dt.timedelta(days=10))


def of_another_authority(_: Authority) -> Credential:
    return Authority.create(TRUST_DOMAIN, now=now()).agent("eu", "a1", now=now())


REFUSED_AGENTS: dict[str, tuple[Make, str]] = {
    "no URI name": (signed(), "no URI names"),
    "only a DNS name": (signed(x509.DNSName("eu")), "no URI names"),
    "two URI names": (signed(uri(EU), uri(EU.replace("/eu/", "/us/"))), "2 URI names"),
    "the same URI name twice": (signed(uri(EU), uri(EU)), "2 URI names"),
    "a DNS name besides": (signed(uri(EU), x509.DNSName("localhost")), "host names besides"),
    "not a SPIFFE name": (signed(uri("https://test.example/region/eu/agent/a1")), "neither that of an agent nor"),
    "a name with more behind it": (signed(uri(EU + "/x")), "neither that of an agent nor"),
    "another region": (lambda authority: authority.agent("us", "a1", now=now()), "of agent a1 of region us"),
    "another agent": (lambda authority: authority.agent("eu", "a2", now=now()), "of agent a2 of region eu"),
    "another trust domain": (signed(uri(EU.replace(TRUST_DOMAIN, "other.example"))), "trust domain other.example"),
    "an operator": (lambda authority: authority.operator("ops", now=now()), "may not call AgentLink"),
    "for servers only": (signed(uri(EU), purposes=[SERVER]), "for servers, not for clients only"),
    "for both": (signed(uri(EU), purposes=[CLIENT, SERVER]), "for clients and servers, not for clients only"),
    "without a purpose": (signed(uri(EU), purposes=()), "without a stated purpose"),
    "a coordinator": (lambda authority: authority.coordinator(["localhost"], now=now()), "no URI names"),
    "expired": (expired, "expired on"),
    "not yet valid": (not_yet_valid, "valid only from"),
    "another authority": (of_another_authority, "not of the authority that issued the coordinator's"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", REFUSED_AGENTS)
async def test_an_agent_is_refused_and_told_why(pki_dir: Path, case: str) -> None:
    make, reason = REFUSED_AGENTS[case]
    tls = with_credential(pki_dir, make(Authority.load(pki_dir)))
    async with coordinator(pki_dir) as running:
        _, task = running.dial(ScriptedService(), tls)
        async with asyncio.timeout(10):
            with pytest.raises(PeerError) as caught:
                await task
        assert reason in caught.value.message
        assert caught.value.next_step
        assert not caught.value.retryable
        assert not running.regions.links


@pytest.mark.asyncio
@pytest.mark.parametrize("case", REFUSED_AGENTS)
async def test_grpc_without_our_own_look_is_refused_too(pki_dir: Path, case: str) -> None:
    """An agent that skips the look at the certificates gets no further: the coordinator itself refuses."""
    make, _ = REFUSED_AGENTS[case]
    tls = with_credential(pki_dir, make(Authority.load(pki_dir)))
    async with coordinator(pki_dir) as running:
        with pytest.raises(PeerError):
            await _attach(running.port, tls, ScriptedService().hello())
        assert not running.regions.links


@pytest.mark.asyncio
async def test_every_region_of_the_domain_is_welcome(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        for region in REGIONS:
            hello = ScriptedService(region=region).hello()
            assert await _attach(running.port, agent_tls(pki_dir, region), hello) == Welcome("test")


@pytest.mark.asyncio
async def test_no_certificate_at_all_is_refused(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        credentials = grpc.ssl_channel_credentials((pki_dir / "ca.pem").read_bytes())
        async with grpc.aio.secure_channel(f"localhost:{running.port}", credentials) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await _greet(channel, codec.encode_from_agent(ScriptedService().hello()))


@pytest.mark.asyncio
@pytest.mark.parametrize("method", [control.SWEEP, control.STATUS, control.FINDINGS])
async def test_an_agent_may_not_call_the_control_service(pki_dir: Path, method: str) -> None:
    async with coordinator(pki_dir, handlers=[_control_handlers()]) as running:
        with pytest.raises(PeerError, match=f"{EU} may not call Control"):
            await _call(running.port, agent_tls(pki_dir), method)
        assert await _call(running.port, tls_of(pki_dir, "operator-ops", Role.OPERATOR), method) == b"seen"


@pytest.mark.asyncio
async def test_a_service_that_nobody_is_named_for_is_refused_to_everybody(pki_dir: Path) -> None:
    async def reached(request: Any, context: Any) -> bytes:
        return b"seen"

    handlers = {"Do": grpc.unary_unary_rpc_method_handler(reached)}
    async with coordinator(pki_dir, handlers=[grpc.method_handlers_generic_handler("other.Service", handlers)]) as at:
        for tls in (agent_tls(pki_dir), tls_of(pki_dir, "operator-ops", Role.OPERATOR)):
            async with grpc_channel(Address.parse(f"127.0.0.1:{at.port}"), tls) as channel:
                with pytest.raises(grpc.aio.AioRpcError, match="may not call"):
                    await channel.unary_unary("/other.Service/Do")(b"")


@pytest.mark.asyncio
async def test_another_protocol_is_refused_on_both_sides(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        hello = Hello("eu", "a1", "i1", (), PROTOCOL_VERSION + 1)
        with pytest.raises(PeerError, match=f"agent speaks protocol {PROTOCOL_VERSION + 1}, this coordinator"):
            await _attach(running.port, agent_tls(pki_dir), hello)


@pytest.mark.asyncio
async def test_an_agent_that_does_not_begin_with_hello_is_refused(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        for first in (b"\xff\xff", b""):
            async with grpc_channel(Address.parse(f"127.0.0.1:{running.port}"), agent_tls(pki_dir)) as channel:
                with pytest.raises(grpc.aio.AioRpcError, match="cannot be read"):
                    await _greet(channel, first)


async def _attach(port: int, tls: Tls, hello: Hello) -> object:
    """What the coordinator answers to a Hello, by gRPC alone. Raises PeerError."""
    async with grpc_channel(Address.parse(f"127.0.0.1:{port}"), tls) as channel:
        try:
            return codec.decode_to_agent(await _greet(channel, codec.encode_from_agent(hello)))
        except grpc.aio.AioRpcError as error:
            raise received(error) from error


async def _greet(channel: grpc.aio.Channel, first: bytes) -> Any:
    call = open_stream(channel, codec.ATTACH)
    try:
        await call.write(first)
        async with asyncio.timeout(10):
            return await call.read()
    finally:
        call.cancel()


async def _call(port: int, tls: Tls, method: str) -> Any:
    async with grpc_channel(Address.parse(f"127.0.0.1:{port}"), tls) as channel:
        try:
            async for answer in channel.unary_stream(method)(b""):
                return answer
        except grpc.aio.AioRpcError as error:
            raise received(error) from error


def _control_handlers() -> Any:
    async def generator(request: Any, context: Any) -> Any:
        yield b"seen"

    async def writer(request: Any, context: Any) -> None:
        await context.write(b"seen")

    build = grpc.unary_stream_rpc_method_handler
    handlers = {"Sweep": build(generator), "Status": build(writer), "Findings": build(generator)}
    return grpc.method_handlers_generic_handler(control.SERVICE, handlers)
