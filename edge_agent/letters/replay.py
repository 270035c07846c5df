"""Dead letters tried again: read what they stand for, canonicalise it once more, and end those that work now.

A row whose key is known is read by key. Rows without a readable key, and parts of a table that could not be read, are
found again by reading the table as a sweep does; its runs are thrown away. A changed schema is accepted as it is by
then, if it fits the dataset. What still fails stays, with the time at which it was last seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.build import Copy, build_index
from edge_agent.connections import connections_of
from edge_agent.connectors.registry import connect
from edge_agent.executors import Executor
from edge_agent.kept import discard
from edge_agent.letters.found import Found, opened, rows_found
from edge_agent.letters.store import Kept, LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.looking import LOOKUP_KEYS_MAX
from paritree.core.deadletters import LetterKind
from paritree.core.digester import PlainDigester
from paritree.core.display import key_values
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Progress


def untold(*_: object) -> None:
    """Nobody watches the progress."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Tries letters of one dataset again. ``spool`` is a folder for runs, ``name`` stands for a sweep's id."""

    store: LetterStore
    copy: Copy
    executor: Executor
    spool: Path
    name: str
    progress: Callable[[Progress], None] = untold

    def run(self, letters: Sequence[Kept]) -> list[str]:
        """The ids of the letters that ended. Raises SourceError where the source cannot be read at all."""
        before = {kept.letter.id for kept in letters}
        schema = [kept for kept in letters if kept.letter.kind is LetterKind.SCHEMA]
        by_key = [kept for kept in letters if self._readable_by_key(kept)]
        if schema:
            self._accept_schema()
        self._read_rows(by_key)
        if len(schema) + len(by_key) < len(letters):
            self._read_table()
        return sorted(before - {letter.id for letter in self.store.letters(self.copy.profile.dataset)})

    def _readable_by_key(self, kept: Kept) -> bool:
        """Not where its payload is gone (discarded), or sealed under a key that has been replaced."""
        known = kept.sealed is not None and kept.key_id == self.copy.keys.key_id
        return kept.letter.kind is LetterKind.ROW and kept.letter.keyed and known

    def _sweep(self) -> SweepLetters:
        return SweepLetters(self.store, self.copy.profile, self.copy.keys, self.name)

    def _accept_schema(self) -> None:
        try:
            with connect(self.copy.source) as connector:
                self._sweep().accept(connector, self.copy.binding)
        except ConfigError:  # it does not fit: what its letter says is still so
            return

    def _read_table(self) -> None:
        try:
            build_index(self.copy, self.executor, self.spool, self.progress, self._sweep())
        except (SourceError, ConfigError) as error:
            if error.retryable:
                raise  # the source is away: nothing is known of the letters; what is for good has become one
        finally:
            discard(self.spool)

    def _read_rows(self, letters: Sequence[Kept]) -> None:
        """Point reads of the keys. A key without a row any more has no letter either."""
        copy = self.copy
        keyed = {self._locator(kept): kept for kept in letters}
        digester = PlainDigester(copy.profile, copy.keys, os.urandom)
        connections = connections_of(copy.source.url, copy.throttle.connections_max)
        locators = sorted(keyed)
        for first in range(0, len(locators), LOOKUP_KEYS_MAX):
            asked = locators[first : first + LOOKUP_KEYS_MAX]
            keys = [key_values(locator, copy.profile) for locator in asked]
            still: list[Found] = []
            with connections.one(), connect(copy.source) as connector:
                for batch in connector.lookup(copy.binding, keys):
                    dead = [one for one in digester.digest(batch).dead if one.locator in keyed]
                    still += rows_found(copy.keys, batch, dead, "read by key")
            self.store.take(copy.profile.dataset, self.name, still)
            failing = {found.identity for found in still}
            self.store.clear(keyed[one].letter.id for one in asked if keyed[one].identity not in failing)
            self.progress(Progress(0, 0, min(first + LOOKUP_KEYS_MAX, len(locators))))

    def _locator(self, kept: Kept) -> bytes:
        payload = opened(self.copy.keys, kept.key_id, kept.identity, kept.sealed or b"")
        return bytes.fromhex(payload["key"])
