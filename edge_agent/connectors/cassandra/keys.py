"""Key values in the bytes that a look-up binds: every form under which Cassandra may hold a value that we call equal.

Partition keys are found by their bytes, clustering keys by their order. So -0.0 and 0.0 are two keys in both places;
1.0 and 1.00 are two partitions but one clustering key. A look-up asks for all forms; a scan rejects rows whose key is
in a form that no look-up asks for, since they would be reported as missing when they are looked at again.
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Rows, split
from edge_agent.connectors.cassandra.nested import fixed_width
from paritree.core.canonical.times import Nanos
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter

DECIMAL_SCALES: Final = 19
"""Trailing zeros asked for behind the last digit that is not zero: 0 to 18, more than any money column has."""
FORMS_MAX: Final = 256
"""Forms of one key: eight zeros of unknown sign. A key with more cannot be asked for."""
PARTITION: Final = "partition_key"
_MANY_FORMS: Final = frozenset({"decimal", "varint", "float", "double", "boolean", "time"})
_NULL: Final = struct.pack(">i", -1)


def forms(kind: CqlType, value: Any, role: str) -> list[bytes]:
    """The bytes to ask for; none where no value of the type equals ``value`` (a plain value, see the contract)."""
    if value is None:
        return []
    maker = _NESTED.get(kind.name)
    if maker is not None:
        return list(itertools.islice(maker(kind, value, role), FORMS_MAX + 1))
    found = _SCALARS[kind.name](value)
    # As a clustering key a decimal is compared by value: one form finds them all.
    return found[:1] if kind.name == "decimal" and role != PARTITION else found


def is_askable(kind: CqlType, role: str) -> bool:
    """Whether a look-up asks for every form that values of the type can have in a key."""
    names = {inner.name for inner in kind.walk()}
    return not names & (_MANY_FORMS if role == PARTITION else frozenset({"time"}))


def unaskable(array: pa.Array, kind: CqlType, role: str, rows: Rows, term: int, width: int) -> list[tuple[int, str]]:
    """(row, reason) of key values in a form that :func:`forms` does not give; ``term`` of ``width`` is its cell."""
    if is_askable(kind, role) or kind.logical is None:
        return []
    out: list[tuple[int, str]] = []
    cells = split(rows, width)[term]
    for row, (value, cell) in enumerate(zip(plain_values(array, kind.logical.bare), cells, strict=True)):
        if value is None or cell is None or isinstance(value, DeadLetter):
            continue
        known = forms(kind, value, PARTITION)
        if len(known) > FORMS_MAX or cell not in known:
            out.append((row, f"a {kind.name} in the key, in a form that a look-up cannot ask for"))
    return out


def _whole(value: Any) -> int | None:
    number = Decimal(value) if isinstance(value, str) else value
    if isinstance(number, Decimal):
        # A huge exponent is not expanded: no key of 2^16 bytes holds it.
        return int(number) if number.is_finite() and number.adjusted() < 160_000 and number == number // 1 else None
    return int(number)


def _packed(form: str, low: int, high: int, factor: int = 1, offset: int = 0) -> Callable[[Any], list[bytes]]:
    """Of an integer type: ``value / factor + offset`` where it is whole and in range."""

    def make(value: Any) -> list[bytes]:
        whole = _whole(value)
        if whole is None or whole % factor or not low <= whole // factor + offset < high:
            return []
        return [struct.pack(form, whole // factor + offset)]

    return make


def _varint(value: Any) -> list[bytes]:
    whole = _whole(value)
    return [] if whole is None else [minimal(whole)]


def minimal(value: int) -> bytes:
    """The shortest two's complement form, big-endian."""
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "big", signed=True)


def _decimal(value: Any) -> list[bytes]:
    sign, digits, exponent = Decimal(value).as_tuple()
    if not isinstance(exponent, int):
        return []  # NaN and the infinities
    zeros = next((i for i, digit in enumerate(reversed(digits)) if digit), None)
    if zeros is None:
        unscaled, scale = 0, 0
    else:
        unscaled = int(Decimal((sign, digits[: len(digits) - zeros], 0)))
        scale = -exponent - zeros
    return [
        struct.pack(">i", scale + more) + minimal(unscaled * 10**more)
        for more in range(DECIMAL_SCALES)
        if -(1 << 31) <= scale + more < 1 << 31
    ]


def _float(form: str) -> Callable[[Any], list[bytes]]:
    def make(value: Any) -> list[bytes]:
        number = float(value)
        if number == 0:
            return [struct.pack(form, 0.0), struct.pack(form, -0.0)]
        try:
            packed = struct.pack(form, number)
        except OverflowError:
            return []
        same = math.isnan(number) or struct.unpack(form, packed)[0] == number
        return [packed] if same else []

    return make


def _micros(value: int) -> int:
    """Keys of the index hold microseconds, whatever the column holds."""
    return value // 1_000 if isinstance(value, Nanos) else value


def _inet(value: str) -> list[bytes]:
    try:
        return [ipaddress.ip_address(value).packed]
    except ValueError:
        return []  # a network, which Cassandra cannot hold


_UINT32: Final = 1 << 32
_SCALARS: Final[Mapping[str, Callable[[Any], list[bytes]]]] = {
    **{name: lambda value: [str(value).encode()] for name in ("ascii", "text", "varchar")},
    "tinyint": _packed(">b", -(1 << 7), 1 << 7),
    "smallint": _packed(">h", -(1 << 15), 1 << 15),
    "int": _packed(">i", -(1 << 31), 1 << 31),
    "bigint": _packed(">q", -(1 << 63), 1 << 63),
    "counter": _packed(">q", -(1 << 63), 1 << 63),
    "varint": _varint,
    "decimal": _decimal,
    "float": _float(">f"),
    "double": _float(">d"),
    "boolean": lambda value: [b"\1" if value else b"\0"],
    "blob": lambda value: [bytes(value)],
    "date": _packed(">I", 0, _UINT32, offset=1 << 31),
    "time": lambda value: _packed(">q", 0, 86_400_000_000_000)(_micros(value) * 1_000),
    "timestamp": _packed(">q", -(1 << 63), 1 << 63, factor=1_000),
    "uuid": lambda value: [bytes(value)],
    "timeuuid": lambda value: [bytes(value)],
    "inet": _inet,
    "duration": lambda _value: [],  # never part of a key
}


def _sized(cell: bytes | None) -> bytes:
    return _NULL if cell is None else struct.pack(">i", len(cell)) + cell


def _each(kinds: Iterable[CqlType], values: Iterable[Any], role: str) -> Iterator[tuple[bytes | None, ...]]:
    """Every combination of the parts' forms."""
    parts: list[Sequence[bytes | None]] = [
        [None] if value is None else forms(kind, value, role) for kind, value in zip(kinds, values, strict=True)
    ]
    return itertools.product(*parts)


def _list(kind: CqlType, value: Any, role: str) -> Iterator[bytes]:
    head = struct.pack(">i", len(value))
    for cells in _each(itertools.repeat(kind.of[0], len(value)), value, role):
        yield head + b"".join(map(_sized, cells))


def _map(kind: CqlType, value: Any, role: str) -> Iterator[bytes]:
    flat = [part for pair in value for part in pair]
    for cells in _each(list(kind.of) * len(value), flat, role):
        yield struct.pack(">i", len(value)) + b"".join(map(_sized, cells))


def _struct(kind: CqlType, value: Any, role: str) -> Iterator[bytes]:
    for cells in _each(kind.of, [value.get(field) for field in kind.fields], role):
        yield b"".join(map(_sized, cells))


def _vector(kind: CqlType, value: Any, role: str) -> Iterator[bytes]:
    if len(value) != kind.dimensions or fixed_width(kind.of[0]) is None:
        return
    for cells in _each(itertools.repeat(kind.of[0], len(value)), value, role):
        yield b"".join(cell or b"" for cell in cells)


_NESTED: Final[Mapping[str, Callable[[CqlType, Any, str], Iterator[bytes]]]] = {
    "list": _list,
    "set": _list,
    "map": _map,
    "tuple": _struct,
    "udt": _struct,
    "vector": _vector,
}
