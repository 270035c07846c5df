"""The exchanges that an agent works on, and the answers it still remembers.

One exchange is one run of the service's handler, whoever asks and how often::

    request ──► producer (the handler, as encoded parts) ──► parts[0 … n) ──► sender ──► stream
                     waits while a few MiB ahead of the sender    ▲
                                                                  └── a repeated request: a new sender from part 0

A cut stream takes its senders away; the producers go on until their request expires, so that the coordinator finds
the work done, or under way, when it repeats the request over the next stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from paritree.core import limits
from paritree.core.errors import InvariantBroken, ParitreeError, PeerError
from paritree.core.messages import End, Hello, ReplyBody, Request
from paritree.core.retry import Busy
from paritree.wire import codec
from paritree.wire.answer import Part, parts, refusal_of
from paritree.wire.frames import Cancel
from paritree.wire.link import AgentService

_log = structlog.get_logger(__name__)
AHEAD_BYTES_MAX: Final = limits.PARTS_AHEAD_MAX * limits.MESSAGE_BYTES_MAX
BUSY_S: Final = 1.0
"""After which a coordinator may ask again that has asked for more at once than an agent works on."""
PART_COST_BYTES: Final = 256
"""What Python needs for a part besides its bytes: bounds the number of small ones."""


class Outlet(Protocol):
    """Where parts go: one stream."""

    async def put(self, part: Part, sweep_id: str) -> None:
        """Hand over one part; waits while the stream is behind."""
        ...


class Exchange:
    """One running or finished answer. ``on_change`` is called when it has grown or ended."""

    def __init__(self, service: AgentService, request: Request, on_change: Callable[[Exchange], None]) -> None:
        self.request = request
        self.fingerprint = codec.fingerprint(request.body)
        self.outlet: Outlet | None = None
        self.repeatable = True
        self.expired = False
        self.complete = False
        self.kept_bytes = 0
        self._on_change = on_change
        self._parts: list[Part | None] = []
        self._sent = 0
        self._ahead_bytes = 0
        self._news = asyncio.Event()
        self._expiry: asyncio.Timeout | None = None
        self._sender: asyncio.Task[None] | None = None
        self._producer = asyncio.create_task(self._produce(service))

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What still runs for it."""
        return [task for task in (self._producer, self._sender) if task is not None and not task.done()]

    def attach(self, outlet: Outlet) -> None:
        """Send every part, from the first on, into this outlet and into no other any more."""
        self.detach()
        self.outlet = outlet
        self._sent = 0
        self._ahead_bytes = self.kept_bytes
        self._alive()
        self._sender = asyncio.create_task(self._send(outlet))

    def detach(self) -> None:
        """The stream is gone; what is still produced waits for a repeated request until it expires."""
        self.outlet = None
        if self._sender is not None:
            self._sender.cancel()

    def cancel(self) -> None:
        """End the handler and the sender, whatever they do."""
        for task in self.tasks:
            if not task.cancelling():  # a second time would break off its clearing up
                task.cancel()

    def drop_sent(self) -> None:
        """Give back the memory of the parts that were sent; the answer cannot be repeated any more."""
        if self._sent:
            self._parts[: self._sent] = [None] * self._sent
            self.kept_bytes = self._ahead_bytes
            self.repeatable = False

    async def _produce(self, service: AgentService) -> None:
        try:
            async with asyncio.timeout(self.request.timeout_s) as self._expiry:
                async with aclosing(parts(service, self.request)) as answer:
                    async for part in answer:
                        self._append(part)
                        while self._ahead_bytes >= AHEAD_BYTES_MAX and not part.last:
                            await self._news.wait()
        except TimeoutError:
            self.expired = True
            _log.warning("request_expired", exchange=self.request.exchange, sweep=self.request.sweep_id)
        finally:
            self._changed()

    def _append(self, part: Part) -> None:
        cost = len(part.data) + PART_COST_BYTES
        self._parts.append(part)
        self.kept_bytes += cost
        self._ahead_bytes += cost
        self.complete = part.last
        if self.outlet is not None:
            self._alive()
        self._changed()

    async def _send(self, outlet: Outlet) -> None:
        while True:
            while self._sent < len(self._parts):
                part = self._parts[self._sent]
                if part is None:
                    raise InvariantBroken("a part of an answer was dropped before it was sent")
                await outlet.put(part, self.request.sweep_id)
                self._sent += 1
                self._ahead_bytes -= len(part.data) + PART_COST_BYTES
                self._alive()
                self._changed()
                if part.last:
                    return
            await self._news.wait()

    def _alive(self) -> None:
        """Somebody still wants this: the time until it expires starts anew."""
        if self._expiry is not None and not self._expiry.expired() and not self._producer.done():
            self._expiry.reschedule(asyncio.get_running_loop().time() + self.request.timeout_s)

    def _changed(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
        self._on_change(self)


class Exchanges:
    """Every exchange of one agent process, over however many streams it takes."""

    def __init__(self, service: AgentService) -> None:
        self._service = service
        self._known: dict[tuple[str, int], Exchange] = {}
        self._ending: set[Exchange] = set()

    def receive(self, request: Request, outlet: Outlet) -> None:
        """Start the exchange, or repeat its answer when it is known; the parts go to ``outlet``."""
        known = self._known.get((request.sweep_id, request.exchange))
        if known is None:
            if sum(1 for exchange in self._known.values() if not exchange.complete) >= limits.EXCHANGES_OPEN_MAX:
                self._refuse(request, outlet, Busy("the agent is busy with other requests", BUSY_S))
                return
            exchange = Exchange(self._service, request, self._changed)
            self._known[request.sweep_id, request.exchange] = exchange
            exchange.attach(outlet)
        elif known.fingerprint != codec.fingerprint(request.body):
            self._refuse(request, outlet, InvariantBroken("one exchange number was used for two requests"))
        elif not known.repeatable:
            self._discard(known)
            self._refuse(request, outlet, PeerError("the answer is too large to be repeated", retryable=True))
        else:
            known.attach(outlet)

    def cancel(self, cancel: Cancel) -> None:
        """Nobody wants this exchange any more; an unknown one is no mistake, it may have ended."""
        known = self._known.get((cancel.sweep_id, cancel.exchange))
        if known is not None:
            self._discard(known)

    def detach(self, outlet: Outlet) -> None:
        """The stream behind this outlet has ended."""
        for exchange in [*self._known.values(), *self._ending]:
            if exchange.outlet is outlet:
                exchange.detach()

    async def close(self) -> None:
        """End everything and wait until it has ended."""
        for exchange in list(self._known.values()):
            self._discard(exchange)
        for exchange in self._ending:
            exchange.cancel()
        tasks = [task for exchange in self._ending for task in exchange.tasks]
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ending.clear()

    def _changed(self, exchange: Exchange) -> None:
        self._ending = {one for one in self._ending if one.tasks}
        if exchange.expired:
            self._discard(exchange)
        elif exchange.complete and isinstance(exchange.request.body, End):
            for other in list(self._known.values()):
                if other is not exchange and other.request.sweep_id == exchange.request.sweep_id:
                    self._discard(other)
        self._trim()

    def _trim(self) -> None:
        """Forget the oldest answers until the remembered ones fit; of those still on their way, what was sent."""
        for key, exchange in list(self._known.items()):
            fits = sum(one.kept_bytes for one in self._known.values()) <= limits.REPLAY_BYTES_MAX
            if fits and len(self._known) <= limits.ANSWERS_KEPT_MAX:
                return
            if exchange.tasks:
                exchange.drop_sent()
            else:
                del self._known[key]

    def _discard(self, exchange: Exchange) -> None:
        if self._known.get((exchange.request.sweep_id, exchange.request.exchange)) is exchange:
            del self._known[exchange.request.sweep_id, exchange.request.exchange]
        exchange.cancel()
        self._ending.add(exchange)

    def _refuse(self, request: Request, outlet: Outlet, error: ParitreeError) -> None:
        exchange = Exchange(_Refusing(error), request, self._changed)
        self._ending.add(exchange)
        exchange.attach(outlet)


class _Refusing:
    """A service that answers every request with the same refusal."""

    def __init__(self, error: ParitreeError) -> None:
        self._error = error

    def hello(self) -> Hello:
        raise self._error

    async def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        del request
        yield refusal_of(self._error)
