"""Key bytes and row bytes of a profile."""

from __future__ import annotations

from collections.abc import Mapping

from paritree.core.canonical.pack import array_header
from paritree.core.canonical.times import Nanos
from paritree.core.canonical.values import NIL, empty_bytes, encoder
from paritree.core.errors import DeadLetter
from paritree.core.profile import Profile


class RowEncoder:
    """Encodes rows of one profile: ``columns`` is the order of the row bytes, ``key`` that of the key bytes."""

    def __init__(self, profile: Profile) -> None:
        self.columns = profile.row_columns
        self.key = profile.key
        self._whole_row = profile.whole_row
        self._key_names = frozenset(profile.lookup_key)
        self._encoders = {name: encoder(profile.columns[name]) for name in self.columns}
        keep = profile.empty_collection != "null"
        self._nil = {name: None if keep else empty_bytes(profile.columns[name]) for name in self.columns}
        self._key_header = array_header(len(self.key))
        self._row_header = array_header(len(self.columns))

    def value_bytes(self, name: str, value: object) -> bytes:
        """Canonical bytes of one column's plain value. Raises DeadLetter naming the column.

        A key is looked up by microseconds, so a finer time in it would never be found again: a dead letter.
        """
        try:
            if name in self._key_names and _is_finer(value):
                raise DeadLetter("a time finer than a microsecond in a key column")
            packed = self._encoders[name](value)
        except DeadLetter as error:
            raise DeadLetter(f"{name}: {error.message}") from None
        return NIL if packed == self._nil[name] else packed

    def key_bytes(self, packed: Mapping[str, bytes]) -> bytes:
        """Key bytes from each key column's canonical bytes.

        Raises DeadLetter for a NULL in a key, which is no value by which a row is known; a whole row is known by all.
        """
        for name in self.key:
            if packed[name] == NIL and not self._whole_row:
                raise DeadLetter(f"{name}: NULL in a key column")
        return self._key_header + b"".join(packed[name] for name in self.key)

    def row_bytes(self, packed: Mapping[str, bytes]) -> bytes:
        """Row bytes from every compared column's canonical bytes."""
        return self._row_header + b"".join(packed[name] for name in self.columns)


def _is_finer(value: object) -> bool:
    """Whether a plain value is or holds nanoseconds that are no whole microseconds."""
    if isinstance(value, Nanos):
        return int(value) % 1_000 != 0
    if isinstance(value, dict):
        return any(map(_is_finer, value.values()))
    return isinstance(value, list | tuple) and any(map(_is_finer, value))
