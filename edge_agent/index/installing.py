"""A whole index from the runs of a whole scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.connectors.contract import Position
from edge_agent.index.changes import Reached, ScannedShard
from edge_agent.index.layers import Layer
from edge_agent.index.marks import OTHER_REASONS, SHARDS_MAX, Reasons, reason_of
from edge_agent.index.recount import repeated_keys
from edge_agent.index.run import Run
from edge_agent.index.shelf import Shelf
from edge_agent.index.slices import netted, rows_between, slices
from edge_agent.index.state import HeldRun, HeldShard, Identity, State
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import LeafSums
from paritree.core.sketch import Probe


@dataclass(frozen=True, slots=True)
class Scan:
    """A whole scan: its shards, whose runs are in the folder of the index or below it, and what they add up to.

    ``plan`` is the memento of the plan that cut the shards, which are all that it had, first ones first.
    """

    shards: Sequence[ScannedShard]
    sums: LeafSums
    probe: Probe
    plan: Mapping[str, Any] | None = None


def installed(shelf: Shelf, identity: Identity, scan: Scan) -> State:
    """The state of an index that has these shards and nothing else. Their runs have new names; not synced yet.

    Raises InvariantBroken, SourceError.
    """
    shards = scan.shards
    if len({shard.name for shard in shards}) < len(shards) or not all(shard.name for shard in shards):
        raise InvariantBroken("every shard of an index has a name of its own")
    if len(shards) >= SHARDS_MAX:
        raise InvariantBroken(f"an index has fewer than {SHARDS_MAX} shards")
    held: dict[int, HeldShard] = {}
    layers: list[Layer] = []
    dead: Counter[str] = Counter()
    for number, one in enumerate(shards):
        name = shelf.new_file("run")
        is_scanned = one.run_path.parent == shelf.scan_folder  # where it stays, should this come to nothing
        (shelf.disk.link if is_scanned else shelf.disk.rename)(str(one.run_path.relative_to(shelf.disk.folder)), name)
        run = Run(shelf.disk.folder / name, shelf.disk.key)
        dead += dead_of(run)
        held[number] = held_shard(number, one, run)
        layers.append(Layer(run, number))
    return State(
        identity=identity,
        engine="",
        reached=Reached(Position("", point=False)),
        shards=held,
        sums=scan.sums,
        probe=scan.probe,
        dead=dict(dead),
        duplicates=_duplicates(layers, shelf.digester),
        next_shard=len(shards),
        plan=scan.plan,
    )


def held_shard(number: int, one: ScannedShard, run: Run, floor: int = 0) -> HeldShard:
    """A shard as its scan left it."""
    return HeldShard(
        id=number,
        name=one.name,
        shard=one.shard,
        run=HeldRun(run.path.name, run.rows, run.checksum),
        sum=one.sum,
        floor=floor,
        as_of=one.as_of,
        keyless=keyless_of(one, dead_of(run)),
        checked_at=one.as_of,
    )


def dead_of(run: Run) -> Counter[str]:
    """The dead letters with a readable key of a shard's run, by reason."""
    if run.marks is None:
        return Counter()
    numbers = reason_of(run.marks.slice(0, run.rows))
    counts = np.bincount(numbers, minlength=len(run.reasons) + 1)
    return Counter({text: int(counts[i + 1]) for i, text in enumerate(run.reasons) if counts[i + 1]})


def keyless_of(one: ScannedShard, keyed: Mapping[str, int]) -> dict[str, int]:
    """The dead letters without a readable key, by reason: what is left of all."""
    rest = Counter(one.reasons)
    rest.subtract(keyed)
    left = {reason: count for reason, count in rest.items() if count > 0}
    if sum(left.values()) != one.keyless:  # more reasons than a run tells apart
        return {OTHER_REASONS: one.keyless} if one.keyless else {}
    return left


def _duplicates(layers: Sequence[Layer], digester: str) -> int:
    total = 0
    for first, end in slices(layers):
        rows = rows_between(layers, first, end, Reasons())
        total += repeated_keys(netted(rows, digester, by_shard=True, by_locator=False))
    return total
