"""How text may spell a value, so that a look-up by a typed key can pass over most texts without reading each.

A text of the usual ``form`` of its type is judged by its head (its first ``width`` characters, or all of it): it can
only mean a value that has that head among its ``heads``. Texts of other forms (``+2020-01-01``, ``7.0``) may mean
anything and stay candidates.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from paritree.core.canonical.numbers import parse_number, plain_text
from paritree.core.canonical.times import Nanos
from paritree.core.errors import DeadLetter

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
_EPOCH = dt.date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Spelling:
    """``form`` is an RE2 pattern. ``heads`` of a plain value is None where no text of the form can mean it."""

    form: str
    width: int | None
    heads: Callable[[Any], list[str] | None]


def iso_day(days: int) -> str | None:
    """YYYY-MM-DD of days since 1970-01-01; None outside of the years 1 to 9999."""
    ordinal = days + _EPOCH
    return dt.date.fromordinal(ordinal).isoformat() if 1 <= ordinal <= dt.date.max.toordinal() else None


def iso_moment(micros: int) -> str | None:
    """``YYYY-MM-DD HH:MM:SS.ffffff`` of microseconds since 1970-01-01; None outside of the years 1 to 9999."""
    days, rest = divmod(micros, DAY_US)
    day = iso_day(days)
    seconds, fraction = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"
    return None if day is None else f"{day} {clock}"


def iso_bound(units: int, kind: str) -> str | None:
    """A bound of a date, timestamp (in UTC) or datetime as SQL spells it; None outside of the years 1 to 9999."""
    if kind == "date":
        return iso_day(units)
    moment = iso_moment(units)
    return moment if moment is None or kind == "datetime" else f"{moment}+00"


def _days(first: int, last: int) -> list[str] | None:
    found = [iso_day(day) for day in range(first, last + 1)]
    known = [day for day in found if day is not None]
    return known if len(known) == len(found) else None


def micros(part: int) -> int:
    """Whole microseconds of a plain time, which may be in nanoseconds."""
    return int(part) // 1_000 if isinstance(part, Nanos) else int(part)


def _datetime(part: Any) -> list[str] | None:
    """A midnight may be written as 24:00:00 of the day before."""
    day = micros(part) // DAY_US
    return _days(day - 1, day)


def _timestamp(part: Any) -> list[str] | None:
    """A zone is at most 23:59 hours away, so the local day at most one; and 24:00:00 as above."""
    day = micros(part) // DAY_US
    return _days(day - 2, day + 1)


def _time(part: Any) -> list[str]:
    minute = micros(part) // MINUTE_US
    return [f"{minute // 60:02}:{minute % 60:02}"]


def _number(part: Any) -> list[str] | None:
    try:
        number = parse_number(part if isinstance(part, str) else Decimal(part))
    except DeadLetter:
        return None
    if isinstance(number, str) or number.integer_digits > 1000 or number.fraction_digits > 1000:
        return None
    return [plain_text(number)]


def _uuid(part: Any) -> list[str]:
    return [str(uuid.UUID(bytes=part))]


_CLOCK = "[Tt ][0-9]{2}:"
_DAY = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_WHOLE = "0|-?[1-9][0-9]*"
SPELLINGS = {
    "int": Spelling(f"^({_WHOLE})$", None, _number),
    "decimal": Spelling(rf"^({_WHOLE}|-?(0|[1-9][0-9]*)\.[0-9]*[1-9])$", None, _number),
    "date": Spelling(f"^{_DAY}$", None, lambda part: _days(int(part), int(part))),
    "time": Spelling("^[0-9]{2}:[0-9]{2}(:.*)?$", 5, _time),
    "datetime": Spelling(f"^{_DAY}{_CLOCK}", 10, _datetime),
    "timestamp": Spelling(f"^{_DAY}{_CLOCK}", 10, _timestamp),
    "uuid": Spelling("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", None, _uuid),
}
"""Logical type -> its usual spelling. Inet and JSON have too many to pass any over."""
