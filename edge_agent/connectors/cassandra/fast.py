"""The fast decoder: whole columns by compiled loops, the rest by the plain decoder's readers. Same result.

Scalars of fixed size, texts, blobs, and numbers of up to 64 bits never become Python objects; a column of any other
type, or with one larger number, is read by :func:`.decode.column` from the cells that the index found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from edge_agent.connectors.cassandra.cells import (
    BAD,
    DAY_NS,
    DECIMAL_TEXT_MAX,
    PLAIN_ZEROS_MAX,
    TIMESTAMP_MS_MAX,
    VALUE,
    Unfit,
)
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import TEXTS, Cell, Columns, Rows, broken_page, column
from edge_agent.connectors.cassandra.nested import reader
from paritree.core.errors import SourceError
from paritree.core.fast.warming import Kernels

KERNELS: Final = Kernels(
    "edge_agent.connectors.cassandra.kernels", "index_cells", "fixed", "variable", "varints", "decimals"
)
PAGE_BYTES_MAX: Final = (1 << 31) - 1
"""Arrow's offsets are int32; the native protocol's frames end at 256 MiB anyway."""
_FIXED: Final = {
    "tinyint": 1, "smallint": 2, "int": 4, "bigint": 8, "counter": 8, "float": 4, "double": 8,
    "boolean": 1, "date": 4, "time": 8, "timestamp": 8, "uuid": 16, "timeuuid": 16,
}  # fmt: skip
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Column:
    """The cells of one column: ``starts`` and ``lengths`` int32 (-1: null), a value a row, into ``data``."""

    kind: CqlType
    raw: bytes
    data: Bytes
    starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    @property
    def rows(self) -> int:
        return len(self.starts)

    def cell(self, row: int) -> Cell:
        length = int(self.lengths[row])
        return None if length < 0 else self.raw[self.starts[row] : self.starts[row] + length]


@dataclass(frozen=True, slots=True)
class Located:
    """The cells of a page: ``starts`` and ``lengths`` (int32, -1: null), each (columns, rows), into ``data``."""

    raw: bytes
    data: Bytes
    starts: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]

    @property
    def rows(self) -> int:
        return int(self.starts.shape[1])

    def taken(self, rows: npt.NDArray[np.int64]) -> Located:
        """Some rows, by their numbers."""
        return Located(self.raw, self.data, self.starts.take(rows, axis=1), self.lengths.take(rows, axis=1))

    def column(self, number: int, kind: CqlType) -> tuple[pa.Array, list[tuple[int, str]]]:
        """The carrier array of one column and (row, reason) of its rejects, which are null in the array."""
        return _column(_Column(kind, self.raw, self.data, self.starts[number], self.lengths[number]))

    def columns(self, kinds: Sequence[CqlType]) -> Columns:
        """All columns."""
        arrays: list[pa.Array] = []
        rejects: list[tuple[int, int, str]] = []
        for number, kind in enumerate(kinds):
            array, bad = self.column(number, kind)
            arrays.append(array)
            rejects += [(row, number, reason) for row, reason in bad]
        return Columns(arrays, rejects)


def locate(rows: Rows, columns: int) -> Located:
    """Find the cells of a page. Raises SourceError where its lengths do not add up."""
    if len(rows.data) > PAGE_BYTES_MAX:
        raise SourceError(f"a result page of {len(rows.data)} bytes", next_step="lower page_rows")
    # Each cell has at least its length: a wild row count must not become a large allocation.
    if rows.count * columns * 4 > len(rows.data) - rows.offset:
        raise broken_page()
    data = np.frombuffer(rows.data, np.uint8)
    starts = np.empty((columns, rows.count), np.int32)
    lengths = np.empty((columns, rows.count), np.int32)
    if KERNELS.index_cells(data, rows.offset, starts, lengths) != len(data):
        raise broken_page()
    return Located(rows.data, data, starts, lengths)


def decode(rows: Rows, kinds: Sequence[CqlType]) -> Columns:
    """As :func:`.decode.decode`. Raises SourceError where the page's lengths do not add up."""
    return locate(rows, len(kinds)).columns(kinds)


def _column(cells: _Column) -> tuple[pa.Array, list[tuple[int, str]]]:
    name = cells.kind.name
    found = None
    if name in _FIXED:
        found = _fixed(cells, _FIXED[name])
    elif name in TEXTS or name == "blob":
        found = _variable(cells)
    elif name == "varint":
        found = _varints(cells)
    elif name == "decimal":
        found = _decimals(cells)
    if found is None:
        return column([cells.cell(row) for row in range(cells.rows)], cells.kind)
    array, bad = found
    return array, [(row, _reason(cells, row)) for row in bad]


def _reason(cells: _Column, row: int) -> str:
    """The plain reader's word on a cell that the loop refused."""
    cell = cells.cell(row)
    try:
        value = reader(cells.kind)(cell or b"")
    except Unfit as error:
        return str(error)
    raise AssertionError(f"the plain reader takes what the fast one refused: {type(value).__name__}")


_Found = tuple[pa.Array, list[int]]


def _array(kind: pa.DataType, state: Bytes, *buffers: npt.NDArray[Any]) -> pa.Array:
    valid = state == VALUE
    nulls = len(state) - int(np.count_nonzero(valid))
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little")) if nulls else None
    return pa.Array.from_buffers(kind, len(state), [bitmap, *map(pa.py_buffer, buffers)], null_count=nulls)


def _bad(state: Bytes) -> list[int]:
    return list(np.flatnonzero(state == BAD).tolist())


def _fixed(cells: _Column, size: int) -> _Found:
    name = cells.kind.name
    out = np.zeros(cells.rows * size, np.uint8)
    state = np.empty(cells.rows, np.uint8)
    bad = KERNELS.fixed(cells.data, cells.starts, cells.lengths, size, size <= 8, out, state)
    if name == "boolean":
        return _array(pa.bool_(), state, np.packbits(out != 0, bitorder="little")), _bad(state) if bad else []
    values: npt.NDArray[Any] = out
    if name == "date":
        values = out.view(np.uint32) ^ np.uint32(1 << 31)  # days from -5877641-06-23 on, as int32 from 1970 on
    elif name in _RANGES:
        low, high = _RANGES[name]
        numbers = out.view(np.int64)
        outside = (numbers < low) | (numbers > high)
        if outside.any():
            state[outside & (state == VALUE)] = BAD
            bad = 1
    return _array(cells.kind.arrow, state, values), _bad(state) if bad else []


_RANGES: Final = {"timestamp": (-TIMESTAMP_MS_MAX, TIMESTAMP_MS_MAX), "time": (0, DAY_NS - 1)}


def _variable(cells: _Column) -> _Found:
    offsets = np.empty(cells.rows + 1, np.int32)
    out = np.empty(int(np.maximum(cells.lengths, 0).sum(dtype=np.int64)), np.uint8)
    state = np.empty(cells.rows, np.uint8)
    KERNELS.variable(cells.data, cells.starts, cells.lengths, offsets, out, state)
    return _array(pa.binary() if cells.kind.name == "blob" else pa.utf8(), state, offsets, out), []


def _varints(cells: _Column) -> _Found | None:
    out = np.zeros(cells.rows, np.int64)
    state = np.empty(cells.rows, np.uint8)
    if KERNELS.varints(cells.data, cells.starts, cells.lengths, out, state) < 0:
        return None
    return _array(pa.int64(), state, out), _bad(state)


def _decimals(cells: _Column) -> _Found | None:
    offsets = np.empty(cells.rows + 1, np.int32)
    out = np.empty(cells.rows * DECIMAL_TEXT_MAX, np.uint8)
    state = np.empty(cells.rows, np.uint8)
    if KERNELS.decimals(cells.data, cells.starts, cells.lengths, PLAIN_ZEROS_MAX, offsets, out, state) < 0:
        return None
    return _array(pa.utf8(), state, offsets, out[: offsets[-1]].copy()), _bad(state)
