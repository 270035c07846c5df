"""One cell of a type without parts, from the wire's bytes to a Python value that pyarrow takes for the carrier.

A cell whose bytes are no value of its type is :class:`Unfit`: Cassandra stores zero bytes as an "empty" value of most
types, which is neither null nor a value. Byte forms: native protocol v5, section 6.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any, Final

from paritree.core.digits import int_digits

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
TIMESTAMP_MS_MAX: Final = INT64_MAX // 1_000
"""Beyond this many milliseconds either way, microseconds do not fit 64 bits."""
DAY_NS: Final = 86_400_000_000_000
PLAIN_ZEROS_MAX: Final = 20
"""Zeros written out between the point and the digits of a small decimal; a smaller one gets an exponent."""
DECIMAL_TEXT_MAX: Final = 48
"""Sign, 19 digits, 20 zeros, a leading zero and the point are 42 bytes."""
NULL: Final = 0
VALUE: Final = 1
BAD: Final = 2
"""States of a cell in a column that was read at once: the last is no value of the type."""
NUMBER_BYTES_MAX: Final = 61_232
"""More bytes of digits than 131,072 before and 16,383 behind the point take, beyond which no decimal is compared."""


class Unfit(ValueError):
    """A cell's bytes are no value of its type; the text says why, without the value."""


_PACKED: Final[dict[str, tuple[str, int]]] = {
    "tinyint": (">b", 1),
    "smallint": (">h", 2),
    "int": (">i", 4),
    "bigint": (">q", 8),
    "counter": (">q", 8),
    "float": (">f", 4),
    "double": (">d", 8),
    "boolean": (">?", 1),
    "uuid": (">16s", 16),
    "timeuuid": (">16s", 16),
}


def _packed(name: str, form: str, size: int) -> Callable[[bytes], Any]:
    unpack = struct.Struct(form).unpack

    def read(cell: bytes) -> Any:
        if len(cell) != size:
            raise wrong_size(name, len(cell))
        return unpack(cell)[0]

    return read


def wrong_size(name: str, size: int) -> Unfit:
    """The reject of a cell of a length that its type does not have."""
    if size == 0:
        return Unfit(f"an empty {name}: Cassandra holds zero bytes where a value belongs")
    return Unfit(f"a {name} of {size} bytes")


def _int(name: str, size: int, cell: bytes) -> int:
    if len(cell) != size:
        raise wrong_size(name, len(cell))
    return int.from_bytes(cell, "big", signed=True)


def _timestamp(cell: bytes) -> int:
    value = _int("timestamp", 8, cell)
    if not -TIMESTAMP_MS_MAX <= value <= TIMESTAMP_MS_MAX:
        raise Unfit("a timestamp outside the range of 64-bit microseconds")
    return value


def _date(cell: bytes) -> int:
    _int("date", 4, cell)
    return int.from_bytes(cell, "big") - (1 << 31)


def _time(cell: bytes) -> int:
    value = _int("time", 8, cell)
    if not 0 <= value < DAY_NS:
        raise Unfit("a time outside 00:00:00 to 24:00:00")
    return value


def varint(cell: bytes) -> int:
    """A whole number of any size. Raises Unfit."""
    if not cell:
        raise wrong_size("varint", 0)
    return _whole("varint", cell)


def _whole(name: str, digits: bytes) -> int:
    """Two's complement, of no more digits than any number has that is compared: no wild cell costs minutes."""
    if len(digits) > NUMBER_BYTES_MAX:
        raise Unfit(f"a {name} with more digits than are compared")
    return int.from_bytes(digits, "big", signed=True)


digits: Final = int_digits
"""Decimal digits of an int of any size (``str`` refuses beyond 4,300 digits)."""


def _decimal(cell: bytes) -> str:
    if len(cell) < 5:
        raise wrong_size("decimal", len(cell))
    return decimal_text(_whole("decimal", cell[4:]), int.from_bytes(cell[:4], "big", signed=True))


def decimal_text(unscaled: int, scale: int) -> str:
    """``unscaled`` x 10^-``scale``, exactly; with an exponent (``1E+2000000000``) where zeros would fill the text."""
    sign, number = ("-" if unscaled < 0 else ""), digits(abs(unscaled))
    if scale == 0:
        return sign + number
    if not 0 < scale <= len(number) + PLAIN_ZEROS_MAX:
        return f"{sign}{number}E{-scale:+d}"
    padded = number.zfill(scale + 1)
    return f"{sign}{padded[:-scale]}.{padded[-scale:]}"


def _inet(cell: bytes) -> str:
    if len(cell) == 4:
        return str(ipaddress.IPv4Address(cell))
    if len(cell) != 16:
        raise wrong_size("inet", len(cell))
    if cell[:12] == bytes(10) + b"\xff\xff":  # Python's versions differ in how they write these
        return f"::ffff:{ipaddress.IPv4Address(cell[12:])}"
    return str(ipaddress.IPv6Address(cell))


def _duration(cell: bytes) -> bytes:
    if not cell:
        raise wrong_size("duration", 0)
    at, parts = 0, []
    for _ in range(3):
        number, at = unsigned_vint(cell, at)
        parts.append((number >> 1) ^ -(number & 1))
    if at != len(cell):
        raise Unfit("a duration with bytes left over")
    months, days, nanos = parts
    if nanos % 1_000:
        raise Unfit("a duration finer than a microsecond")
    try:
        return struct.pack(">iiq", months, days, nanos // 1_000)
    except struct.error:
        raise Unfit("a duration whose months or days do not fit 32 bits") from None


def unsigned_vint(data: bytes, at: int) -> tuple[int, int]:
    """The unsigned vint at that offset and the offset behind it. Raises Unfit.

    As many leading one bits as bytes follow, then the number big-endian (native protocol v5, section 3).
    """
    if at >= len(data):
        raise Unfit("a variable-length number that is cut off")
    first = data[at]
    extra = 8 - (~first & 0xFF).bit_length()
    if at + 1 + extra > len(data):
        raise Unfit("a variable-length number that is cut off")
    high = first & (0xFF >> extra)
    return (high << 8 * extra) | int.from_bytes(data[at + 1 : at + 1 + extra], "big"), at + 1 + extra


_SCALARS: Final[dict[str, Callable[[bytes], Any]]] = {
    "ascii": bytes,
    "text": bytes,
    "varchar": bytes,
    "blob": bytes,
    "varint": varint,
    "decimal": _decimal,
    "date": _date,
    "time": _time,
    "timestamp": _timestamp,
    "duration": _duration,
    "inet": _inet,
}


def scalar(name: str) -> Callable[[bytes], Any]:
    """The reader of one type without parts; it raises Unfit. Raises KeyError for any other type."""
    return _packed(name, *_PACKED[name]) if name in _PACKED else _SCALARS[name]
