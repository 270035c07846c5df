"""Dead rows of a kept index whose letters have ended, as they do after ``paritree dlq replay``.

A letter ends in the store, which processes beside the agent use as well, and the index still counts the row. So before
an index is used the two are compared::

    a dead row whose letter is not in the store    its key is read again: it is a good row, or has a letter again
    dead rows without a key, and no such letter    their shards have to be scanned again

While rows stay as bad as they are their letters stay, too, and nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from edge_agent.build import Copy
from edge_agent.connections import connections_of
from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.contract import LOOKUP_KEYS
from edge_agent.connectors.registry import connect
from edge_agent.digesters import open_digester
from edge_agent.index.changes import Changes
from edge_agent.index.durable import DurableIndex
from edge_agent.index.letters import DeadRow, dead_rows
from edge_agent.letters.found import identity_of, key_identity
from edge_agent.letters.store import Listed
from edge_agent.letters.sweep import SweepLetters
from paritree.core import limits
from paritree.core.digester import DigestBatch
from paritree.core.display import key_values


class EndedLetters:
    """Compares the dead rows of one index with the letters. For one thread at a time.

    ``by_shard``: its shards are scanned alone, and nothing else is put into it. ``told`` hears how many keys moved.
    """

    def __init__(self, copy: Copy, index: DurableIndex, *, by_shard: bool, told: Callable[[int], None]) -> None:
        self._copy = copy
        self._index = index
        self._by_shard = by_shard
        self._told = told
        self._agreed: tuple[str, Listed] | None = None

    def due(self, letters: SweepLetters) -> frozenset[str]:
        """Put rows that are good by now into the index; ``by_shard`` the shards to be scanned for it instead.

        Nothing is read without dead rows, or while they and the letters are the same. Raises RescanNeeded for rows
        without a key, SourceError, and ConfigError or SchemaDrift where the table is another one by now.
        """
        view = self._index.view()
        state = view.state
        keyless = frozenset(held.name for held in state.scanned if sum(held.keyless.values()))
        if not keyless and not sum(state.dead.values()):
            return frozenset()
        listed = letters.listed()
        if listed is None or listed.full or (state.sums_file, listed) == self._agreed:
            return frozenset()
        missing = [row for row in dead_rows(view) if self._identity(row) not in listed.keyed]
        missing = missing[: limits.LETTERS_MAX]  # as many letters as can have ended at once
        again = keyless if not listed.keyless else frozenset()
        if again and not self._by_shard:
            raise RescanNeeded("dead letters have ended of rows without a key, which only a scan finds again")
        if not missing and not again:
            self._agreed = state.sums_file, listed
        changes = self._read(letters, missing)
        if self._by_shard:
            good = {key.tobytes() for key in changes.keys}
            return again.union(state.shards[row.shard].name for row in missing if row.key in good)
        if len(changes):
            self._take_over(changes)
        return frozenset()

    def _take_over(self, changes: Changes) -> None:
        """Put them into the index, which is of no one position then."""
        reached = self._index.reached
        position = replace(reached.position, point=False)
        keys = self._index.apply(changes, replace(reached, position=position, as_of=None)).keys
        self._index.note(f"{keys} rows were read again later, as their dead letters had ended")
        self._told(keys)

    def _identity(self, row: DeadRow) -> bytes:
        return identity_of(self._copy.keys, key_identity(row.locator))

    def _read(self, letters: SweepLetters, rows: Sequence[DeadRow]) -> Changes:
        """The rows that those keys have now, but keys with a dead row: they have their letters again."""
        kept = letters.by_key()
        if not rows or kept is None:
            return Changes.of((), ())
        copy, keys = self._copy, {row.key for row in rows}
        locators = sorted({one for some in self._index.locators(keys).values() for one in some})
        digester = open_digester(copy.digester, copy.profile, copy.keys)
        connections = connections_of(copy.source.url, copy.throttle.connections_max)
        read: list[DigestBatch] = []
        with connections.one(), connect(copy.source) as connector:
            letters.described(connector, copy.binding)
            for first in range(0, len(locators), LOOKUP_KEYS):
                asked = [key_values(one, copy.profile) for one in locators[first : first + LOOKUP_KEYS]]
                for batch in connector.lookup(copy.binding, asked):
                    read.append(digester.digest(batch))
                    kept.read(batch, read[-1].dead)
        kept.done(locators)
        found = Changes.of(keys, read)
        return Changes.of(keys - {found.key_digests[row].tobytes() for row in found.dead}, read)
