"""What has changed and was not told to the coordinator yet: one notice a dataset, which grows until it is sent.

Whoever takes changes into an index notes them, in whatever thread; the session sends, at most one notice a dataset in
``EVERY_S``. Nothing here is kept over restarts, as nothing depends on it: the coordinator looks by itself after every
new connection, and at intervals.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from paritree.core import limits
from paritree.wire.frames import Notice

EVERY_S: Final = 1.0
"""Between two notices of a dataset, and between two looks at the source of one that is watched."""
KEYS_MAX: Final = 2**64 - 1


class Notices:
    """Thread-safe. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, Notice] = {}
        self._sent_at: dict[str, float] = {}
        self._watched: frozenset[str] = frozenset()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def watch(self, datasets: Iterable[str]) -> None:
        """The coordinator wants notices of these datasets, and of no others. Call it on the loop that sends them."""
        with self._lock:
            self._loop, self._watched = asyncio.get_running_loop(), frozenset(datasets)
            self._waiting = {name: one for name, one in self._waiting.items() if name in self._watched}

    def watches(self, dataset: str) -> bool:
        """Whether somebody wants to know of it."""
        return dataset in self._watched

    def note(self, dataset: str, keys: int, span_s: tuple[float, float] | None = None, position: str = "") -> None:
        """``keys`` rows of a dataset have changed, and are in its index; ``span_s``: when they were committed."""
        if not keys:
            return
        with self._lock:
            if dataset not in self._watched or self._loop is None:
                return
            first_us, last_us = (0, 0) if span_s is None else (_micros(span_s[0]), _micros(span_s[1]))
            before = self._waiting.get(dataset)
            if before is not None:
                keys = min(KEYS_MAX, keys + before.keys)
                first_us = min((at for at in (first_us, before.first_us) if at), default=0)
                last_us = max(last_us, before.last_us)
            said = position if len(position) <= limits.POSITION_CHARS_MAX and position.isprintable() else ""
            self._waiting[dataset] = Notice(dataset, keys, first_us, last_us, said)
            loop = self._loop
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._news.set)

    async def next(self) -> Notice:
        """The next notice to send, when there is one and it is time."""
        while True:
            self._news.clear()
            taken, wait_s = self._take()
            if taken is not None:
                return taken
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _take(self) -> tuple[Notice | None, float | None]:
        """What may be sent now, or in how many seconds something may."""
        now, wait_s = self._clock(), None
        with self._lock:
            for name in self._waiting:
                due_s = self._sent_at.get(name, -EVERY_S) + EVERY_S - now
                if due_s <= 0 or name not in self._sent_at:
                    self._sent_at[name] = now
                    return self._waiting.pop(name), None
                wait_s = due_s if wait_s is None else min(wait_s, due_s)
        return None, wait_s


def _micros(at_s: float) -> int:
    """Microseconds since 1970, within what the wire takes."""
    return max(1, min(limits.TIME_US_MAX, round(at_s * 1e6)))
