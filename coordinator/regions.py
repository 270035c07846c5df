"""The regions that are, or were, connected to this coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from coordinator.link import Connection, GrpcLink, exchange_numbers
from paritree.core.errors import PeerError
from paritree.core.messages import Hello

OnHello = Callable[[Hello], None]


class Regions:
    """One link a region. ``first_exchange`` is random below 2^62; ``on_hello`` hears of every agent that connects."""

    def __init__(self, first_exchange: int, on_hello: OnHello | None = None) -> None:
        self._exchanges = exchange_numbers(first_exchange)
        self._on_hello = on_hello
        self._links: dict[str, GrpcLink] = {}
        self._news = asyncio.Event()
        self._closed = ""

    @property
    def links(self) -> dict[str, GrpcLink]:
        """The connected regions by name."""
        return {name: link for name, link in sorted(self._links.items()) if link.connected}

    def link(self, region: str) -> GrpcLink:
        """The link of a connected region. Raises PeerError (retryable) when it is not connected."""
        link = self._links.get(region)
        if link is None or not link.connected:
            raise PeerError(f"region {region} is not connected", next_step="check that its agent runs", retryable=True)
        return link

    async def wait_for(self, regions: Collection[str], timeout_s: float) -> dict[str, GrpcLink]:
        """Those of the regions that are connected, as soon as all are, else after ``timeout_s`` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.links.keys() >= set(regions):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            pass  # what is missing is the caller's to report
        return {name: link for name, link in self.links.items() if name in regions}

    def connect(self, hello: Hello) -> tuple[GrpcLink, Connection]:
        """A new stream of a region's agent. Raises PeerError when another agent holds the region, or after close."""
        if self._closed:
            raise PeerError(self._closed, retryable=True)
        link = self._links.get(hello.region)
        if link is None:
            link = self._links[hello.region] = GrpcLink(hello, self._exchanges)
        connection = link.connect(hello)
        if self._on_hello is not None:
            self._on_hello(hello)
        self._news.set()
        return link, connection

    def close(self, reason: str) -> None:
        """End every stream and take no new ones, so that the server can stop."""
        self._closed = reason
        for link in self._links.values():
            link.close(reason)
