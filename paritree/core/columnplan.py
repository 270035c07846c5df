"""Which column digests to ask for: all of few keys, and of many only as much as says which columns differ.

Column digests weigh more than all else that is said of a key. Where many keys differ, the first look shows those of a
sample; the second asks for the columns that differ in the sample one by one and for the sum of the others, cut to as
many bytes as there is room for. Where rows mostly differ in one column, but not always the same, it asks for two sums
that say which one (``core.locating``). What sums do not tell is asked for afterwards.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from paritree.core.looktable import DIGEST_BYTES, Picked, packed
from paritree.core.profile import Profile
from paritree.core.shown import Row

FEW_KEYS: Final = 1_000
"""Keys of which everything is asked at the first look: 72 KB where nine columns are compared."""
SAMPLE_KEYS: Final = 256
"""Keys of the sample: a column that differs in one changed row of fifty is missed once in a hundred sweeps."""
SAMPLE_WIDTH: Final = 4
"""Bytes of a column digest of the sample."""
ROOM_BYTES: Final = 64_000
"""Column digests that one region sends of many keys, unless the shortest ones need more."""
WIDTH_MIN: Final = 3
"""Bytes of a column digest at least: a column that differs seems equal once in 2^24 times."""
LOCATED_WIDTH_MIN: Final = 4
"""Bytes of each of two sums at least: another column than the one that differs fits once in 2^28 times."""


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """``columns`` of a row, those at the places ``key`` among them, and ``shifted`` digests of its shifted grid."""

    columns: int = 0
    key: frozenset[int] = frozenset()
    shifted: int = 0

    @classmethod
    def of(cls, profile: Profile) -> ColumnPlan:
        """That of a profile's rows."""
        names = profile.row_columns
        return cls(len(names), frozenset(map(names.index, profile.key)), len(profile.tolerant_columns))

    @property
    def row(self) -> Row:
        return Row(self.columns, self.shifted)

    def all(self, width: int = DIGEST_BYTES) -> Picked | None:
        """Every column digest that can differ, one by one. None where the columns are not known: then simply all."""
        return Picked(self._alone(range(self.columns)), width=width) if self.columns else None

    def at_first(self, keys: int) -> tuple[Picked | None, int]:
        """What the first look asks for of so many keys, and of how many of them: 0 means all.

        Where there are tolerances, all are asked for everything.
        """
        if keys <= FEW_KEYS or self.shifted:
            return self.all(), 0
        return self.all(SAMPLE_WIDTH), SAMPLE_KEYS

    def of_many(self, keys: int, differing: Set[int], several: float = 1.0) -> Picked | None:
        """What to ask of so many keys after a sample in which those columns differed.

        ``several`` is the part of the sample's rows that differ in more than one column.
        """
        picked = self._apart(keys, differing)
        if keys <= FEW_KEYS or self.shifted or not differing:
            return picked
        fields = self.columns - len(self.key)
        width = max(LOCATED_WIDTH_MIN, _width(keys, 2))
        afterwards = several * fields * _width(max(1, round(several * keys)), fields)
        if picked is None or 2 * width + afterwards >= picked.width * _fields(picked):
            return picked
        places = packed(i not in self.key for i in range(self.columns))
        return Picked(packed(False for _ in range(self.columns)), places, width, located=True)

    def one_by_one(self, keys: int) -> Picked | None:
        """Every column digest of so many keys, which leaves nothing to be asked about."""
        fields = self.columns - len(self.key)
        return self.all(DIGEST_BYTES if keys <= FEW_KEYS or self.shifted else _width(keys, fields))

    def _apart(self, keys: int, differing: Set[int]) -> Picked | None:
        others = [i for i in range(self.columns) if i not in self.key and i not in differing]
        if keys <= FEW_KEYS or self.shifted or not differing or len(others) < 2:
            return self.one_by_one(keys)
        together = packed(i in others for i in range(self.columns + self.shifted))
        return Picked(self._alone(differing), together, _width(keys, len(differing) + 1))

    def _alone(self, places: range | Set[int]) -> bytes:
        count = self.columns + self.shifted
        return packed((i in places and i not in self.key) or i >= self.columns for i in range(count))


def _fields(picked: Picked) -> int:
    """Digests and sums that are sent of a row."""
    alone = sum(byte.bit_count() for byte in picked.alone)
    return alone + (any(picked.together) and 1 + picked.located)


def _width(keys: int, fields: int) -> int:
    return max(WIDTH_MIN, min(DIGEST_BYTES, ROOM_BYTES // max(1, keys * fields)))
