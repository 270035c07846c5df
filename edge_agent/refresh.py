"""Bring a durable index up to date from a change source: dirty keys, their rows read again and taken over.

The cost is in proportion to the changes, and memory is that of one batch. Each batch is one step of the index; a crash
between any two steps repeats what was not acknowledged, which changes nothing (see ``connectors/changes.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from edge_agent.build import Copy
from edge_agent.connectors.changes import KEYS_MAX, ChangeBatch, ChangeSource, Mark, RescanNeeded
from edge_agent.connectors.contract import Connector, Position
from edge_agent.digesters import open_digester
from edge_agent.index.changes import Changes, Reached, Refreshable
from paritree.core.digester import DigestBatch, Digester
from paritree.core.display import key_values
from paritree.core.leaves import U8
from paritree.core.profile import Profile


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one refresh did: changes that the source told, keys that were read again, rows that differed in the index.

    ``wall_s`` is seconds. ``reached`` is what the index says now.
    """

    changes: int
    keys: int
    moved: int
    wall_s: float
    reached: Reached


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
    ) -> None:
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

        With ``proven`` the index holds everything that was committed when this was called. Raises RescanNeeded, and
        SourceError, after which some batches may have been taken over, which does no harm.
        """
        began, as_of = time.perf_counter(), self._clock() if proven else None
        changes = keys = moved = 0
        for batch in self._source.changes(mark_of(self._index.reached), proven=proven, keys_max=keys_max):
            read, gone = self._take_over(batch, as_of)
            changes, keys, moved = changes + batch.changes, keys + read, moved + gone
        return Refreshed(changes, keys, moved, time.perf_counter() - began, self._index.reached)

    def _take_over(self, batch: ChangeBatch, as_of: float | None) -> tuple[int, int]:
        """One batch into the index, then acknowledged; the keys read and those that differed."""
        reached = None if batch.mark is None else reached_of(batch.mark, point=False, as_of=as_of)
        read = moved = 0
        if batch.keys.num_rows:
            changes = self._read_again(batch.keys)
            read, moved = len(changes), self._index.apply(changes, reached).keys
        elif reached is not None:
            self._index.advance(reached)
        if batch.mark is not None:
            self._source.acknowledge(batch.mark)
        return read, moved

    def _read_again(self, keys: pa.RecordBatch) -> Changes:
        asked = self._keys.digest(keys)
        if any(letter.locator is None for letter in asked.dead):
            raise RescanNeeded(f"a changed key of dataset {self._copy.profile.dataset} cannot be read")
        rows = self._ruled_rows(asked) if self._ruled else self._plain_rows(keys, asked.key_digests)
        return Changes.of(asked.key_digests, rows)

    def _plain_rows(self, keys: pa.RecordBatch, digests: U8) -> Iterator[DigestBatch]:
        """The rows of those keys, each key asked for once."""
        _, firsts = np.unique(digests.view("V16").reshape(-1), return_index=True)
        distinct = keys.take(pa.array(np.sort(firsts))) if len(firsts) < keys.num_rows else keys
        for batch in self._connector.lookup_batch(self._copy.binding, distinct):
            yield self._rows.digest(batch)

    def _ruled_rows(self, asked: DigestBatch) -> Iterator[DigestBatch]:
        """Where rules make several keys of the table one key: the rows of all that the index knows under it, too."""
        wanted = {digest.tobytes() for digest in asked.key_digests}
        locators = {locator for held in self._index.locators(wanted).values() for locator in held}
        locators.update(locator.as_py() for locator in asked.locators)
        values = [key_values(locator, self._copy.profile) for locator in sorted(locators)]
        for batch in self._connector.lookup(self._copy.binding, values):
            yield self._rows.digest(batch)


def _key_profile(profile: Profile) -> Profile:
    """The key alone as a profile: it gives the same key digests and locators."""
    return replace(profile, columns={name: profile.columns[name] for name in profile.key}, ignored=())
