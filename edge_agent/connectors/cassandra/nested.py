"""Collections, tuples, user-defined types and vectors: cells made of cells. :func:`reader` reads every type."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from edge_agent.connectors.cassandra.cells import Unfit, digits, scalar, unsigned_vint, varint, wrong_size
from edge_agent.connectors.cassandra.cqltype import CqlType

_LENGTH = struct.Struct(">i")


def reader(kind: CqlType) -> Callable[[bytes], Any]:
    """The function from one cell's bytes to a Python value of the carrier; it raises Unfit."""
    made = _MAKERS.get(kind.name)
    return made(kind) if made else scalar(kind.name)


def _element(kind: CqlType) -> Callable[[bytes], Any]:
    """As :func:`reader`, for the inside of a collection, where a varint is always its digits."""
    return (lambda cell: digits(varint(cell))) if kind.name == "varint" else reader(kind)


class _Cursor:
    """Reads the length-prefixed parts of one cell."""

    def __init__(self, cell: bytes, name: str) -> None:
        self.cell, self.at, self.name = cell, 0, name

    def number(self) -> int:
        if len(self.cell) - self.at < 4:
            raise Unfit(f"a {self.name} that is cut off")
        (value,) = _LENGTH.unpack_from(self.cell, self.at)
        self.at += 4
        return int(value)

    def part(self) -> bytes | None:
        length = self.number()
        return None if length < 0 else self.take(length)

    def take(self, length: int) -> bytes:
        if len(self.cell) - self.at < length:
            raise Unfit(f"a {self.name} that is cut off")
        self.at += length
        return self.cell[self.at - length : self.at]

    def count(self) -> int:
        if not self.cell:
            raise wrong_size(self.name, 0)
        count = self.number()
        # Every part has at least its length: a wild count must not become a long loop.
        if not 0 <= count <= (len(self.cell) - self.at) // 4:
            raise Unfit(f"a {self.name} that is cut off")
        return count

    def end(self) -> None:
        if self.at != len(self.cell):
            raise Unfit(f"a {self.name} with bytes left over")


def _list(kind: CqlType) -> Callable[[bytes], Any]:
    element = _element(kind.of[0])

    def read(cell: bytes) -> Any:
        cursor = _Cursor(cell, kind.name)
        parts = [cursor.part() for _ in range(cursor.count())]
        cursor.end()
        return [None if part is None else element(part) for part in parts]

    return read


def _map(kind: CqlType) -> Callable[[bytes], Any]:
    key, value = _element(kind.of[0]), _element(kind.of[1])

    def read(cell: bytes) -> Any:
        cursor = _Cursor(cell, "map")
        pairs = []
        for _ in range(cursor.count()):
            left, right = cursor.part(), cursor.part()
            if left is None:
                raise Unfit("a map with a null key")
            pairs.append((key(left), None if right is None else value(right)))
        cursor.end()
        return pairs

    return read


def _struct(kind: CqlType) -> Callable[[bytes], Any]:
    readers = [_element(inner) for inner in kind.of]
    name = "tuple" if kind.name == "tuple" else "user-defined type"

    def read(cell: bytes) -> Any:
        if not cell:
            raise wrong_size(name, 0)
        cursor = _Cursor(cell, name)
        values: dict[str, Any] = dict.fromkeys(kind.fields)
        for field, inner in zip(kind.fields, readers, strict=True):
            if cursor.at == len(cell):
                break  # written before the type got this field
            part = cursor.part()
            values[field] = None if part is None else inner(part)
        if cursor.at != len(cell):
            raise Unfit(f"a {name} with more fields than it declares")
        return values

    return read


_VECTOR_WIDTHS: Final = {
    "boolean": 1, "int": 4, "float": 4, "bigint": 8, "double": 8, "timestamp": 8, "uuid": 16, "timeuuid": 16,
}  # fmt: skip
"""Types whose elements stand in a vector without a length; all others have an unsigned vint before them."""


def fixed_width(kind: CqlType) -> int | None:
    """Bytes of a vector's element of this type, or None where each says its own length."""
    if kind.name == "vector":
        inner = fixed_width(kind.of[0])
        return None if inner is None else inner * kind.dimensions
    return _VECTOR_WIDTHS.get(kind.name)


def _vector(kind: CqlType) -> Callable[[bytes], Any]:
    element, width = _element(kind.of[0]), fixed_width(kind.of[0])

    def read(cell: bytes) -> Any:
        if not cell:
            raise wrong_size("vector", 0)
        cursor, values = _Cursor(cell, "vector"), []
        for _ in range(kind.dimensions):
            length = width
            if length is None:
                length, cursor.at = unsigned_vint(cell, cursor.at)
            values.append(element(cursor.take(length)))
        cursor.end()
        return values

    return read


_MAKERS: Final[dict[str, Callable[[CqlType], Callable[[bytes], Any]]]] = {
    "list": _list,
    "set": _list,
    "map": _map,
    "tuple": _struct,
    "udt": _struct,
    "vector": _vector,
}
