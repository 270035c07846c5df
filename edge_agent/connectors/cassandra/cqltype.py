"""A column's Cassandra type as a tree, read from the server's own result metadata, and what it becomes here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from cassandra import cqltypes

from edge_agent.connectors.translation import Translation, load
from paritree.core.types import LogicalType

TABLE: Final = load(__package__ or "")

_ARROW: Final[dict[str, pa.DataType]] = {
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "counter": pa.int64(),
    "varint": pa.utf8(),
    "decimal": pa.utf8(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "time": pa.time64("ns"),
    "timestamp": pa.timestamp("ms", "UTC"),
    "duration": pa.binary(16),
    "uuid": pa.binary(16),
    "timeuuid": pa.binary(16),
    "inet": pa.utf8(),
    "blob": pa.binary(),
    # The server checked it when it was written, the canonical form checks it again: no third check here.
    "ascii": pa.binary(),
    "text": pa.binary(),
    "varchar": pa.binary(),
}


@dataclass(frozen=True, slots=True)
class CqlType:
    """``name`` is the row of types.toml; ``of`` the element, key and value, or field types.

    ``fields`` names the fields of a tuple ("0", "1", …) or user-defined type; ``dimensions`` is a vector's;
    ``label`` is the name of a user-defined type or the class of a custom one.
    """

    name: str
    of: tuple[CqlType, ...] = ()
    fields: tuple[str, ...] = ()
    dimensions: int = 0
    label: str = ""

    @property
    def row(self) -> Translation:
        """The type's own row of the translation table."""
        return TABLE[self.name]

    @property
    def refusal(self) -> str:
        """Why the type or a type inside of it cannot be compared, or ""."""
        inner = next((kind.refusal for kind in self.of if kind.refusal), "")
        return self.row.refusal or inner

    @property
    def logical(self) -> LogicalType | None:
        """The logical type, None where it is refused."""
        if self.refusal:
            return None
        inner = tuple(kind.logical or LogicalType("bytes") for kind in self.of)
        if self.row.shape == "struct":
            named = zip(self.fields, inner, strict=True)
            return LogicalType("struct", fields=tuple(sorted(named, key=lambda item: item[0].encode())))
        return LogicalType(self.row.shape, of=inner) if self.row.shape else self.row.logical

    @property
    def arrow(self) -> pa.DataType:
        """The carrier inside of a collection; on its own a varint may be int64 and text is utf8."""
        if self.row.shape == "map":
            return pa.map_(self.of[0].arrow, self.of[1].arrow)
        if self.row.shape == "struct":
            return pa.struct([pa.field(name, kind.arrow) for name, kind in zip(self.fields, self.of, strict=True)])
        return pa.list_(self.of[0].arrow) if self.row.shape else _ARROW[self.name]

    def walk(self) -> Iterator[CqlType]:
        """This type and every type inside of it."""
        yield self
        for kind in self.of:
            yield from kind.walk()


def from_driver(kind: Any) -> CqlType:
    """The tree of a driver's type class, as it stands in a statement's result metadata."""
    if issubclass(kind, cqltypes.FrozenType | cqltypes.ReversedType):
        return from_driver(kind.subtypes[0])
    if issubclass(kind, cqltypes.UserType):
        return CqlType("udt", _inner(kind.subtypes), tuple(kind.fieldnames), label=kind.typename)
    if issubclass(kind, cqltypes.TupleType):
        return CqlType("tuple", _inner(kind.subtypes), tuple(str(i) for i in range(len(kind.subtypes))))
    if issubclass(kind, cqltypes.VectorType):
        return CqlType("vector", (from_driver(kind.subtype),), dimensions=int(kind.vector_size))
    if issubclass(kind, cqltypes.ListType | cqltypes.SetType | cqltypes.MapType):
        return CqlType(kind.typename, _inner(kind.subtypes))
    if kind.typename in TABLE and not kind.subtypes:
        return CqlType(kind.typename)
    return CqlType("custom", label=kind.cass_parameterized_type())


def _inner(kinds: Any) -> tuple[CqlType, ...]:
    return tuple(from_driver(kind) for kind in kinds)
