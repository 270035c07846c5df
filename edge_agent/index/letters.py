"""What an index knows of dead letters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.index.difference import summed
from edge_agent.index.digests import NO_DIGESTS, distinct
from edge_agent.index.entries import entries_of
from edge_agent.index.marks import OTHER_REASONS, Reasons, reason_of
from edge_agent.index.run import Run
from edge_agent.index.state import State
from edge_agent.index.view import View
from paritree.core import limits
from paritree.core.leaves import U8
from paritree.core.messages import DeadLetters


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A dead letter with a readable key, as the index has it: key digest, locator and the id of its shard."""

    key: bytes
    locator: bytes
    shard: int


def dead_letters(state: State) -> DeadLetters:
    """All of them, the most frequent reasons by name."""
    keyless: dict[str, int] = {}
    for shard in state.shards.values():
        for reason, count in shard.keyless.items():
            keyless[reason] = keyless.get(reason, 0) + count
    reasons = {reason: state.dead.get(reason, 0) + keyless.get(reason, 0) for reason in {**state.dead, **keyless}}
    listed = dict(sorted(reasons.items(), key=lambda item: -item[1])[: limits.REASONS_LISTED])
    rest = sum(reasons.values()) - sum(listed.values())
    if rest:
        listed[OTHER_REASONS] = listed.get(OTHER_REASONS, 0) + rest
    return DeadLetters(sum(state.dead.values()), sum(keyless.values()), listed)


def dead_rows(view: View) -> list[DeadRow]:
    """Those that no change took away again; runs without any are not read. Raises SourceError for a damaged run."""
    keys = distinct(np.concatenate([NO_DIGESTS, *(_dead_keys(layer.run) for layer in view.layers)]))
    found = entries_of(view.layers, keys, Reasons(), locators=True)
    dead = found.where(found.reasons > 0)
    left = summed(dead.key, dead.weights, len(keys)) > 0
    dead = dead.where((dead.weights > 0) & left[dead.key])
    locators = [] if dead.locators is None else dead.locators.to_pylist()
    return [
        DeadRow(keys[key].tobytes(), locator, shard)
        for key, locator, shard in zip(dead.key.tolist(), locators, dead.shards.tolist(), strict=True)
    ]


def _dead_keys(run: Run) -> U8:
    """The key digests (n, 16) of rows of a run that are, or take away, dead letters."""
    if run.marks is None:
        return NO_DIGESTS
    rows = np.flatnonzero(reason_of(run.marks.slice(0, run.rows)))
    words = np.stack([run.k.take(rows), run.tail.take(rows)], axis=1)
    return words.astype(">u8").view(np.uint8).reshape(-1, 16)
