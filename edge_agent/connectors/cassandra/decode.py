"""The rows of a result page, from the wire's bytes to Arrow: the plain decoder, which defines what the fast one gives.

A page is ``rows`` times one cell a column; a cell is a big-endian int32 length (negative: null) and that many bytes.
Framing that does not hold is a SourceError, since nothing after it can be trusted. A cell whose bytes are no value of
its type is a reject of its row.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from edge_agent.connectors.cassandra.cells import INT64_MAX, INT64_MIN, Unfit, digits
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.nested import reader
from paritree.core.errors import SourceError

Cell = bytes | None
TEXTS: Final = frozenset({"ascii", "text", "varchar"})
_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows in wire form: ``data`` from ``offset`` to its end."""

    data: bytes
    count: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """One carrier array a column, and (row, column, reason) of every cell that no carrier can hold."""

    arrays: list[pa.Array]
    rejects: list[tuple[int, int, str]]


def decode(rows: Rows, kinds: Sequence[CqlType]) -> Columns:
    """All columns of a page. Raises SourceError where the bytes are not ``rows.count`` rows of that many cells."""
    arrays: list[pa.Array] = []
    rejects: list[tuple[int, int, str]] = []
    for number, (kind, cells) in enumerate(zip(kinds, split(rows, len(kinds)), strict=True)):
        array, bad = column(cells, kind)
        arrays.append(array)
        rejects += [(row, number, reason) for row, reason in bad]
    return Columns(arrays, rejects)


def split(rows: Rows, width: int) -> list[list[Cell]]:
    """The cells of each column. Raises SourceError."""
    data, at, end = rows.data, rows.offset, len(rows.data)
    columns: list[list[Cell]] = [[] for _ in range(width)]
    for _ in range(rows.count):
        for cells in columns:
            if end - at < 4:
                raise broken_page()
            (length,) = _LENGTH.unpack_from(data, at)
            at += 4
            if length < 0:
                cells.append(None)
                continue
            if end - at < length:
                raise broken_page()
            cells.append(data[at : at + length])
            at += length
    if at != end:
        raise broken_page()
    return columns


def broken_page() -> SourceError:
    """The error for a page whose lengths do not add up."""
    return SourceError("Cassandra sent a result page whose lengths do not add up", retryable=True)


def column(cells: Sequence[Cell], kind: CqlType) -> tuple[pa.Array, list[tuple[int, str]]]:
    """The carrier array of one column and (row, reason) of its rejects, which are null in the array."""
    read = reader(kind)
    values: list[Any] = []
    rejects: list[tuple[int, str]] = []
    for row, cell in enumerate(cells):
        try:
            values.append(None if cell is None else read(cell))
        except Unfit as error:
            values.append(None)
            rejects.append((row, str(error)))
    return carrier(values, kind), rejects


def carrier(values: list[Any], kind: CqlType) -> pa.Array:
    """Values of :func:`reader` as one array: whole numbers of any size are int64 where all of them fit."""
    if kind.name == "varint":
        if all(value is None or INT64_MIN <= value <= INT64_MAX for value in values):
            return pa.array(values, pa.int64())
        return pa.array([None if value is None else digits(value) for value in values], pa.utf8())
    if kind.name in TEXTS:
        return pa.array(values, pa.binary()).view(pa.utf8())
    return pa.array(values, kind.arrow)
