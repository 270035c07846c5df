"""Small runs of changes are merged into larger ones, and at last into the runs of their shards.

Four runs of changes of about one size become one of the next size, so a change is written about log4(n) times. When
changes have grown to a quarter of the rows below them they are *folded*: each shard with pending changes gets a new run
of its own, and the rows that lie in no known shard get one as well. Merging goes by slices, so its memory is flat; it
runs beside everything else, and only the exchange of files is a step of the index.

Every input is checked against its checksum first: a flipped byte must not be copied into a run that looks whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from edge_agent.index.durable import DurableIndex
from edge_agent.index.layers import Layer
from edge_agent.index.marks import LOOSE, Reasons, marks, shard_of
from edge_agent.index.run import RunRows
from edge_agent.index.runwriter import RunWriter
from edge_agent.index.slices import netted, rows_between, slices
from edge_agent.index.state import HeldChanges, HeldRun, State
from edge_agent.index.tally import plus, shard_sums
from edge_agent.index.view import View
from paritree.core.errors import SourceError
from paritree.core.leaves import NodeSum

FAN_IN: Final = 4
"""Runs of one size that are merged into one."""
SMALLEST_ROWS: Final = 4_096
"""Runs below this are all of one size."""
RUNS_MAX: Final = 16
"""Runs of changes at most: every look-up searches each of them."""
FOLDED_ROWS_MIN: Final = 32_768
"""Fewer pending rows are not worth new runs of shards."""
FOLDED_SHARE: Final = 4
"""Changes are folded once there is one for so many rows of the shards."""


IMPOSSIBLE: Final = NodeSum(-1, 0, 0)
"""The sum of no shard: rows were to be taken from one that it does not have."""


class Damaged(SourceError):
    """A run is not what it was when it was written; the index says so until it is repaired."""


def compact(index: DurableIndex) -> bool:
    """One piece of work, if there is any: True when there may be more. One thread at a time.

    Raises Damaged, which the index is in doubt about from then on, and SourceError where the disk is full.
    """
    view = index.view()
    changes = view.state.changes
    if chosen := _alike(changes):
        _merge(index, view, chosen)
        return True
    if not _is_heavy(view.state):
        return False
    pending = _pending(view)
    for number in sorted(pending):
        _fold(index, index.view(), number)
    _merge(index, index.view(), [held for held in index.view().state.changes if held in changes])
    return True


def _alike(changes: Sequence[HeldChanges]) -> list[HeldChanges]:
    """Runs that are to be merged now, if any."""
    sizes: dict[int, list[HeldChanges]] = defaultdict(list)
    for held in changes:
        sizes[_size(held.run.rows)].append(held)
    for _, alike in sorted(sizes.items()):
        if len(alike) >= FAN_IN:
            return alike
    return list(changes) if len(changes) > RUNS_MAX else []


def _size(rows: int) -> int:
    """Powers of four above the smallest."""
    return ((max(rows, 1) - 1) // SMALLEST_ROWS).bit_length() // 2


def _is_heavy(state: State) -> bool:
    pending = sum(held.run.rows for held in state.changes)
    below = sum(shard.run.rows for shard in state.shards.values() if shard.run is not None)
    return pending > max(FOLDED_ROWS_MIN, below // FOLDED_SHARE)


def _pending(view: View) -> set[int]:
    """The shards that changes have something to say of."""
    found: set[int] = set()
    for layer in view.changes:
        if layer.run.marks is not None:
            shards = shard_of(layer.run.marks.slice(0, layer.run.rows))
            void = layer.void(shards)
            found |= set(np.unique(shards if void is None else shards[~void]).tolist())
    return found


def _merge(index: DurableIndex, view: View, chosen: Sequence[HeldChanges]) -> None:
    """Several runs of changes as one, without what is void by now. Its number is the highest of theirs."""
    files = {held.run.file for held in chosen}
    layers = [layer for layer in view.changes if layer.run.path.name in files]
    _check(index, layers, "changed rows")
    merged, _ = _written(index, layers, None)

    def exchanged(state: State) -> State | None:
        if not files <= {held.run.file for held in state.changes}:  # another index was installed meanwhile
            return None
        kept = [held for held in state.changes if held.run.file not in files]
        if merged is not None:
            kept = [HeldChanges(max(held.number for held in chosen), merged), *kept]
        return _without_ghosts(replace(state, changes=tuple(kept)))

    index.exchange(exchanged, merged)


def _fold(index: DurableIndex, view: View, number: int) -> None:
    """A shard's run and all that changes say of it, as its new run."""
    old = view.state.shards.get(number, view.state.loose)
    layers = [layer for layer in view.layers if layer.shard in (number, None)]
    _check(index, layers, old.name or "changed rows")
    folded, total = _written(index, layers, number)
    if total != old.sum:
        index.doubt(old.name or "changed rows", "its rows do not add up to what was maintained")
        raise Damaged(f"the rows of {old.name or 'changes'} do not add up", next_step="rebuild the index")

    def exchanged(state: State) -> State | None:
        now = state.shards.get(number, state.loose)
        if (now.run, now.floor) != (old.run, old.floor):  # it was replaced meanwhile
            return None
        held = replace(now, run=folded, floor=view.state.next_number)
        return replace(state, shards={**state.shards, number: held})

    index.exchange(exchanged, folded)


def _check(index: DurableIndex, layers: Sequence[Layer], place: str) -> None:
    for layer in layers:
        try:
            layer.run.verify()
        except SourceError as error:
            index.doubt(place, error.message)
            raise Damaged(error.message, next_step="rebuild the index, or let it be checked") from error


def _written(index: DurableIndex, layers: Sequence[Layer], shard: int | None) -> tuple[HeldRun | None, NodeSum]:
    """The rows of all layers as one run, or those of one shard; None for no rows. And their sum."""
    reasons, total = Reasons(), NodeSum(0, 0, 0)
    ruled = index.identity.ruled
    dead = shard is None or any(layer.run.marks is not None and layer.run.reasons for layer in layers)
    with RunWriter(index.shelf.disk, index.shelf.new_file("run"), marked=dead) as writer:
        for first, end in slices(layers):
            rows = rows_between(layers, first, end, reasons, shard=shard, locators=True)
            rows = netted(rows, index.shelf.digester, by_shard=True, by_locator=ruled)
            if not len(rows):
                continue
            if shard is not None and (rows.weights < 0).any():
                return None, IMPOSSIBLE
            for one in shard_sums(np.zeros(len(rows), np.int64), *rows.words[1:], rows.weights).values():
                total = plus(total, one)
            marked = marks(rows.shards, rows.reasons, rows.weights < 0) if dead else None
            writer.add(RunRows(rows.key_digests, rows.row_digests, rows.locators, marked))
        return (writer.finish(reasons.texts) if writer.rows else None), total


def _without_ghosts(state: State) -> State:
    """Without the shards that are no more and that no run of changes can speak of."""
    lowest = min((held.number for held in state.changes), default=state.next_number)
    shards = {id_: shard for id_, shard in state.shards.items() if shard.name or id_ == LOOSE or shard.floor > lowest}
    return replace(state, shards=shards)
