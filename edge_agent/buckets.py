"""The buckets of a scope as this region has them, by label and id: for people inside the region only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final

from edge_agent.build import Copy
from edge_agent.connectors.registry import connect
from edge_agent.pace import Pacer
from edge_agent.scoping import Hidden, NoBucket
from edge_agent.serve import copies_of
from paritree.config.agent import AgentConfig
from paritree.config.scopes import scopes_of
from paritree.config.toml import near
from paritree.core.errors import ConfigError
from paritree.core.scope_labels import content, id_text, label
from paritree.core.sieve import UNREADABLE, tally

LISTED_MAX: Final = 100_000
"""Buckets that are listed; a scope with more is none that anybody sweeps bucket by bucket."""


def hidden_of(config: AgentConfig, dataset: str, name: str) -> tuple[Copy, Hidden]:
    """A scope of one of the agent's datasets, with the keys that hide its buckets. Raises ConfigError."""
    copies = copies_of(config)
    if dataset not in copies:
        raise ConfigError(f"this agent has no dataset '{dataset}'", next_step=near(dataset, copies))
    profiles = {each: copy.profile for each, copy in copies.items()}
    scopes = scopes_of(config.scopes, profiles, config.file).get(dataset, {})
    if name not in scopes:
        step = near(name, scopes) or f"declare [scopes.{dataset}.{name}] in {config.file}"
        raise ConfigError(f"this agent declares no scope '{name}' of {dataset}", next_step=step)
    return copies[dataset], Hidden.of(scopes[name], copies[dataset].profile, copies[dataset].keys)


def bucket_id(config: AgentConfig, dataset: str, name: str, text: str) -> bytes:
    """The id of the bucket that people write so; nothing is read. Raises ConfigError."""
    _, hidden = hidden_of(config, dataset, name)
    return hidden.bucket_id(content(hidden.cut, text))


def listed(
    config: AgentConfig, dataset: str, name: str, labels: Sequence[str] = (), *, count: bool = True
) -> dict[str, Any]:
    """Each bucket with label, id and rows, in the order of their bytes; with ``labels`` only those, in their order.

    ``unreadable`` rows are in no bucket. Without ``count`` nothing is read of the table, and labels are needed. Raises
    ConfigError, SourceError.
    """
    copy, hidden = hidden_of(config, dataset, name)
    wanted = list(dict.fromkeys(content(hidden.cut, text) for text in labels))
    counts = _counts(copy, hidden, frozenset(wanted)) if count else Counter()
    unreadable = counts.pop(UNREADABLE, 0) if count else None
    found = wanted or sorted(counts)
    return {
        "buckets": [_entry(hidden, each, counts[each] if count else None) for each in found],
        "dataset": dataset,
        "scope": name,
        "kind": hidden.cut.scope.kind,
        "columns": list(hidden.cut.scope.columns),
        "unreadable": unreadable,
    }


def _entry(hidden: Hidden, each: bytes, rows: int | None) -> dict[str, Any]:
    try:
        identity = id_text(hidden.bucket_id(each))
    except NoBucket:  # too long: it is listed, and cannot be swept alone
        identity = None
    return {"label": label(hidden.cut, each), "id": identity, "rows": rows}


def _counts(copy: Copy, hidden: Hidden, wanted: frozenset[bytes]) -> Counter[bytes]:
    """Rows by bucket (none wanted: all of them): one read of the scope's columns, on one connection."""
    columns = tuple(copy.binding.column(column) for column in hidden.cut.scope.columns)
    binding = replace(copy.binding, key=(), columns=columns)
    counts: Counter[bytes] = Counter()
    with ExitStack() as stack:
        connector = stack.enter_context(connect(copy.source))
        plan = stack.enter_context(connector.plan(binding, copy.shard_rows))
        for shard in plan.shards:
            batches = connector.scan(binding, shard)
            if copy.throttle.paces:
                batches = Pacer(copy.throttle, 1).paced(batches, lambda: connector.waited_s)
            for batch in batches:
                found = tally(hidden.cut, batch)
                counts.update({each: n for each, n in found.items() if not wanted or each in wanted | {UNREADABLE}})
                if len(counts) > LISTED_MAX:
                    raise ConfigError(
                        f"scope {hidden.cut.scope.name} has more than {LISTED_MAX} buckets here",
                        next_step="name the labels that you want, or declare a coarser scope",
                    )
    return counts
