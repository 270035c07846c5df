"""Many looks in columns: what an answer says of the keys that it was asked for, name by name, in their order.

A *name* is a key digest, or a k where the region has nothing under it. Most names need few bytes: a row that is read
now as it is indexed (``plain``), a key that looks as it did in an earlier answer (``same``), a key that is not there
(neither). What does not fit into columns is a :class:`~paritree.core.messages.Look` of its own beside the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paritree.core import limits
from paritree.core.locating import weighted

Flags = NDArray[np.bool_]
TAIL_BYTES: Final = 8
"""What a key digest has beside its k."""
ROW_BYTES: Final = 16
HALF_BYTES: Final = 8
"""r′ alone: r follows from what the sketches say of the key."""
DIGEST_BYTES: Final = 8
"""A column digest that is not cut."""
VERSION_BYTES: Final = 8
NO_VERSION: Final = -(1 << 63)


def packed(flags: Iterable[bool]) -> bytes:
    """A bitmap: flag i is bit i mod 8 of byte i div 8; the bits beyond the last flag are 0."""
    return np.packbits(np.fromiter(flags, bool), bitorder="little").tobytes()


def marked(bitmap: bytes, count: int) -> Flags | None:
    """The flags of a bitmap, shape (count,); the empty bitmap marks nothing. None where it has another length."""
    if not bitmap:
        return np.zeros(count, bool)
    if len(bitmap) != (count + 7) // 8:
        return None
    flags = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little").astype(bool)
    return None if flags[count:].any() else flags[:count]


@dataclass(frozen=True, slots=True)
class Picked:
    """Which column digests are sent of a row, in the order of its columns and then those of its shifted grid.

    ``alone`` marks those that are sent one by one, ``together`` those that are added up into one (mod 2^64, as
    little-endian words); the others are not sent. Each is cut to ``width`` bytes. ``located``: a second sum follows, in
    which each digest counts as often as its place says (``core.locating``).
    """

    alone: bytes
    together: bytes = b""
    width: int = DIGEST_BYTES
    located: bool = False


@dataclass(frozen=True, slots=True)
class LookTable:
    """``names`` names, and what the bitmaps over them mark.

    ``plain``: one row, indexed and read now alike, with ``tails`` (8 bytes a name) and ``digests`` (r and r′, or r′
    alone with ``halves``) and, where they were asked for, ``versions`` (int64; NO_VERSION for none; ``whole`` marks the
    names whose version is that of the whole row). ``same``: the
    look is the remembered one. ``columned``: plain or same, with ``columns``: ``fields`` digests of ``width`` bytes.
    """

    names: int
    plain: bytes = b""
    tails: bytes = b""
    digests: bytes = b""
    halves: bool = False
    versions: bytes = b""
    same: bytes = b""
    columned: bytes = b""
    columns: bytes = b""
    fields: int = 0
    width: int = DIGEST_BYTES
    whole: bytes = b""

    def problem(self) -> str:
        """What does not fit together, or ""."""
        if self.names > limits.KEYS_A_DETAIL_MAX:
            return f"it has more than {limits.KEYS_A_DETAIL_MAX} names"
        flags = [marked(bitmap, self.names) for bitmap in (self.plain, self.same, self.columned, self.whole)]
        plain, same, columned, whole = flags
        if plain is None or same is None or columned is None or whole is None:
            return "its bitmaps do not have a bit a name"
        if (plain & same).any() or (columned & ~(plain | same)).any() or (whole & ~plain).any():
            return "its bitmaps contradict each other"
        rows = int(plain.sum())
        if len(self.tails) != rows * TAIL_BYTES:
            return "its tails are not one a plain row"
        if len(self.digests) != rows * (HALF_BYTES if self.halves else ROW_BYTES):
            return "its digests are not one a plain row"
        if len(self.versions) not in (0, rows * VERSION_BYTES):
            return "its versions are not one a plain row"
        if whole.any() and not self.versions:
            return "its versions are left out"
        if not 1 <= self.width <= DIGEST_BYTES:
            return f"its column digests do not have 1 to {DIGEST_BYTES} bytes"
        if len(self.columns) != int(columned.sum()) * self.fields * self.width:
            return "its column digests are not those of the marked rows"
        return ""


def cut(digests: Sequence[bytes], picked: Picked) -> list[bytes] | None:
    """The picked digests of a row as they are sent: those alone, then the sums. None where the bitmaps do not fit."""
    alone, together = marked(picked.alone, len(digests)), marked(picked.together, len(digests))
    if alone is None or together is None:
        return None
    sent = [digests[i][: picked.width] for i in np.flatnonzero(alone).tolist()]
    if together.any():
        places = np.flatnonzero(together).tolist()
        sent.append(total([digests[i] for i in places])[: picked.width])
        if picked.located:
            sent.append(weighted(digests, places)[: picked.width])
    return sent


def total(digests: Iterable[bytes]) -> bytes:
    """The sum of digests mod 2^64, as little-endian words."""
    return (sum(int.from_bytes(digest, "little") for digest in digests) & ((1 << 64) - 1)).to_bytes(8, "little")
