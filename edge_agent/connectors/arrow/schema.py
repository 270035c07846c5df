"""Arrow fields as source columns."""

from __future__ import annotations

import re

import pyarrow as pa

from edge_agent.connectors.translation import PRECISIONS, Translation, load, refused
from paritree.core.schema import SourceColumn
from paritree.core.types import LogicalType

PACKAGE = "edge_agent.connectors.arrow"
_ZONE = re.compile(r", tz=.*\]")
_HEAD = re.compile(r"[a-z0-9_]+(\[(s|ms|us|ns|day)(, tz)?\])?")


def type_name(kind: pa.DataType) -> str:
    """The row of types.toml that stands for an Arrow type (an encoded one's is that of its values)."""
    if isinstance(kind, pa.BaseExtensionType):
        return str(kind.extension_name)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return type_name(kind.value_type)
    if pa.types.is_fixed_size_list(kind):  # "fixed_size_list<item: int32>[3]"
        return "fixed_size_list"
    if pa.types.is_union(kind):
        return "union"
    head = _HEAD.match(_ZONE.sub(", tz]", str(kind)))
    return head[0] if head else str(kind)


def column(field: pa.Field, *, nullable: bool | None = None) -> SourceColumn:
    """A field as a source column; refused with the reason where it, or a type inside it, has no logical type."""
    translation, logical, precision, refusal = _translated(field.type)
    made = translation.column(
        field.name,
        str(field.type),
        logical=logical,
        nullable=field.nullable if nullable is None else nullable,
        precision=precision,
    )
    if not refusal:
        return made
    return SourceColumn(made.name, made.engine_type, None, made.nullable, refusal=refusal)


def _translated(kind: pa.DataType) -> tuple[Translation, LogicalType | None, str | None, str]:
    name = type_name(kind)
    row = load(PACKAGE).get(name) or refused(name)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _translated(kind.value_type)
    if row.refusal:
        return row, None, None, row.refusal
    if not row.shape:
        return row, row.logical, row.precision, ""
    fields = [kind.field(index) for index in range(kind.num_fields)] if row.shape == "struct" else _inner(kind)
    parts = [_translated(field.type) for field in fields]
    refusal = next((refusal for *_, refusal in parts if refusal), "") or _unusable(row.shape, fields)
    if refusal:
        return row, None, None, refusal
    inner = tuple(logical for _, logical, _, _ in parts if logical is not None)
    finest = max((p for _, _, p, _ in parts if p), key=PRECISIONS.index, default=None)
    if row.shape == "struct":
        named = sorted(zip((field.name for field in fields), inner, strict=True), key=lambda item: item[0].encode())
        return row, LogicalType("struct", fields=tuple(named)), finest, ""
    return row, LogicalType(row.shape, of=inner), finest, ""


def _inner(kind: pa.DataType) -> list[pa.Field]:
    return [kind.key_field, kind.item_field] if pa.types.is_map(kind) else [kind.value_field]


def _unusable(shape: str, fields: list[pa.Field]) -> str:
    names = [field.name for field in fields]
    if shape == "struct" and not names:
        return "a struct without fields"
    return "a struct with two fields of one name" if shape == "struct" and len(set(names)) < len(names) else ""
