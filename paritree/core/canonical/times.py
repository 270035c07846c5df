"""Dates, times, instants and durations: microseconds, rounded to the profile's precision; infinities are sentinels."""

from __future__ import annotations

import struct

from paritree.core.canonical.pack import ext
from paritree.core.errors import DeadLetter
from paritree.core.types import LogicalType

EXT_DATE, EXT_TIME, EXT_TIMESTAMP, EXT_DATETIME, EXT_DURATION = 2, 3, 4, 5, 7
INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
DAY_US = 86_400_000_000
_EXT = {"time": EXT_TIME, "timestamp": EXT_TIMESTAMP, "datetime": EXT_DATETIME}


class Nanos(int):
    """A time in nanoseconds where the source holds them, so that it is rounded once, from what the source has."""


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise DeadLetter(f"a {type(value).__name__} where a time belongs")
    return value


def round_units(value: int, unit: int, mode: str) -> int:
    """``value`` rounded to a multiple of ``unit`` by ``mode``, exactly; floor goes towards minus infinity."""
    quotient, rest = divmod(value, unit)
    if mode == "truncate":
        up = bool(rest) and value < 0
    elif mode == "half_up":  # away from zero on a tie, as PostgreSQL's numeric does
        up = 2 * rest > unit or (2 * rest == unit and value >= 0)
    elif mode == "half_even":
        up = 2 * rest > unit or (2 * rest == unit and quotient % 2 == 1)
    else:
        up = False
    return (quotient + up) * unit


def encode_time(value: object, kind: LogicalType) -> bytes:
    """Canonical bytes of a time, timestamp or datetime in microseconds (or :class:`Nanos`). Raises DeadLetter."""
    ticks = _whole(value)
    micro = 1
    if isinstance(ticks, Nanos):
        micro = 1_000
    elif kind.name != "time" and ticks in (INT64_MIN, INT64_MAX):
        return _ext(_EXT[kind.name], ticks)
    ticks = int(ticks)
    unit = kind.unit_us * micro
    micros = (ticks if unit == 1 else round_units(ticks, unit, kind.rounding_mode)) // micro
    if kind.name == "time":
        if not 0 <= micros <= DAY_US:
            raise DeadLetter("time of day outside 00:00:00 to 24:00:00")
    elif not INT64_MIN < micros < INT64_MAX:
        raise DeadLetter("time outside the range of 64-bit microseconds")
    return _ext(_EXT[kind.name], micros)


def encode_date(value: object) -> bytes:
    """Canonical bytes of a date in days since 1970-01-01; int64 max and min are the infinities. Raises DeadLetter."""
    days = _whole(value)
    if not INT64_MIN <= days <= INT64_MAX:
        raise DeadLetter("date outside the range of 64-bit days")
    return _ext(EXT_DATE, days)


def encode_duration(value: object) -> bytes:
    """Canonical bytes of (months, days, microseconds), not normalised. Raises DeadLetter."""
    if not isinstance(value, tuple | list) or len(value) != 3:
        raise DeadLetter("a duration is (months, days, microseconds)")
    months, days, micros = (_whole(part) for part in value)
    try:
        return ext(EXT_DURATION, struct.pack(">iiq", months, days, micros))
    except struct.error:
        raise DeadLetter("duration outside the range of int32 months, int32 days, int64 microseconds") from None


def _ext(code: int, number: int) -> bytes:
    return ext(code, struct.pack(">q", number))
