"""How a dataset's changes are followed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge_agent.letters.store import LetterStore

if TYPE_CHECKING:  # a topic's client takes a tenth of a second to load, and few datasets have one
    from edge_agent.topic.changes import Topic

INTERVAL_S: Final = 5.0
"""Between two refreshes in the background, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Following:
    """How a dataset's changes are followed: who does (region and agent), and how often in the background, in seconds.

    ``name`` "": nobody tells changes; then the index is used up to an age of ``max_age_s`` by sweeps that do not say.
    ``check_interval_s`` lies between two pieces of the self-check; 0: there is none. ``letters`` keeps the dead letters
    of changed rows. ``topic``: changes are told there; what it proves is as old as ``max_age_s`` at most, too.
    ``rescan_rows_s``: shards are scanned again by themselves, in the background so many rows a second.
    """

    name: str
    interval_s: float = INTERVAL_S
    letters: LetterStore | None = None
    max_age_s: float = 3_600.0
    check_interval_s: float = 60.0
    topic: Topic | None = None
    rescan_rows_s: float = 0.0

    @property
    def proves(self) -> bool:
        """Whether a refresh takes over everything that was committed by then, provably."""
        return bool(self.name) and self.topic is None
