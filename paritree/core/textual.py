"""Text read as a value of a logical type: for sources that hold only text (CSV, SQLite), constants and JSON vectors.

Strict: a form that could mean two things is a dead letter, not a guess. An instant (``timestamp``) needs a zone or Z,
a local time (``datetime``) must have none.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable

from paritree.core.canonical.times import DAY_US, INT64_MAX, INT64_MIN, Nanos
from paritree.core.errors import DeadLetter
from paritree.core.types import LogicalType

_EPOCH_DAY = dt.date(1970, 1, 1).toordinal()
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_CLOCK = re.compile(r"(\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?")
_ZONE = re.compile(r"(?:[Zz]|([+-])(\d{2}):?(\d{2})?)")
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
    try:
        if "_" in value or value != value.strip():
            raise ValueError
        return float(value)
    except ValueError:
        raise DeadLetter("not a float") from None


def _bytes(value: str) -> bytes:
    text = value[2:] if value.startswith(("\\x", "0x")) else value
    try:
        if any(c.isspace() for c in text):
            raise ValueError
        return bytes.fromhex(text)
    except ValueError:
        raise DeadLetter("not bytes in hexadecimal") from None


def _date(value: str) -> int:
    if (infinite := _INFINITE.get(value.lower())) is not None:
        return infinite
    match = _DATE.fullmatch(value)
    if match is None:
        raise DeadLetter("not a date (YYYY-MM-DD)")
    return _days(match)


def _days(match: re.Match[str]) -> int:
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH_DAY
    except ValueError:
        raise DeadLetter("not a date of the calendar") from None


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
    rest = value[clock.end() :].lstrip(" ")
    if not rest:
        if zoned:
            raise DeadLetter("a time without a zone in a timestamp column: declare it datetime, or add the zone")
        return _finest(nanos)
    zone = _ZONE.fullmatch(rest)
    if zone is None:
        raise DeadLetter("not a time zone")
    if not zoned:
        raise DeadLetter("a time with a zone in a datetime column: declare it timestamp")
    offset = int(zone[2] or 0) * 60 + int(zone[3] or 0)
    return _finest(nanos - (-offset if zone[1] == "-" else offset) * 60 * 10**9)


def _uuid(value: str) -> bytes:
    try:
        return uuid.UUID(value).bytes
    except ValueError:
        raise DeadLetter("not a uuid") from None


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
    "inet": lambda value: value,
    "json": lambda value: value,
}
