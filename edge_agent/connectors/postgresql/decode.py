"""Located fields -> Arrow columns: what the values mean (epochs, infinities, arrays of parts), whatever primitives run.

Everything that runs once per value goes through :class:`Primitives`, plain or compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.connectors.contract import REJECTS, REJECTS_TYPE
from edge_agent.connectors.postgresql import nested
from edge_agent.connectors.postgresql.primitives import (
    BATCH_BYTES_MAX,
    COLUMN_BYTES_MAX,
    PLAIN,
    Fields,
    Primitives,
    TooLarge,
    values,
)
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.tuples import Bytes, Places, Tuples, malformed
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.profile import BoundColumn

EPOCH_DAYS: Final = 10_957
"""Days from 1970-01-01 to PostgreSQL's epoch, 2000-01-01."""
EPOCH_US: Final = EPOCH_DAYS * 86_400_000_000
INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


@dataclass(slots=True)
class Column:
    """A decoded column and the reason of each value that no carrier holds (null in the array), by row."""

    array: pa.Array
    rejects: dict[int, str] = field(default_factory=dict)


def decode_batches(projection: Projection, tuples: Tuples, use: Primitives = PLAIN) -> Iterator[pa.RecordBatch]:
    """The rows as record batches with the binding's columns: one batch, or more where one would be too large."""
    try:
        yield _decode_batch(projection, tuples, use)
    except TooLarge:
        if tuples.rows == 1:
            raise malformed(f"one value above {COLUMN_BYTES_MAX >> 20} MiB of digits") from None
        half = tuples.rows // 2
        yield from decode_batches(projection, tuples.slice(0, half), use)
        yield from decode_batches(projection, tuples.slice(half, tuples.rows), use)


def _decode_batch(projection: Projection, tuples: Tuples, use: Primitives) -> pa.RecordBatch:
    rows = tuples.rows
    arrays: dict[str, pa.Array] = {}
    rejects: dict[int, list[dict[str, str]]] = {}
    room = BATCH_BYTES_MAX + tuples.nbytes
    for index, output in enumerate(projection.outputs):
        column = decode(output.type, Fields(tuples.data, tuples.at[index], tuples.size[index]), use)
        room -= column.array.nbytes
        if room < 0 and rows > 1:
            raise TooLarge
        arrays[output.name] = column.array
        for row, reason in column.rejects.items():
            rejects.setdefault(row, []).append({"column": output.name, "reason": reason})
    for constant in projection.constants:
        arrays[constant.name] = repeated(constant, rows)
    names = list(projection.names)
    columns = [arrays[name] for name in names]
    if rejects:
        names.append(REJECTS)
        columns.append(pa.array([rejects.get(row) for row in range(rows)], REJECTS_TYPE))
    return pa.RecordBatch.from_arrays(columns, names=names)


def repeated(constant: BoundColumn, rows: int) -> pa.Array:
    """A column that the binding gives and the server does not."""
    return pa.repeat(pa.scalar(constant.constant, pa.utf8()), rows)


def decode(kind: EngineType, fields: Fields, use: Primitives = PLAIN) -> Column:
    """One column. Raises SourceError for bytes that are not of the type, TooLarge."""
    if kind.wire in nested.DECODERS:
        return _nested(kind, fields, use)
    return _DECODERS[kind.wire](fields, use)


def _nested(kind: EngineType, fields: Fields, use: Primitives) -> Column:
    parts = nested.DECODERS[kind.wire](kind, list(values(fields)), fields.at)
    children = [
        decode(child, Fields(fields.data, np.array(at, np.int32), np.array(size, np.int32)), use)
        for child, at, size in parts.children
    ]
    rejects = dict(parts.rejects)
    for child in children:
        for row, reason in child.rejects.items():
            rejects.setdefault(parts.parent(row), reason)
    lost = np.fromiter(rejects, np.int64, len(rejects))
    null = fields.size < 0
    null[lost] = True
    return Column(parts.build([child.array for child in children], pa.array(null)), rejects)


def _validity(valid: NDArray[np.bool_]) -> tuple[pa.Buffer | None, int]:
    nulls = len(valid) - int(np.count_nonzero(valid))
    return (pa.py_buffer(np.packbits(valid, bitorder="little")) if nulls else None), nulls


def _array(
    kind: pa.DataType, fields: Fields, values: NDArray[np.generic], lost: NDArray[np.bool_] | None = None
) -> pa.Array:
    valid = fields.size >= 0 if lost is None else (fields.size >= 0) & ~lost
    bitmap, nulls = _validity(valid)
    return pa.Array.from_buffers(kind, len(fields), [bitmap, pa.py_buffer(np.ascontiguousarray(values))], nulls)


def _number(kind: pa.DataType, width: int) -> Callable[[Fields, Primitives], Column]:
    return lambda fields, use: Column(_array(kind, fields, use.words(fields, width)))


def _bool(fields: Fields, use: Primitives) -> Column:
    bits = np.packbits(use.words(fields, 1) != 0, bitorder="little")
    return Column(_array(pa.bool_(), fields, bits))


def _oid(fields: Fields, use: Primitives) -> Column:
    return Column(_array(pa.int64(), fields, use.words(fields, 4).astype(np.int64)))


def _date(fields: Fields, use: Primitives) -> Column:
    raw = use.words(fields, 4).view(np.int32)
    days = raw.astype(np.int64) + EPOCH_DAYS
    days[raw == INT32_MAX] = INT64_MAX
    days[raw == INT32_MIN] = INT64_MIN
    return Column(_array(pa.int64(), fields, days))


def _time(fields: Fields, use: Primitives) -> Column:
    return Column(_array(pa.int64(), fields, use.words(fields, 8)))


def _timestamp(fields: Fields, use: Primitives) -> Column:
    raw = use.words(fields, 8).view(np.int64)
    infinite = (raw == INT64_MAX) | (raw == INT64_MIN)
    # PostgreSQL's last years, and the microsecond that would be our infinity, have no int64 since 1970.
    late = (raw >= INT64_MAX - EPOCH_US) & ~infinite
    shifted = raw + np.where(infinite | late, np.int64(0), np.int64(EPOCH_US))
    if not late.any():
        return Column(_array(pa.int64(), fields, shifted))
    rejects = {int(row): "a time beyond the year 294247" for row in np.flatnonzero(late)}
    return Column(_array(pa.int64(), fields, shifted, late), rejects)


def _interval(fields: Fields, use: Primitives) -> Column:
    raw = use.blocks(fields)  # int64 microseconds, int32 days, int32 months
    swapped = np.concatenate([raw[:, 12:16], raw[:, 8:12], raw[:, 0:8]], axis=1)
    ends = (
        (b"\x7f" + b"\xff" * 3, b"\x7f" + b"\xff" * 3, b"\x7f" + b"\xff" * 7),
        (b"\x80\0\0\0", b"\x80\0\0\0", b"\x80" + b"\0" * 7),
    )
    infinite = np.zeros(len(fields), np.bool_)
    for end in ends:  # the infinite intervals of version 17
        infinite |= (swapped == np.frombuffer(b"".join(end), np.uint8)).all(axis=1)
    rejects = {int(row): "an infinite interval" for row in np.flatnonzero(infinite)}
    return Column(_array(pa.binary(16), fields, swapped, infinite if rejects else None), rejects)


def _uuid(fields: Fields, use: Primitives) -> Column:
    return Column(_array(pa.binary(16), fields, use.blocks(fields)))


def _variable(kind: pa.DataType, fields: Fields, packed: tuple[Places, Bytes]) -> Column:
    bitmap, nulls = _validity(fields.size >= 0)
    buffers = [bitmap, pa.py_buffer(packed[0]), pa.py_buffer(packed[1])]
    return Column(pa.Array.from_buffers(kind, len(fields), buffers, nulls))


def _text(fields: Fields, use: Primitives) -> Column:
    """utf8 whose bytes are the server's word only: the canonicaliser checks them."""
    return _variable(pa.utf8(), fields, use.texts(fields))


def _bytea(fields: Fields, use: Primitives) -> Column:
    return _variable(pa.binary(), fields, use.texts(fields))


def _numeric(fields: Fields, use: Primitives) -> Column:
    return _variable(pa.utf8(), fields, use.decimals(fields))


def _jsonb(fields: Fields, use: Primitives) -> Column:
    valid = fields.size >= 0
    if (fields.size[valid] < 1).any() or (fields.data[fields.at[valid]] != 1).any():
        raise malformed("jsonb of an unknown version")
    inner = Fields(
        fields.data, fields.at + valid.astype(np.int32), np.where(valid, fields.size - 1, -1).astype(np.int32)
    )
    return _text(inner, use)


def _char(fields: Fields, use: Primitives) -> Column:
    """The type "char": one byte, 0 for the empty text."""
    raw = use.words(fields, 1)
    texts = [chr(byte) if 0 < byte < 128 else "" for byte in raw.tolist()]
    high = (raw > 127) & (fields.size >= 0)
    rejects = {int(row): 'a "char" that is not ASCII' for row in np.flatnonzero(high)}
    return Column(pa.array(texts, pa.utf8(), mask=(fields.size < 0) | high), rejects)


def _inet(fields: Fields, _use: Primitives) -> Column:
    return Column(pa.array([None if value is None else inet_text(value) for value in values(fields)], pa.utf8()))


def inet_text(value: bytes) -> str:
    """inet and cidr (family, prefix length, is cidr, address length, address) as ``address`` or ``address/prefix``."""
    width = {2: 4, 3: 16}.get(value[0]) if len(value) > 4 else None
    if width is None or value[3] != width or len(value) != 4 + width or value[1] > 8 * width:
        raise malformed("an inet of unknown form")
    address = value[4:]
    if width == 4:
        text = ".".join(str(byte) for byte in address)
    else:
        text = ":".join(f"{group:x}" for group in struct.unpack(">8H", address))
    return text if value[1] == 8 * width else f"{text}/{value[1]}"


_DECODERS: Final[dict[str, Callable[[Fields, Primitives], Column]]] = {
    "bool": _bool,
    "int2": _number(pa.int16(), 2),
    "int4": _number(pa.int32(), 4),
    "int8": _number(pa.int64(), 8),
    "oid": _oid,
    "float4": _number(pa.float32(), 4),
    "float8": _number(pa.float64(), 8),
    "numeric": _numeric,
    "text": _text,
    "char": _char,
    "bytea": _bytea,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "interval": _interval,
    "uuid": _uuid,
    "inet": _inet,
    "json": _text,
    "jsonb": _jsonb,
}
