"""A TCP relay that counts: what went over each connection, as the operating system counts it (TCP_INFO).

It runs on a thread of its own, so that plain tests and benches can put it between processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Final, Self

CHUNK: Final = 65_536
BYTES_ACKED_AT: Final = 120
"""Where struct tcp_info (linux/tcp.h) has tcpi_bytes_acked, a u64; tcpi_bytes_received is the next."""


def carried(connection: socket.socket) -> tuple[int, int]:
    """Payload bytes that the peer has acknowledged and that were received from it."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED_AT + 16)
    acked, received = struct.unpack_from("<QQ", info, BYTES_ACKED_AT)
    return acked, received


@dataclass
class Connection:
    """One client's connection. ``pumped`` are the bytes that the relay itself moved: they must be the same."""

    client: socket.socket
    pumped: int = 0
    _counted: tuple[int, int] = (0, 0)

    @property
    def bytes(self) -> int:
        """Both ways, as the operating system has counted so far, or had when the connection ended."""
        with contextlib.suppress(OSError):
            self._counted = carried(self.client)
        return sum(self._counted)


@dataclass
class Relay:
    """Forwards connections from a loopback port of its own to ``host:target_port``. Use as a context manager."""

    target_port: int
    host: str = "127.0.0.1"
    connections: list[Connection] = field(default_factory=list)
    port: int = 0

    def __enter__(self) -> Self:
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    @property
    def bytes(self) -> int:
        """What all connections carried, both ways, as the operating system counts it."""
        return sum(connection.bytes for connection in self.connections)

    @property
    def pumped(self) -> int:
        """The same by the relay's own count."""
        return sum(connection.pumped for connection in self.connections)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve(started))
        self._loop.close()

    async def _serve(self, started: threading.Event) -> None:
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._stopped.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._forward(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = writer.get_extra_info("socket")
        connection = Connection(client)
        self.connections.append(connection)
        try:
            up_reader, up_writer = await asyncio.open_connection(self.host, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(self._pump(connection, reader, up_writer), self._pump(connection, up_reader, writer))
        finally:
            _ = connection.bytes
            for one in (writer, up_writer):
                one.transport.abort()

    async def _pump(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                connection.pumped += len(data)
                await writer.drain()
                _ = connection.bytes  # while there is a socket to ask
            writer.write_eof()
        except (OSError, RuntimeError):
            writer.transport.abort()
