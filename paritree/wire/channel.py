"""A gRPC channel over the very connection whose certificates were checked.

::

    gRPC ◄── socket within this process ──► carried ◄── TLS of ours (``handshake``) ──► coordinator

gRPC can show a client neither the certificate of the other side nor take a connection that is there already. So it
speaks HTTP/2 without TLS into a socket that only this process can use, and what it says goes over the checked line.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import grpc
import grpc.aio

from paritree.core.limits import DIAL_TIMEOUT_S, KEEPALIVE_S
from paritree.tls import Tls
from paritree.wire.dial import Address, keepalive_options, message_options
from paritree.wire.handshake import CHUNK_BYTES, Line, dial

CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred (unix(7)): process, user, group."""


@asynccontextmanager
async def open_channel(
    address: Address, tls: Tls, *, keepalive_s: float = KEEPALIVE_S, timeout_s: float = DIAL_TIMEOUT_S
) -> AsyncIterator[grpc.aio.Channel]:
    """A channel for one connection, which is not opened again when it is cut.

    A half-open one is found within 1 + PINGS_S times ``keepalive_s``. Raises like :func:`handshake.dial`.
    """
    line = await dial(address, tls, timeout_s=timeout_s)
    try:
        name = f"paritree-{secrets.token_hex(16)}"
        with _listening(name) as listener:
            carrying = asyncio.create_task(_carry(listener, line))
            try:
                async with grpc.aio.insecure_channel(
                    f"unix-abstract:{name}", _options(address, keepalive_s)
                ) as channel:
                    yield channel
            finally:
                carrying.cancel()
                await asyncio.gather(carrying, return_exceptions=True)
    finally:
        await line.close()


def _options(address: Address, keepalive_s: float) -> list[tuple[str, Any]]:
    return [
        *message_options(),
        *keepalive_options(keepalive_s),
        ("grpc.default_authority", address.server_name),
        ("grpc.use_local_subchannel_pool", 1),  # no connection or back-off shared with an earlier channel
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
    ]


def _listening(name: str) -> socket.socket:
    """A socket in Linux's abstract namespace: no file, and gone with its last descriptor."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    listener.bind(f"\0{name}")
    listener.listen(1)
    return listener


async def _carry(listener: socket.socket, line: Line) -> None:
    """Carry bytes both ways between gRPC and the coordinator until one of them ends."""
    inner = await _accept(listener)
    listener.close()  # there is one connection, and no second one
    reader, writer = await asyncio.open_unix_connection(sock=inner)
    writer.write(line.first)
    ways = [asyncio.create_task(_pump(reader, line.writer)), asyncio.create_task(_pump(line.reader, writer))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        await _ended(ways)
        writer.close()  # what has arrived is still handed over
        with suppress(OSError):
            await writer.wait_closed()
    finally:  # the channel may be left at any of these moments
        writer.transport.abort()
        await _ended(ways)


async def _ended(ways: Sequence[asyncio.Task[None]]) -> None:
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)


async def _accept(listener: socket.socket) -> socket.socket:
    """gRPC's connection; those of other processes, which could guess no name but can list them, are closed."""
    while True:
        inner, _ = await asyncio.get_running_loop().sock_accept(listener)
        shown = inner.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        if CREDENTIALS.unpack(shown)[0] == os.getpid():
            return inner
        inner.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # either end may be cut: gRPC says what that means
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
