"""Canonical key bytes read back: as plain values for a look-up, as JSON-friendly clear values for people.

A locator is the key bytes under the bare types (no rule that changes a value), so the way back is exact.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import msgpack

from paritree.core.canonical.times import DAY_US, INT64_MAX, INT64_MIN
from paritree.core.civil import civil
from paritree.core.errors import InvariantBroken
from paritree.core.profile import Profile
from paritree.core.types import LogicalType


class _Pairs(list[tuple[Any, Any]]):
    """A MessagePack map as pairs: its keys may be equal as Python values (1 and 1.0) or not hashable at all."""


def key_values(locator: bytes, profile: Profile) -> tuple[Any, ...]:
    """The plain values of a key, in the order of ``profile.key``: what a connector's look-up takes.

    bool · int · Decimal · float · str · bytes · date in days · times in microseconds · uuid as 16 bytes · duration as
    (months, days, microseconds) · inet and json as text · list and set as list · map as list of pairs · struct as dict.
    Raises InvariantBroken for bytes that are no key of the profile.
    """
    kinds = [profile.columns[name].bare for name in profile.key]
    try:
        parts = msgpack.unpackb(locator, strict_map_key=False, object_pairs_hook=_Pairs)
        if type(parts) is not list:
            raise ValueError("no array")
        return tuple(_plain(part, kind) for part, kind in zip(parts, kinds, strict=True))
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, struct.error) as error:
        raise InvariantBroken(f"{len(locator)} bytes are no key of dataset {profile.dataset}: {error}") from None
    except (msgpack.UnpackException, RecursionError) as error:
        raise InvariantBroken(f"{len(locator)} bytes are no key of dataset {profile.dataset}: {error!r}") from None


def key_to_json(locator: bytes, profile: Profile) -> dict[str, Any]:
    """A key in clear, column -> a value that any JSON reader keeps exactly; see :func:`clear`.

    Raises InvariantBroken for bytes that are no key of the profile.
    """
    values = key_values(locator, profile)
    return {name: clear(value, profile.columns[name]) for name, value in zip(profile.key, values, strict=True)}


def clear(value: Any, kind: LogicalType) -> Any:
    """A plain value for people and JSON.

    bool, int, float and text are themselves; an int beyond 64 bits and a float that JSON lacks are text. Decimals are
    text; times ISO 8601 (timestamp with Z), beyond the years 0000 to 9999 with a signed year; uuid and inet as usual;
    bytes hexadecimal after ``0x``; durations ISO 8601 with the sign at each part; JSON as its text; lists and sets
    arrays; maps arrays of pairs; structs objects.
    """
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return [clear(item, kind.of[0]) for item in value]
        case "map":
            return [[clear(k, kind.of[0]), clear(v, kind.of[1])] for k, v in value]
        case "struct":
            return {name: clear(value[name], field) for name, field in kind.fields}
        case name if name in _CLEAR:
            return _CLEAR[name](value)
        case _:
            return value


def _plain(value: Any, kind: LogicalType) -> Any:
    if value is None:
        return None
    match kind.name:
        case "list" | "set":
            return [_plain(item, kind.of[0]) for item in _typed(value, list)]
        case "map":
            return [(_plain(k, kind.of[0]), _plain(v, kind.of[1])) for k, v in _typed(value, _Pairs)]
        case "struct":
            found = dict(_typed(value, _Pairs))
            return {name: _plain(found[name], field) for name, field in kind.fields}
        case "json":
            return _json_text(value)
        case _:
            return _PLAIN[kind.name](value)


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value


def _ext(value: Any, code: int) -> bytes:
    if not isinstance(value, msgpack.ExtType) or value.code != code:
        raise TypeError(f"no extension {code}")
    return bytes(value.data)


def _decimal(value: Any) -> Decimal:
    """Canonical numbers have no exponent: with one, a dozen bytes name a number that fills the memory."""
    text = _ext(value, 1).decode("ascii")
    if "e" in text or "E" in text:
        raise ValueError("a number with an exponent")
    return Decimal(text)


def _int(value: Any) -> int:
    """``int`` of a Decimal has no limit of digits, as ``int`` of text has."""
    return value if type(value) is int else int(_decimal(value))


def _int64(code: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        (number,) = struct.unpack(">q", _ext(value, code))
        return int(number)

    return read


_PLAIN: dict[str, Callable[[Any], Any]] = {
    "bool": lambda value: _typed(value, bool),
    "int": _int,
    "decimal": _decimal,
    "float": lambda value: _typed(value, float),
    "text": lambda value: _typed(value, str),
    "bytes": lambda value: _typed(value, bytes),
    "date": _int64(2),
    "time": _int64(3),
    "timestamp": _int64(4),
    "datetime": _int64(5),
    "uuid": lambda value: _ext(value, 6),
    "duration": lambda value: struct.unpack(">iiq", _ext(value, 7)),
    "inet": lambda value: _ext(value, 8).decode("ascii"),
}


def _json_text(document: Any) -> str:
    """JSON text of canonical JSON. Iterative: a document may be as deep as Python's stack leaves no room for."""
    out: list[str] = []
    todo: list[Iterator[tuple[str, Any]]] = [iter([("", document)])]
    closing = [""]
    while todo:
        item = next(todo[-1], None)
        if item is None:
            todo.pop()
            out.append(closing.pop())
            continue
        before, node = item
        out.append(before)
        if isinstance(node, _Pairs):
            todo.append(_members(node))
            closing.append("}")
            out.append("{")
        elif isinstance(node, list):
            todo.append(_elements(node))
            closing.append("]")
            out.append("[")
        else:
            out.append(_json_scalar(node))
    return "".join(out)


def _elements(items: list[Any]) -> Iterator[tuple[str, Any]]:
    return (("," if index else "", item) for index, item in enumerate(items))


def _members(pairs: _Pairs) -> Iterator[tuple[str, Any]]:
    return ((("," if index else "") + _quoted(key) + ":", item) for index, (key, item) in enumerate(pairs))


def _json_scalar(node: Any) -> str:
    return _ext(node, 1).decode("ascii") if isinstance(node, msgpack.ExtType) else _quoted(node)


def _quoted(node: Any) -> str:
    return json.dumps(node, ensure_ascii=False)


def _clear_int(value: int) -> int | str:
    return value if INT64_MIN <= value < 1 << 64 else str(Decimal(value))


def _clear_float(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _clear_decimal(value: Decimal) -> str:
    return format(value, "f") if value.is_finite() else str(value)


def _infinite(value: int) -> str | None:
    return "infinity" if value == INT64_MAX else "-infinity" if value == INT64_MIN else None


def _clear_date(days: int) -> str:
    if (infinite := _infinite(days)) is not None:
        return infinite
    year, month, day = civil(days)
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return f"{shown}-{month:02d}-{day:02d}"


def _clear_time(micros: int) -> str:
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}" if fraction else text


def _clear_moment(micros: int) -> str:
    if (infinite := _infinite(micros)) is not None:
        return infinite
    days, rest = divmod(micros, DAY_US)
    return f"{_clear_date(days)}T{_clear_time(rest)}"


def _clear_instant(micros: int) -> str:
    text = _clear_moment(micros)
    return text if _infinite(micros) else text + "Z"


def _clear_uuid(value: bytes) -> str:
    text = value.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _clear_duration(value: tuple[int, int, int]) -> str:
    months, days, micros = value
    seconds, fraction = divmod(abs(micros), 1_000_000)
    sign = "-" if micros < 0 else ""
    tail = f".{fraction:06d}" if fraction else ""
    return f"P{months}M{days}DT{sign}{seconds}{tail}S"


_CLEAR: dict[str, Callable[[Any], Any]] = {
    "int": _clear_int,
    "float": _clear_float,
    "decimal": _clear_decimal,
    "bytes": lambda value: "0x" + value.hex(),
    "date": _clear_date,
    "time": _clear_time,
    "timestamp": _clear_instant,
    "datetime": _clear_moment,
    "uuid": _clear_uuid,
    "duration": _clear_duration,
}
