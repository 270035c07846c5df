"""Rates: how long to wait before the next request, so that a region is not asked faster than it is allowed to be.

A bucket fills at a rate up to what it holds; what is taken may exceed it, and then somebody waits for the debt. So an
answer whose size nobody knew before it came is paid for by the request after it. Seconds of any monotonic clock.
"""

from __future__ import annotations

from typing import Final

SLOWEST_S: Final = 10.0
"""Longest pause between two requests to a region that keeps saying that it is busy."""
SLOWER_S: Final = 0.1
"""First pause after it has said so."""


class Bucket:
    """``rate`` units a second, ``burst`` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._at = now

    def take(self, amount: float, now: float) -> None:
        """Take it, whatever is there."""
        self._fill(now)
        self._level -= amount

    def wait_s(self, now: float) -> float:
        """Seconds until nothing is owed."""
        self._fill(now)
        return max(0.0, -self._level / self._rate)

    def _fill(self, now: float) -> None:
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)


class Backpressure:
    """Pauses between requests that double whenever the region is busy and fade while it answers."""

    def __init__(self) -> None:
        self.pause_s = 0.0

    def busy(self) -> None:
        """It has said that it is overloaded."""
        self.pause_s = min(SLOWEST_S, max(SLOWER_S, self.pause_s * 2))

    def answered(self) -> None:
        """It has answered a request whole."""
        self.pause_s = self.pause_s * 0.75 if self.pause_s > SLOWER_S / 2 else 0.0
