"""A run written slice by slice, however long it gets: each section grows in a file of its own until all are joined.

The section files are encrypted like everything else in the folder, and removed; one that a crash left is garbage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

import numpy as np
from xxhash import xxh3_128

from edge_agent.index.disk import Disk, Output
from edge_agent.index.run import HEADER, MAGIC, RunRows, locator_buffers, packed_reasons, padded, put_run, table_bits
from edge_agent.index.state import HeldRun
from paritree.core import limits
from paritree.core.leaves import key_words, row_words

_SECTIONS: Final = ("k", "tail", "r", "r2", "marks", "offsets", "heap")
_COPIED_BYTES: Final = 1 << 22
_BITS: Final = limits.LEVEL_BITS_MAX


class RunWriter:
    """Takes sorted rows in ascending parts, all marked or none; ``finish`` makes the run. Use it as a context."""

    def __init__(self, disk: Disk, name: str, *, marked: bool) -> None:
        self._disk = disk
        self._name = name
        self._marked = marked
        self._first: RunRows | None = None
        self._files: dict[str, Output] = {}
        self._open = ExitStack()
        self._counts = np.zeros(1 << _BITS, np.int64)
        self._odd_mark = np.zeros(0, np.uint32)
        self._heap_bytes = 0
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        for section in self._files:
            (self._disk.folder / self._file(section)).unlink(missing_ok=True)

    def add(self, rows: RunRows) -> None:
        """Append rows; their keys come after all before them. Raises SourceError."""
        self.rows += len(rows)
        if self._first is None:
            self._first = rows
            return
        if not self._files:
            self._start()
            self._append(self._first)
        self._append(rows)

    def finish(self, reasons: tuple[str, ...]) -> HeldRun:
        """The run, synced. Raises SourceError."""
        if self._first is None:
            raise ValueError("a run of nothing")
        if not self._files:
            one = self._first
            whole = RunRows(one.key_digests, one.row_digests, one.locators, one.marks, reasons)
            return HeldRun(self._name, self.rows, put_run(self._disk, self._name, whole))
        self._files["marks"].write(padded(self._odd_mark).data if len(self._odd_mark) else b"")
        self._files["offsets"].write(np.array([self._heap_bytes], "<u8").data)
        for section in _SECTIONS:
            self._files[section].publish(sync=False)
        texts = packed_reasons(reasons)
        checksum = xxh3_128()
        for content in self._contents(texts):
            checksum.update(content)
        bits = table_bits(self.rows)
        header = HEADER.pack(MAGIC, self.rows, self._heap_bytes, bits, self._marked, len(texts), checksum.digest())
        with self._disk.create(self._name) as output:
            output.write(header)
            for content in self._contents(texts):
                output.write(content)
            output.publish()
        return HeldRun(self._name, self.rows, checksum.digest())

    def _start(self) -> None:
        for section in _SECTIONS:
            self._files[section] = self._open.enter_context(self._disk.create(self._file(section)))

    def _append(self, rows: RunRows) -> None:
        k, (r, r2) = key_words(rows.key_digests), row_words(rows.row_digests)
        offsets, heap = locator_buffers(rows.locators)
        self._counts += np.bincount((k >> np.uint64(64 - _BITS)).astype(np.int64), minlength=1 << _BITS)
        tail = np.ascontiguousarray(rows.key_digests[:, 8:])
        for section, words in (("k", k), ("tail", tail), ("r", r), ("r2", r2), ("heap", heap)):
            self._files[section].write(np.ascontiguousarray(words).data)
        self._files["offsets"].write((offsets[:-1] + np.uint64(self._heap_bytes)).astype("<u8").data)
        self._heap_bytes += len(heap)
        if rows.marks is not None:  # padding comes only at the very end
            marks = np.append(self._odd_mark, rows.marks).astype("<u4")
            even = len(marks) // 2 * 2
            self._files["marks"].write(marks[:even].data)
            self._odd_mark = marks[even:]

    def _contents(self, texts: bytes) -> Iterator[memoryview | bytes]:
        """Everything after the header, in order."""
        bits = table_bits(self.rows)
        per_prefix = self._counts.reshape(1 << bits, -1).sum(axis=1)
        yield np.append(0, np.cumsum(per_prefix)).astype("<u8").data
        for section in _SECTIONS:
            blob = self._disk.open(self._file(section))
            for low in range(0, blob.size, _COPIED_BYTES):
                yield np.ascontiguousarray(blob.read(low, min(low + _COPIED_BYTES, blob.size))).data
        yield texts

    def _file(self, section: str) -> str:
        return f"{Path(self._name).stem}-{section}.section"
