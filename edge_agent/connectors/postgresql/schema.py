"""A table as the catalogue has it: columns as logical types, the key, the planner's idea of its size."""

from __future__ import annotations

import json
from dataclasses import dataclass

from psycopg import sql

from edge_agent.connectors.postgresql.relation import Relation, demand_access, physical_parts, reads_foreign, resolve
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.types import EngineType, TypeCatalog
from paritree.core.errors import ParitreeError
from paritree.core.schema import SourceColumn, TableSchema


@dataclass(frozen=True, slots=True)
class Attribute:
    """One column of a relation: its type, type modifier (-1: none), and whether equal text may differ in bytes."""

    name: str
    type: EngineType
    declared: str
    modifier: int
    nullable: bool
    caseless: bool


_ATTRIBUTES = """
SELECT a.attname, a.atttypid, pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN t.typtype = 'd' AND a.atttypmod = -1 THEN t.typtypmod ELSE a.atttypmod END,
       NOT a.attnotnull, COALESCE(NOT o.collisdeterministic, false)
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum
"""

# The primary key, else the unique index with the fewest columns; see `key`.
_KEY = """
SELECT ARRAY(SELECT a.attname::text
               FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS n
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]
              ORDER BY n)
  FROM pg_catalog.pg_index i
 WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
   AND (i.indisprimary OR i.indimmediate AND NOT EXISTS (
           SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS n
             JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[n]
            WHERE NOT a.attnotnull))
 ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid
 LIMIT 1
"""


def describe(session: Session, types: TypeCatalog, table: str) -> TableSchema:
    """The schema of a table. Raises ConfigError where it is absent, unreadable or filtered by a policy."""
    relation = resolve(session, table)
    demand_access(session, relation)
    return TableSchema(
        table=table,
        columns=tuple(_column(attribute) for attribute in attributes(session, types, relation)),
        key=key(session, relation),
        rows_estimate=rows_estimate(session, relation),
        consistent=not reads_foreign(session, relation),
    )


def attributes(session: Session, types: TypeCatalog, relation: Relation) -> list[Attribute]:
    """The relation's columns in their order, dropped ones left out."""
    rows = session.execute(_ATTRIBUTES, (relation.oid,)).fetchall()
    return [
        Attribute(name, types.resolve(session, oid), declared, modifier, nullable, caseless)
        for name, oid, declared, modifier, nullable, caseless in rows
    ]


def _column(attribute: Attribute) -> SourceColumn:
    kind = attribute.type
    refusal = ""
    if kind.logical is None:
        refusal = (
            f"{attribute.declared}: {kind.refusal}; bind it with expression = '\"{attribute.name}\"::text' or ignore it"
        )
    return SourceColumn(
        name=attribute.name,
        engine_type=attribute.declared,
        logical=kind.logical,
        nullable=attribute.nullable,
        precision=kind.precision(attribute.modifier),
        lost=kind.lost,
        refusal=refusal,
        padded=kind.padded,
        caseless=kind.caseless or (attribute.caseless and kind.logical is not None and kind.logical.name == "text"),
    )


def key(session: Session, relation: Relation) -> tuple[str, ...]:
    """The columns that identify a row: the primary key in the order of its index.

    Without one, the unique index with the fewest columns (then the oldest) over NOT NULL columns that is valid,
    immediate, not partial and without expressions. () where there is none, as for views.
    """
    row = session.execute(_KEY, (relation.oid,)).fetchone()
    return tuple(row[0]) if row else ()


def rows_estimate(session: Session, relation: Relation) -> int:
    """The planner's idea of the number of rows; 0 where it has none. For planning and progress only."""
    if relation.kind in ("v", "f"):
        return planned(session, sql.SQL("SELECT FROM {}").format(relation.identifier))[0]
    parts = physical_parts(session, relation)
    return int(sum(max(part.rows, 0) for part in parts))


def planned(session: Session, query: sql.SQL | sql.Composed) -> tuple[int, float]:
    """The planner's number of rows and total cost of a query; (0, 0.0) where the server cannot plan it."""
    try:
        row = session.execute(sql.SQL("EXPLAIN (FORMAT JSON) ") + query, doing="estimating the size").fetchone()
    except ParitreeError:
        return 0, 0.0
    document = row[0] if row else []
    plan = (json.loads(document) if isinstance(document, str) else document)[0]["Plan"]
    return int(plan["Plan Rows"]), float(plan["Total Cost"])
