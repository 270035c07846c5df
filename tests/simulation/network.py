"""Streams between agents and a coordinator whose messages are late, lost, repeated, reordered or cut, by chance.

Both ends are the product's own: ``AgentSession`` and its exchanges at the agent, ``Regions``, ``GrpcLink`` and the
transport's carrying loop at the coordinator. Only gRPC's call between them is ours.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from simulation.clock import background

from coordinator import transport
from coordinator.regions import Regions
from edge_agent.session import AgentSession
from paritree.core.errors import ParitreeError
from paritree.core.limits import KEEPALIVE_S
from paritree.core.messages import ByteClass

END: Final = object()
"""What a read gives when the stream has ended."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances a message, and how many such faults a simulation has at most: so that patience is rewarded."""

    lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0
    cut: float = 0.0
    half_open: float = 0.0
    faults_max: int = 0


FAIR: Final = Weather()
ROUGH: Final = Weather(0.04, 0.08, 0.10, 0.04, 0.01, faults_max=6)
STORM: Final = Weather(0.15, 0.10, 0.20, 0.15, 0.05, faults_max=60)


class Stream:
    """One connection: messages of each direction on their way. ``cut`` ends both directions at once."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._queues: tuple[asyncio.Queue[Any], asyncio.Queue[Any]] = (asyncio.Queue(), asyncio.Queue())
        self._free_at = [0.0, 0.0]
        self.silent = False
        self.ended = asyncio.Event()

    def cut(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            for queue in self._queues:
                queue.put_nowait(END)

    def write(self, to: int, data: bytes) -> None:
        """Put a message on its way, or what the weather makes of it."""
        if self.silent or self.ended.is_set():
            return
        fate = self._net.fate()
        if fate == "cut":
            self.cut()
        elif fate == "half_open":
            self.silent = True
            self._net.after(2 * KEEPALIVE_S, self.cut)
        elif fate == "late":
            self._deliver(to, data, self._net.delay() + self._net.rng.uniform(0, 2.0), in_order=False)
        elif fate != "lost":
            self._deliver(to, data, self._net.delay())
            if fate == "repeated":
                self._deliver(to, data, self._net.delay())

    def _deliver(self, to: int, data: bytes, delay_s: float, *, in_order: bool = True) -> None:
        now = asyncio.get_running_loop().time()
        at = now + delay_s
        if in_order:
            self._free_at[to] = at = max(at, self._free_at[to] + 1e-6)  # timers of one moment have no order
        self._net.after(at - now, lambda: None if self.ended.is_set() else self._queues[to].put_nowait(data))

    async def read(self, side: int) -> Any:
        message = await self._queues[side].get()
        if message is END:
            self._queues[side].put_nowait(END)
        return message


@dataclass(frozen=True, slots=True)
class End:
    """One side of a stream, as gRPC's call and context are to us."""

    stream: Stream
    side: int
    spoil: Callable[[bytes], bytes] = bytes

    async def read(self) -> Any:
        return await self.stream.read(self.side)

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.stream.write(1 - self.side, self.spoil(data))


class Network:
    """All streams of one simulation. ``trace`` hears of every fault."""

    def __init__(self, rng: random.Random, weather: Weather, trace: Any = None) -> None:
        self.rng = rng
        self.weather = weather
        self.faults = 0
        self._trace = trace or (lambda _: None)

    def fate(self) -> str:
        """What becomes of the next message; "" for nothing unusual."""
        weather = self.weather
        if self.faults >= weather.faults_max:
            return ""
        at = self.rng.random()
        for name in ("lost", "repeated", "late", "cut", "half_open"):
            at -= getattr(weather, name)
            if at < 0:
                self.faults += 1
                self._trace(name)
                return name
        return ""

    def delay(self) -> float:
        """Seconds on the way."""
        return self.rng.uniform(0.001, 0.1)

    @staticmethod
    def after(seconds: float, call: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, call)


async def keep_connected(
    network: Network, regions: Regions, session: AgentSession, spoil: Callable[[bytes], bytes] = bytes
) -> None:
    """Connect an agent, and connect it again whenever its stream ends. ``spoil`` is what it does to its messages."""
    failures = 0
    while True:
        stream = Stream(network)
        async with background(_attached(regions, End(stream, 1))):
            try:
                await session._contained(session._converse(End(stream, 0, spoil)))  # type: ignore[arg-type]
            except ParitreeError as error:
                if not error.retryable:
                    raise
            finally:
                stream.cut()
        await asyncio.sleep(session._pause_s(failures % 4))
        failures += 1


async def _attached(regions: Regions, context: End) -> None:
    """What ``transport.Server._attach`` does once it knows the agent by its certificate."""
    try:
        hello, size = await transport._read_hello(context, _unread, "")  # type: ignore[arg-type]
        link, connection = regions.connect(hello)
    except ParitreeError:
        context.stream.cut()
        return
    link.ledger.count_sent(ByteClass.CONTROL, size)
    connection.welcome("simulated")
    reason = "the stream has ended"
    try:
        await transport._carry(context, connection, _unread, "")  # type: ignore[arg-type]
    except ParitreeError as error:
        reason = error.message
    finally:
        connection.end(reason)
        context.stream.cut()


async def _unread(*_: object) -> None:
    """Nobody keeps what could not be read."""
