"""How the C library keeps the memory of scans.

A scan frees and takes the same arrays of megabytes again and again. By default each is given back to the system and
comes again as pages that must be zeroed: measured on 6 million rows, 150,000 page faults and a fourteenth of all time.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
KEPT_BYTES: Final = 64 << 20
"""Free bytes at the end of a heap that are not given back."""
LARGEST_BYTES: Final = 32 << 20
"""Blocks up to this size come from the heap; glibc takes no larger bound."""


@cache
def keep_freed_memory() -> None:
    """Let this process use freed memory again, where its C library has such a setting (mallopt of glibc)."""
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGEST_BYTES)
