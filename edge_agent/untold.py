"""Keys with other rows in the index than in the table, while their change may still be told.

Who tells changes by a topic may be late, so a key that differs is no fault before the topic has proved to be past it::

    listen ──► the index as it is ──► rows read, by T ──► the topic is proven up to T and more ──► not told: lost
                                      others than there

What was read by T was committed by then. A change that was taken over before the index was looked at would have been
seen there; one that is told afterwards is heard here. So what is neither, although everything that was committed by T
has been told, was lost on the way, however late the topic is otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Final

from edge_agent.index.digests import NO_DIGESTS, as_digests, distinct, places
from paritree.core.leaves import U8

Locators = Mapping[bytes, frozenset[bytes]]
CLOCKS_S: Final = 30.0
"""By so much the proof has to be past the reading: a marker has the time of another machine, and waiting is cheap."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Keys (key digest -> locators) that differ, and the rows that they had in the table by ``at`` (our clock).

    ``shard`` is the one whose rows were looked at, "" for others. ``built_at`` tells the index from one that was built
    anew. ``whole``: there were not more of them than are here.
    """

    place: str
    shard: str
    keys: Locators
    seen: Mapping[bytes, bytes]
    at: float
    built_at: float
    whole: bool = True


class Untold:
    """One suspicion at a time, and which of its keys are told meanwhile. :meth:`hear` may be called by any thread."""

    def __init__(self) -> None:
        self.suspicion: Suspicion | None = None
        self._lock = Lock()
        self._asked = self._now = NO_DIGESTS
        self._heard: set[bytes] = set()

    def listen(self, keys: Iterable[bytes]) -> None:
        """Hear of those keys from now on, and of what is being taken over just now."""
        with self._lock:
            self._asked, self._heard = distinct(as_digests(keys)), set()
            self._take(self._now)

    @contextmanager
    def hear(self, keys: U8) -> Iterator[None]:
        """Those keys (n, 16) were told; their rows are put into the index in the block."""
        with self._lock:
            self._now = keys
            self._take(keys)
        try:
            yield
        finally:
            with self._lock:
                self._now = NO_DIGESTS

    @property
    def heard(self) -> frozenset[bytes]:
        """What was told of the keys that were asked for."""
        with self._lock:
            return frozenset(self._heard)

    def _take(self, keys: U8) -> None:
        if len(self._asked):
            self._heard.update(key.tobytes() for key in keys[places(self._asked, keys) >= 0])

    def ripe(self, proven: float | None, built_at: float, now: float) -> bool:
        """Whether all that was committed when the suspects were read is told by now; seconds since 1970.

        A suspicion of another index, or of a time that is still to come, is dropped.
        """
        held = self.suspicion
        if held is not None and (held.built_at != built_at or held.at > now):
            held = self.suspicion = None
        return held is not None and proven is not None and proven >= held.at + CLOCKS_S
