"""What an index knows of dead letters."""

from __future__ import annotations

from edge_agent.index.marks import OTHER_REASONS
from edge_agent.index.state import State
from paritree.core import limits
from paritree.core.messages import DeadLetters


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
