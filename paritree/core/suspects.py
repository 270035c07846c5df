"""A suspect: one key under watch, as the last look at it saw it in every region."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from paritree.core.copies import rows_in
from paritree.core.locating import resolved
from paritree.core.looktable import HALF_BYTES, ROW_BYTES
from paritree.core.shown import SUM_BYTES


class Fate(StrEnum):
    """What became of a suspect."""

    OPEN = "open"
    HEALED = "healed"
    WITHIN_TOLERANCE = "within_tolerance"
    CONFIRMED = "confirmed"
    UNSETTLED = "unsettled"
    UNKNOWN = "unknown"


Version = tuple[bytes, ...]
"""The row digests of one key in one region, sorted, many copies folded (``core.copies``); () where it is absent.

One row may be known by r′ alone, 8 bytes."""


def halved(version: Version) -> Version:
    """One row by r′ alone; several as they are."""
    return (version[0][HALF_BYTES:],) if len(version) == 1 and len(version[0]) == ROW_BYTES else version


def alike(one: Version, other: Version) -> bool:
    """Whether they are equal, as far as both are known."""
    return one == other or (halved(one) == halved(other) and len(one[0]) != len(other[0]))


@dataclass(slots=True)
class Suspect:
    """One key under watch. ``versions`` is what the last look saw, by region; ``reason`` explains UNKNOWN.

    ``columns`` are the column digests of those versions, from the last look that asked for them, and ``shifted`` the
    digests on the shifted grid of the columns that have a tolerance. ``written`` is when the regions' rows were
    written, where that is known: microseconds since 1970, and whether that is so of the whole row. ``merged`` are the
    rules that made one key of several in a region. ``closing``: one look more, at once, decides.
    """

    key_digest: bytes
    versions: dict[str, Version] = field(default_factory=dict)
    columns: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    shifted: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    written: dict[str, tuple[int, bool]] = field(default_factory=dict)
    dead: dict[str, str] = field(default_factory=dict)
    merged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    seen_at: float = 0.0
    closing: bool = False
    looks: int = 0
    fate: Fate = Fate.OPEN
    reason: str = ""

    def seen(self, region: str, version: Version) -> None:
        """What a look saw in a region. Where one region's row is known by r′ alone, so are the others'."""
        self.versions[region] = version
        if any(len(each) == 1 and len(each[0]) == HALF_BYTES for each in self.versions.values()):
            self.versions = {name: halved(each) for name, each in self.versions.items()}

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
        return {region: rows_in(version) for region, version in sorted(self.versions.items())}

    @property
    def lacks_columns(self) -> bool:
        """Whether rows differ of which the column digests are not known, or only their sum, and the sums differ."""
        single = [region for region, version in self.versions.items() if len(version) == 1]
        if len({self.versions[region] for region in single}) < 2:
            return False
        if any(region not in self.columns for region in single):
            return True
        places = zip(*(self.columns[region] for region in single), strict=False)
        return any(max(map(len, digests)) >= SUM_BYTES and len(set(digests)) > 1 for digests in places)

    def locate(self) -> None:
        """Take sums of column digests apart, where they say which column differs."""
        if (columns := resolved(self.columns)) is not None:
            self.columns = columns

    @property
    def contradicts_itself(self) -> bool:
        """Whether all regions have one row of the key, of one and the same write, and not all the same row."""
        written = {self.written.get(region, (0, False)) for region in self.versions}
        alone = all(len(version) == 1 for version in self.versions.values())
        of_one_write = len(written) == 1 and all(whole for _, whole in written)
        return alone and of_one_write and len(set(self.versions.values())) > 1

    @property
    def duplicated(self) -> bool:
        return any(len(version) > 1 for version in self.versions.values())
