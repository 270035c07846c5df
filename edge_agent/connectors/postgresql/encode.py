"""Look-up keys -> PostgreSQL's binary parameters: the way back of decode.py, exact and without parsing text.

A key that no value of the column's type can equal (out of range, a label that the enum lacks) is None: no row has it.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from edge_agent.connectors.postgresql.decode import (
    EPOCH_DAYS,
    EPOCH_US,
    INT32_MAX,
    INT32_MIN,
    INT64_MAX,
    INT64_MIN,
)
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.types import LogicalType

TIMESTAMP_US_MIN: Final = -211_813_488_000_000_000
"""4714-11-24 BC, the first timestamp, in microseconds since 2000 (datatype/timestamp.h)."""
DATE_DAYS_MIN, DATE_DAYS_MAX = -2_451_545, 2_145_031_948
"""The first and last date, in days since 2000."""
NUMERIC_DIGITS_MAX, NUMERIC_SCALE_MAX = 131_072, 16_383
DAY_US: Final = 86_400_000_000


def encodable(kind: EngineType, wanted: LogicalType) -> bool:
    """Whether keys of the profile's type can be sought in a column of that type, by its own equality."""
    if kind.wire == "array":
        return wanted.name == "list" and kind.element is not None and encodable(kind.element, wanted.of[0])
    if kind.wire not in _ENCODERS or kind.logical is None:
        return False
    return wanted.name == kind.logical.name or (kind.logical.name, wanted.name) in _CONVERTED


_CONVERTED: Final = frozenset(
    {("int", "decimal"), ("int", "float"), ("decimal", "int"), ("bytes", "uuid"), ("bytes", "text")}
)


def encode(kind: EngineType, value: Any) -> bytes | None:
    """The binary form of a plain value; None where no value of the type equals it."""
    if kind.wire == "array":
        assert kind.element is not None
        return encode_list(
            kind.element, [None if item is None else encode(kind.element, item) for item in value], value
        )
    if kind.labels and value not in kind.labels:
        return None
    return _ENCODERS[kind.wire](value)


def encode_list(element: EngineType, items: Sequence[bytes | None], values: Sequence[Any]) -> bytes | None:
    """An array value of encoded items, NULL where the value is None; None where an item cannot exist."""
    if any(item is None and value is not None for item, value in zip(items, values, strict=True)):
        return None
    return array(element.oid, items)


def array(element_oid: int, items: Sequence[bytes | None]) -> bytes:
    """PostgreSQL's binary form of a one-dimensional array; None is NULL."""
    if not items:
        return struct.pack(">iiI", 0, 0, element_oid)
    head = struct.pack(">iiIii", 1, int(None in items), element_oid, len(items), 1)
    null = struct.pack(">i", -1)
    return head + b"".join(null if item is None else struct.pack(">i", len(item)) + item for item in items)


def _integer(form: str, low: int, high: int) -> Callable[[Any], bytes | None]:
    def encode_integer(value: int | Decimal | float) -> bytes | None:
        if isinstance(value, Decimal | float):
            if value != value or value in (float("inf"), float("-inf")) or value != int(value):
                return None
            value = int(value)
        return struct.pack(form, value) if low <= value <= high else None

    return encode_integer


def _float(form: str) -> Callable[[Any], bytes | None]:
    def encode_float(value: float) -> bytes | None:
        try:
            return struct.pack(form, value)
        except OverflowError:
            return None

    return encode_float


def encode_numeric(value: Decimal | int | str) -> bytes | None:
    """numeric's binary form, of any number that numeric can hold."""
    number = Decimal(value)
    if not number.is_finite():
        sign = 0xC000 if number.is_nan() else 0xF000 if number < 0 else 0xD000
        return struct.pack(">HhHH", 0, 0, sign, 0)
    negative, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    scale = max(0, -exponent)
    if not any(digits):
        digits, exponent = (0,), -scale
    if len(digits) + exponent > NUMERIC_DIGITS_MAX or scale > NUMERIC_SCALE_MAX:
        return None
    text = "".join(map(str, digits)) + "0" * max(0, exponent)
    whole, fraction = (text[:-scale], text[-scale:].rjust(scale, "0")) if scale else (text, "")
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    joined = whole + fraction
    groups = [int(joined[place : place + 4]) for place in range(0, len(joined), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    sign = 0x4000 if negative and groups else 0
    return struct.pack(f">HhHH{len(groups)}H", len(groups), weight if groups else 0, sign, scale, *groups)


def _text(value: str | bytes) -> bytes | None:
    encoded = value if isinstance(value, bytes) else value.encode()
    return None if b"\0" in encoded else encoded


def _char(value: str) -> bytes | None:
    encoded = value.encode()
    return encoded or b"\0" if len(encoded) < 2 and encoded != b"\0" else None


def _bytea(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _date(value: int) -> bytes | None:
    if value in (INT64_MAX, INT64_MIN):
        return struct.pack(">i", INT32_MAX if value > 0 else INT32_MIN)
    days = value - EPOCH_DAYS
    return struct.pack(">i", days) if DATE_DAYS_MIN <= days <= DATE_DAYS_MAX else None


def _timestamp(value: int) -> bytes | None:
    if value in (INT64_MAX, INT64_MIN):
        return struct.pack(">q", value)
    micros = value - EPOCH_US
    return struct.pack(">q", micros) if TIMESTAMP_US_MIN <= micros < INT64_MAX else None


def _interval(value: tuple[int, int, int]) -> bytes:
    months, days, micros = value
    return struct.pack(">qii", micros, days, months)


def _inet(value: str) -> bytes | None:
    try:
        interface = ipaddress.ip_interface(value)
    except ValueError:
        return None
    family, width = (2, 4) if interface.version == 4 else (3, 16)
    return bytes([family, interface.network.prefixlen, 0, width]) + interface.packed


_ENCODERS: Final[dict[str, Callable[[Any], bytes | None]]] = {
    "bool": lambda value: b"\1" if value else b"\0",
    "int2": _integer(">h", -(1 << 15), (1 << 15) - 1),
    "int4": _integer(">i", INT32_MIN, INT32_MAX),
    "int8": _integer(">q", INT64_MIN, INT64_MAX),
    "oid": _integer(">I", 0, (1 << 32) - 1),
    "float4": _float(">f"),
    "float8": _float(">d"),
    "numeric": encode_numeric,
    "text": _text,
    "char": _char,
    "bytea": _bytea,
    "date": _date,
    "time": lambda value: struct.pack(">q", value) if 0 <= value <= DAY_US else None,
    "timestamp": _timestamp,
    "interval": _interval,
    "uuid": lambda value: bytes(value) if len(value) == 16 else None,
    "inet": _inet,
    "jsonb": lambda value: b"\1" + value.encode(),
}

_CANONICAL_INT = re.compile(r"0|-?[1-9][0-9]*")
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def from_text(kind: EngineType, text: str) -> bytes | None:
    """The binary form of the value whose ``::text`` is ``text``, for parts of a fold (text, int, uuid, bool)."""
    name = kind.logical.name if kind.logical else ""
    if name == "int":
        return encode(kind, int(text)) if _CANONICAL_INT.fullmatch(text) and len(text) < 32 else None
    if name == "uuid":
        return bytes.fromhex(text.replace("-", "")) if _CANONICAL_UUID.fullmatch(text) else None
    if name == "bool":
        return encode(kind, text == "true") if text in ("true", "false") else None
    return encode(kind, text)
