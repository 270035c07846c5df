"""A run: the digests of one shard, or of changes, on disk, sorted, read through a memory map.

    header    64 bytes: magic, rows, locator bytes, table bits, marked, bytes of reasons, checksum of the sections
    table     (2^bits + 1) u64: row at which each prefix of k begins
    k         rows u64: the first 8 bytes of each key digest read big-endian, ascending
    tail      rows × 8 bytes: the other 8 bytes of each key digest
    r, r′     rows u64 each: the halves of each row digest
    marks     rows u32, where the run is marked (see ``marks``), filled up to 8 bytes
    offsets   (rows + 1) u64 into the heap
    heap      locators: key bytes by which the source finds a row again
    reasons   MessagePack array of texts: why rows are dead letters

Little-endian; the checksum is XXH3 of 128 bits. It finds rot, not forgers (encryption at rest keeps those out), at a
twentieth of the cost of BLAKE2b, which took half of a run's writing. A run is written under another name and renamed,
so a reader sees a whole run or none. An encrypted run (see ``rest``) has the same content, read by blocks instead of a
map.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from msgpack import packb, unpackb
from numpy.typing import NDArray
from xxhash import xxh3_128

from edge_agent.index.columns import Column
from edge_agent.index.disk import Disk
from edge_agent.index.marks import U32, Reasons, marks
from edge_agent.index.rest import RestKey, open_blob
from paritree.core import limits
from paritree.core.errors import ParitreeError, SourceError, exhausted
from paritree.core.leaves import U8, U64, boundaries, key_words, leaf_bits, row_words

MAGIC: Final = b"PTRUN\x00\x00\x03"
HEADER: Final = struct.Struct("<8sQQQQQ16s")
_CHECKED_BYTES: Final = 1 << 22
"""Bytes that are read at once where a whole file is read."""


@dataclass(frozen=True, slots=True)
class RunRows:
    """Rows of a run in its order: digests of shape (n, 16), uint8, and their locators.

    ``marks`` (n,) are there for runs of changes and where rows are dead letters, whose ``reasons`` they number.
    """

    key_digests: U8
    row_digests: U8
    locators: pa.LargeBinaryArray
    marks: U32 | None = None
    reasons: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.key_digests)


def with_dead(rows: RunRows, dead: Mapping[int, str]) -> RunRows:
    """The rows of a shard with those marked that are dead letters, and why; without any they need no marks."""
    if not dead:
        return rows
    reasons = Reasons()
    numbers = reasons.numbers(len(rows), {at: text[: limits.REASON_CHARS_MAX] for at, text in dead.items()})
    none = np.zeros(len(rows), np.int64)
    return replace(rows, marks=marks(none, numbers, none > 0), reasons=reasons.texts)


class Header(NamedTuple):
    """The header of a run, and what follows from it."""

    magic: bytes
    rows: int
    heap_bytes: int
    bits: int
    marked: int
    reason_bytes: int
    checksum: bytes

    @property
    def sizes(self) -> list[int]:
        """Bytes of each section."""
        words = self.rows * 8
        table, offsets = ((1 << self.bits) + 1) * 8, (self.rows + 1) * 8
        return [table, words, words, words, words, marks_bytes(self.rows) * self.marked, offsets, *self.heaps]

    @property
    def heaps(self) -> tuple[int, int]:
        return self.heap_bytes, self.reason_bytes


def marks_bytes(rows: int) -> int:
    """Bytes of the marks of so many rows."""
    return -(-rows // 2) * 8


def write_run(path: Path, rows: RunRows, key: RestKey | None = None) -> None:
    """Write sorted rows as a run that need not survive a crash.

    Raises SourceError when the spool cannot take it (disk full, not writable).
    """
    try:
        put_run(Disk(path.parent, key), path.name, rows, sync=False)
    except SourceError as error:
        raise SourceError(
            f"the spool cannot take a run of {len(rows)} rows: {error.message}",
            next_step="free space in the spool directory, or name another: spool in the agent file, TMPDIR for diff",
        ) from error


def put_run(disk: Disk, name: str, rows: RunRows, *, sync: bool = True) -> bytes:
    """Write sorted rows as a run into a folder; its checksum. Raises SourceError."""
    count = len(rows)
    bits = table_bits(count)
    k = key_words(rows.key_digests)
    table = np.append(np.searchsorted(k, boundaries(bits)), count).astype("<u8")
    tail = np.ascontiguousarray(rows.key_digests[:, 8:])
    marked = [] if rows.marks is None else [padded(rows.marks)]
    offsets, heap = locator_buffers(rows.locators)
    reasons = np.frombuffer(packed_reasons(rows.reasons), np.uint8)
    sections = [table, k, tail, *row_words(rows.row_digests), *marked, offsets, heap, reasons]
    contents = [np.ascontiguousarray(section).data for section in sections]
    checksum = xxh3_128()
    for content in contents:
        checksum.update(content)
    with disk.create(name) as output:
        output.write(
            HEADER.pack(MAGIC, count, len(heap), bits, rows.marks is not None, len(reasons), checksum.digest())
        )
        for content in contents:
            output.write(content)
        output.publish(sync=sync)
    return checksum.digest()


def table_bits(rows: int) -> int:
    """Depth of the offset table of a run of so many rows."""
    return leaf_bits(rows, limits.LEAF_ROWS, limits.LEVEL_BITS_MAX)


def packed_reasons(texts: Sequence[str]) -> bytes:
    """The last section."""
    return bytes(packb(list(texts)))


def padded(marks: U32) -> U32:
    """Marks filled up to whole words of 8 bytes."""
    return np.append(marks, np.zeros(len(marks) % 2, np.uint32)).astype("<u4")


def locator_buffers(locators: pa.LargeBinaryArray) -> tuple[NDArray[np.uint64], U8]:
    """Offsets (n + 1,) from 0 and the bytes that they cut."""
    buffers = locators.buffers()
    start = locators.offset
    offsets = np.frombuffer(buffers[1], np.int64)[start : start + len(locators) + 1] if buffers[1] else np.zeros(1)
    heap = np.frombuffer(buffers[2], np.uint8) if buffers[2] else np.zeros(0, np.uint8)
    first, last = int(offsets[0]), int(offsets[-1])
    return (offsets - first).astype("<u8"), heap[first:last]


class Run:
    """A run opened for reading; it stays readable when its file is removed.

    Raises SourceError for a file that is no run.
    """

    def __init__(self, path: Path, key: RestKey | None = None) -> None:
        self.path = path
        try:
            self._blob = open_blob(path, key)
        except (OSError, ValueError) as error:
            failed = SourceError(f"the run {path.name} cannot be read", next_step="start the sweep again")
            raise exhausted(error) or failed from error
        if self._blob.size < HEADER.size:
            raise self._damaged("is cut off")
        header = Header(*HEADER.unpack(self._blob.read(0, HEADER.size).tobytes()))
        if header.magic != MAGIC or header.bits > limits.LEVEL_BITS_MAX or header.marked > 1:
            raise self._damaged("has another format")
        if self._blob.size != HEADER.size + sum(header.sizes):
            raise self._damaged("is cut off")
        self.rows: int = header.rows
        self.bits: int = header.bits
        self.checksum = header.checksum
        at = [HEADER.size]
        for size in header.sizes:
            at.append(at[-1] + size)
        self._table = self._blob.read(at[0], at[1]).view("<u8")
        if int(self._table[-1]) != self.rows or (self._table[1:] < self._table[:-1]).any():
            raise self._damaged("has a table that is not of its rows")
        self.k: Column[np.uint64] = Column(self._blob, at[1], self.rows, "<u8")
        self.tail: Column[np.uint64] = Column(self._blob, at[2], self.rows, ">u8")
        self.r: Column[np.uint64] = Column(self._blob, at[3], self.rows, "<u8")
        self.r2: Column[np.uint64] = Column(self._blob, at[4], self.rows, "<u8")
        self.marks: Column[np.uint32] | None = Column(self._blob, at[5], self.rows, "<u4") if header.marked else None
        self._offsets: Column[np.uint64] = Column(self._blob, at[6], self.rows + 1, "<u8")
        self._heap_at, self._heap_bytes = at[7], header.heap_bytes
        self._reasons_at = at[8], at[9]

    def _damaged(self, how: str) -> SourceError:
        return SourceError(f"the run {self.path.name} {how}", next_step="start the sweep again: the run is rebuilt")

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why rows are dead letters, by their numbers from 1. Raises SourceError."""
        try:
            return tuple(map(str, unpackb(self._blob.read(*self._reasons_at).tobytes())))
        except (ValueError, TypeError):
            raise self._damaged("has no readable reasons") from None

    @property
    def bytes_on_disk(self) -> int:
        return self._blob.size

    def release(self) -> None:
        """Give back the memory of what was read, after reading much of it."""
        self._blob.release()

    def verify(self) -> None:
        """Read the whole run and compare its checksum. Raises SourceError."""
        checksum = xxh3_128()
        try:
            for low in range(HEADER.size, self._blob.size, _CHECKED_BYTES):
                checksum.update(self._blob.read(low, min(low + _CHECKED_BYTES, self._blob.size)).data)
        except ParitreeError as error:
            raise self._damaged("cannot be opened block by block") from error
        if checksum.digest() != self.checksum:
            raise self._damaged("does not match its checksum")

    def key_digests(self, low: int, high: int) -> U8:
        """The key digests of the rows [low, high), shape (high - low, 16), uint8."""
        words = np.empty((high - low, 2), np.uint64)
        words[:, 0] = self.k.slice(low, high)
        words[:, 1] = self.tail.slice(low, high)
        return words.byteswap().view(np.uint8).reshape(-1, 16)

    def row_digests(self, low: int, high: int) -> U8:
        """The row digests of the rows [low, high), shape (high - low, 16), uint8."""
        words = np.stack([self.r.slice(low, high), self.r2.slice(low, high)], axis=1)
        return words.astype("<u8").view(np.uint8).reshape(-1, 16)

    def row_digest(self, row: int) -> bytes:
        """The row digest of one row."""
        return self.row_digests(row, row + 1).tobytes()

    def cuts(self, firsts: U64) -> NDArray[np.int64]:
        """The row at which each k of ``firsts`` (ascending u64) would begin."""
        if self.rows == 0:
            return np.zeros(len(firsts), np.int64)
        low = int(self._table[self._prefix(int(firsts[0]))])
        high = int(self._table[self._prefix(int(firsts[-1])) + 1])
        return low + np.searchsorted(self.k.slice(low, high), firsts).astype(np.int64)

    def window(self, first: int, end: int) -> tuple[int, int]:
        """The rows whose k is in [first, end); ``end`` may be 2^64."""
        low = int(self.cuts(np.array([first], np.uint64))[0])
        high = self.rows if end >= 1 << 64 else int(self.cuts(np.array([end], np.uint64))[0])
        return low, high

    def _prefix(self, k: int) -> int:
        return k >> (64 - self.bits) if self.bits else 0

    def spans(self, ks: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the rows of each k (ascending) begin and end."""
        starts, ends = np.zeros(len(ks), np.int64), np.zeros(len(ks), np.int64)
        for some in self._near(ks):
            low = int(self._table[self._prefix(int(ks[some.start]))])
            high = int(self._table[self._prefix(int(ks[some.stop - 1])) + 1])
            window = self.k.slice(low, high)
            starts[some] = low + np.searchsorted(window, ks[some], "left")
            ends[some] = starts[some] + _equal(window, ks[some], starts[some] - low)
        return starts, ends

    def _near(self, ks: U64) -> Sequence[slice]:
        """All at once through a map; where rows must be decrypted, keys that lie below one prefix at a time."""
        if not len(ks) or not self.rows:
            return []
        if self.k.mapped or len(ks) << 8 > self.rows or not self.bits:
            return [slice(0, len(ks))]
        prefixes = ks >> np.uint64(64 - self.bits)
        cuts = np.flatnonzero(prefixes[1:] != prefixes[:-1]) + 1
        edges = [0, *cuts.tolist(), len(ks)]
        return [slice(a, b) for a, b in itertools.pairwise(edges)]

    def locator(self, row: int) -> bytes:
        """The locator of one row."""
        return bytes(self.locators(row, row + 1)[0].as_py())

    def locators(self, low: int, high: int) -> pa.LargeBinaryArray:
        """The locators of the rows [low, high). Raises SourceError for offsets that no run has."""
        offsets = self._offsets.slice(low, high + 1).astype(np.int64)
        first, last = int(offsets[0]), int(offsets[-1])
        if not 0 <= first <= last <= self._heap_bytes or (np.diff(offsets) < 0).any():
            raise self._damaged("has locators out of place")
        heap = self._blob.read(self._heap_at + first, self._heap_at + last)
        buffers = [None, pa.py_buffer(offsets - first), pa.py_buffer(np.ascontiguousarray(heap))]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), high - low, buffers)


def _equal(window: U64, ks: U64, at: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many words of the window, from ``at`` on, equal each k: nearly always one or none."""
    count = np.zeros(len(ks), np.int64)
    open_ = np.arange(len(ks))
    while len(open_):
        open_ = open_[at[open_] + count[open_] < len(window)]
        open_ = open_[window[at[open_] + count[open_]] == ks[open_]]
        count[open_] += 1
    return count
