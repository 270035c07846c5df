"""A column of words in a file: sliced without a copy where the file is mapped, decrypted where it is not."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_agent.index.rest import Blob, MappedBlob

Word = TypeVar("Word", np.uint64, np.uint32)
_WINDOW: Final = 1 << 17
"""Rows that are decrypted at once to take some of them: 1 MiB of words."""


class Column(Generic[Word]):
    """``rows`` words of a file from byte ``at`` on, in the byte order of ``kind``; handed out in native order."""

    def __init__(self, blob: Blob, at: int, rows: int, kind: str) -> None:
        self._blob = blob
        self._at = at
        self._kind: np.dtype[Any] = np.dtype(kind)
        self._rows = rows
        self.mapped = isinstance(blob, MappedBlob)

    def __len__(self) -> int:
        return self._rows

    def slice(self, low: int, high: int) -> NDArray[Word]:
        """The words [low, high); read only."""
        return self._native(self._stored(low, high))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Word]:
        """The words of these rows, which are ascending."""
        if self.mapped or not len(rows):
            return self._native(self._stored(0, self._rows).take(rows))
        cuts = np.flatnonzero(np.diff(rows // _WINDOW)) + 1
        return np.concatenate([self._near(part) for part in np.split(rows, cuts)])

    def _near(self, rows: NDArray[np.int64]) -> NDArray[Word]:
        low = int(rows[0])
        return self.slice(low, int(rows[-1]) + 1).take(rows - low)

    def _stored(self, low: int, high: int) -> NDArray[Any]:
        size = self._kind.itemsize
        return self._blob.read(self._at + low * size, self._at + high * size).view(self._kind)

    def _native(self, words: NDArray[Any]) -> NDArray[Word]:
        return words.astype(self._kind.newbyteorder("="), copy=False)
