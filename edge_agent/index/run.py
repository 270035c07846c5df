"""A run: the digests of one shard on disk, sorted, read through a memory map.

    header    64 bytes: magic, rows, locator bytes, table bits, checksum of the sections (BLAKE2b, 16 bytes)
    table     (2^bits + 1) u64: row at which each prefix of k begins
    k         rows u64: the first 8 bytes of each key digest read big-endian, ascending
    tail      rows × 8 bytes: the other 8 bytes of each key digest
    r, r′     rows u64 each: the halves of each row digest
    offsets   (rows + 1) u64 into the heap
    heap      locators: key bytes by which the source finds a row again

Little-endian. A run is written under another name and renamed, so a reader sees a whole run or none.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core import limits
from paritree.core.errors import SourceError
from paritree.core.leaves import U8, U64, boundaries, key_words, leaf_bits, row_words

MAGIC: Final = b"PTRUN\x00\x00\x01"
_HEADER: Final = struct.Struct("<8sQQQ16s16x")


@dataclass(frozen=True, slots=True)
class RunRows:
    """Rows of a run in its order: digests of shape (n, 16), uint8, and their locators."""

    key_digests: U8
    row_digests: U8
    locators: pa.LargeBinaryArray


def write_run(path: Path, rows: RunRows) -> None:
    """Write sorted rows as a run. Raises SourceError when the spool cannot take it (disk full, not writable)."""
    count = len(rows.key_digests)
    bits = leaf_bits(count, limits.LEAF_ROWS, limits.LEVEL_BITS_MAX)
    k = key_words(rows.key_digests)
    tail = np.ascontiguousarray(rows.key_digests[:, 8:])
    table = np.append(np.searchsorted(k, boundaries(bits)), count).astype("<u8")
    sections = [table, k, tail, *row_words(rows.row_digests), *_locator_buffers(rows.locators)]
    checksum = hashlib.blake2b(digest_size=16)
    for section in sections:
        checksum.update(np.ascontiguousarray(section).data)
    header = _HEADER.pack(MAGIC, count, len(sections[-1]), bits, checksum.digest())
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(header)
            for section in sections:
                file.write(np.ascontiguousarray(section).data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise SourceError(
            f"the spool cannot take a run of {count} rows: {error.strerror}",
            next_step="free space in the spool directory or name another one in the agent file",
        ) from error


def _locator_buffers(locators: pa.LargeBinaryArray) -> tuple[NDArray[np.uint64], U8]:
    buffers = locators.buffers()
    start = locators.offset
    offsets = np.frombuffer(buffers[1], np.int64)[start : start + len(locators) + 1] if buffers[1] else np.zeros(1)
    heap = np.frombuffer(buffers[2], np.uint8) if buffers[2] else np.zeros(0, np.uint8)
    first, last = int(offsets[0]), int(offsets[-1])
    return (offsets - first).astype("<u8"), heap[first:last]


class Run:
    """A run opened for reading: arrays are views of the memory map. Raises SourceError for a file that is no run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            data = np.memmap(path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise SourceError(f"the run {path.name} cannot be read", next_step="start the sweep again") from error
        self._data = data
        if len(data) < _HEADER.size:
            raise self._damaged("is cut off")
        magic, rows, heap_bytes, bits, self._checksum = _HEADER.unpack(data[: _HEADER.size].tobytes())
        if magic != MAGIC or bits > limits.LEVEL_BITS_MAX:
            raise self._damaged("has another format")
        sizes = [((1 << bits) + 1) * 8, *(rows * 8,) * 4, (rows + 1) * 8, heap_bytes]
        if len(data) != _HEADER.size + sum(sizes):
            raise self._damaged("is cut off")
        at = _HEADER.size
        parts: list[U8] = []
        for size in sizes:
            parts.append(data[at : at + size])
            at += size
        self.rows: int = rows
        self.bits: int = bits
        self._table = parts[0].view("<u8")
        self.k: U64 = parts[1].view("<u8")
        self._tail = parts[2]
        self.r: U64 = parts[3].view("<u8")
        self.r2: U64 = parts[4].view("<u8")
        self._offsets = parts[5].view("<u8")
        self._heap = parts[6]

    def _damaged(self, how: str) -> SourceError:
        return SourceError(f"the run {self.path.name} {how}", next_step="start the sweep again: the run is rebuilt")

    def verify(self) -> None:
        """Read the whole run and compare its checksum. Raises SourceError."""
        if hashlib.blake2b(self._data[_HEADER.size :].data, digest_size=16).digest() != self._checksum:
            raise self._damaged("does not match its checksum")

    def key_digests(self, low: int, high: int) -> U8:
        """The key digests of the rows [low, high), shape (high - low, 16), uint8."""
        words = np.empty((high - low, 2), np.uint64)
        words[:, 0] = self.k[low:high].byteswap()
        words[:, 1] = self._tail[low * 8 : high * 8].view("<u8")
        return words.view(np.uint8).reshape(-1, 16)

    def row_digest(self, row: int) -> bytes:
        """The row digest of one row."""
        return struct.pack("<QQ", int(self.r[row]), int(self.r2[row]))

    def cuts(self, firsts: U64) -> NDArray[np.int64]:
        """The row at which each k of ``firsts`` (ascending u64) would begin."""
        if self.rows == 0:
            return np.zeros(len(firsts), np.int64)
        low = int(self._table[self._prefix(int(firsts[0]))])
        high = int(self._table[self._prefix(int(firsts[-1])) + 1])
        return low + np.searchsorted(self.k[low:high], firsts).astype(np.int64)

    def _prefix(self, k: int) -> int:
        return k >> (64 - self.bits) if self.bits else 0

    def locator(self, row: int) -> bytes:
        """The locator of one row."""
        return self._heap[int(self._offsets[row]) : int(self._offsets[row + 1])].tobytes()
