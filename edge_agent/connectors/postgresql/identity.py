"""The replica identity: which columns of an old row the log has, and whether the dataset's key is among them.

A published table without one is worse than a table that is not followed: its UPDATEs and DELETEs fail.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.relation import Relation, physical_parts
from edge_agent.connectors.postgresql.session import Session
from paritree.core.profile import Binding

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


def key_sources(binding: Binding, identity: Sequence[str]) -> tuple[str, ...]:
    """The source columns that a changed row's key is made from: those of the key, all of the identity if it computes.

    Raises ConfigError for a key column that old rows would not have.
    """
    columns = binding.key_columns
    if any(column.expression is not None for column in columns):
        return tuple(identity)  # the server says whether they are enough, when it computes the first key
    named = [name for column in columns for name in (column.parts or (column.source,)) if name is not None]
    return tuple(dict.fromkeys(named))


def identity(session: Session, part: Relation, columns: Sequence[str]) -> tuple[str, ...]:
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
