"""What the statistics of a Parquet row group rule out: a group is left out where no row of a bucket can be in it."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from paritree.core.profile import Binding
from paritree.core.scope import Condition

_TICK_US: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}


def ordered(file: pq.ParquetFile, name: str, kind: str) -> int | None:
    """The leaf of a column whose statistics bound its values in their own order: signed ints and text."""
    field = file.schema_arrow.field(name)
    signed = kind == "int" and pa.types.is_signed_integer(field.type)
    if not signed and not (kind == "text" and pa.types.is_string(field.type)):
        return None
    return leaf(file, name)


def leaf(file: pq.ParquetFile, name: str) -> int | None:
    """The number of a top-level column's only leaf."""
    paths = [file.schema.column(index).path for index in range(len(file.schema))]
    return paths.index(name) if paths.count(name) == 1 else None


def conditions(binding: Binding) -> list[tuple[str, Condition]]:
    """What can be asked of the statistics for the binding's bucket, by source column."""
    if binding.bucket is None:
        return []
    asked = ((binding.column(condition.column).source, condition) for condition in binding.bucket.conditions())
    known = [(source, condition) for source, condition in asked if source is not None]
    return [(s, c) for s, c in known if c.null or c.low is not None or c.type.name in ("int", "text", "date")]


def may_have(file: pq.ParquetFile, group: int, source: str, asked: Condition) -> bool:
    """Whether a row group may have a row that fulfils the condition; True where the statistics do not say."""
    index = leaf(file, source)
    if index is None:
        return True
    found = file.metadata.row_group(group).column(index).statistics
    if found is None:
        return True
    if asked.null:
        return not found.has_null_count or found.null_count > 0
    carrier = file.schema_arrow.field(source).type
    if asked.type.name == "text":
        return not pa.types.is_string(carrier) or _holds(found, asked.equals)
    bounds = _units(found, carrier, asked)
    if bounds is None:
        return True
    if asked.low is None or asked.high is None:
        return bool(bounds[0] <= asked.equals <= bounds[1])
    return bounds[1] >= asked.low and bounds[0] < asked.high


def _holds(found: pq.Statistics, text: str) -> bool:
    if not found.has_min_max or not isinstance(found.min, str):
        return True
    return bool(found.min.encode() <= text.encode(errors="surrogatepass") <= found.max.encode())


def _units(found: pq.Statistics, carrier: pa.DataType, asked: Condition) -> tuple[int, int] | None:
    """Least and greatest value of a group as the condition's type has them, rounded outwards."""
    if not found.has_min_max or found.physical_type not in ("INT32", "INT64"):
        return None  # INT96 has no order
    low, high = int(found.min_raw), int(found.max_raw)
    name = asked.type.name
    if (name == "date" and pa.types.is_date32(carrier)) or (name == "int" and pa.types.is_signed_integer(carrier)):
        return low, high
    if not pa.types.is_timestamp(carrier) or name not in ("timestamp", "datetime"):
        return None
    if carrier.unit == "ns":
        return low // 1_000, high // 1_000
    factor: Any = _TICK_US[carrier.unit]
    return low * factor, high * factor
