"""A suspect: one key under watch, as the last look at it saw it in every region."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Fate(StrEnum):
    """What became of a suspect."""

    OPEN = "open"
    HEALED = "healed"
    WITHIN_TOLERANCE = "within_tolerance"
    CONFIRMED = "confirmed"
    UNSETTLED = "unsettled"
    UNKNOWN = "unknown"


Version = tuple[bytes, ...]
"""The row digests of one key in one region, sorted; () where the key is absent."""


@dataclass(slots=True)
class Suspect:
    """One key under watch. ``versions`` is what the last look saw, by region; ``reason`` explains UNKNOWN.

    ``columns`` are the column digests of those versions, from the last look that asked for them, and ``shifted`` the
    digests on the shifted grid of the columns that have a tolerance.
    """

    key_digest: bytes
    versions: dict[str, Version] = field(default_factory=dict)
    columns: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    shifted: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    seen_at: float = 0.0
    looks: int = 0
    fate: Fate = Fate.OPEN
    reason: str = ""

    @property
    def groups(self) -> list[list[str]]:
        """Regions by equal version, present ones only, largest group first, then by name."""
        by_version: dict[Version, list[str]] = {}
        for region, version in sorted(self.versions.items()):
            if version:
                by_version.setdefault(version, []).append(region)
        return sorted(by_version.values(), key=lambda group: (-len(group), group))

    @property
    def missing_in(self) -> list[str]:
        return sorted(region for region, version in self.versions.items() if not version)

    @property
    def counts(self) -> dict[str, int]:
        """Rows under the key, by region."""
        return {region: len(version) for region, version in sorted(self.versions.items())}

    @property
    def lacks_columns(self) -> bool:
        """Whether a version of one row is known without its column digests."""
        return any(len(version) == 1 and region not in self.columns for region, version in self.versions.items())

    @property
    def duplicated(self) -> bool:
        return any(len(version) > 1 for version in self.versions.values())
