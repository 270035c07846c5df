"""How a scan spares its source: a rate of rows, a back-off when the source gets slow, a wait while it is loaded.

No clock is read and nothing sleeps here but through the two functions that are passed in. A :class:`Pacer` belongs to
one task. Tasks run in threads or in processes that do not know of each other, so the rate of a source is divided over
the tasks that run at once; where fewer are left at the end of a scan, its share is not used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from edge_agent.wanted import rest
from paritree.core.errors import SourceError

CHUNK_ROWS: Final = 100_000
CHUNK_BYTES: Final = 16 << 20
"""A chunk is so many rows, or so many bytes of Arrow data where rows are wide. PostgreSQL sends one in about 0.1 s."""
CHUNK_SEEN_MIN: Final = 0.1
"""The part of a chunk below which nothing is concluded: the first answer of a scan is late for other reasons."""
WEIGHT_OLD: Final = 0.75
"""What the past weighs one chunk later; pt-table-checksum decays its average rate by as much."""
BACKOFF_RATIO_MAX: Final = 4.0
"""Pauses take at most so many times as long as the source itself: a scan never falls below a fifth of its speed."""
PAUSE_S_MAX: Final = 5.0
"""Longest pause of the back-off: the source is asked again then."""
BURST_S: Final = 0.25
"""Rows that were not read in time may be read later at full speed, for so long."""
SHARD_S_MAX: Final = 10.0
"""Under a rate a shard is cut to so many seconds: a connection that is waited for is free then."""
LOAD_PAUSE_S: Final = 1.0
"""Between two questions whether the source is still loaded."""

Clock = Callable[[], float]
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Throttle:
    """What one source is spared; None: not limited. Rates and times are in rows and seconds.

    ``max_rate_rows_s``: rows a second of one scan, all its tasks together. ``chunk_target_s``: time of a chunk at the
    source above which scans pause. ``replica_lag_max_s`` and ``backends_active_max``: no shard begins while replicas
    lag by more, or more backends are active; a scan that waits longer than ``load_wait_max_s`` fails.
    ``connections_max``: connections of scans and look-ups at once. ``snapshot_max_s``: no snapshot is held longer, but
    for the shards that are under way.
    """

    max_rate_rows_s: float | None = None
    chunk_target_s: float | None = None
    replica_lag_max_s: float | None = None
    backends_active_max: int | None = None
    load_wait_max_s: float = 600.0
    connections_max: int | None = None
    snapshot_max_s: float | None = None

    @property
    def paces(self) -> bool:
        """Whether tasks have anything to wait for."""
        return self.max_rate_rows_s is not None or self.chunk_target_s is not None

    @property
    def watches_load(self) -> bool:
        """Whether the source is asked for its load."""
        return self.replica_lag_max_s is not None or self.backends_active_max is not None

    def shard_rows(self, wanted: int, tasks: int) -> int:
        """Rows of a shard, fewer where the rate would make one last too long (or run into a statement timeout)."""
        if self.max_rate_rows_s is None:
            return wanted
        return max(1, min(wanted, int(self.max_rate_rows_s / tasks * SHARD_S_MAX)))


UNLIMITED: Final = Throttle()


@dataclass(frozen=True, slots=True)
class Waited:
    """Seconds waited, by cause, added up over tasks: of tasks that wait side by side each counts."""

    rate_s: float = 0.0
    backoff_s: float = 0.0
    load_s: float = 0.0

    @property
    def total_s(self) -> float:
        return self.rate_s + self.backoff_s + self.load_s

    def __add__(self, other: Waited) -> Waited:
        return Waited(self.rate_s + other.rate_s, self.backoff_s + other.backoff_s, self.load_s + other.load_s)

    def note(self) -> str:
        """A sentence for the report, "" where there is nothing to say."""
        causes = {"rate limit": self.rate_s, "slow source": self.backoff_s, "load": self.load_s}
        shown = ", ".join(f"{cause} {seconds:.1f} s" for cause, seconds in causes.items() if seconds >= 0.05)
        return f"throttled for {self.total_s:.1f} s ({shown}; added up over tasks)" if shown else ""


NOT_WAITED: Final = Waited()


class Pacer:
    """Told of every batch of one task after it came, sleeps as long as the source is to be left alone."""

    def __init__(
        self, throttle: Throttle, tasks: int = 1, *, clock: Clock = time.monotonic, sleep: Sleep = rest
    ) -> None:
        """``tasks``: how many share the rate. Time counts from here."""
        self.waited = NOT_WAITED
        self._clock, self._sleep = clock, sleep
        self._row_s = 0.0 if throttle.max_rate_rows_s is None else tasks / throttle.max_rate_rows_s
        self._target_s = throttle.chunk_target_s
        self._due = clock()
        self._source_s = self._chunks = 0.0  # decaying sums, of seconds and of the chunks that they were for

    def after(self, rows: int, size_bytes: int, source_s: float | None) -> None:
        """A batch came, for which the source took ``source_s`` seconds (None: not known)."""
        backoff_s = 0.0 if source_s is None else self._backoff_s(rows, size_bytes, source_s)
        if backoff_s > 0:
            self._sleep(backoff_s)
        now = self._clock()
        self._due = max(self._due, now - BURST_S) + rows * self._row_s
        rate_s = self._due - now if self._row_s else 0.0
        if rate_s > 0:
            self._sleep(rate_s)
        self.waited += Waited(max(0.0, rate_s), backoff_s)

    def _backoff_s(self, rows: int, size_bytes: int, source_s: float) -> float:
        """In proportion: at twice the target as long as the source took, so that it has half of the time for others."""
        if self._target_s is None:
            return 0.0
        chunks = max(rows / CHUNK_ROWS, size_bytes / CHUNK_BYTES)
        kept = WEIGHT_OLD**chunks
        self._source_s = self._source_s * kept + source_s
        self._chunks = self._chunks * kept + chunks
        if self._chunks < CHUNK_SEEN_MIN:
            return 0.0
        excess = self._source_s / self._chunks / self._target_s - 1
        return min(source_s * min(max(0.0, excess), BACKOFF_RATIO_MAX), PAUSE_S_MAX)

    def paced(
        self, batches: Iterable[pa.RecordBatch], source_s: Callable[[], float | None]
    ) -> Iterator[pa.RecordBatch]:
        """The same batches, slower. ``source_s``: seconds that the source has taken for them so far (None: unknown)."""
        before = 0.0
        for batch in batches:
            yield batch
            now = source_s()
            self.after(batch.num_rows, batch.nbytes, None if now is None else now - before)
            before = now or 0.0


class LoadWatch:
    """Lets no shard begin while the source is loaded."""

    def __init__(
        self,
        throttle: Throttle,
        load: Callable[[], str],
        *,
        alive: Callable[[], None] = lambda: None,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
    ) -> None:
        """``load`` asks the source: a reason to wait, or "". ``alive`` is called before every pause."""
        self.waited_s = 0.0
        self._throttle = throttle
        self._load, self._alive = load, alive
        self._clock, self._sleep = clock, sleep

    def wait(self, meanwhile: Callable[[], None]) -> None:
        """Return when the source is not loaded; ``meanwhile`` is called before every pause too. Raises SourceError."""
        if not self._throttle.watches_load:
            return
        began = self._clock()
        while reason := self._load():
            if self._clock() - began >= self._throttle.load_wait_max_s:
                raise SourceError(
                    f"the source was loaded for {self._throttle.load_wait_max_s:g} s: {reason}",
                    next_step="sweep at a quieter time, or raise load_wait_max_s or the limit in [throttle]",
                )
            self._alive()
            meanwhile()
            self._sleep(LOAD_PAUSE_S)
            self.waited_s += LOAD_PAUSE_S
