"""Memory between two pages that nobody may touch: one byte too far, read or written, ends the process.

| no access | .................. content | no access |      at the end
| no access | content .................. | no access |      at the start
"""

from __future__ import annotations

import ctypes
import math
import mmap
from typing import Any, Final

import numpy as np

PAGE: Final = mmap.PAGESIZE
AREA_BYTES: Final = 48 * PAGE
AREAS: Final = 128


class Area:
    """One stretch of memory between guards."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size + 2 * PAGE)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        libc = ctypes.CDLL(None, use_errno=True)
        for guard in (start, start + PAGE + size):
            if libc.mprotect(ctypes.c_void_p(guard), PAGE, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self.bytes = np.frombuffer(self._map, np.uint8)[PAGE : PAGE + size]


class Guarded:
    """numpy with ``empty`` and ``zeros`` in guarded memory; what was made before ``begin`` is used again after it.

    Arrays too large for an area are made as usual.
    """

    def __init__(self) -> None:
        self._areas: list[Area] = []
        self._next = 0
        self._at_end = True

    def begin(self, *, at_end: bool) -> None:
        """Forget all arrays: no earlier one may be looked at any more."""
        self._next = 0
        self._at_end = at_end

    def holding(self, content: bytes) -> np.ndarray:
        """A writable array of these bytes."""
        array = self.empty(len(content), np.uint8)
        array[:] = np.frombuffer(content, np.uint8)
        return array

    def empty(self, shape: Any, dtype: Any = float) -> np.ndarray:
        dtype = np.dtype(dtype)
        size = (shape if isinstance(shape, int) else math.prod(shape)) * dtype.itemsize
        if size > AREA_BYTES or self._next >= AREAS:
            return np.empty(shape, dtype)
        if self._next == len(self._areas):
            self._areas.append(Area(AREA_BYTES))
        area = self._areas[self._next].bytes
        self._next += 1
        part = area[AREA_BYTES - size :] if self._at_end else area[:size]
        return part.view(dtype).reshape(shape)

    def zeros(self, shape: Any, dtype: Any = float) -> np.ndarray:
        array = self.empty(shape, dtype)
        array[...] = 0
        return array

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
