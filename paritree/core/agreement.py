"""Which regions agree on a key: by equal digests, and by cells where columns have a tolerance (CANONICAL.md).

Regions agree on a column with a tolerance if all of them share a cell of one grid, the same for all; on any other
column if their values are equal; on a row if they agree on every column. Agreement is no equivalence: of three values,
the first two may share a cell of one grid and the last two one of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paritree.core.profile import Profile
from paritree.core.suspects import Suspect


@dataclass(frozen=True, slots=True)
class Agreement:
    """The row columns of a profile and, of those, the ones with a tolerance, in the same order."""

    columns: tuple[str, ...] = ()
    tolerant: tuple[str, ...] = ()

    @classmethod
    def of(cls, profile: Profile) -> Agreement:
        """What the digests of a profile's rows are compared by."""
        return cls(profile.row_columns, profile.tolerant_columns)

    def holds(self, suspect: Suspect) -> bool:
        """Whether every region has the row and all agree, though their digests may differ."""
        return bool(self.tolerant) and self._agree(suspect, list(suspect.versions))

    def groups(self, suspect: Suspect) -> list[list[str]]:
        """The regions that have the key, grouped so that each group agrees; the largest first, then by name.

        Regions with equal row digests stay together. Such a set joins the first group with all of which it agrees, the
        largest set first, then by name; without a tolerance the sets are the groups.
        """
        if not self.tolerant:
            return suspect.groups
        groups: list[list[str]] = []
        for equal in suspect.groups:
            joined = next((group for group in groups if self._agree(suspect, [*group, *equal])), None)
            if joined is None:
                groups.append(equal)
            else:
                joined.extend(equal)
        return sorted(map(sorted, groups), key=lambda group: (-len(group), group))

    def differing_columns(self, suspect: Suspect) -> list[str]:
        """The columns on which the regions with exactly one row of the key do not all agree."""
        regions = [name for name, digests in suspect.columns.items() if len(digests) == len(self.columns)]
        return self._differing(suspect, regions)

    def _agree(self, suspect: Suspect, regions: Sequence[str]) -> bool:
        if len({suspect.versions[name] for name in regions}) == 1:
            return True
        comparable = all(
            len(suspect.versions[name]) == 1
            and len(suspect.columns.get(name, ())) == len(self.columns)
            and len(suspect.shifted.get(name, ())) == len(self.tolerant)
            for name in regions
        )
        return comparable and not self._differing(suspect, regions)

    def _differing(self, suspect: Suspect, regions: Sequence[str]) -> list[str]:
        shifted = {name: i for i, name in enumerate(self.tolerant)}
        return [
            name
            for i, name in enumerate(self.columns)
            if not _one(suspect.columns, regions, i)
            and not (name in shifted and _one(suspect.shifted, regions, shifted[name]))
        ]


def _one(digests: Mapping[str, tuple[bytes, ...]], regions: Sequence[str], column: int) -> bool:
    """Whether the regions have one digest for that column; not so where one sent none."""
    seen = {digests[name][column] if column < len(digests.get(name, ())) else None for name in regions}
    return len(seen) <= 1 and None not in seen
