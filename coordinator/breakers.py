"""The circuit breakers of all regions and datasets: in memory, and in the store so that a restart remembers them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from coordinator.store import Store
from paritree.core.breaker import Breaker, Circuit

_log = structlog.get_logger("paritree.coordinator")


class Breakers:
    """Who may be asked. ``now`` gives seconds since 1970, ``chance`` numbers in [0, 1)."""

    def __init__(
        self, store: Store, *, now: Callable[[], float] = time.time, chance: Callable[[], float] = random.random
    ) -> None:
        self._store = store
        self._now = now
        self._chance = chance
        # Whoever tried a region when the coordinator ended has learned nothing.
        self._known = {key: breaker.given_up() for key, breaker in store.breakers().items()}
        self._instances = {agent.region: agent.instance for agent in store.agents() if agent.connected_since}

    async def admit(self, region: str, dataset: str) -> str:
        """Why the region is not to be asked about the dataset now; "" if it may be."""
        before = self._of(region, dataset)
        after, allowed = before.asked(self._now())
        await self._set(region, dataset, after)
        if allowed:
            return ""
        if after.circuit is Circuit.HALF_OPEN:
            return f"another sweep is trying whether it works again: {after.reason}"
        return (
            f"left alone after {after.failures} sweeps in a row that lost it, until {_instant(after.retry_at)}: "
            f"{after.reason}"
        )

    async def settle(self, dataset: str, outcomes: Mapping[str, str | None], regions: tuple[str, ...]) -> None:
        """A sweep over ``regions`` has ended: None for a region that worked, the reason for one that failed.

        Of a region without an outcome nothing was learned.
        """
        for region in regions:
            before = self._of(region, dataset)
            reason = outcomes.get(region, "")
            if reason is None:
                after = before.succeeded()
            else:
                after = before.failed(reason, self._now(), self._chance()) if reason else before.given_up()
            if after.circuit is not before.circuit:
                _log.info("circuit breaker", region=region, dataset=dataset, state=str(after.circuit), reason=reason)
            await self._set(region, dataset, after)

    def connected(self, region: str, instance: str) -> None:
        """An agent has connected; another process than before is given a chance at once."""
        if self._instances.get(region) != instance:
            self._instances[region] = instance
            self._known.update({key: one.renewed() for key, one in self._known.items() if key[0] == region})

    def shown(self, region: str) -> list[dict[str, Any]]:
        """The region's breakers that are not as new, for ``paritree status``."""
        return [
            {
                "dataset": dataset,
                "state": str(breaker.circuit),
                "failures": breaker.failures,
                "next_try_at": _instant(breaker.retry_at) if breaker.circuit is Circuit.OPEN else None,
                "reason": breaker.reason,
            }
            for (name, dataset), breaker in sorted(self._known.items())
            if name == region
        ]

    def _of(self, region: str, dataset: str) -> Breaker:
        return self._known.get((region, dataset), Breaker())

    async def _set(self, region: str, dataset: str, breaker: Breaker) -> None:
        if breaker == self._of(region, dataset):
            return
        if breaker == Breaker():
            del self._known[region, dataset]
        else:
            self._known[region, dataset] = breaker
        await asyncio.to_thread(self._store.set_breaker, region, dataset, breaker)


def _instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
