"""What a row of a run is beside its digests, in 32 bits, where a run has such a section.

bit 31        the row is taken away: it cancels an equal row of another run
bits 23-30    the number of the reason why it is a dead letter in the run's list of reasons, from 1; 0: it is none
bits 0-22     the shard that it belongs to; LOOSE: it came with a change, and nobody said where it lies
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
TAKEN: Final = np.uint32(1 << 31)
LOOSE: Final = (1 << 23) - 1
SHARDS_MAX: Final = LOOSE
REASONS_MAX: Final = 254
"""Distinct reasons that one run tells apart; rows with further ones are counted under "other reasons"."""
OTHER_REASONS: Final = "other reasons"
_SHIFT: Final = np.uint32(23)


def marks(shards: NDArray[np.int64], reasons: NDArray[np.int64], taken: NDArray[np.bool_]) -> U32:
    """Marks of n rows from their parts, each of shape (n,)."""
    words = shards.astype(np.uint32) | (reasons.astype(np.uint32) << _SHIFT)
    return np.where(taken, words | TAKEN, words)


def shard_of(words: U32) -> NDArray[np.int64]:
    return (words & np.uint32(LOOSE)).astype(np.int64)


def reason_of(words: U32) -> NDArray[np.int64]:
    """Numbers in the run's list, from 1; 0 for a row that is no dead letter."""
    return ((words >> _SHIFT) & np.uint32(0xFF)).astype(np.int64)


def is_taken(words: U32) -> NDArray[np.bool_]:
    taken: NDArray[np.bool_] = (words & TAKEN) != 0
    return taken


class Reasons:
    """A list of reasons that is being made: texts get numbers from 1 on."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        for text in known:
            self.number(text)

    def number(self, text: str) -> int:
        """The number of a reason, a new one where there is room."""
        if text not in self._numbers and len(self._numbers) >= REASONS_MAX:
            text = OTHER_REASONS
        return self._numbers.setdefault(text, len(self._numbers) + 1)

    def numbers(self, rows: int, dead: Mapping[int, str]) -> NDArray[np.int64]:
        """The numbers of n rows, of which those in ``dead`` have a reason."""
        out = np.zeros(rows, np.int64)
        for row, text in dead.items():
            out[row] = self.number(text)
        return out

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(self._numbers)
