"""A TCP proxy that misbehaves on purpose, in each direction by itself.

::

    agent ──► UP ──► coordinator        agent ◄── DOWN ◄── coordinator

What lasts (latency, bandwidth, slices) is set for the connections of a moment and those that come, until ``heal``.
What strikes (reset, stall, half-open, flip) does so once, behind so many further bytes of its direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

CHUNK: Final = 65_536
AHEAD_MAX: Final = 64
"""Chunks that are under way in the proxy: with a latency there have to be several."""
LATENCY_S: Final = 0.1
BYTES_PER_S: Final = 200_000.0
SLICE_BYTES: Final = 48
STALL_S: Final = 0.7


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"


class Kind(StrEnum):
    LATENCY = "latency"
    BANDWIDTH = "bandwidth"
    SLICES = "slices"
    STALL = "stall"
    RESET = "reset"
    HALF_OPEN = "half-open"
    FLIP = "flip"


LASTING: Final = frozenset({Kind.LATENCY, Kind.BANDWIDTH, Kind.SLICES})


@dataclass(frozen=True, slots=True)
class Fault:
    """``after`` bytes of its direction it begins; the byte behind them is the first that it hits."""

    kind: Kind
    direction: Direction
    after: int = 0


@dataclass
class Line:
    """One direction of all connections."""

    latency_s: float = 0.0
    bytes_per_s: float = 0.0
    slice_bytes: int = 0
    armed: Fault | None = None
    bytes_to_go: int = 0

    def heal(self) -> None:
        self.latency_s, self.bytes_per_s, self.slice_bytes, self.armed = 0.0, 0.0, 0, None

    def arm(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.LATENCY:
                self.latency_s = LATENCY_S
            case Kind.BANDWIDTH:
                self.bytes_per_s = BYTES_PER_S
            case Kind.SLICES:
                self.slice_bytes = SLICE_BYTES
            case _:
                self.armed, self.bytes_to_go = fault, fault.after

    def strike(self, size: int) -> tuple[Fault, int] | None:
        """The fault that hits these ``size`` bytes, and where in them; it is used up then."""
        if self.armed is None:
            return None
        if self.bytes_to_go >= size:
            self.bytes_to_go -= size
            return None
        struck, self.armed = self.armed, None
        return struck, self.bytes_to_go


class _Pipe:
    """One direction of one connection."""

    def __init__(self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._line = line
        self._reader = reader
        self._writer = writer
        self._under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD_MAX)
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.reset = False
        """Whether both ends are to see a reset."""

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        try:
            await self._deliver()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self) -> None:
        now = asyncio.get_running_loop().time
        data = b"-"
        while data:
            try:
                data = await self._reader.read(CHUNK)
            except OSError:
                data = b""
            await self._under_way.put((now() + self._line.latency_s, data))

    async def _deliver(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await self._under_way.get()
            await asyncio.sleep(max(0.0, due - now()))
            await self.flowing.wait()
            if not data:
                self._writer.close()
                return
            try:
                if not await self._struck(data):
                    await self._write(data)
            except OSError:
                return
            if self.reset:
                return

    async def _struck(self, data: bytes) -> bool:
        """Whether a fault has dealt with these bytes."""
        struck = self._line.strike(len(data))
        if struck is None:
            return False
        fault, at = struck
        await self._write(data[:at])
        match fault.kind:
            case Kind.RESET:
                self.reset = True
                return True
            case Kind.STALL:
                await asyncio.sleep(STALL_S)
            case Kind.HALF_OPEN:
                self.flowing.clear()
                await self.flowing.wait()
            case Kind.FLIP:
                data = data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
        await self._write(data[at:])
        return True

    async def _write(self, data: bytes) -> None:
        line = self._line
        size = line.slice_bytes or (max(1, int(line.bytes_per_s / 50)) if line.bytes_per_s else len(data) or 1)
        now = asyncio.get_running_loop().time
        due = now()
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            self._writer.write(piece)
            await self._writer.drain()
            if line.bytes_per_s:
                due += len(piece) / line.bytes_per_s  # who wakes late catches up
                await asyncio.sleep(due - now())
            elif line.slice_bytes:
                await asyncio.sleep(0)


@dataclass
class FaultProxy:
    """Forwards connections on a loopback port to ``target_port`` until told otherwise."""

    target_port: int
    port: int = 0
    accepted: int = 0
    refusing: bool = False
    """New connections are closed at once."""
    lines: dict[Direction, Line] = field(default_factory=lambda: {one: Line() for one in Direction})
    _server: asyncio.Server | None = None
    _pipes: set[_Pipe] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _frozen: bool = False

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def arm(self, fault: Fault) -> None:
        """The next bytes of that direction suffer it."""
        self.lines[fault.direction].arm(fault)

    @property
    def armed(self) -> bool:
        """Whether a fault that strikes once has not struck yet."""
        return any(line.armed is not None for line in self.lines.values())

    def heal(self) -> None:
        """No fault any more for what comes; a connection that is half-open stays so."""
        self.refusing = False
        for line in self.lines.values():
            line.heal()

    def cut(self) -> None:
        """Reset every open connection; new ones are forwarded as before."""
        for writer in list(self._writers):
            _reset(writer)
        self._writers.clear()

    def freeze(self) -> None:
        """Forward nothing any more, in either direction, and close nothing: half-open connections, new ones too."""
        self._frozen = True
        for pipe in self._pipes:
            pipe.flowing.clear()

    def thaw(self) -> None:
        self._frozen = False
        for pipe in self._pipes:
            pipe.flowing.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.refusing:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            _reset(writer)
            return
        pipes = [
            _Pipe(self.lines[Direction.UP], reader, up_writer),
            _Pipe(self.lines[Direction.DOWN], up_reader, writer),
        ]
        if self._frozen:
            for pipe in pipes:
                pipe.flowing.clear()
        self._writers.add(up_writer)
        self._pipes.update(pipes)
        with contextlib.suppress(asyncio.CancelledError):  # by stop(); asyncio does not expect a cancelled callback
            await self._pump(pipes)
        self._pipes.difference_update(pipes)
        for one in (writer, up_writer):
            self._writers.discard(one)
            _reset(one) if any(pipe.reset for pipe in pipes) else one.transport.abort()

    async def _pump(self, pipes: list[_Pipe]) -> None:
        """Until both directions have ended, or one was reset."""
        running = {asyncio.create_task(pipe.run()) for pipe in pipes}
        try:
            left = running
            while left and not any(pipe.reset for pipe in pipes):
                _, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, not FIN."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def fault_proxy(target_port: int) -> AsyncIterator[FaultProxy]:
    proxy = FaultProxy(target_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
