"""What a durable index is at one moment: its files, sums and marks. Immutable; every step makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from edge_agent.connectors.contract import Position, Shard
from edge_agent.index.changes import Reached
from edge_agent.index.marks import LOOSE
from paritree.core.leaves import LeafSums, NodeSum
from paritree.core.sketch import Probe

FORMAT: Final = 1
"""Version of the files; another one is rebuilt."""
EMPTY: Final = NodeSum(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Identity:
    """What an index is of. With anything of it changed, its digests mean something else, and it is rebuilt.

    ``source_id`` stands for the address of the source. ``ruled``: a rule changes key values, so that several keys of
    the source may be one here, and a row is told apart by its locator too.
    """

    dataset: str
    profile_id: bytes
    canonical_version: int
    binding_id: bytes
    key_id: bytes
    source_id: bytes
    ruled: bool = False
    format: int = FORMAT

    def changed(self, now: Identity) -> str:
        """Why an index of this identity cannot serve as one of ``now``; "" where it can."""
        told = {
            "format": f"it has format {self.format}, this version writes {now.format}",
            "dataset": f"it is of dataset {self.dataset}",
            "canonical_version": f"it has canonical version {self.canonical_version}",
            "key_id": "the master key was changed",
            "profile_id": "the profile was changed: columns, types, rules or key",
            "binding_id": "the binding was changed: table, columns or options",
            "source_id": "the connection leads to another address",
            "ruled": "the rules of key columns were changed",
        }
        return next((why for name, why in told.items() if getattr(self, name) != getattr(now, name)), "")


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run file of the index: its name in the folder, its rows, and the checksum that its header must have."""

    file: str
    rows: int
    checksum: bytes


@dataclass(frozen=True, slots=True)
class HeldShard:
    """A shard: its own run and what the index has of it with all changes (``sum``). One that is no more has no name.

    Changes numbered below ``floor`` say nothing of it any more. ``keyless`` are its dead letters without a readable
    key, by reason. ``checked_at`` (seconds since 1970) is when its rows were last compared with the source or its run
    with its sum.
    """

    id: int
    name: str
    shard: Shard
    run: HeldRun | None
    sum: NodeSum = EMPTY
    floor: int = 0
    as_of: float = 0.0
    keyless: Mapping[str, int] = field(default_factory=dict)
    checked_at: float = 0.0


@dataclass(frozen=True, slots=True)
class HeldChanges:
    """A run of changes and its number, which meets the floors of shards."""

    number: int
    run: HeldRun


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that was found wrong and is not repaired yet: until then nothing here is called equal.

    ``place`` is a shard's name, or what else was looked at; ``at`` is seconds since 1970.
    """

    place: str
    reason: str
    at: float


LOOSE_SHARD: Final = HeldShard(LOOSE, "", Shard(-1, "rows that came with changes", {}), None)


@dataclass(frozen=True, slots=True)
class State:
    """All of it. ``dead`` counts dead letters with a readable key by reason, ``duplicates`` keys that occur repeatedly.

    ``built_at`` and ``scan_s`` are of the last whole scan. ``next_file``, ``next_number`` and ``next_shard`` are not
    used yet. ``notes`` are for reports, ``plan`` is the connector's memento of the plan that cut the shards.
    """

    identity: Identity
    engine: str
    reached: Reached
    shards: Mapping[int, HeldShard]
    sums: LeafSums
    probe: Probe
    sums_file: str = ""
    sums_checksum: bytes = b""
    changes: tuple[HeldChanges, ...] = ()
    dead: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    plan: Mapping[str, Any] | None = None
    generation: int = 0
    built_at: float = 0.0
    scan_s: float = 0.0
    next_file: int = 1
    next_number: int = 1
    next_shard: int = 0

    @property
    def rows(self) -> int:
        return self.sums.root.count

    @property
    def loose(self) -> HeldShard:
        return self.shards.get(LOOSE, LOOSE_SHARD)

    @property
    def as_of(self) -> float:
        """The moment for which all of it is proven: that of the changes, else of the oldest shard."""
        if self.reached.as_of is not None:
            return self.reached.as_of
        return min((shard.as_of for shard in self.scanned), default=0.0)

    @property
    def scanned(self) -> list[HeldShard]:
        """The shards that are there: not the rows that came with changes, nor those that are no more."""
        return [shard for shard in self.shards.values() if shard.name]

    @property
    def position(self) -> Position:
        return self.reached.position

    @property
    def files(self) -> set[str]:
        """Every file that it needs beside the manifest."""
        runs = [shard.run for shard in self.shards.values()] + [held.run for held in self.changes]
        return {run.file for run in runs if run is not None} | {self.sums_file}

    def named(self, name: str) -> HeldShard | None:
        """The shard of that name."""
        return next((shard for shard in self.scanned if shard.name == name), None)
