"""Look at keys now: point reads of the keys that this region can find, a scan for those it cannot.

A key that another region holds and this one does not is known here only by its digest. Where the other region's
policy lets it travel sealed, it is read by key; otherwise the table's keys are scanned for the digest, so that
"missing" is never said without having looked.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from edge_agent.build import Copy
from edge_agent.connections import connections_of
from edge_agent.connectors.registry import connect
from edge_agent.executors import Executor
from edge_agent.index.copies import copies
from edge_agent.index.index import Entry, Index
from edge_agent.reading import looked_up
from edge_agent.seal import seal, unseal
from edge_agent.searching import search
from edge_agent.versions import Version, versions_of
from paritree.core.copies import folded
from paritree.core.digester import CanonicalRow, PlainDigester
from paritree.core.display import key_values
from paritree.core.merging_rules import Raw, raw_keys, rules
from paritree.core.messages import Look
from paritree.core.profile import Profile
from paritree.core.shown import K_BYTES

LOOKUP_KEYS_MAX: Final = 1_000
"""Keys of one look-up at the source: a statement of reasonable size for every engine."""


@dataclass(slots=True)
class Located:
    """Keys that this region can read by key: key digest -> locators (several where a rule merged keys)."""

    locators: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))

    def add(self, key_digest: bytes, locator: bytes) -> None:
        self.locators[key_digest].add(locator)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look at: every key held under ``ks``, and the keys of ``names``, wherever they are.

    A name is a key digest, or a k (8 bytes, big-endian) for any key under it. ``sealed`` are keys as other regions
    sealed them, ``seal``: seal the keys that are held.
    """

    ks: Sequence[int] = ()
    names: Sequence[bytes] = ()
    sealed: Mapping[bytes, bytes] = field(default_factory=dict)
    seal: bool = False


def look(copy: Copy, index: Index, located: Located, executor: Executor, wanted: Wanted) -> list[Look]:
    """One look at every wanted key, with column digests; of a k under which nothing is found, none.

    Raises SourceError.
    """
    if copy.profile.whole_row:
        return _whole_rows(copy, index, located, executor, wanted)
    digests = [name for name in wanted.names if len(name) > K_BYTES]
    indexed = _indexed(index, located, wanted.ks, digests)
    for key_digest, ciphertext in wanted.sealed.items():
        if key_digest not in located.locators and _point_readable(copy):
            located.add(key_digest, unseal(copy.keys, key_digest, ciphertext))
    found: list[bytes] = []
    if lost := [name for name in wanted.names if name not in located.locators]:
        for match in search(copy, executor, lost):
            located.add(match.key_digest, match.locator)
            found.append(match.key_digest)
    seen = list(dict.fromkeys([*indexed, *digests, *found]))
    fresh = read_now(copy, {k: located.locators[k] for k in seen if k in located.locators})
    return [_look(copy, wanted, k, indexed.get(k, ()), fresh.get(k, ())) for k in seen]


def _indexed(
    index: Index, located: Located, ks: Sequence[int], digests: Sequence[bytes]
) -> Mapping[bytes, Sequence[Entry]]:
    """The indexed rows under those ks, and of those keys that were not read before."""
    indexed: dict[bytes, list[Entry]] = defaultdict(list)
    unread = {digest for digest in digests if digest not in located.locators}
    under = set(ks)
    for entry in index.find(sorted(under.union(int.from_bytes(digest[:K_BYTES], "big") for digest in unread))):
        if entry.key_digest in unread or int.from_bytes(entry.key_digest[:K_BYTES], "big") in under:
            indexed[entry.key_digest].append(entry)
            located.add(entry.key_digest, entry.locator)
    return indexed


def _whole_rows(copy: Copy, index: Index, located: Located, executor: Executor, wanted: Wanted) -> list[Look]:
    """Without a key no row can be read by itself: the table is scanned once, and the copies of each row are counted."""
    digests = [name for name in wanted.names if len(name) > K_BYTES]
    unread = [digest for digest in digests if digest not in located.locators]
    under = {*wanted.ks, *(int.from_bytes(digest[:K_BYTES], "big") for digest in unread)}
    indexed = copies(index, under)
    for key_digest, held in indexed.items():
        located.locators[key_digest] |= held.locators
    rows: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for match in search(copy, executor, [*indexed, *wanted.names]):
        located.add(match.key_digest, match.locator)
        rows[match.key_digest][match.row_digest] += match.copies
    return [
        Look(k, folded(indexed[k].rows if k in indexed else ()), folded(rows.get(k, ())))
        for k in dict.fromkeys([*indexed, *digests, *rows])
    ]


def _point_readable(copy: Copy) -> bool:
    """Whether another region's locator finds the row here too: not where a rule changes key values."""
    return all(copy.profile.columns[name] == copy.profile.columns[name].bare for name in copy.profile.key)


def _look(copy: Copy, wanted: Wanted, key_digest: bytes, indexed: Sequence[Entry], rows: Iterable[Seen]) -> Look:
    rows = list(rows)
    single = rows[0] if len(rows) == 1 and not rows[0].row.dead else None
    newest = max((seen.version for seen in rows if seen.version is not None), default=None, key=lambda one: one.at)
    return Look(
        key_digest=key_digest,
        indexed=folded(entry.row_digest for entry in indexed),
        fresh=folded(seen.row.row_digest for seen in rows if not seen.row.dead),
        dead=next((seen.row.dead for seen in rows if seen.row.dead), ""),
        columns=single.columns if single else (),
        version=None if newest is None else newest.at,
        shifted=single.shifted if single else (),
        whole=single is not None and newest is not None and newest.whole,
        sealed=seal(copy.keys, key_digest, indexed[0].locator) if wanted.seal and indexed else b"",
        merged=merged(copy.profile, rows),
    )


def merged(profile: Profile, rows: Sequence[Seen]) -> tuple[str, ...]:
    """The rules that made one key of those rows' keys."""
    if len(rows) < 2:
        return ()
    return rules(profile, [(seen.row.locator, seen.raw) for seen in rows if seen.row.locator is not None])


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as read now, with its version, its column digests, and those on the shifted grid; ``raw`` is its key."""

    row: CanonicalRow
    raw: Raw = ()
    version: Version | None = None
    columns: tuple[bytes, ...] = ()
    shifted: tuple[bytes, ...] = ()


def read_now(copy: Copy, locators: Mapping[bytes, Iterable[bytes]]) -> dict[bytes, list[Seen]]:
    """The present rows of those keys; a row whose recomputed key digest was not asked for is dropped."""
    digester = PlainDigester(copy.profile, copy.keys, os.urandom)
    distinct = sorted({locator for found in locators.values() for locator in found})
    seen: dict[bytes, list[Seen]] = defaultdict(list)
    if not distinct:
        return seen
    connections = connections_of(copy.source.url, copy.throttle.connections_max)
    with connections.one(), connect(copy.source) as connector:
        for first in range(0, len(distinct), LOOKUP_KEYS_MAX):
            keys = [key_values(locator, copy.profile) for locator in distinct[first : first + LOOKUP_KEYS_MAX]]
            for batch in looked_up(connector, copy.binding, keys):
                raws = raw_keys(copy.profile, batch)
                for row, raw, version in zip(digester.rows(batch), raws, versions_of(copy, batch), strict=True):
                    if row.locator is not None and row.key_digest in locators:
                        digests = () if row.dead else (digester.column_digests(row), digester.shifted_digests(row))
                        seen[row.key_digest].append(Seen(row, raw, version, *digests))
    return seen
