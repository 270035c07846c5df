"""COPY BINARY as it arrives, cut into rows whose fields are located but not yet decoded.

The stream (PostgreSQL documentation, "COPY", binary format): 11 bytes of signature, int32 flags, int32 length of an
extension; then tuples: int16 number of fields, each field int32 size (-1: NULL) and its bytes; then int16 -1. On the
wire every tuple travels in a message of its own: byte ``d``, int32 length (itself included), tuple. A *framed* stream
still has those five bytes before each tuple, so that nothing need be copied to take them out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.contract import BATCH_ROWS
from paritree.core.errors import SourceError

Bytes = NDArray[np.uint8]
Places = NDArray[np.int32]

SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
HEADER_BYTES: Final = len(SIGNATURE) + 8
FRAME_BYTES: Final = 5
COPY_DATA: Final = ord("d")
BUFFER_BYTES: Final = 2 << 20
"""Bytes of COPY located at a time: about a batch of usual rows, and it stays in the processor's cache."""
BUFFER_BYTES_MAX: Final = (1 << 31) - 1
"""Places are int32; the server cannot send a row above 1 GiB anyway."""

ROWS_MAX: Final = BATCH_ROWS - 48
"""Rows located at a time. The places of a row's fields are written as far apart as this is long: at a power of two all
of them would want the same lines of the processor's cache, which doubles what locating costs."""

MORE, FULL, FRAME, TRAILER, MALFORMED = range(5)
"""Why locating stopped: bytes of a row are missing, room for rows is full, another message, end of data, not COPY."""


@dataclass(frozen=True, slots=True)
class Tuples:
    """Located rows: field c of row r is ``data[at[c, r] : at[c, r] + size[c, r]]``, or NULL where size is -1.

    ``data`` is uint8, one dimension; ``at`` and ``size`` are int32 of shape (columns, rows). All of it is the
    reader's own memory, valid only until the next rows are asked for.
    """

    data: Bytes
    at: Places
    size: Places

    @property
    def rows(self) -> int:
        return int(self.at.shape[1])

    @property
    def nbytes(self) -> int:
        """From the first row's first field to the last one's end."""
        if not self.at.size:
            return 0
        return int(self.at[-1, -1]) + max(0, int(self.size[-1, -1])) - int(self.at[0, 0])

    def taken(self, rows: NDArray[np.int64]) -> Tuples:
        """Some rows, by their numbers."""
        return Tuples(self.data, self.at.take(rows, axis=1), self.size.take(rows, axis=1))

    def slice(self, start: int, stop: int) -> Tuples:
        """The rows from ``start`` up to but not including ``stop``."""
        return Tuples(self.data, self.at[:, start:stop], self.size[:, start:stop])


@dataclass(slots=True)
class Waits:
    """How long a scan has waited for the server, added up over its streams."""

    seconds: float = 0.0


class Locate(Protocol):
    """Find the fields of the rows in ``data[start:stop]``, at most as many rows as ``at`` and ``size`` have room for.

    Returns the number of rows, the position behind the last whole row, and why it stopped there (MORE, FULL, ...).
    """

    def __call__(
        self, data: Bytes, start: int, stop: int, framed: bool, at: Places, size: Places
    ) -> tuple[int, int, int]: ...


class Stream(Protocol):
    """Where the bytes come from."""

    framed: bool

    def fill(self, into: memoryview) -> int:
        """Write bytes to the beginning of ``into``, wait for at least one; 0 at the end of an unframed stream."""

    def message(self, kind: int, body: bytes) -> bool:
        """Take a message other than CopyData of a framed stream; True when it was the last one."""

    def rows_sent(self) -> int:
        """How many rows the server says it has sent, asked after the end."""


def malformed(what: str) -> SourceError:
    """The error for bytes that are not what the protocol says; the connection is not used again."""
    return SourceError(f"postgresql: malformed binary data: {what}", next_step="report this: nothing was skipped")


def locate(data: Bytes, start: int, stop: int, framed: bool, at: Places, size: Places) -> tuple[int, int, int]:
    """The plain implementation of :class:`Locate`."""
    columns, room = at.shape
    view = data.data
    rows, position = 0, start
    while rows < room:
        place, end = position, stop
        if framed:
            if place + FRAME_BYTES > stop:
                return rows, position, MORE
            if view[place] != COPY_DATA:
                return rows, position, FRAME
            length = int.from_bytes(view[place + 1 : place + 5], "big", signed=True)
            if length < 6:
                return rows, position, MALFORMED
            end = place + 1 + length
            if end > stop:
                return rows, position, MORE
            place += FRAME_BYTES
        short = MALFORMED if framed else MORE
        if place + 2 > end:
            return rows, position, short
        fields = int.from_bytes(view[place : place + 2], "big", signed=True)
        place += 2
        if fields == -1:
            return rows, position, MALFORMED if framed and place != end else TRAILER
        if fields != columns:
            return rows, position, MALFORMED
        for column in range(columns):
            if place + 4 > end:
                return rows, position, short
            count = int.from_bytes(view[place : place + 4], "big", signed=True)
            place += 4
            if count < -1:
                return rows, position, MALFORMED
            if count > end - place:
                return rows, position, short
            at[column, rows], size[column, rows] = place, count
            place += max(count, 0)
        if framed and place != end:
            return rows, position, MALFORMED
        position = place
        rows += 1
    return rows, position, FULL


class TupleReader:
    """Iterates over a stream as :class:`Tuples` of at most ``rows_max`` rows. Raises SourceError.

    The end is believed only when the trailer came, the server's own count equals the rows seen, and nothing follows.
    ``waits`` counts the seconds in which bytes were waited for.
    """

    def __init__(
        self, stream: Stream, columns: int, locate: Locate, rows_max: int = ROWS_MAX, waits: Waits | None = None
    ) -> None:
        self._stream = stream
        self._locate = locate
        self._data = np.empty(BUFFER_BYTES, np.uint8)
        self._start = self._stop = 0
        self._at = np.empty((columns, rows_max), np.int32)
        self._size = np.empty((columns, rows_max), np.int32)
        self._headed = self._ended = False
        self._waits = waits or Waits()

    def __iter__(self) -> Iterator[Tuples]:
        rows_seen = 0
        while self._head():
            rows, self._start, why = self._locate(
                self._data, self._start, self._stop, self._stream.framed, self._at, self._size
            )
            if rows:
                if self._ended:
                    raise malformed("a row after the end of data")
                rows_seen += rows
                yield Tuples(self._data, self._at[:, :rows], self._size[:, :rows])
            if why == MALFORMED:
                raise malformed("a row that does not fit its message or has another number of fields")
            if why == TRAILER:
                self._ended = True
                self._start += (FRAME_BYTES if self._stream.framed else 0) + 2
            if (why == FRAME and self._take_message()) or (why == MORE and not self._read()):
                break
        if not self._ended or self._start != self._stop:
            raise malformed("the data end in the middle of a row")
        if rows_seen != self._stream.rows_sent():
            raise malformed(f"the server sent {self._stream.rows_sent()} rows, {rows_seen} arrived")

    def _head(self) -> bool:
        """Take the header off once; False where the stream ends before it."""
        framed = self._stream.framed
        while not self._headed:
            waiting = self._stop - self._start
            if framed and waiting >= FRAME_BYTES and self._data[self._start] != COPY_DATA:
                if self._take_message():
                    return False
                continue
            need = HEADER_BYTES + (FRAME_BYTES if framed else 0)
            if waiting < need:
                if not self._read():
                    return False
                continue
            self._take_header(self._start + need - HEADER_BYTES, framed)
        return True

    def _take_header(self, start: int, framed: bool) -> None:
        body = self._start + FRAME_BYTES if framed else self._start
        header = self._data[body : body + HEADER_BYTES].tobytes()
        flags, extension = header[-8:-4], header[-4:]
        if not header.startswith(SIGNATURE) or any(flags[:2]) or any(extension):
            raise malformed("no header of COPY BINARY, or one with flags that are not known")
        self._headed = True
        if not framed:
            self._start = start + HEADER_BYTES
            return
        # The header shares its message with the first tuple: write a frame of the tuple's own just before it.
        length = int.from_bytes(self._data[self._start + 1 : self._start + 5].tobytes(), "big") - HEADER_BYTES
        if length < 4:
            raise malformed("a message that ends within the header")
        self._start += HEADER_BYTES
        if length == 4:
            self._start += FRAME_BYTES
            return
        frame = bytes([COPY_DATA]) + length.to_bytes(4, "big")
        self._data[self._start : self._start + FRAME_BYTES] = np.frombuffer(frame, np.uint8)

    def _take_message(self) -> bool:
        """Give the stream a message that is not CopyData; True when it was the last one."""
        while self._stop - self._start < FRAME_BYTES:
            self._read()
        kind = int(self._data[self._start])
        length = int.from_bytes(self._data[self._start + 1 : self._start + 5].tobytes(), "big", signed=True)
        if length < 4:
            raise malformed("a message of negative length")
        while self._stop - self._start < 1 + length:
            self._read()
        body = self._data[self._start + FRAME_BYTES : self._start + 1 + length].tobytes()
        self._start += 1 + length
        return self._stream.message(kind, body)

    def _read(self) -> bool:
        """Move what is left to the front of the buffer and append; False at the end of the stream."""
        waiting = self._stop - self._start
        if waiting == len(self._data):
            if waiting >= BUFFER_BYTES_MAX:
                raise SourceError("postgresql: a row of 2 GiB or more", next_step="leave out the column that holds it")
            grown = np.empty(min(2 * waiting, BUFFER_BYTES_MAX), np.uint8)
            grown[:waiting] = self._data[self._start : self._stop]
            self._data = grown
        elif self._start:
            self._data[:waiting] = self._data[self._start : self._stop].copy()
        self._start, self._stop = 0, waiting
        began = time.monotonic()
        got = self._stream.fill(self._data.data[waiting:])
        self._waits.seconds += time.monotonic() - began
        self._stop += got
        return got > 0
