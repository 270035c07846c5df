"""Plain values as the engines take them: text forms made without the code under test, and Arrow arrays."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from paritree.core.types import LogicalType

INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)
DAY_US = 86_400_000_000
_EXACT = Context(prec=100)
ARROW: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int": pa.int64(),
    "decimal": pa.decimal256(76, 30),
    "float": pa.float64(),
    "text": pa.utf8(),
    "bytes": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us", "UTC"),
    "datetime": pa.timestamp("us"),
    "uuid": pa.uuid(),
    "duration": pa.month_day_nano_interval(),
    "inet": pa.utf8(),
    "json": pa.utf8(),
}


def arrow_type(kind: LogicalType) -> pa.DataType:
    """The Arrow type that an export has for a logical type; a set is a list there."""
    match kind.name:
        case "list" | "set":
            return pa.list_(arrow_type(kind.of[0]))
        case "map":
            return pa.map_(arrow_type(kind.of[0]), arrow_type(kind.of[1]))
        case "struct":
            return pa.struct([(name, arrow_type(field)) for name, field in kind.fields])
        case _:
            return ARROW[kind.name]


def arrow_array(values: Sequence[Any], kind: LogicalType) -> pa.Array:
    """Plain values as an array of that type."""
    arrow = arrow_type(kind)
    match kind.name:
        case "time" | "timestamp" | "datetime":
            return pa.array(values, pa.int64()).cast(arrow)
        case "date":
            return pa.array(values, pa.int32()).cast(arrow)
        case "decimal":
            step = Decimal(1).scaleb(-arrow.scale)
            return pa.array([None if v is None else Decimal(v).quantize(step, context=_EXACT) for v in values], arrow)
        case "uuid":
            return pa.ExtensionArray.from_storage(arrow, pa.array(values, pa.binary(16)))
        case "duration":
            return pa.array([None if v is None else (v[0], v[1], v[2] * 1_000) for v in values], arrow)
        case _:
            return pa.array(values, arrow)


def text_of(value: Any, kind: LogicalType) -> str | None:
    """A plain value of a type without parts, as text."""
    if value is None:
        return None
    match kind.name:
        case "bool":
            return "true" if value else "false"
        case "float":
            return repr(float(value))
        case "bytes":
            return bytes(value).hex()
        case "date":
            return _infinite(value) or day_text(value)
        case "time":
            return clock_text(value)
        case "timestamp" | "datetime":
            zone = "Z" if kind.name == "timestamp" else ""
            return _infinite(value) or day_text(value // DAY_US) + " " + clock_text(value % DAY_US) + zone
        case "uuid":
            return str(uuid.UUID(bytes=value))
        case _:
            return str(value)


def _infinite(value: int) -> str:
    return "infinity" if value == INT64_MAX else "-infinity" if value == INT64_MIN else ""


def day_text(days: int) -> str:
    """``YYYY-MM-DD`` of the proleptic Gregorian calendar; other years as ``±Y…YYYY``, 0 being 1 BC."""
    year, month, day = civil(days)
    shown = f"{year:04}" if 0 <= year <= 9_999 else f"{year:+05}"
    return f"{shown}-{month:02}-{day:02}"


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year + era * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def clock_text(micros: int) -> str:
    """``HH:MM:SS.ffffff``, ``24:00:00.000000`` too."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:06}"
