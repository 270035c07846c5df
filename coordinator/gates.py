"""How fast each region may be asked, over all sweeps of this coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from paritree.core.bucket import Backpressure, Bucket

BURST_S: Final = 1.0
"""An idle region may be asked for as much at once as its rate gives in this time."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one region is spared: sweeps at a time, requests a second, bytes a second both ways. None: no limit."""

    sweeps_max: int | None = None
    requests_per_s: float | None = None
    bytes_per_s: float | None = None


class Gate:
    """The pace of one region. Times are seconds of a monotonic clock."""

    def __init__(self, rates: Rates, now: float) -> None:
        self._requests = _bucket(rates.requests_per_s, 1.0, now)
        self._bytes = _bucket(rates.bytes_per_s, 0.0, now)
        self._pressure = Backpressure()
        self._sweeps = asyncio.Semaphore(rates.sweeps_max) if rates.sweeps_max is not None else None

    def ask(self, now: float) -> float:
        """Book one request: seconds to wait before it is sent."""
        waits = [self._pressure.pause_s]
        if self._bytes is not None:
            waits.append(self._bytes.wait_s(now))
        if self._requests is not None:
            self._requests.take(1.0, now)
            waits.append(self._requests.wait_s(now))
        return max(waits)

    def moved(self, amount: int, now: float) -> float:
        """So many bytes came or went: seconds to wait before more is taken."""
        if self._bytes is None:
            return 0.0
        self._bytes.take(amount, now)
        return self._bytes.wait_s(now)

    def busy(self) -> None:
        """It has said that it is overloaded."""
        self._pressure.busy()

    def answered(self) -> None:
        """It has answered a request whole."""
        self._pressure.answered()

    @asynccontextmanager
    async def sweeping(self) -> AsyncGenerator[None]:
        """One of the sweeps that it may have at a time; waits for its turn."""
        if self._sweeps is None:
            yield
            return
        async with self._sweeps:
            yield


class Gates:
    """A gate for every region; ``clock`` gives monotonic seconds."""

    def __init__(
        self, rates: Rates | None = None, regions: Mapping[str, Rates] | None = None, *, clock: Callable[[], float]
    ) -> None:
        self._rates = rates or Rates()
        self._regions = regions or {}
        self._clock = clock
        self._gates: dict[str, Gate] = {}

    def of(self, region: str) -> Gate:
        """The region's gate, always the same one."""
        if region not in self._gates:
            self._gates[region] = Gate(self._regions.get(region, self._rates), self._clock())
        return self._gates[region]

    @asynccontextmanager
    async def sweeping(self, regions: Iterable[str]) -> AsyncGenerator[None]:
        """A sweep over these regions, once each of them may have one more."""
        async with AsyncExitStack() as stack:
            for region in sorted(regions):  # in one order, or two sweeps could wait for each other
                await stack.enter_async_context(self.of(region).sweeping())
            yield


def _bucket(rate: float | None, least: float, now: float) -> Bucket | None:
    return None if rate is None else Bucket(rate, max(least, rate * BURST_S), now)
