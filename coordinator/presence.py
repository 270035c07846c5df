"""Which agents are connected, kept in the store so that ``paritree status`` can say when a region was last seen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from coordinator.control import Connected
from coordinator.store import Fenced, Store
from paritree.core.errors import SourceError
from paritree.core.messages import Hello

LOOK_S: Final = 1.0
"""Between two looks at who is connected; only the time of a disconnection is as coarse as this."""
_log = structlog.get_logger("paritree.coordinator")


class Presence:
    """Writes who is connected as that changes; ``hellos`` gives the connected regions' newest Hello."""

    def __init__(self, store: Store, hellos: Callable[[], Mapping[str, Hello]]) -> None:
        self._store = store
        self._hellos = hellos
        self._written: dict[str, Hello] = {}
        self._news = asyncio.Event()

    def notice(self, _hello: Hello) -> None:
        """An agent has connected: look now."""
        self._news.set()

    def connected(self) -> Sequence[Connected]:
        """Who is connected at this moment."""
        return [
            Connected(hello.region, hello.agent, tuple(offer.dataset for offer in hello.datasets))
            for hello in self._hellos().values()
        ]

    async def run(self) -> None:
        """Keep the store up to date until cancelled. A store that fails for a while is tried again, and logged."""
        while True:
            try:
                await self.update()
            except Fenced:
                raise
            except SourceError as error:
                _log.error("agents not stored", reason=error.message)
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def update(self) -> None:
        """Write what changed since the last time. Raises SourceError."""
        now = dict(self._hellos())
        for region, hello in list(self._written.items()):
            if region not in now or now[region].instance != hello.instance:
                await asyncio.to_thread(self._store.agent_gone, region, hello.agent, hello.instance)
                del self._written[region]
        for region, hello in now.items():
            if region not in self._written:
                await asyncio.to_thread(self._store.agent_connected, region, hello.agent, hello.instance)
                self._written[region] = hello
