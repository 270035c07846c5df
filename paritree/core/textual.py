"""Text read as a value of a logical type: for sources that hold only text (CSV, SQLite), constants and JSON vectors.

Strict: a form that could mean two things is a dead letter, not a guess. An instant (``timestamp``) needs a zone or Z,
a local time (``datetime``) must have none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from paritree.core.canonical.times import DAY_US, INT64_MAX, INT64_MIN, Nanos
from paritree.core.civil import days_since_epoch
from paritree.core.errors import DeadLetter
from paritree.core.types import LogicalType

_DATE = re.compile(r"([0-9]{4}|[+-][0-9]{4,17})-([0-9]{2})-([0-9]{2})")
_CLOCK = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?")
_ZONE = re.compile(r" *(?:[Zz]|([+-])([01][0-9]|2[0-3])(?::?([0-5][0-9]))?)")
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)
_HEX = re.compile(r"(?:\\x|0x)?((?:[0-9A-Fa-f]{2})*)")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-?)[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{4}\1[0-9A-Fa-f]{12}")
_PART = r"(?:([+-]?[0-9]{1,19})%s)?"
_DURATION = re.compile(
    f"P(?=.){_PART % 'Y'}{_PART % 'M'}{_PART % 'W'}{_PART % 'D'}"
    f"(?:T(?=.){_PART % 'H'}{_PART % 'M'}(?:([+-]?)([0-9]{{1,19}})(?:[.,]([0-9]{{1,9}}))?S)?)?"
)
_TRUE = frozenset({"true", "t", "1"})
_FALSE = frozenset({"false", "f", "0"})
_INFINITE = {"infinity": INT64_MAX, "+infinity": INT64_MAX, "-infinity": INT64_MIN}


def parse_text(value: str, kind: LogicalType) -> object:
    """The plain value that the text means. Raises DeadLetter."""
    parser = _PARSERS.get(kind.name)
    if parser is None:
        raise DeadLetter(f"a {kind.name} cannot be read from text")
    return parser(value)


def _bool(value: str) -> bool:
    word = value.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise DeadLetter("not a bool (true/false, t/f, 1/0)")


def _float(value: str) -> float:
    if _FLOAT.fullmatch(value) is None:
        raise DeadLetter("not a float")
    number = float(value)
    if math.isinf(number) and value.lstrip("+-")[0] not in "iI":
        raise DeadLetter("number beyond the range of a float")
    return number


def _bytes(value: str) -> bytes:
    match = _HEX.fullmatch(value)
    if match is None:
        raise DeadLetter("not bytes in hexadecimal")
    return bytes.fromhex(match[1])


def _date(value: str) -> int:
    if (infinite := _INFINITE.get(value.lower())) is not None:
        return infinite
    match = _DATE.fullmatch(value)
    if match is None:
        raise DeadLetter("not a date (YYYY-MM-DD)")
    return _finite(_days(match))


def _days(match: re.Match[str]) -> int:
    try:
        return days_since_epoch(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise DeadLetter("not a date of the calendar") from None


def _finite(ticks: int) -> int:
    """Days or microseconds within the range that the canonical form has for finite ones."""
    if not INT64_MIN < ticks < INT64_MAX:
        raise DeadLetter("time outside the range of 64-bit integers")
    return ticks


def _clock(match: re.Match[str]) -> int:
    """Nanoseconds since midnight; 24:00:00 is a time, 23:59:60 is not."""
    hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
    nanos = ((hour * 60 + minute) * 60 + second) * 10**9 + int((match[4] or "0").ljust(9, "0"))
    if minute > 59 or second > 59 or nanos > DAY_US * 1_000:
        raise DeadLetter("not a time of day")
    return nanos


def _time(value: str) -> int:
    match = _CLOCK.fullmatch(value)
    if match is None:
        raise DeadLetter("not a time (HH:MM:SS.ffffff)")
    return _finest(_clock(match))


def _finest(nanos: int) -> int:
    return nanos // 1_000 if nanos % 1_000 == 0 else Nanos(nanos)


def _moment(value: str, zoned: bool) -> int:
    if (infinite := _INFINITE.get(value.lower())) is not None:
        return infinite
    date = _DATE.match(value)
    if date is None or value[date.end() : date.end() + 1] not in ("T", "t", " "):
        raise DeadLetter("not a time stamp (YYYY-MM-DD HH:MM:SS.ffffff)")
    clock = _CLOCK.match(value, date.end() + 1)
    if clock is None:
        raise DeadLetter("not a time stamp (YYYY-MM-DD HH:MM:SS.ffffff)")
    nanos = _days(date) * DAY_US * 1_000 + _clock(clock)
    rest = value[clock.end() :]
    if not rest:
        if zoned:
            raise DeadLetter("a time without a zone in a timestamp column: declare it datetime, or add the zone")
        return _moment_ticks(nanos)
    zone = _ZONE.fullmatch(rest)
    if zone is None:
        raise DeadLetter("not a time zone")
    if not zoned:
        raise DeadLetter("a time with a zone in a datetime column: declare it timestamp")
    offset = int(zone[2] or 0) * 60 + int(zone[3] or 0)
    return _moment_ticks(nanos - (-offset if zone[1] == "-" else offset) * 60 * 10**9)


def _moment_ticks(nanos: int) -> int:
    """Nanoseconds stay so, for the one rounding to come; whole microseconds must not look like an infinity."""
    ticks = _finest(nanos)
    return ticks if isinstance(ticks, Nanos) else _finite(ticks)


def _duration(value: str) -> tuple[int, int, int]:
    """ISO 8601, each part with its own sign: 1 year is 12 months, 1 week 7 days; hours and less are microseconds."""
    match = _DURATION.fullmatch(value)
    if match is None:
        raise DeadLetter("not a duration (P1Y2M3DT4H5M6.5S)")
    years, months, weeks, days, hours, minutes = (int(part or 0) for part in match.groups()[:6])
    sign, seconds, fraction = match.groups()[6:]
    micros, rest = divmod(int((fraction or "").ljust(9, "0")), 1_000)
    if rest:
        raise DeadLetter("duration finer than a microsecond")
    micros += int(seconds or 0) * 1_000_000
    micros = (hours * 60 + minutes) * 60_000_000 + (-micros if sign == "-" else micros)
    return years * 12 + months, weeks * 7 + days, micros


def _uuid(value: str) -> bytes:
    if _UUID.fullmatch(value) is None:
        raise DeadLetter("not a uuid")
    return bytes.fromhex(value.replace("-", ""))


_PARSERS: dict[str, Callable[[str], object]] = {
    "bool": _bool,
    "int": lambda value: value,
    "decimal": lambda value: value,
    "float": _float,
    "text": lambda value: value,
    "bytes": _bytes,
    "date": _date,
    "time": _time,
    "timestamp": lambda value: _moment(value, zoned=True),
    "datetime": lambda value: _moment(value, zoned=False),
    "uuid": _uuid,
    "duration": _duration,
    "inet": lambda value: value,
    "json": lambda value: value,
}
