"""What refreshing hands to a durable index: keys that were read again, shards that were scanned again, how far it came.

A change source only says which keys are dirty; their rows are read again *after* that and handed in whole::

    dirty keys ──► lookup ──► Changes(every asked key, the rows it has now) ──► DurableIndex.apply
    old shards ──► scan ────► Rescanned(a run of all its rows) ───────────────► DurableIndex.replace

Applying the same changes twice is applying them once, and rows that are newer than the change that asked for them are
right as well. An index of an engine without a change source has shards only, and each has its own age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa

from edge_agent.connectors.contract import Position, Shard
from edge_agent.index.digests import NO_DIGESTS, as_digests, distinct, places
from paritree.core.digester import DigestBatch
from paritree.core.leaves import U8, NodeSum

if TYPE_CHECKING:
    from edge_agent.scan import ShardResult


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the source has been followed.

    ``position`` is for people; ``cursor`` is what the change source resumes from, opaque to the index and kept with it
    in one atomic step. ``as_of`` (seconds since 1970) is a moment at which nothing was ahead of the cursor: everything
    committed before it is in the index. None where more changes are known to wait: the age goes on growing.
    """

    position: Position
    cursor: bytes = b""
    as_of: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that were read again: ``keys`` (n, 16) uint8, distinct and ascending, and every row that they have now.

    ``key_digests``, ``row_digests`` (m, 16) and ``locators`` are rows of those keys only; a key without a row is gone,
    a key with several has them all here. ``dead`` are the reasons of dead letters among the rows, by row.
    """

    keys: U8
    key_digests: U8
    row_digests: U8
    locators: pa.LargeBinaryArray
    dead: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[bytes] | U8, batches: Iterable[DigestBatch]) -> Changes:
        """From the digests of the keys that were asked for, and what a digester made of the rows that came back.

        Rows of other keys are dropped: a look-up may return more than was asked for. Raises InvariantBroken for keys
        that are no digests.
        """
        asked = distinct(as_digests(keys))
        parts: list[tuple[U8, U8, pa.Array]] = [(NO_DIGESTS, NO_DIGESTS, pa.array([], pa.large_binary()))]
        dead: dict[int, str] = {}
        rows = 0
        for batch in batches:
            wanted = places(asked, batch.key_digests) >= 0
            place = np.cumsum(wanted) - 1 + rows
            for at, reason in dead_rows(batch).items():
                if wanted[at]:
                    dead[int(place[at])] = reason
            parts.append(
                (batch.key_digests[wanted], batch.row_digests[wanted], batch.locators.filter(pa.array(wanted)))
            )
            rows += int(wanted.sum())
        key_digests, row_digests = (np.concatenate([part[i] for part in parts]) for i in range(2))
        return cls(asked, key_digests, row_digests, pa.concat_arrays([part[2] for part in parts]), dead)

    def __len__(self) -> int:
        return len(self.keys)


def dead_rows(batch: DigestBatch) -> dict[int, str]:
    """Which of a batch's digests are those of dead letters, and why; keyless ones have no digests."""
    dead: dict[int, str] = {}
    keyless = 0
    for letter in sorted(batch.dead, key=lambda letter: letter.row):
        if letter.locator is None:
            keyless += 1
        else:
            dead[letter.row - keyless] = letter.reason
    return dead


@dataclass(frozen=True, slots=True)
class ScannedShard:
    """A shard and the run of all its rows, whose digests add up to ``sum``.

    ``name`` is how the shard is known to the index, whatever its number in a plan. ``as_of`` (seconds since 1970) is
    when its scan began. ``reasons`` count its dead letters, of which ``keyless`` have no readable key.
    """

    name: str
    shard: Shard
    as_of: float
    run_path: Path
    sum: NodeSum
    reasons: Mapping[str, int] = field(default_factory=dict)
    keyless: int = 0

    @classmethod
    def of(cls, name: str, shard: Shard, result: ShardResult, as_of: float) -> ScannedShard:
        """From what ``scan_shard`` returned."""
        root, shard = result.sums.root, replace(shard, content=result.content)
        return cls(name, shard, as_of, result.run_path, root, dict(result.reasons), result.dead_keyless)


@dataclass(frozen=True, slots=True)
class Rescanned:
    """A shard that was scanned again, in full: ``result`` is what ``scan_shard`` returned for a run of this index.

    ``name`` and ``as_of`` as in :class:`ScannedShard`.
    """

    name: str
    shard: Shard
    result: ShardResult
    as_of: float

    @property
    def scanned(self) -> ScannedShard:
        """The shard alone."""
        return ScannedShard.of(self.name, self.shard, self.result, self.as_of)


@dataclass(frozen=True, slots=True)
class ShardState:
    """What an index knows of one of its shards. ``shard`` is as it was when it was scanned; ``rows`` are those now."""

    name: str
    shard: Shard
    rows: int
    as_of: float


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying changed: keys whose rows were not those of the index already, rows added and taken away."""

    keys: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing changed, in rows.

    ``unsettled`` are keys (key digest -> locators) that a change has brought other rows for than the scan, and, where
    changes are applied at all, those that the scan no longer found or found while another shard has them: read them
    again and apply them.
    """

    added: int
    removed: int
    unsettled: Mapping[bytes, frozenset[bytes]]

    def plus(self, other: Replaced) -> Replaced:
        """Both together."""
        return Replaced(self.added + other.added, self.removed + other.removed, {**self.unsettled, **other.unsettled})


class Refreshable(Protocol):
    """A durable index as those see it who follow its source; ``edge_agent.index.durable.DurableIndex``.

    Every call that changes something is one atomic step on disk, and may be repeated. Thread-safe.
    """

    @property
    def reached(self) -> Reached:
        """How far it came, as of the last step."""

    @property
    def shards(self) -> Mapping[str, ShardState]:
        """The shards that were scanned, by name."""

    def apply(self, changes: Changes, reached: Reached | None = None) -> Applied:
        """Take over keys that were read again; ``reached`` where this batch completes what led up to it."""

    def advance(self, reached: Reached) -> None:
        """Nothing (more) changed up to there."""

    def run_path(self) -> Path:
        """Where the next run is to be written (``ScanTask.run_path``), on the disk of the index."""

    def replace(
        self, shards: Sequence[Rescanned], *, dropped: Sequence[str] = (), reached: Reached | None = None
    ) -> Replaced:
        """Replace what shards of those names hold (or add new ones) and forget the dropped ones, all at once."""

    def locators(self, keys: Iterable[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """The locators that the index has for key digests."""
