"""The circuit breaker of one region and dataset: a region that keeps failing is left alone for a while.

    closed ── FAILURES_MAX sweeps in a row lost the region ──▶ open ── its time is over, or its agent is a new one ─┐
      ▲                                                         ▲                                                  ▼
      └──────────────── the sweep that tried it was fine ───────┼──────────────────────────────────────────── half-open
                                                                └────────────── it failed again: twice as long ────┘

While it is open, sweeps do not ask the region: it is `unknown` with the reason. Half-open, one sweep tries it. Values
are immutable, every event gives a new one. Time (seconds since 1970, so that it survives a restart) and chance come in
as arguments. Nygard, "Release It!", 2007.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

FAILURES_MAX: Final = 3
"""Sweeps in a row that lose a region before it is left alone."""
OPEN_S: Final = 30.0
"""Shortest time for which it is left alone the first time; up to half as much again by chance."""
OPEN_S_MAX: Final = 900.0
"""Doubled with every failed try up to this."""


class Circuit(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """``failures`` in a row; ``opened`` in a row; ``retry_at`` is when an open one is tried; ``reason`` of the last."""

    circuit: Circuit = Circuit.CLOSED
    failures: int = 0
    opened: int = 0
    retry_at: float = 0.0
    reason: str = ""

    def asked(self, now: float) -> tuple[Breaker, bool]:
        """A sweep wants to ask the region: the breaker after that, and whether it may.

        A wall clock that was set back does not keep it open for longer than it was meant to be.
        """
        match self.circuit:
            case Circuit.CLOSED:
                return self, True
            case Circuit.HALF_OPEN:
                return self, False  # one sweep tries it already
            case Circuit.OPEN:
                if self.retry_at - OPEN_S_MAX * 1.5 <= now < self.retry_at:
                    return self, False
                return replace(self, circuit=Circuit.HALF_OPEN), True

    def failed(self, reason: str, now: float, chance: float) -> Breaker:
        """A sweep lost the region; ``chance`` is drawn from [0, 1)."""
        failures = self.failures + 1
        if self.circuit is Circuit.CLOSED and failures < FAILURES_MAX:
            return replace(self, failures=failures, reason=reason)
        pause_s = min(OPEN_S_MAX, OPEN_S * 2.0 ** min(self.opened, 30)) * (1.0 + chance / 2)
        return Breaker(Circuit.OPEN, failures, self.opened + 1, now + pause_s, reason)

    def succeeded(self) -> Breaker:
        """A sweep compared the region to its end."""
        return Breaker()

    def given_up(self) -> Breaker:
        """The sweep that tried it ended without having learned anything of the region: the next one may try."""
        return replace(self, circuit=Circuit.OPEN, retry_at=0.0) if self.circuit is Circuit.HALF_OPEN else self

    def renewed(self) -> Breaker:
        """Another process of its agent has connected: what was wrong may be mended, so it is tried at once."""
        return replace(self, retry_at=0.0) if self.circuit is Circuit.OPEN else self
