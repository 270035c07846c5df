"""The Control service's border: bytes that are no request, callers who may not call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from conftest_tls import agent_tls, grpc_channel, tls_of
from linked import coordinator

from coordinator.control import Control
from coordinator.control_rpc import control_handler
from coordinator.store import Store
from paritree.cli.client import Coordinator
from paritree.core.errors import ParitreeError, PeerError
from paritree.tls import Role
from paritree.wire import control as wire
from paritree.wire.dial import Address
from paritree.wire.status import received


class NoRunner:
    async def run(self, *_: Any, **__: Any) -> dict[str, Any]:
        raise AssertionError("nothing is swept here")


async def called(folder: Path, path: str, request: bytes, role: Role) -> list[bytes]:
    """The messages that one call with these bytes gets."""
    tls = agent_tls(folder) if role is Role.AGENT else tls_of(folder, "operator-ops", role)
    with Store.open("sqlite://") as store:
        control = Control(store, NoRunner(), {}, list)
        handler = control_handler(control, lambda _: "ops")
        async with (
            coordinator(folder, handlers=[handler]) as running,
            asyncio.timeout(30),
            grpc_channel(Address.parse(f"127.0.0.1:{running.port}"), tls) as channel,
        ):
            call = channel.unary_stream(path, request_serializer=bytes, response_deserializer=bytes)
            try:
                return [message async for message in call(request)]
            except grpc.aio.AioRpcError as error:
                raise received(error) from None


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [wire.SWEEP, wire.STATUS, wire.FINDINGS])
async def test_bytes_that_are_no_request(pki_dir: Path, path: str) -> None:
    with pytest.raises(PeerError, match=r"a message cannot be read") as caught:
        await called(pki_dir, path, b"\xff\xff\xff", Role.OPERATOR)
    assert "same paritree version" in caught.value.next_step


@pytest.mark.asyncio
async def test_an_operator_is_answered(pki_dir: Path) -> None:
    (message,) = await called(pki_dir, wire.STATUS, b"", Role.OPERATOR)
    assert wire.joined([wire.decode_piece(message).text])["datasets"] == []


@pytest.mark.asyncio
@pytest.mark.parametrize("path", [wire.SWEEP, wire.STATUS, wire.FINDINGS])
async def test_an_agent_may_not_call(pki_dir: Path, path: str) -> None:
    with pytest.raises(PeerError, match=r"refuses this certificate: .*agent/a1 may not call Control"):
        await called(pki_dir, path, b"", Role.AGENT)


@pytest.mark.asyncio
async def test_a_call_that_nobody_knows(pki_dir: Path) -> None:
    with pytest.raises(ParitreeError, match=r"does not know this call"):
        await called(pki_dir, f"/{wire.SERVICE}/Nonsense", b"", Role.OPERATOR)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("failure", "told"),
    [(MemoryError(), "out of memory; give it more memory"), (ZeroDivisionError(), "failed with ZeroDivisionError")],
)
async def test_what_the_coordinator_has_run_out_of_is_said(
    pki_dir: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, told: str
) -> None:
    async def failing(*_: Any) -> Any:
        raise failure

    monkeypatch.setattr(Control, "status", failing)
    with pytest.raises(ParitreeError) as caught:
        await called(pki_dir, wire.STATUS, b"", Role.OPERATOR)
    assert told in str(caught.value)


@pytest.mark.asyncio
async def test_a_client_that_leaves_does_not_disturb_the_next(pki_dir: Path) -> None:
    tls = tls_of(pki_dir, "operator-ops", Role.OPERATOR)
    with Store.open("sqlite://") as store:
        control = Control(store, NoRunner(), {}, list)
        async with coordinator(pki_dir, handlers=[control_handler(control, lambda _: "ops")]) as running:
            address = Address.parse(f"127.0.0.1:{running.port}")
            for _ in range(5):
                async with grpc_channel(address, tls) as channel:
                    call = asyncio.create_task(Coordinator(channel).status())
                    await asyncio.sleep(0)
                    call.cancel()
                    await asyncio.gather(call, return_exceptions=True)
            async with grpc_channel(address, tls) as channel, asyncio.timeout(20):
                assert (await Coordinator(channel).status())["status"] == 1
