"""Streams between agents and a coordinator whose messages are late, lost, repeated, reordered or cut, by chance.

Both ends are the product's own: ``AgentSession`` and its exchanges at the agent, ``Regions``, ``GrpcLink`` and the
transport's carrying loop at the coordinator. Only gRPC's call between them is ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

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
    one_way: float = 0.0
    faults_max: int = 0


FAIR: Final = Weather()
ROUGH: Final = Weather(0.04, 0.08, 0.10, 0.04, 0.01, faults_max=6)
STORM: Final = Weather(0.15, 0.10, 0.20, 0.15, 0.05, faults_max=60)


class Stream:
    """One connection: messages of each direction on their way. Side 0 is the agent, side 1 the coordinator."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._queues: tuple[asyncio.Queue[Any], asyncio.Queue[Any]] = (asyncio.Queue(), asyncio.Queue())
        self._free_at = [0.0, 0.0]
        self._deaf: set[int] = set()
        self._over: set[int] = set()

    def cut(self) -> None:
        """Both sides see the end."""
        for side in (0, 1):
            self._end(side)

    def close(self, side: int) -> None:
        """One side ends it; the other hears of that if it hears anything."""
        self._end(side)
        if 1 - side not in self._deaf:
            self._end(1 - side)

    def half_open(self, *deaf: int) -> None:
        """These sides hear nothing any more. Each side finds that out for itself: a ping stays without its answer."""
        self._deaf.update(deaf)
        for side in (0, 1):
            self._net.after(2 * KEEPALIVE_S, functools.partial(self._end, side))

    def _end(self, side: int) -> None:
        if side not in self._over:
            self._over.add(side)
            self._queues[side].put_nowait(END)

    def write(self, to: int, data: bytes) -> None:
        """Put a message on its way, or what the weather makes of it."""
        if self._over or to in self._deaf:
            return
        fate = self._net.fate()
        if fate == "cut":
            self.cut()
        elif fate == "half_open":
            self.half_open(0, 1)
        elif fate == "one_way":
            self.half_open(to)
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
        self._net.after(at - now, lambda: None if to in self._over else self._queues[to].put_nowait(data))

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

    def __init__(self, rng: random.Random, weather: Weather, trace: Any = None, *, least_s: float = 0.001) -> None:
        self.rng = rng
        self.weather = weather
        self.least_s = least_s
        self.faults = 0
        self._trace = trace or (lambda _: None)

    def fate(self) -> str:
        """What becomes of the next message; "" for nothing unusual."""
        weather = self.weather
        if self.faults >= weather.faults_max:
            return ""
        at = self.rng.random()
        for name in ("lost", "repeated", "late", "cut", "half_open", "one_way"):
            at -= getattr(weather, name)
            if at < 0:
                self.faults += 1
                self._trace(name)
                return name
        return ""

    def delay(self) -> float:
        """Seconds on the way."""
        return self.rng.uniform(self.least_s, 0.1)

    @staticmethod
    def after(seconds: float, call: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, call)


Attach = Callable[[End], contextlib.AbstractAsyncContextManager[None]]
"""How a coordinator takes a new stream, until the agent leaves it. Raises PeerError where there is none."""


async def keep_connected(
    network: Network, attach: Attach, session: AgentSession, spoil: Callable[[bytes], bytes] = bytes
) -> None:
    """Connect an agent, and connect it again whenever its stream ends. ``spoil`` is what it does to its messages."""
    failures = 0
    while True:
        stream = Stream(network)
        try:
            async with attach(End(stream, 1)):
                try:
                    await session._contained(session._converse(End(stream, 0, spoil)))  # type: ignore[arg-type]
                finally:
                    stream.close(0)
        except ParitreeError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(session._pause_s(failures % 4))
        failures += 1


async def attached(regions: Regions, context: End) -> None:
    """What ``transport.Server._attach`` does once it knows the agent by its certificate."""
    try:
        hello, size = await transport._read_hello(context, _unread, "")  # type: ignore[arg-type]
        link, connection = regions.connect(hello)
    except ParitreeError:
        context.stream.close(1)
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
        context.stream.close(1)


async def _unread(*_: object) -> None:
    """Nobody keeps what could not be read."""
