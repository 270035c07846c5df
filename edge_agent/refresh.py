"""Bring a durable index up to date from a change source: dirty keys, their rows read again and taken over.

The cost is in proportion to the changes, and memory is that of one batch. Each batch is one step of the index; a crash
between any two steps repeats what was not acknowledged, which changes nothing (see ``connectors/changes.py``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

import pyarrow as pa

from edge_agent.build import Copy
from edge_agent.connections import connections_of
from edge_agent.connectors.changes import KEYS_MAX, ChangeBatch, ChangeSource, Mark, RescanNeeded, Span
from edge_agent.connectors.contract import LOOKUP_KEYS, Connector, Position
from edge_agent.digesters import open_digester
from edge_agent.index.changes import Changes, Reached, Refreshable
from edge_agent.index.digests import firsts
from edge_agent.letters.refreshed import RefreshLetters
from paritree.core.digester import DigestBatch, Digester
from paritree.core.display import key_values
from paritree.core.leaves import U8
from paritree.core.placed import Placed
from paritree.core.profile import Profile

READERS: Final = 2
"""Look-ups at once: the source looks the next keys up while rows of the last ones are still digested here."""
BATCHES_AHEAD: Final = 3
"""Batches that are read or wait to be put into the index; each has some MB of digests."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one refresh did: changes that the source told, keys that were read again, rows that differed in the index.

    ``wall_s`` is seconds. ``reached`` is what the index says now; ``point`` that it is the table at exactly that
    position, as it is where nothing was read again after the proof was asked for. ``span_s``: when the changes were
    committed, where the source says so.
    """

    changes: int
    keys: int
    moved: int
    wall_s: float
    reached: Reached
    point: bool
    span_s: Span | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """A batch of changes, the digests of its keys (None where there are none) and its distinct keys."""

    batch: ChangeBatch
    asked: DigestBatch | None
    keys: pa.RecordBatch


def mark_of(reached: Reached) -> Mark:
    """Where the changes go on. Raises RescanNeeded for an index that was not made with a change source."""
    if not reached.cursor:
        raise RescanNeeded("the index was made before its table's changes were followed")
    return Mark(reached.position.text, reached.cursor.decode())


def reached_of(mark: Mark, *, point: bool, as_of: float | None) -> Reached:
    """The mark as an index keeps it."""
    return Reached(Position(mark.text, point), mark.state.encode(), as_of)


class Refresher:
    """Refreshes one index. ``connector`` reads the rows, ``source`` tells the keys; both are the caller's to close."""

    def __init__(
        self,
        copy: Copy,
        connector: Connector,
        source: ChangeSource,
        index: Refreshable,
        *,
        clock: Callable[[], float] = time.time,
        letters: RefreshLetters | None = None,
        heard: Callable[[U8], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        """``letters`` keeps the dead letters among the rows; None: the index alone counts them.

        ``heard`` is given the digests (n, 16) of keys that changed; its block puts their rows into the index.
        """
        self._heard = heard
        self._letters = letters
        self._lettering = Lock()
        self._connections = connections_of(copy.source.url, copy.throttle.connections_max)
        self._copy = copy
        self._connector = connector
        self._source = source
        self._index = index
        self._clock = clock
        profile = copy.profile
        self._ruled = any(profile.columns[name] != profile.columns[name].bare for name in profile.key)
        self._rows = open_digester(copy.digester, profile, copy.keys)
        self._keys: Digester = open_digester(copy.digester, _key_profile(profile), copy.keys)

    def refresh(self, *, proven: bool, keys_max: int = KEYS_MAX) -> Refreshed:
        """Take over everything that changed up to now.

        With ``proven`` the index holds everything that was committed when this was called, if the source ``proves`` it,
        else everything up to the moment that the source tells (``Reached.as_of``). Raises RescanNeeded, and
        SourceError, after which some batches may have been taken over, which does no harm.
        """
        proven = proven and self._source.proves
        began, as_of = time.perf_counter(), self._clock() if proven else None
        changes = keys = moved = 0
        spans: list[Span] = []
        with ThreadPoolExecutor(1, "paritree-told") as telling, ThreadPoolExecutor(READERS, "paritree-read") as reading:
            told = self._told(mark_of(self._index.reached), proven=proven, keys_max=keys_max)
            try:
                for batch, found in self._read(told, telling, reading):
                    moved += self._take_over(batch, found, as_of)
                    changes, keys = changes + batch.changes, keys + (0 if found is None else len(found))
                    spans = joined(spans, batch.span_s)
                    if batch.mark is not None:
                        telling.submit(self._source.acknowledge, batch.mark).result()
            finally:
                telling.submit(told.close).result()
        span_s = spans[0] if spans else None
        wall_s, reached = time.perf_counter() - began, self._index.reached
        return Refreshed(changes, keys, moved, wall_s, reached, proven and not keys, span_s)

    def _told(self, since: Mark, *, proven: bool, keys_max: int) -> Generator[Told, None, None]:
        """What the source tells, with each batch's keys digested."""
        for batch in self._source.changes(since, proven=proven, keys_max=keys_max):
            if not batch.keys.num_rows:
                yield Told(batch, None, batch.keys)
                continue
            asked = self._keys.digest(batch.keys)
            if any(letter.locator is None for letter in asked.dead):
                raise RescanNeeded(f"a changed key of dataset {self._copy.profile.dataset} cannot be read")
            once = firsts(asked.key_digests)
            keys = batch.keys if len(once) == batch.keys.num_rows else batch.keys.take(pa.array(once))
            yield Told(batch, asked, keys)

    def _read(
        self, told: Iterator[Told], telling: Executor, reading: Executor
    ) -> Iterator[tuple[ChangeBatch, Changes | None]]:
        """Each batch in order, with what its keys have now; None for one without keys.

        While the caller puts one into the index, rows of the next are read, and the keys of those after them told.
        """
        depth = BATCHES_AHEAD if self._connector.concurrent and not self._ruled else 1
        waiting: deque[tuple[ChangeBatch, Future[Changes] | None]] = deque()
        ahead: Future[Told | None] | None = telling.submit(next, told, None)
        while ahead is not None or waiting:
            if ahead is not None and len(waiting) < depth:
                first: list[Future[Any]] = [read for _, read in list(waiting)[:1] if read is not None]
                wait([ahead, *first], return_when=FIRST_COMPLETED)
                if ahead.done() or not waiting:
                    one = ahead.result()
                    ahead = telling.submit(next, told, None) if one is not None and one.batch.mark is None else None
                    if one is not None:
                        read = None if one.asked is None else reading.submit(self._read_again, one.asked, one.keys)
                        waiting.append((one.batch, read))
                    continue
            batch, rows = waiting.popleft()
            yield batch, None if rows is None else rows.result()
            if batch.mark is not None:  # it is acknowledged by now
                ahead = telling.submit(next, told, None)

    def _take_over(self, batch: ChangeBatch, found: Changes | None, as_of: float | None) -> int:
        """One batch into the index; how many keys had other rows there."""
        as_of = as_of if batch.as_of is None else batch.as_of
        reached = None if batch.mark is None else reached_of(batch.mark, point=False, as_of=as_of)
        if found is not None:
            with self._heard(found.keys):
                return self._index.apply(found, reached).keys
        if reached is not None:
            self._index.advance(reached)
        return 0

    def _read_again(self, asked: DigestBatch, keys: pa.RecordBatch) -> Changes:
        if self._ruled:
            return Changes.of(asked.key_digests, self._ruled_rows(asked))
        changes = Changes.of(asked.key_digests, self._plain_rows(keys))
        self._settle(locator.as_py() for locator in asked.locators)
        return changes

    def _plain_rows(self, keys: pa.RecordBatch) -> Iterator[DigestBatch]:
        """The rows of those keys."""
        placed = self._copy.digester == "compiled"
        with self._connections.one():
            for batch in self._connector.lookup_batch(self._copy.binding, keys, placed=placed):
                yield self._digested(batch)

    def _digested(self, batch: pa.RecordBatch | Placed) -> DigestBatch:
        rows = self._rows.digest(batch)
        if rows.dead and self._letters is not None:
            with self._lettering:
                self._letters.read(batch, rows.dead)
        return rows

    def _settle(self, asked: Iterable[bytes]) -> None:
        """The rows of those keys (locators) were read."""
        if self._letters is not None:
            with self._lettering:
                self._letters.done(asked)

    def _ruled_rows(self, asked: DigestBatch) -> Iterator[DigestBatch]:
        """Where rules make several keys of the table one key: the rows of all that the index knows under it, too."""
        wanted = {digest.tobytes() for digest in asked.key_digests}
        locators = {locator for held in self._index.locators(wanted).values() for locator in held}
        locators.update(locator.as_py() for locator in asked.locators)
        values = [key_values(locator, self._copy.profile) for locator in sorted(locators)]
        for first in range(0, len(values), LOOKUP_KEYS):
            with self._connections.one():
                for batch in self._connector.lookup(self._copy.binding, values[first : first + LOOKUP_KEYS]):
                    yield self._digested(batch)
        self._settle(locators)


def joined(spans: list[Span], more: Span | None) -> list[Span]:
    """The one span over all, or none."""
    every = spans if more is None else [*spans, more]
    return [(min(one[0] for one in every), max(one[1] for one in every))] if every else []


def _key_profile(profile: Profile) -> Profile:
    """The key alone as a profile: it gives the same key digests and locators."""
    return replace(profile, columns={name: profile.columns[name] for name in profile.key}, ignored=())
