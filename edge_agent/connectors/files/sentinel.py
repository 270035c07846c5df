"""A file's bytes as UTF-8 CSV with one row more at its end: a row that does not come back was taken into a quote."""

from __future__ import annotations

import atexit
import codecs
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Final

import pyarrow as pa

RELEASE_S_MAX: Final = 1.0
"""Longest wait for Arrow's threads; they need microseconds."""
EXIT_S: Final = 0.05
"""What a process that has read CSV waits at its end, for threads that need microseconds."""


class WithSentinel(io.RawIOBase):
    """Reads a binary stream to its end, then ``row`` on a line of its own. Other encodings than UTF-8 are decoded.

    Closing it closes the stream. Raises UnicodeError where the text does not fit the encoding (UTF-8 is not checked).
    """

    def __init__(self, stream: pa.NativeFile, encoding: str, row: bytes) -> None:
        self._stream = stream
        self._decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)("strict")
        self._row = row
        self._ended = False
        self._last = b"\n"
        self._ready = bytearray()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """``size`` bytes, fewer only at the very end: the parser takes a short read for a whole block."""
        while not self._ended and (size < 0 or len(self._ready) < size):
            self._ready += self._more(size)
        count = len(self._ready) if size < 0 else size
        data = bytes(self._ready[:count])
        del self._ready[:count]
        return data

    def _more(self, size: int) -> bytes:
        raw = self._stream.read(size if size >= 0 else None)
        data = raw if self._decoder is None else self._decoder.decode(raw, final=not raw).encode()
        self._last = data[-1:] or self._last
        if raw:
            return data
        self._ended = True
        return data + (self._row if self._last in b"\r\n" else b"\n" + self._row)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


@contextmanager
def lent(stream: object) -> Iterator[None]:
    """Lend a stream to an Arrow reader that is made and dropped during the block.

    Arrow's threads may hold the stream a moment longer than the reader lives. One that drops it while the interpreter
    ends aborts the whole process ("terminate called without an active exception"), so its references are waited for.
    """
    _settle_at_exit()
    held = sys.getrefcount(stream)
    try:
        yield
    finally:
        deadline = time.monotonic() + RELEASE_S_MAX
        while sys.getrefcount(stream) > held and time.monotonic() < deadline:
            time.sleep(0.001)


@cache
def _settle_at_exit() -> None:
    """Once a process: the last thing that a thread of Arrow's lets go has no reference to wait for, so it gets time."""
    atexit.register(time.sleep, EXIT_S)
