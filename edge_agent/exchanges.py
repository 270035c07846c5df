"""The exchanges that an agent works on, and the answers it still remembers.

One exchange is one run of the service's handler, whoever asks and how often::

    request ──► producer (the handler, as encoded parts) ──► parts[0 … n) ──► sender ──► stream
                     waits while it is PARTS_AHEAD_MAX            ▲
                     parts ahead of the sender                    └── a repeated request: a new sender from part 0

A cut stream takes its senders away; the producers go on until their request expires, so that the coordinator finds
the work done, or under way, when it repeats the request over the next stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, Protocol

import structlog

from paritree.core import limits
from paritree.core.errors import InvariantBroken, ParitreeError, PeerError
from paritree.core.messages import End, Hello, ReplyBody, Request
from paritree.wire import codec
from paritree.wire.answer import Part, parts, refusal_of
from paritree.wire.frames import Cancel
from paritree.wire.link import AgentService

_log = structlog.get_logger(__name__)
EXCHANGES_KEPT_MAX: Final = 256
"""Finished exchanges remembered for a repeated request; the oldest go first."""


class Outlet(Protocol):
    """Where parts go: one stream."""

    async def put(self, part: Part, sweep_id: str) -> None:
        """Hand over one part; waits while the stream is behind."""
        ...


class Exchange:
    """One running or finished answer."""

    def __init__(self, service: AgentService, request: Request, on_change: Callable[[], None]) -> None:
        self.request = request
        self.fingerprint = codec.fingerprint(request.body)
        self.repeatable = True
        self.outlet: Outlet | None = None
        self._on_change = on_change
        self._parts: list[Part | None] = []
        self._sent = 0
        self._news = asyncio.Event()
        self._expiry = asyncio.timeout(request.timeout_s)
        self._sender: asyncio.Task[None] | None = None
        self._producer = asyncio.create_task(self._produce(service))

    @property
    def running(self) -> bool:
        return not self._producer.done()

    @property
    def kept_bytes(self) -> int:
        """Memory that the remembered parts take."""
        return sum(len(part.data) for part in self._parts if part is not None)

    def attach(self, outlet: Outlet) -> None:
        """Send every part, from the first on, into this outlet and no other any more."""
        self.detach()
        self.outlet = outlet
        self._sent = 0
        self._alive()
        self._sender = asyncio.create_task(self._send(outlet))

    def detach(self) -> None:
        """The stream is gone; what is still produced waits for a repeated request until it expires."""
        self.outlet = None
        if self._sender is not None:
            self._sender.cancel()

    def drop_sent(self) -> None:
        """Give the memory of parts that were sent back; the answer cannot be repeated any more."""
        if self._sent:
            self._parts[: self._sent] = [None] * self._sent
            self.repeatable = False

    async def stop(self) -> None:
        """End the handler and the sender, whatever they do."""
        tasks = [task for task in (self._producer, self._sender) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _produce(self, service: AgentService) -> None:
        try:
            async with self._expiry, aclosing(parts(service, self.request)) as answer:
                async for part in answer:
                    self._parts.append(part)
                    self._alive()
                    self._notify()
                    while len(self._parts) - self._sent >= limits.PARTS_AHEAD_MAX:
                        await self._changed()
        except TimeoutError:
            self.repeatable = False
            _log.warning("request_expired", exchange=self.request.exchange, sweep=self.request.sweep_id)
        finally:
            self._notify()

    async def _send(self, outlet: Outlet) -> None:
        while True:
            while self._sent < len(self._parts):
                part = self._parts[self._sent]
                if part is None:
                    raise InvariantBroken("a part of an answer was dropped before it was sent")
                await outlet.put(part, self.request.sweep_id)
                self._sent += 1
                self._alive()
                self._notify()
                if part.last:
                    return
            if not self.running:
                return
            await self._changed()

    def _alive(self) -> None:
        """Somebody still wants this: the time until it expires starts anew."""
        if self.running_handler:
            self._expiry.reschedule(asyncio.get_running_loop().time() + self.request.timeout_s)
