"""From DuckDB's Arrow output to carriers: its infinities, intervals and types without an Arrow type of their own.

Measured with DuckDB 2.0: plus and minus infinity of dates and time stamps come as the largest integer and its negative,
not as the smallest one; the microseconds of an interval are multiplied by 1,000 and wrap around silently; a UHUGEINT of
2^127 and more comes out negative. So intervals are taken apart and the large integers cast to text in the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from edge_agent.connectors.duckdb.schema import inner_types, quoted, type_name

_TEXT = frozenset({"HUGEINT", "UHUGEINT", "BIGNUM", "ENUM"})
"""Cast to VARCHAR: beyond the range of decimal128, without an Arrow type, or a dictionary."""
_INT32_MAX, _INT64_MAX, _INT64_MIN = (1 << 31) - 1, (1 << 63) - 1, -(1 << 63)
_UNIT_US = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DURATION = np.dtype([("months", ">i4"), ("days", ">i4"), ("micros", ">i8")])


def selected(expression: str, kind: Any) -> list[str]:
    """What to select for an expression of a DuckDB type: one column, or three for an interval."""
    if type_name(kind) == "INTERVAL":
        parts = {part: f"datepart('{part}', {expression})" for part in ("year", "month", "day", "hour", "minute")}
        micros = f"datepart('microsecond', {expression})"
        return [
            f"({parts['year']} * 12 + {parts['month']})::INTEGER",
            f"({parts['day']})::INTEGER",
            f"{parts['hour']} * 3600000000 + {parts['minute']} * 60000000 + {micros}",
        ]
    target = _target(kind)
    return [f"{expression}::{target}" if target != str(kind) else expression]


def _target(kind: Any) -> str:
    """The DuckDB type to cast to, the same text where no cast is needed."""
    name = type_name(kind)
    if name in _TEXT:
        return "VARCHAR"
    if name not in ("LIST", "ARRAY", "MAP", "STRUCT"):
        return str(kind)
    inner = [(field, _target(child)) for field, child in inner_types(kind)]
    if name != "ARRAY" and [target for _, target in inner] == [str(child) for _, child in inner_types(kind)]:
        return str(kind)
    if name == "MAP":
        return f"MAP({inner[0][1]}, {inner[1][1]})"
    if name == "STRUCT":
        return f"STRUCT({', '.join(f'{quoted(field)} {target}' for field, target in inner)})"
    return f"{inner[0][1]}[]"


def carrier(arrays: Sequence[pa.Array]) -> pa.Array:
    """The carrier of one expression from the arrays of :func:`selected`."""
    return _duration(*arrays) if len(arrays) == 3 else _finite(arrays[0])


def _duration(months: pa.Array, days: pa.Array, micros: pa.Array) -> pa.Array:
    packed = np.zeros(len(months), dtype=_DURATION)
    for name, array in (("months", months), ("days", days), ("micros", micros)):
        packed[name] = np.asarray(array.fill_null(0))
    values = pa.Array.from_buffers(pa.binary(16), len(months), [None, pa.py_buffer(packed.tobytes())])
    return pc.if_else(pc.is_null(micros), pa.scalar(None, pa.binary(16)), values)


def _finite(array: pa.Array) -> pa.Array:
    """Infinite dates and time stamps as the carrier's sentinels, at any depth."""
    kind = array.type
    if pa.types.is_date32(kind):
        return _dates(array)
    if pa.types.is_timestamp(kind):
        return _moments(array)
    if pa.types.is_map(kind):
        keys, values = _finite(array.keys), _finite(array.items)
        return _rebuilt(array, [pa.StructArray.from_arrays([keys, values], ["key", "value"])])
    if pa.types.is_list(kind):
        return _rebuilt(array, [_finite(array.values)])
    if pa.types.is_struct(kind) and kind.num_fields:
        fields = [_finite(array.field(index)) for index in range(kind.num_fields)]
        names = [kind.field(index).name for index in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names, mask=pc.is_null(array))
    return array


def _dates(array: pa.Array) -> pa.Array:
    days = array.cast(pa.int32()).cast(pa.int64())
    high, low = pc.equal(days, _INT32_MAX), pc.equal(days, -_INT32_MAX)
    if not pc.any(pc.or_(high, low)).as_py():
        return array
    return pc.if_else(high, _INT64_MAX, pc.if_else(low, _INT64_MIN, days))


def _moments(array: pa.Array) -> pa.Array:
    ticks = array.cast(pa.int64())
    high, low = pc.equal(ticks, _INT64_MAX), pc.equal(ticks, -_INT64_MAX)
    infinite = pc.or_(high, low)
    if not pc.any(infinite).as_py():
        return array
    finite = pc.if_else(infinite, 0, ticks)
    if array.type.unit == "ns":  # int64 carriers are microseconds; text has both infinity and nanoseconds
        return pc.if_else(high, "infinity", pc.if_else(low, "-infinity", finite.cast(array.type).cast(pa.utf8())))
    micros = pc.multiply_checked(finite, _UNIT_US[array.type.unit])
    return pc.if_else(high, _INT64_MAX, pc.if_else(low, _INT64_MIN, micros))


def _rebuilt(array: pa.Array, children: list[pa.Array]) -> pa.Array:
    """A list or map array over other children: validity, offsets and slice stay."""
    if pa.types.is_map(array.type):
        made = pa.map_(children[0].type.field(0).type, children[0].type.field(1).type)
    else:
        made = pa.list_(children[0].type)
    if made == array.type:
        return array
    return pa.Array.from_buffers(made, len(array), array.buffers()[:2], -1, array.offset, children)
