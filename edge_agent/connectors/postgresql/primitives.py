"""What runs once per value: four small operations over located fields, here plainly, compiled in fast.py.

The plain ones are obvious rather than fast, and they are the specification of the compiled ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.tuples import Bytes, Locate, Places, locate, malformed

COLUMN_BYTES_MAX: Final = 16 << 20
"""Bytes of one decoded column of several rows: eight bytes of numeric can mean 131,072 digits, so a batch may have to
be cut. The digits of usual ones take less than a megabyte."""
BATCH_BYTES_MAX: Final = 32 << 20
"""Bytes of all decoded columns of several rows that go beyond what the server sent."""

_NUMERIC_NEGATIVE = 0x4000
_NUMERIC_SPECIAL: Final = {0xC000: b"NaN", 0xD000: b"Infinity", 0xF000: b"-Infinity"}
_NUMERIC_SCALE_MAX = 0x3FFF


class TooLarge(Exception):
    """A decoded column or batch would be too large; decode fewer rows at a time."""


@dataclass(frozen=True, slots=True)
class Fields:
    """One column's values within ``data``, as in :class:`Tuples`: ``at`` and ``size`` are int32 of one dimension."""

    data: Bytes
    at: Places
    size: Places

    def __len__(self) -> int:
        return len(self.at)


class Primitives(Protocol):
    """What runs once per value. All raise SourceError for a value whose size is not what its type says."""

    @property
    def locate(self) -> Locate:
        """Find the fields of rows."""

    def words(self, fields: Fields, width: int) -> NDArray[np.unsignedinteger]:
        """Big-endian unsigned integers of 1, 2, 4 or 8 bytes; 0 for NULL."""

    def blocks(self, fields: Fields) -> NDArray[np.uint8]:
        """Values of 16 bytes, shape (rows, 16); zeros for NULL."""

    def texts(self, fields: Fields) -> tuple[Places, Bytes]:
        """Values of any size: Arrow offsets (rows + 1) and the bytes one after the other."""

    def decimals(self, fields: Fields) -> tuple[Places, Bytes]:
        """numeric as ASCII text with all digits of its scale (``-12.30``, ``NaN``, ``Infinity``). Raises TooLarge."""


class PlainPrimitives:
    """In Python and numpy, obvious rather than fast."""

    locate: Locate = staticmethod(locate)

    def words(self, fields: Fields, width: int) -> NDArray[np.unsignedinteger]:
        out = np.zeros(len(fields), f"u{width}")
        valid = self._of_width(fields, width)
        picked = fields.data[fields.at[valid][:, None] + np.arange(width, dtype=np.int32)]
        out[valid] = picked.view(f">u{width}")[:, 0] if len(picked) else 0
        return out

    def blocks(self, fields: Fields) -> NDArray[np.uint8]:
        out = np.zeros((len(fields), 16), np.uint8)
        valid = self._of_width(fields, 16)
        out[valid] = fields.data[fields.at[valid][:, None] + np.arange(16, dtype=np.int32)]
        return out

    def texts(self, fields: Fields) -> tuple[Places, Bytes]:
        return _packed(list(values(fields)))

    def decimals(self, fields: Fields) -> tuple[Places, Bytes]:
        texts, total = [], 0
        for value in values(fields):
            texts.append(numeric_text(value) if value is not None else None)
            total += len(texts[-1] or b"")
            if total > COLUMN_BYTES_MAX:
                raise TooLarge
        return _packed(texts)

    @staticmethod
    def _of_width(fields: Fields, width: int) -> NDArray[np.bool_]:
        valid: NDArray[np.bool_] = fields.size >= 0
        if (fields.size[valid] != width).any():
            raise malformed(f"a value that should have {width} bytes")
        return valid


PLAIN: Final[Primitives] = PlainPrimitives()


def values(fields: Fields) -> Iterator[bytes | None]:
    view = fields.data.data
    for at, size in zip(fields.at.tolist(), fields.size.tolist(), strict=True):
        yield bytes(view[at : at + size]) if size >= 0 else None


def _packed(values: Sequence[bytes | None]) -> tuple[Places, Bytes]:
    offsets = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value or b"") for value in values], out=offsets[1:])
    return offsets, np.frombuffer(b"".join(value or b"" for value in values), np.uint8)


def numeric_text(value: bytes) -> bytes:
    """numeric's binary form (int16 digits, int16 weight, sign, scale, base-10000 digits) as decimal text."""
    if len(value) < 8:
        raise malformed("a numeric of fewer than 8 bytes")
    count, weight, sign, scale = struct.unpack_from(">HhHH", value)
    if len(value) != 8 + 2 * count:
        raise malformed("a numeric of another length than its digits")
    if sign in _NUMERIC_SPECIAL:
        return _NUMERIC_SPECIAL[sign]
    digits = struct.unpack_from(f">{count}H", value, 8)
    if sign not in (0, _NUMERIC_NEGATIVE) or scale > _NUMERIC_SCALE_MAX or any(digit > 9999 for digit in digits):
        raise malformed("a numeric with a sign, scale or digit out of range")
    written = "".join(f"{digit:04d}" for digit in digits)
    point = 4 * (weight + 1)  # digits before it; zeros that are not sent are added at once, they may be 131,072
    whole = written[: max(point, 0)].ljust(point, "0").lstrip("0") or "0"
    fraction = ("0" * -point + written[max(point, 0) :]).ljust(scale, "0")
    if fraction[scale:].strip("0"):
        raise malformed("a numeric with digits beyond its scale")
    minus = "-" if sign == _NUMERIC_NEGATIVE else ""
    return f"{minus}{whole}.{fraction[:scale]}".encode() if scale else f"{minus}{whole}".encode()
