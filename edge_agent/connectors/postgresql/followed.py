"""What an index depends on besides rows: the table's columns, its parts and its publication.

The log has changes of rows only. What else changes a table is seen in the catalogue, so the shape is compared at every
refresh: a column that became another one, a rewrite by ALTER TABLE, a partition that came (its keys are read), went, or
was emptied (a TRUNCATE of one partition is not sent through its root). VACUUM FULL and CLUSTER move a table to another
file too, but leave the rows of pg_attribute alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.postgresql.publication import find
from edge_agent.connectors.postgresql.relation import Relation
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding


@dataclass(frozen=True, slots=True)
class Part:
    """One relation that holds rows: its file, how it hangs below the root, and its columns' catalogue rows."""

    oid: int
    name: str
    file: int
    links: str
    columns: str


@dataclass(frozen=True, slots=True)
class Shape:
    """What the index depends on besides rows: the root's columns, its parts, its publication."""

    columns: str
    publication: str
    parts: tuple[Part, ...]

    def json(self) -> dict[str, Any]:
        """The shape for a mark."""
        parts = [[p.oid, p.name, p.file, p.links, p.columns] for p in self.parts]
        return {"columns": self.columns, "publication": self.publication, "parts": parts}

    @classmethod
    def of(cls, said: dict[str, Any]) -> Shape:
        """The way back of :meth:`json`."""
        return cls(said["columns"], said["publication"], tuple(Part(*part) for part in said["parts"]))


_PARTS = """
WITH RECURSIVE tree(oid, links) AS (
    SELECT %s::oid, ''
    UNION ALL
    SELECT i.inhrelid, tree.links || '/' || i.xmin::text
      FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid AND NOT i.inhdetachpending
)
SELECT c.oid::int8, n.nspname || '.' || c.relname, c.relfilenode::int8, tree.links, c.relkind::text,
       c.relpersistence::text,
       (SELECT pg_catalog.md5(pg_catalog.string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum))
          FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND (%s::text[] IS NULL OR a.attname = ANY (%s::text[])))
  FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind <> 'p' ORDER BY c.oid
"""
_COLUMNS = """
SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attname, a.attnum, a.atttypid::int8, a.atttypmod)
                           ORDER BY a.attnum)::text
  FROM pg_catalog.pg_attribute a
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
   AND (%s::text[] IS NULL OR a.attname = ANY (%s::text[]))
"""


def shape(session: Session, relation: Relation, binding: Binding, publication: str) -> Shape:
    """The shape as it is now, of the columns that a binding reads.

    Raises RescanNeeded where the publication is gone, ConfigError for relations whose changes are not in the log.
    """
    published = find(session, publication)
    if published is None:
        raise RescanNeeded(f"postgresql: the publication {publication} is gone: changes since then are not known")
    read = _columns_read(binding)
    columns = session.execute(_COLUMNS, (relation.oid, read, read)).fetchone()
    parts = logged_parts(session, relation, read)
    return Shape(columns[0] if columns else "", published.version, tuple(parts))


def logged_parts(session: Session, relation: Relation, read: list[str] | None) -> list[Part]:
    """The parts of a relation. Raises ConfigError where the log has not the changes of all of them."""
    rows = session.execute(_PARTS, (relation.oid, read, read)).fetchall()
    parts = []
    for oid, name, file, links, kind, persistence, catalogue in rows:
        if kind != "r" or persistence != "p":
            what = "foreign" if kind == "f" else "unlogged or temporary" if kind == "r" else "no table"
            raise ConfigError(f"postgresql: {name} is {what}: its changes are not in the log", next_step=_LEAVE_OUT)
        parts.append(Part(oid, name, file, links, catalogue))
    if relation.kind == "r" and len(parts) != 1:
        raise ConfigError(
            f"postgresql: tables inherit from {relation}: changes of all of them cannot be followed together",
            next_step=_LEAVE_OUT,
        )
    return parts


def _columns_read(binding: Binding) -> list[str] | None:
    """The columns of the table that the binding's rows come from; None for all, where an expression may read any."""
    if binding.where is not None or any(column.expression is not None for column in binding.columns):
        return None
    return sorted({name for column in binding.columns for name in (column.source, *column.parts) if name is not None})


_LEAVE_OUT = "leave changes out for this dataset: it is scanned instead"


def compare(relation: Relation, old: Shape, new: Shape) -> list[Part]:
    """The parts that are new, whose keys have to be read. Raises RescanNeeded for what changes cannot make good."""
    if old.columns != new.columns:
        raise RescanNeeded(f"postgresql: columns of {relation} have changed: {_difference(old, new)}")
    if old.publication != new.publication:
        raise RescanNeeded(f"postgresql: the publication of {relation} was changed or made anew")
    before = {part.oid: part for part in old.parts}
    now = {part.oid: part for part in new.parts}
    if gone := [part.name for oid, part in before.items() if oid not in now]:
        raise RescanNeeded(f"postgresql: {', '.join(gone)} is no longer a partition of {relation}")
    for oid, part in now.items():
        was = before.get(oid, part)
        if part.links != was.links:
            raise RescanNeeded(f"postgresql: {part.name} was detached and attached again")
        if part.file != was.file and (relation.kind == "p" or part.columns != was.columns):
            raise RescanNeeded(f"postgresql: {part.name} was emptied or written anew (TRUNCATE, ALTER TABLE)")
    return [part for oid, part in now.items() if oid not in before]


def _difference(old: Shape, new: Shape) -> str:
    before, now = ({tuple(column) for column in json.loads(shape.columns or "[]")} for shape in (old, new))
    return ", ".join(sorted({column[0] for column in before ^ now}))
