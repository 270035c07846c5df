"""The cheapest comparison there is: the roots of the indexes that regions keep, each brought up to date, and no more.

Equal roots compare all there is, as they do in a sweep. What takes a sweep (other roots, a region that keeps no index,
one that cannot prove its own) is None here, never an outcome.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import aclosing

from coordinator import asking
from coordinator.asking import RegionLost
from coordinator.exchanges import gather, not_alike
from paritree.config.datasets import Dataset
from paritree.core.errors import PeerError
from paritree.core.messages import AskRoot, Rooted
from paritree.core.profile import CANONICAL_VERSION
from paritree.core.watch import Before, Judged, judged_by_roots
from paritree.wire.link import RegionLink


class Roots:
    """Asks for roots over whatever ``links`` are connected; ``timeout_s`` bounds the silence of a region."""

    def __init__(self, links: Callable[[], Mapping[str, RegionLink]], timeout_s: float) -> None:
        self._links = links
        self._timeout_s = timeout_s
        self._failed: set[tuple[str, str]] = set()

    def tells(self, dataset: Dataset) -> bool:
        """Whether every region is connected and tells when the dataset changes there.

        One that could not tell its root the last time may not see changes either.
        """
        return all(
            name in self._links()
            and self._offers(name, dataset, tells=True)
            and (name, dataset.name) not in self._failed
            for name in dataset.regions
        )

    async def judge(self, dataset: Dataset, max_age_s: float, before: Before | None) -> Judged | None:
        """What the roots say, each proven to be at most ``max_age_s`` old; None where it takes a sweep."""
        links = self._links()
        if not all(name in links and self._offers(name, dataset) for name in dataset.regions):
            return None
        ask = AskRoot(dataset.name, dataset.profile.profile_id, CANONICAL_VERSION, max_age_s)
        try:
            roots = await gather({name: self._root(links[name], ask) for name in dataset.regions})
        except RegionLost:
            return None
        headers = {name: one.header for name, one in roots.items()}
        foreign = any(header.dataset != dataset.name or header.scope for header in headers.values())
        if foreign or not_alike(headers, dataset.profile.profile_id):
            return None
        if any(one.doubt or one.age_s > max_age_s or not one.header.position for one in roots.values()):
            return None
        positions = {name: one.header.position for name, one in roots.items()}
        return judged_by_roots({name: one.root for name, one in roots.items()}, positions, before)

    async def _root(self, link: RegionLink, ask: AskRoot) -> Rooted:
        """The region's root. Raises RegionLost."""
        asked = link.region, ask.dataset
        self._failed.add(asked)
        exchange = f"root-{secrets.token_hex(6)}"
        try:
            async with (
                asyncio.timeout(asking.ANSWER_S_MAX),
                aclosing(link.ask(ask, sweep_id=exchange, timeout_s=self._timeout_s)) as parts,
            ):
                async for part in parts:
                    if isinstance(part, Rooted):
                        self._failed.discard(asked)
                        return part
        except PeerError as error:
            raise RegionLost(link.region, error.message) from None
        except TimeoutError:
            raise RegionLost(link.region, "it shows signs of life, and no root") from None
        finally:
            link.ledger.forget(exchange)
        raise RegionLost(link.region, "it keeps no index that can be asked for its root")

    def _offers(self, region: str, dataset: Dataset, *, tells: bool = False) -> bool:
        """Whether the region's agent keeps an index of the dataset, and tells when it changes."""
        offers = self._links()[region].hello.datasets
        return any(one.dataset == dataset.name and one.rooted and (one.tells or not tells) for one in offers)
