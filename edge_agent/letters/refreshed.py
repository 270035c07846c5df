"""Dead letters of an index that follows its source: changed rows that do not fit, and those that fit again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa

from edge_agent.letters.found import Found, identity_of, key_identity, rows_found
from edge_agent.letters.store import LetterStore
from paritree.core.digest import DatasetKeys
from paritree.core.digester import DeadRow
from paritree.core.placed import Placed

REFRESH: Final = "refresh"
"""What a letter says in place of the id of a sweep."""


class RefreshLetters:
    """The letters of one dataset's changed rows. Raises SourceError where the store cannot take them."""

    def __init__(self, store: LetterStore, dataset: str, keys: DatasetKeys) -> None:
        self._store = store
        self._dataset = dataset
        self._keys = keys
        self._reading = threading.local()  # each thread reads the rows of its own keys

    def read(self, batch: pa.RecordBatch | Placed, dead: Sequence[DeadRow]) -> None:
        """Take the dead rows of a batch that was read again, before the next one is."""
        taken: list[Found] = getattr(self._reading, "found", [])
        self._reading.found = [*taken, *rows_found(self._keys, batch, dead, "changed")]

    def done(self, asked: Iterable[bytes]) -> None:
        """The rows of these keys (locators) were read: keep what was taken, and end the letters of the others."""
        found: list[Found] = getattr(self._reading, "found", [])
        self._reading.found = []
        if found:
            self._store.take(self._dataset, REFRESH, found)
        still = {one.identity for one in found}
        before = self._store.keyed(self._dataset)
        if before.keys() - still:
            again = {identity_of(self._keys, key_identity(locator)) for locator in asked} - still
            self._store.clear(before[identity] for identity in again & before.keys())
