"""The socket between gRPC and the checked line: closed, whenever its channel is left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from paritree.wire.channel import _carry, _listening
from paritree.wire.handshake import Line

pytestmark = pytest.mark.asyncio
MOMENTS = 12
"""Turns of the loop within which the end of the line is dealt with."""


async def taken(client: socket.socket) -> bytes:
    """Everything that arrives until the other end is closed."""
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(30):
        while piece := await loop.sock_recv(client, 1 << 20):
            data += piece
    return data


@contextlib.asynccontextmanager
async def carried(first: bytes, name: str) -> Any:
    """The line's reader, gRPC's end of the socket, and the task between them."""
    reader, writer = asyncio.StreamReader(), None
    with _listening(name) as listener, socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        client.connect(f"\0{name}")
        task = asyncio.create_task(_carry(listener, Line(reader, writer, first)))  # type: ignore[arg-type]
        yield reader, client, task


@pytest.mark.parametrize("turns", range(MOMENTS))
async def test_a_channel_left_at_any_moment_of_the_lines_end_is_closed(turns: int) -> None:
    """The coordinator goes; the agent hears it and leaves the channel while the socket's own end is under way."""
    async with carried(b"hello", f"paritree-test-left-{turns}") as (reader, client, task):
        assert await asyncio.get_running_loop().sock_recv(client, 100) == b"hello"
        reader.feed_eof()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await taken(client) == b""


async def test_what_has_arrived_is_handed_over_after_the_lines_end() -> None:
    data = bytes(range(256)) * 8_192  # more than the kernel takes at once
    async with carried(b"", "paritree-test-handed") as (reader, client, task):
        reader.feed_data(data)
        reader.feed_eof()
        await asyncio.sleep(0.1)
        assert await taken(client) == data
        await asyncio.wait_for(task, 30)


async def test_what_nobody_takes_is_dropped_with_the_channel() -> None:
    async with carried(b"", "paritree-test-dropped") as (reader, client, task):
        reader.feed_data(bytes(1 << 21))
        reader.feed_eof()
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert 0 < len(await taken(client)) < 1 << 21
