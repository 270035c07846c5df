"""The regions that are, or were, connected to this coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing

from coordinator.ends import UnheardEnds
from coordinator.link import Connection, GrpcLink, OnNotice, exchange_numbers
from paritree.core.errors import PeerError
from paritree.core.ledger import ByteLedger
from paritree.core.messages import Hello, ReplyBody, RequestBody

OnHello = Callable[[Hello], None]


class AwayLink:
    """A RegionLink to a region whose agent may come back later: until then asking it fails, and may be tried again."""

    def __init__(self, regions: Regions, region: str) -> None:
        self._regions = regions
        self._none = ByteLedger()
        self.region = region

    @property
    def hello(self) -> Hello:
        """The Hello of the newest connection. Raises PeerError (retryable) when there is none."""
        return self._regions.link(self.region).hello

    @property
    def ledger(self) -> ByteLedger:
        """The region's bytes; nothing as long as it has not connected."""
        link = self._regions.ever(self.region)
        return self._none if link is None else link.ledger

    def ask(self, request_body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        """See RegionLink.ask."""
        return self._asked(request_body, sweep_id, timeout_s)

    async def _asked(
        self, request_body: RequestBody, sweep_id: str, timeout_s: float
    ) -> AsyncGenerator[ReplyBody, None]:
        link = self._regions.ever(self.region)
        if link is None:
            self._regions.ends(self.region).asked(sweep_id, request_body)
            link = self._regions.link(self.region)
        async with aclosing(link.ask(request_body, sweep_id=sweep_id, timeout_s=timeout_s)) as parts:
            async for part in parts:
                yield part


class Regions:
    """One link a region. ``first_exchange`` is random below 2^62; ``on_hello`` hears of every agent that connects.

    ``fence`` is the coordinator's fencing token, which every request carries. ``on_notice`` hears when one of the
    datasets ``watched`` has changed in a region.
    """

    watched: Collection[str] = ()

    def __init__(
        self,
        first_exchange: int,
        on_hello: OnHello | None = None,
        *,
        fence: int = 0,
        on_notice: OnNotice = lambda _region, _notice: None,
    ) -> None:
        self._on_notice = on_notice
        self._fence = fence
        self._exchanges = exchange_numbers(first_exchange)
        self._on_hello = on_hello
        self._links: dict[str, GrpcLink] = {}
        self._ends: dict[str, UnheardEnds] = {}
        self._news = asyncio.Event()
        self._closed = ""

    @property
    def links(self) -> dict[str, GrpcLink]:
        """The connected regions by name."""
        return {name: link for name, link in sorted(self._links.items()) if link.connected}

    def ever(self, region: str) -> GrpcLink | None:
        """The link of a region that has connected since the start, None for any other."""
        return self._links.get(region)

    def link(self, region: str) -> GrpcLink:
        """The link of a connected region. Raises PeerError (retryable) when it is not connected."""
        link = self._links.get(region)
        if link is None or not link.connected:
            raise PeerError(f"region {region} is not connected", next_step="check that its agent runs", retryable=True)
        return link

    def ends(self, region: str) -> UnheardEnds:
        """The ends that the region was away for."""
        return self._ends.setdefault(region, UnheardEnds())

    def away(self, region: str) -> AwayLink:
        """A link to a region that may not have connected yet."""
        return AwayLink(self, region)

    async def returned(self, region: str) -> None:
        """Wait until a region that is away has connected; for one that is connected, for ever."""
        if region in self.links:
            await asyncio.Event().wait()
        while region not in self.links:
            self._news.clear()
            await self._news.wait()

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
            link = GrpcLink(hello, self._exchanges, self.ends(hello.region), self._fence, self._on_notice)
            self._links[hello.region] = link
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
