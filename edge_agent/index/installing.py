"""A whole index from the runs of a whole scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from edge_agent.connectors.contract import Position
from edge_agent.index.changes import Reached, Rescanned
from edge_agent.index.disk import Disk
from edge_agent.index.layers import Layer
from edge_agent.index.marks import OTHER_REASONS, SHARDS_MAX, Reasons, reason_of
from edge_agent.index.recount import repeated_keys
from edge_agent.index.run import Run
from edge_agent.index.slices import netted, rows_between, slices
from edge_agent.index.state import HeldRun, HeldShard, Identity, State
from edge_agent.index.tally import Tally, counted
from paritree.core.errors import InvariantBroken


def installed(disk: Disk, identity: Identity, shards: Sequence[Rescanned], digester: str) -> State:
    """The state of an index that has these shards and nothing else. Raises InvariantBroken, SourceError."""
    if len({shard.name for shard in shards}) < len(shards) or not all(shard.name for shard in shards):
        raise InvariantBroken("every shard of an index has a name of its own")
    if len(shards) >= SHARDS_MAX:
        raise InvariantBroken(f"an index has fewer than {SHARDS_MAX} shards")
    tally = Tally()
    held: dict[int, HeldShard] = {}
    layers: list[Layer] = []
    for number, one in enumerate(shards):
        run = Run(one.result.run_path, disk.key)
        tally.sums, tally.probe = tally.sums.plus(one.result.sums), tally.probe.plus(one.result.probe)
        tally.dead += dead_of(run)
        held[number] = held_shard(number, one, run)
        layers.append(Layer(run, number))
    return State(
        identity=identity,
        engine="",
        reached=Reached(Position("", point=False)),
        shards=held,
        sums=tally.sums,
        probe=tally.probe,
        dead=counted(tally.dead, {}),
        duplicates=_duplicates(layers, digester),
        next_shard=len(shards),
    )


def held_shard(number: int, one: Rescanned, run: Run, floor: int = 0) -> HeldShard:
    """A shard as its scan left it."""
    return HeldShard(
        id=number,
        name=one.name,
        shard=one.shard,
        run=HeldRun(run.path.name, run.rows, run.checksum),
        sum=one.result.sums.root,
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


def keyless_of(one: Rescanned, keyed: Mapping[str, int]) -> dict[str, int]:
    """The dead letters without a readable key, by reason: what is left of all."""
    rest = Counter(one.result.reasons)
    rest.subtract(keyed)
    left = {reason: count for reason, count in rest.items() if count > 0}
    if sum(left.values()) != one.result.dead_keyless:  # more reasons than a run tells apart
        return {OTHER_REASONS: one.result.dead_keyless} if one.result.dead_keyless else {}
    return left


def _duplicates(layers: Sequence[Layer], digester: str) -> int:
    total = 0
    for first, end in slices(layers):
        rows = rows_between(layers, first, end, Reasons())
        total += repeated_keys(netted(rows, digester, by_shard=True, by_locator=False))
    return total
