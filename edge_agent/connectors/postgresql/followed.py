"""What is followed of a table: the columns that its dataset's key comes from, its publication, and its shape.

The log has changes of rows only. What else changes a table is seen in the catalogue, so the shape is compared at every
refresh: a column that became another one, a rewrite by ALTER TABLE, a partition that came (its keys are read), went, or
was emptied (a TRUNCATE of one partition is not sent through its root). VACUUM FULL and CLUSTER move a table to another
file too, but leave the rows of pg_attribute alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.relation import Relation, physical_parts
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding

COLUMN_LISTS_SINCE: Final = 150_000
"""The version since which a publication may have a list of columns and a filter of rows."""
STATEMENTS_LISTED: Final = 20
"""ALTER statements in one message; a table may have thousands of partitions."""


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
_PUBLICATION = """
SELECT p.oid::int8, p.xmin::text, p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
       p.pubviaroot, COALESCE(pg_catalog.array_agg(r.prrelid::int8) FILTER (WHERE r.oid IS NOT NULL), ARRAY[]::int8[]),
       pg_catalog.string_agg(r.oid || ':' || r.xmin::text, ',')
  FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
 WHERE p.pubname = %s GROUP BY p.oid, p.xmin, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       p.pubviaroot
"""
_PUBLISHED_PART = """
SELECT r.prqual IS NULL, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                                WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s
"""
_IDENTITY = """
SELECT c.relreplident::text,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index i
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid
                AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
              WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary
                                                                WHEN 'i' THEN i.indisreplident ELSE false END
              ORDER BY a.attnum)
  FROM pg_catalog.pg_class c WHERE c.oid = %s
"""


def shape(session: Session, relation: Relation, binding: Binding, publication: str) -> Shape:
    """The shape as it is now, of the columns that a binding reads.

    Raises RescanNeeded where the publication is gone, ConfigError for relations whose changes are not in the log.
    """
    found = session.execute(_PUBLICATION, (publication,)).fetchone()
    if found is None:
        raise RescanNeeded(f"postgresql: the publication {publication} is gone: changes since then are not known")
    read = _columns_read(binding)
    columns = session.execute(_COLUMNS, (relation.oid, read, read)).fetchone()
    parts = _logged_parts(session, relation, read)
    return Shape(columns[0] if columns else "", f"{found[0]}:{found[1]}:{found[6]}", tuple(parts))


def _logged_parts(session: Session, relation: Relation, read: list[str] | None) -> list[Part]:
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


def key_sources(binding: Binding, identity: Sequence[str]) -> tuple[str, ...]:
    """The source columns that a changed row's key is made from: those of the key, all of the identity if it computes.

    Raises ConfigError for a key column that old rows would not have.
    """
    columns = binding.key_columns
    if any(column.expression is not None for column in columns):
        return tuple(identity)  # the server says whether they are enough, when it computes the first key
    named = [name for column in columns for name in (column.parts or (column.source,)) if name is not None]
    return tuple(dict.fromkeys(named))


def identity(session: Session, part: Relation | Part, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that the log has of an old row; () where there are none, and publishing would make writes fail."""
    row = session.execute(_IDENTITY, (part.oid,)).fetchone()
    kind, indexed = row if row else ("n", [])
    return tuple(columns) if kind == "f" else tuple(indexed)


def uncovered(session: Session, projection: Projection, binding: Binding) -> list[tuple[str, str]]:
    """(name, statement) of each part whose replica identity lacks the dataset's key, with what mends it."""
    known = list(projection.sources)
    found: list[tuple[str, str]] = []
    relation = projection.relation
    for part in [relation, *(p for p in physical_parts(session, relation) if p.oid != relation.oid)]:
        held = identity(session, part, known)
        needed = key_sources(binding, held)
        if not held or not set(needed) <= set(held):
            found.append((str(part), f"ALTER TABLE {part} REPLICA IDENTITY {_mend(session, part, needed)}"))
    return found


_FITTING_INDEX = """
SELECT pg_catalog.quote_ident(x.relname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
 WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
   AND i.indexprs IS NULL
   AND %s::text[] <@ ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                            WHERE a.attrelid = i.indrelid
                              AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid
                      AND a.attnum = ANY (i.indkey::int2[]) AND NOT a.attnotnull)
 ORDER BY i.indisprimary DESC, i.indnkeyatts, x.relname LIMIT 1
"""


def _mend(session: Session, part: Relation, needed: Sequence[str]) -> str:
    row = session.execute(_FITTING_INDEX, (part.oid, list(needed))).fetchone() if needed else None
    return "FULL" if row is None else f"USING INDEX {row[0]}"


def publication_statement(relation: Relation, publication: str) -> str:
    """What makes the publication; only the table's owner may, who also has CREATE on the database."""
    root = " WITH (publish_via_partition_root = true)" if relation.kind == "p" else ""
    return f"CREATE PUBLICATION {publication} FOR TABLE {relation}{root}"


def publish(session: Session, projection: Projection, binding: Binding, publication: str) -> None:
    """Make the publication where it is missing, and see that it fits. Raises ConfigError with what to run."""
    relation = projection.relation
    _logged_parts(session, relation, None)
    if lacking := uncovered(session, projection, binding):
        raise ConfigError(
            f"postgresql: the log would not have the key of {binding.dataset} for changed rows of {lacking[0][0]}",
            next_step="; ".join(statement for _, statement in lacking[:STATEMENTS_LISTED]),
        )
    if session.execute(_PUBLICATION, (publication,)).fetchone() is None:
        _create(session, relation, publication)
    found = session.execute(_PUBLICATION, (publication,)).fetchone()
    if found is None:
        raise SourceError(f"postgresql: the publication {publication} vanished", retryable=True)
    _, _, everything, all_kinds, via_root, relations, _ = found
    if everything or relations != [relation.oid] or not all_kinds or (relation.kind == "p" and not via_root):
        raise _unfit(relation, publication, f"is not one of all changes of {relation} alone")
    if session.server_version >= COLUMN_LISTS_SINCE:
        row = session.execute(_PUBLISHED_PART, (publication,)).fetchone()
        everywhere, listed = row if row else (False, [])
        held = identity(session, relation, list(projection.sources))
        if not everywhere or (listed and not set(key_sources(binding, held)) <= set(listed)):
            raise _unfit(relation, publication, "leaves out rows, or columns of the key")


def _unfit(relation: Relation, publication: str, why: str) -> ConfigError:
    statement = publication_statement(relation, publication)
    return ConfigError(
        f"postgresql: the publication {publication} {why}", next_step=f"DROP PUBLICATION {publication}; {statement}"
    )


def _create(session: Session, relation: Relation, publication: str) -> None:
    statement = publication_statement(relation, publication)
    session.execute("BEGIN READ WRITE")
    try:
        session.execute(statement, doing=f"publishing {relation}")
        session.execute("COMMIT")
    except ParitreeError as error:
        session.execute("ROLLBACK")
        raise ConfigError(
            f"postgresql: role {session.role} cannot publish {relation}: {error.message}",
            next_step=f"have the table's owner run: {statement}",
        ) from error


def unpublish(session: Session, publication: str) -> None:
    """Drop the publication where the role may; one that is not there, or another role's, is left."""
    if session.execute(_PUBLICATION, (publication,)).fetchone() is None:
        return
    session.execute("BEGIN READ WRITE")
    try:
        session.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(publication)), doing="dropping it")
        session.execute("COMMIT")
    except SourceError as error:
        session.execute("ROLLBACK")
        raise ConfigError(
            f"postgresql: role {session.role} may not drop the publication {publication}",
            next_step=f"have its owner run: DROP PUBLICATION {publication}",
        ) from error
