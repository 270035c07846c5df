"""When a failed exchange is tried again: exponential backoff with full jitter, and a bound on patience.

Full jitter (a pause drawn from zero to the bound) spreads those who failed together better than any other form, see
Brooker, "Exponential Backoff And Jitter", 2015. Time and chance come in as arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paritree.core.errors import ParitreeError

PAUSE_S: Final = 1.0
"""Bound of the pause before the second try; half of it on average."""
PAUSE_S_MAX: Final = 15.0
"""Bound of every later pause, which doubles up to it."""
PATIENCE_S_LEAST: Final = 1e-3
"""Patience that is as good as none: a clock of little precision may not even move by it."""
BUSY_S_MAX: Final = 600.0
"""How long a region may say that it is busy, before it counts as failed."""
TOTAL_S_MAX: Final = 7 * 86_400.0
"""Longest time that one exchange may take with all its tries, however much progress it shows."""


class Busy(ParitreeError):
    """The other side is overloaded and says when to ask again (seconds); always retryable."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retryable=True)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At least ``attempts_max`` tries and at least ``patience_s`` seconds since the first failure, then it is given up.

    A pause ends with patience at the latest, once there were tries enough: the last one is made then.
    ``busy_s_max`` bounds the time for which the other side may be busy, ``total_s_max`` everything together.
    """

    attempts_max: int = 4
    patience_s: float = 0.0
    pause_s: float = PAUSE_S
    pause_s_max: float = PAUSE_S_MAX
    busy_s_max: float = BUSY_S_MAX
    total_s_max: float = TOTAL_S_MAX


class Retries:
    """The tries of one exchange that began at ``now`` (seconds of any monotonic clock)."""

    def __init__(self, policy: RetryPolicy, now: float) -> None:
        self._policy = policy
        self._began_at = now
        self._failures = 0
        self._failing_since = 0.0
        self._busy_since: float | None = None
        self._furthest: tuple[int, ...] = ()

    def reached(self, how_far: tuple[int, ...]) -> None:
        """How far this try has come. Further than any before it: what failed until now is forgotten."""
        if how_far > self._furthest:
            self._furthest = how_far
            self._failures = 0
            self._busy_since = None

    def after(self, error: ParitreeError, now: float, chance: float) -> float | None:
        """Seconds to wait before the next try, None to give up; ``chance`` is drawn from [0, 1)."""
        policy = self._policy
        if not error.retryable or now - self._began_at >= policy.total_s_max:
            return None
        if isinstance(error, Busy):
            self._busy_since = now if self._busy_since is None else self._busy_since
            if now - self._busy_since >= policy.busy_s_max:
                return None
            return error.retry_after_s + policy.pause_s * chance
        self._failing_since = self._failing_since if self._failures else now
        self._failures += 1
        pause_s = chance * min(policy.pause_s_max, policy.pause_s * 2.0 ** min(self._failures - 1, 30))
        if self._failures < policy.attempts_max:
            return pause_s
        left_s = policy.patience_s - (now - self._failing_since)
        return min(pause_s, left_s) if left_s > PATIENCE_S_LEAST else None
