"""Regions whose indexes are made of random digests: no source and no scan, but the real answers, codec and ledger.

Column digests are made up too: of a changed row those of so many columns follow the row digest, all others the key.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from edge_agent.build import Copy
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.index.index import Index
from edge_agent.index.run import Run, RunRows, write_run
from edge_agent.looking import Wanted
from edge_agent.parts import list_parts, node_parts, sketch_parts
from edge_agent.sketching import probe_of
from edge_agent.telling import Teller, detail_parts
from paritree.core.digest import DatasetKeys
from paritree.core.fast.sort import sort_run
from paritree.core.leaves import LeafSums, key_words, leaf_sums, row_words
from paritree.core.messages import (
    AskAgain,
    AskChildren,
    AskDetail,
    AskLists,
    AskSketch,
    Begin,
    DatasetOffer,
    End,
    Ended,
    Header,
    Hello,
    Look,
    Ready,
    ReplyBody,
    Request,
)
from paritree.core.profile import CANONICAL_VERSION, Binding, Profile
from paritree.core.shown import K_BYTES
from paritree.core.sketch import empty_probe
from paritree.core.types import parse_type

U8 = np.ndarray[Any, np.dtype[np.uint8]]
SHARD_ROWS = 1_000_000
SWEEP = "bench"


def profile_of(columns: int) -> Profile:
    """So many columns, of which the first is the key."""
    return Profile(SWEEP, ("c00",), {f"c{i:02}": parse_type("int") for i in range(columns)})


KEYS = DatasetKeys.of(bytes(range(32)), SWEEP)


@dataclass(frozen=True, slots=True)
class Columns:
    """``count`` columns; of a changed row "one" or "three" differ, always the same, any one in "each", or any three in
    "several"."""

    count: int = 10
    changed: str = "one"

    def differing(self, key_digest: bytes) -> frozenset[int]:
        """The places of the columns that differ in a changed row."""
        first = key_digest[-1] % (self.count - 1)
        apart = {"one": (-first,), "three": (-first, 1 - first, 2 - first), "each": (0,), "several": (0, 1, 3)}
        return frozenset(1 + (first + step) % (self.count - 1) for step in apart[self.changed])

    def digests(self, key_digest: bytes, row_digest: bytes, *, is_changed: bool) -> tuple[bytes, ...]:
        own = self.differing(key_digest)
        words = [key_digest + (row_digest if is_changed and i in own else b"") for i in range(self.count)]
        return tuple(hashlib.blake2b(word, digest_size=8, salt=bytes([i])).digest() for i, word in enumerate(words))


@dataclass(frozen=True, slots=True)
class Looking(Teller):
    """Looks at keys that are read now as they are indexed."""

    columns: Columns = field(default_factory=Columns)
    edited: frozenset[bytes] = frozenset()

    def _look(self, wanted: Wanted) -> dict[bytes, Look]:
        ks = {*wanted.ks, *(int.from_bytes(name[:K_BYTES], "big") for name in wanted.names)}
        looks: dict[bytes, Look] = {}
        for entry in self.index.find(sorted(ks)):
            key, row = entry.key_digest, entry.row_digest
            digests = self.columns.digests(key, row, is_changed=key in self.edited)
            looks[key] = Look(key, (row,), (row,), columns=digests)
        absent = (name for name in wanted.names if len(name) > K_BYTES and name not in looks)
        return {**looks, **{name: Look(name) for name in absent}}


class SyntheticAgent:
    """An agent whose index was made of digests; ``edited`` are the key digests of rows that are changed somewhere."""

    def __init__(self, region: str, index: Index, columns: Columns, edited: frozenset[bytes] = frozenset()) -> None:
        profile = profile_of(columns.count)
        same = (SWEEP, profile.profile_id, CANONICAL_VERSION, KEYS.key_id)
        self._hello = Hello(region, "a1", "i1", (DatasetOffer(*same),))
        self.header = Header(*same, SWEEP, "synthetic")
        self.index = index
        copy = Copy(Source("memory://none"), profile, Binding(SWEEP, "none", ("c00",), ()), KEYS)
        self._teller = Looking(copy, self.index, SerialExecutor, columns=columns, edited=edited)

    def hello(self) -> Hello:
        return self._hello

    async def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        match request.body:
            case Begin():
                root = self.index.sums.root
                yield Ready(self.header, "synthetic", root.count, root.r, root.r2, self.index.probe, True, 0.0)
            case AskChildren() as ask:
                for part in node_parts(self.header, self.index, ask):
                    yield part
            case AskSketch() as ask:
                for part in sketch_parts(self.header, self.index, ask):
                    yield part
            case AskLists() as ask:
                for part in list_parts(self.header, self.index, ask):
                    yield part
            case AskDetail() | AskAgain() as ask:
                for part in detail_parts(self.header, self._teller.answer(ask)):
                    yield part
            case End():
                yield Ended()


def index_of(keys: U8, rows: U8, spool: Path) -> Index:
    """An index of those digests, its runs in a new folder."""
    spool.mkdir()
    sums, probe, runs = LeafSums.zero(12), empty_probe(), []
    for number, first in enumerate(range(0, max(1, len(keys)), SHARD_ROWS)):
        locators = pa.array([b""] * len(keys[first : first + SHARD_ROWS]), pa.large_binary())
        shard = RunRows(*sort_run(keys[first : first + SHARD_ROWS], rows[first : first + SHARD_ROWS], locators))
        k, (r, r2) = key_words(shard.key_digests), row_words(shard.row_digests)
        sums, probe = sums.plus(leaf_sums(k, r, r2, 12)), probe.plus(probe_of(k, r, "compiled"))
        write_run(spool / f"{number}.run", shard)
        runs.append(Run(spool / f"{number}.run"))
    return Index(runs, sums, probe)


@dataclass(frozen=True, slots=True)
class Planted:
    """Key and row digests of the region that deviates, and the keys whose rows it has changed or lacks."""

    keys: U8
    rows: U8
    changed: frozenset[bytes]
    missing: frozenset[bytes]


def digests(rows: int) -> tuple[U8, U8]:
    """Random key and row digests, the same for the same number."""
    chance = np.random.default_rng(rows)
    keys, digests = (chance.integers(0, 256, (rows, 16), np.uint8) for _ in range(2))
    return keys, digests


def planted(keys: U8, rows: U8, differences: int, lost_percent: int = 40) -> Planted:
    """A copy of which so many rows deviate: by default 60 % are changed, 40 % are missing."""
    chance = np.random.default_rng(differences)
    at = chance.choice(len(keys), differences, replace=False)
    edits, gone = np.split(at, [differences * (100 - lost_percent) // 100])
    mine = rows.copy()
    mine[edits] = chance.integers(0, 256, (len(edits), 16), np.uint8)
    kept = np.ones(len(keys), bool)
    kept[gone] = False
    return Planted(keys[kept], mine[kept], _set(keys[edits]), _set(keys[gone]))


def _set(keys: U8) -> frozenset[bytes]:
    return frozenset(map(bytes, keys))
