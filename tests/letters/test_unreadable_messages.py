"""Bytes that are no message are kept on the side that got them, and cost the connection they came over, no more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from conftest_tls import agent_tls
from linked import ScriptedService, ask, coordinator, linked

from paritree.core.messages import ByteClass, End, Ended
from paritree.wire import codec
from paritree.wire.dial import Address, open_stream

pytestmark = pytest.mark.asyncio
NO_MESSAGE = b"\xff" * 9


async def test_what_an_agent_cannot_read(pki_dir: Path) -> None:
    async with linked(pki_dir, ScriptedService()) as (running, link, _):
        connection = link._connection
        assert connection is not None
        connection.outgoing.put_nowait((NO_MESSAGE, ByteClass.CONTROL, ""))
        async with asyncio.timeout(30):
            await connection.ended.wait()
        assert await ask(await running.link(), End()) == [Ended()], "it dials again"
        ((data, reason),) = running.unread
        assert data == NO_MESSAGE
        assert "cannot be read" in reason


async def test_what_a_coordinator_cannot_read_as_a_first_message(pki_dir: Path) -> None:
    tls = agent_tls(pki_dir)
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
    async with coordinator(pki_dir) as running:
        address = str(Address.parse(f"localhost:{running.port}"))
        async with grpc.aio.secure_channel(address, credentials) as channel:
            call = open_stream(channel, codec.ATTACH)
            await call.write(NO_MESSAGE)
            with pytest.raises(grpc.aio.AioRpcError):
                await call.read()
            ((data, reason, peer),) = running.unreadable
            assert (data, peer) == (NO_MESSAGE, "spiffe://test.example/region/eu/agent/a1")
            assert "cannot be read" in reason
