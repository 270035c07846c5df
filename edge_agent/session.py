"""The agent's way to the coordinator: dial, say hello, answer requests, and dial again when the connection is cut.

The agent opens the one stream, the coordinator drives it. What was asked for outlives the connection
(``edge_agent.exchanges``), so a request that is repeated after a cut finds its work done.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from edge_agent.exchanges import Exchanges
from edge_agent.notices import Notices
from edge_agent.tunnel import Leading, straight
from paritree.core import limits
from paritree.core.errors import InvariantBroken, ParitreeError, PeerError
from paritree.core.ledger import CONNECTION, ByteLedger
from paritree.core.messages import PROTOCOL_VERSION, ByteClass, Request, byte_class
from paritree.tls import Tls
from paritree.wire import codec
from paritree.wire.answer import Part
from paritree.wire.channel import open_channel
from paritree.wire.dial import Address, open_stream
from paritree.wire.frames import Cancel, ToAgent, Welcome
from paritree.wire.link import AgentService
from paritree.wire.status import received

_log = structlog.get_logger(__name__)
Call = grpc.aio.StreamStreamCall[bytes, bytes]
STEADY_S: Final = 1.0
"""A connection that lived this long was a good one: the next reconnect starts with the short pause again."""


def _forgotten(_data: bytes, _reason: str) -> None:
    """Unreadable messages are counted and logged, and not kept."""


class AgentSession:
    """One agent process's connection to its coordinator, for as long as :meth:`run` runs."""

    def __init__(
        self,
        service: AgentService,
        address: Address,
        tls: Tls,
        *,
        rng: random.Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
        keepalive_s: float = limits.KEEPALIVE_S,
        leading: Leading = straight,
        unreadable: Callable[[bytes, str], None] = _forgotten,
        notices: Notices | None = None,
    ) -> None:
        """``leading`` tells where to dial for ``address``: a tunnel's end, or the address itself. ``unreadable`` is
        given what could not be read, and why, in a worker thread.

        ``notices`` are sent as they come. ``rng`` draws the pauses between dials, ``sleep`` waits them, ``now`` gives
        monotonic seconds.
        """
        self._service = service
        self._address = address
        self._tls = tls
        self._rng = rng
        self._sleep = sleep
        self._now = now
        self._keepalive_s = keepalive_s
        self._leading = leading
        self._unreadable = unreadable
        self._notices = notices or Notices()
        self._exchanges = Exchanges(service)
        self.ledger = ByteLedger()
        self.connected = asyncio.Event()
        """Set while the coordinator has welcomed this agent."""

    async def run(self) -> None:
        """Serve until cancelled. Raises PeerError when dialling again cannot help: a certificate or version refused."""
        failures = 0
        try:
            while True:
                started = self._now()
                reason = await self._connection()
                failures = 0 if self._now() - started >= STEADY_S else failures
                pause_s = self._pause_s(failures)
                failures += 1
                _log.warning("disconnected", reason=str(reason), retry_in_s=round(pause_s, 2))
                await self._sleep(pause_s)
        finally:
            await self._exchanges.close()

    def _pause_s(self, failures: int) -> float:
        """Exponential backoff with full jitter: agents cut off together do not come back together."""
        bound_s = min(limits.RECONNECT_S_MAX, limits.RECONNECT_S_MIN * 2.0 ** min(failures, 16))
        return self._rng.uniform(0.0, bound_s)

    async def _connection(self) -> ParitreeError:
        """One connection from the dial to its end; returns why it ended. Raises it when that is for good."""
        try:
            async with (
                self._leading(self._address) as address,
                open_channel(address, self._tls, keepalive_s=self._keepalive_s) as channel,
            ):
                call = open_stream(channel, codec.ATTACH)
                try:
                    await self._contained(self._converse(call))
                finally:
                    call.cancel()
        except ParitreeError as error:
            if not error.retryable:
                raise
            return error
        finally:
            self.connected.clear()
        raise InvariantBroken("a connection ended without a reason")

    async def _contained(self, conversation: Any) -> None:
        """Await it as a task: grpc.aio raises CancelledError for a call that the *other* side cancelled."""
        task = asyncio.create_task(conversation)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        try:
            task.result()
        except asyncio.CancelledError:
            raise PeerError("the coordinator cancelled the call", retryable=True) from None
        except grpc.aio.AioRpcError as error:
            raise received(error) from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:  # a write after the end of the call
            raise PeerError("the connection was lost", retryable=True) from error

    async def _converse(self, call: Call) -> None:
        """Hello, Welcome, then requests and answers until the stream ends. Raises how it ended, always."""
        hello = codec.encode_from_agent(self._service.hello())
        await call.write(hello)
        self.ledger.count_sent(ByteClass.CONTROL, len(hello))
        try:
            async with asyncio.timeout(limits.HELLO_TIMEOUT_S):
                first = await self._read(call)
        except TimeoutError:
            raise PeerError(f"no welcome within {limits.HELLO_TIMEOUT_S:g} s", retryable=True) from None
        self._notices.watch(_welcomed(first).watched)
        self.connected.set()
        _log.info("connected", coordinator=str(self._address))
        outbox = _Outbox(call, self.ledger)
        writer = asyncio.create_task(outbox.run())
        reader = asyncio.create_task(self._serve(call, outbox))
        teller = asyncio.create_task(self._tell(outbox))
        tasks = (reader, writer, teller)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._exchanges.detach(outbox)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, outbox: _Outbox) -> None:
        """Say, unasked, what has changed. One that is lost with the connection is made good by the next one."""
        while True:
            notice = await self._notices.next()
            await outbox.put(Part(codec.encode_from_agent(notice), ByteClass.CONTROL, last=True), CONNECTION)

    async def _serve(self, call: Call, outbox: _Outbox) -> None:
        while True:
            match await self._read(call):
                case Request() as request:
                    self._exchanges.receive(request, outbox)
                case Cancel() as cancel:
                    self._exchanges.cancel(cancel)
                case Welcome():
                    raise PeerError("the coordinator said welcome twice", retryable=True)

    async def _keep(self, data: bytes, error: PeerError) -> None:
        """Keep what could not be read; a disk that is full must not hide what happened."""
        _log.warning("unreadable message", bytes=len(data), reason=error.message)
        try:
            await asyncio.to_thread(self._unreadable, data, error.message)
        except ParitreeError as second:
            _log.error("an unreadable message was not kept", reason=second.message)

    async def _read(self, call: Call) -> ToAgent:
        """The next message, counted. Raises PeerError for the end of the stream and for what cannot be read."""
        data = await call.read()
        if not isinstance(data, bytes):
            raise PeerError("the coordinator closed the connection", retryable=True)
        try:
            message = codec.decode_to_agent(data)
        except PeerError as error:
            self.ledger.count_received(ByteClass.CONTROL, len(data))
            await self._keep(data, error)
            raise PeerError(error.message, next_step=error.next_step, retryable=True) from error
        if isinstance(message, Welcome):
            self.ledger.count_received(ByteClass.CONTROL, len(data))
        else:
            kind = byte_class(message.body) if isinstance(message, Request) else ByteClass.CONTROL
            self.ledger.count_received(kind, len(data), message.sweep_id)
        return message


def _welcomed(message: ToAgent) -> Welcome:
    """Raises PeerError for what is no welcome to us."""
    if not isinstance(message, Welcome):
        raise PeerError("the coordinator did not begin with a welcome", retryable=True)
    if message.protocol != PROTOCOL_VERSION:
        raise PeerError(
            f"the coordinator speaks protocol {message.protocol}, this agent {PROTOCOL_VERSION}",
            next_step="run the same paritree version on both sides",
        )
    return message


class _Outbox:
    """The parts on their way into one stream. One task alone writes: cancelling a write would cancel the call."""

    def __init__(self, call: Call, ledger: ByteLedger) -> None:
        self._call = call
        self._ledger = ledger
        self._waiting: asyncio.Queue[tuple[Part, str]] = asyncio.Queue(maxsize=1)

    async def put(self, part: Part, sweep_id: str) -> None:
        await self._waiting.put((part, sweep_id))

    async def run(self) -> None:
        while True:
            part, sweep_id = await self._waiting.get()
            await self._call.write(part.data)
            self._ledger.count_sent(part.kind, len(part.data), sweep_id, sketched=part.sketched)
