"""What proves that a row group of a Parquet file has the rows of another one: its bytes, and all that they are read by.

Offsets, sizes, counts and statistics are those of other values just as well, and checksums of pages are written by few.
So the raw bytes of the column chunks are hashed, pages, headers and dictionaries, with what the footer says of how to
read them, relative to where the chunk begins: a group may have moved. BLAKE2b, as whoever writes the files must not be
able to hide a change; decoding and digesting the same bytes takes ten times as long and more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

BLOCK_BYTES: Final = 1 << 20
"""Bytes that are read at once."""
_SHORT_SIZES: Final = re.compile(r"parquet-mr(?!.*version (1\.([3-9]|\d\d)|[2-9]|\d\d))")
"""Writers that left dictionary headers out of a chunk's size (PARQUET-816, before 1.2.9): readers read beyond it."""


class Fingerprints:
    """Of the row groups of one open file: ``raw`` gives its bytes, ``names`` are the columns that are read."""

    def __init__(self, file: pq.ParquetFile, raw: BinaryIO, names: Sequence[str]) -> None:
        self._meta = file.metadata
        self._raw = raw
        wanted = tuple(sorted(names))
        paths = [file.schema.column(index).path for index in range(len(file.schema))]
        self._leaves = [
            index for index, path in enumerate(paths) if any(path == n or path.startswith(f"{n}.") for n in wanted)
        ]
        fields = [file.schema_arrow.field(name).remove_metadata() for name in wanted]
        leaves = [str(file.schema.column(index)) for index in self._leaves]
        self._about = (self._meta.created_by, self._meta.format_version, wanted, leaves)
        self._types = pa.schema(fields).serialize().to_pybytes()

    def of(self, group: int) -> str:
        """The fingerprint of a row group; "" where the footer does not say which bytes it is."""
        if _SHORT_SIZES.match(self._meta.created_by or ""):
            return ""
        found = self._meta.row_group(group)
        digest = hashlib.blake2b(self._types, digest_size=16)
        _say(digest, self._about, found.num_rows)
        for index in self._leaves:
            chunk = found.column(index)
            first = _first(chunk)
            about = (chunk.physical_type, chunk.compression, chunk.num_values, chunk.total_compressed_size)
            _say(digest, *about, chunk.data_page_offset - first)
            if chunk.file_path or not self._hash(digest, first, chunk.total_compressed_size):
                return ""
        return digest.hexdigest()

    def _hash(self, digest: Any, first: int, size: int) -> bool:
        """Add those bytes of the file; False where it has not all of them."""
        if first < 0 or size < 0:
            return False
        self._raw.seek(first)
        while size:
            block = self._raw.read(min(size, BLOCK_BYTES))
            if not block:
                return False
            digest.update(block)
            size -= len(block)
        return True


def _first(chunk: pq.ColumnChunkMetaData) -> int:
    """Where the chunk begins: with its dictionary, if it has one."""
    dictionary = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    return int(min(dictionary, chunk.data_page_offset) if dictionary else chunk.data_page_offset)


def _say(digest: Any, *about: object) -> None:
    digest.update(f"{about!r}\0".encode(errors="backslashreplace"))
