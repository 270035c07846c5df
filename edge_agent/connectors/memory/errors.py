"""What can go wrong with an in-process table: no driver is involved, so nothing is translated."""

from __future__ import annotations

from paritree.core.errors import SourceError


def plan_is_closed(url: str) -> SourceError:
    """A shard was scanned after its plan was closed, or in a process that does not have the plan."""
    return SourceError(f"{url}: the shard's plan is closed", next_step="scan in the process and the life of the plan")
