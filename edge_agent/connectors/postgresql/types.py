"""What a PostgreSQL type means: from the catalogue and types.toml to a tree that decoders and encoders follow."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final

from edge_agent.connectors.postgresql.session import Session
from paritree.core.types import TIMES, LogicalType, parse_type

RANGE_KINDS: Final = {"r": "ranges have no logical type", "m": "multiranges have no logical type"}


@dataclass(frozen=True, slots=True)
class EngineType:
    """One type of one database.

    ``wire`` names the decoder of its binary form ("" where the type is refused, then ``refusal`` says why).
    ``element`` is an array's element, ``fields`` a composite type's fields in their order, ``labels`` an enum's.
    ``array_oid`` is the type of an array of it; ``schema`` and ``typname`` name it, and its operators live in there.
    """

    oid: int
    name: str
    wire: str
    logical: LogicalType | None
    refusal: str = ""
    lost: str = ""
    padded: bool = False
    caseless: bool = False
    schema: str = "pg_catalog"
    typname: str = ""
    array_oid: int = 0
    element: EngineType | None = None
    fields: tuple[tuple[str, EngineType], ...] = ()
    labels: frozenset[str] = frozenset()

    def precision(self, modifier: int) -> str | None:
        """What a column of this type holds of a time, from its type modifier (-1: none given); None for no times."""
        if self.logical is None or self.logical.name not in TIMES:
            return None
        return "us" if modifier < 0 or modifier > 3 else "s" if modifier == 0 else "ms"


@cache
def translation() -> dict[str, dict[str, Any]]:
    """types.toml: ``pg_type.typname`` -> its row."""
    return tomllib.loads(files(__package__).joinpath("types.toml").read_text(encoding="utf-8"))


_TYPE = """
SELECT t.typname, n.nspname, t.typtype::text, t.typbasetype, t.typarray,
       (SELECT e.oid FROM pg_catalog.pg_type e WHERE e.typarray = t.oid AND t.typtype = 'b') AS element,
       pg_catalog.format_type(t.oid, NULL),
       (SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
         WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
           AND d.refclassid = 'pg_catalog.pg_extension'::regclass) AS extension,
       ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid) AS labels,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
              AND NOT a.attisdropped ORDER BY a.attnum) AS field_names,
       ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0
              AND NOT a.attisdropped ORDER BY a.attnum) AS field_types
  FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
 WHERE t.oid = %s
"""


FIRST_USER_OID: Final = 16_384
"""Types below it come with the server and never change; others may at any time."""


class TypeCatalog:
    """The types of one database as they are during one operation; ``builtin`` may be shared by all of them."""

    def __init__(self, builtin: dict[int, EngineType] | None = None) -> None:
        self._builtin: dict[int, EngineType] = {} if builtin is None else builtin
        self._own: dict[int, EngineType] = {}

    def resolve(self, session: Session, oid: int) -> EngineType:
        """The type with that object identifier. Raises SourceError."""
        known = self._builtin if oid < FIRST_USER_OID else self._own
        if oid not in known:
            known[oid] = self._read(session, oid)
        return known[oid]

    def _read(self, session: Session, oid: int) -> EngineType:
        row = session.execute(_TYPE, (oid,)).fetchone()
        if row is None:
            return EngineType(oid, f"type {oid}", "", None, refusal="its type is not in the catalogue")
        typname, schema, kind, base, array_oid, element, name, extension, labels, field_names, field_types = row
        if kind == "d":
            return self.resolve(session, base)
        if kind == "e":
            return EngineType(
                oid,
                name,
                "text",
                LogicalType("text"),
                array_oid=array_oid,
                labels=frozenset(labels),
            )
        if element is not None:
            return _array(oid, name, array_oid, self.resolve(session, element))
        if kind == "c":
            parts = [self.resolve(session, part) for part in field_types]
            return _composite(oid, name, array_oid, tuple(zip(field_names, parts, strict=True)))
        if kind in RANGE_KINDS:
            return EngineType(oid, name, "", None, refusal=RANGE_KINDS[kind])
        return _scalar(oid, name, typname, schema, extension, array_oid)


def _scalar(oid: int, name: str, typname: str, schema: str, extension: str | None, array_oid: int) -> EngineType:
    row = translation().get(typname, {})
    if row.get("extension") != extension or (extension is None and schema != "pg_catalog"):
        row = {}
    if "logical" not in row:
        return EngineType(oid, name, "", None, refusal=row.get("refusal", "this type has no logical type"))
    return EngineType(
        oid,
        name,
        row["wire"],
        parse_type(row["logical"]),
        lost=row.get("lost", ""),
        padded=row.get("padded", False),
        caseless=row.get("caseless", False),
        schema=schema,
        typname=typname,
        array_oid=array_oid,
    )


def _array(oid: int, name: str, array_oid: int, element: EngineType) -> EngineType:
    if element.logical is None:
        return EngineType(oid, name, "", None, refusal=f"its elements: {element.refusal}")
    return EngineType(
        oid,
        name,
        "array",
        LogicalType("list", of=(element.logical,)),
        lost="; ".join(filter(None, ("lower bounds other than 1", element.lost))),
        array_oid=array_oid,
        element=element,
    )


def _composite(oid: int, name: str, array_oid: int, fields: tuple[tuple[str, EngineType], ...]) -> EngineType:
    refused = next(((field, part) for field, part in fields if part.logical is None), None)
    if refused is not None:
        return EngineType(oid, name, "", None, refusal=f"its field {refused[0]}: {refused[1].refusal}")
    if not fields:
        return EngineType(oid, name, "", None, refusal="a composite type without fields")
    return EngineType(
        oid,
        name,
        "composite",
        parse_type({"type": "struct", "fields": {field: part.logical for field, part in fields}}),
        lost="; ".join(f"{field}: {part.lost}" for field, part in fields if part.lost),
        array_oid=array_oid,
        fields=fields,
    )
