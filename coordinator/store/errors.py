"""What the store refuses."""

from __future__ import annotations

from paritree.core.errors import SourceError


class Fenced(SourceError):
    """Another coordinator has this store now: stop at once, and write nothing any more."""

    def __init__(self) -> None:
        super().__init__(
            "another coordinator has taken over the store",
            next_step="this one has stopped; give each coordinator a store of its own, or leave one of them as standby",
        )
