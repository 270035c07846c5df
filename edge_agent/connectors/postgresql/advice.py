"""What to tell the operator about a table before it is compared: each sentence says the problem and its fix."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.connectors.postgresql.relation import KINDS, Relation, demand_access, physical_parts, resolve
from edge_agent.connectors.postgresql.schema import attributes, key
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.types import TypeCatalog
from paritree.core.errors import ConfigError


def advice(session: Session, types: TypeCatalog, table: str) -> list[str]:
    """Plain sentences, most important first. Raises ConfigError where the table is absent."""
    relation = resolve(session, table)
    return [
        *_access(session, relation),
        *_parts(session, relation),
        *_key(session, relation),
        *_columns(session, types, relation),
        *_changes(session, relation),
    ]


def _access(session: Session, relation: Relation) -> Iterator[str]:
    try:
        demand_access(session, relation)
    except ConfigError as error:
        yield f"{error.message.removeprefix('postgresql: ')}: {error.next_step}."


def _parts(session: Session, relation: Relation) -> Iterator[str]:
    parts = physical_parts(session, relation)
    role = '"' + session.role.replace('"', '""') + '"'
    hidden = [part for part in parts if part.oid != relation.oid and not part.readable]
    if hidden and relation.readable:
        grants = "; ".join(f"GRANT SELECT ON {part} TO {role}" for part in hidden)
        yield f"{len(hidden)} partitions can be read through {relation} only, so it is cut by key: {grants}."
    if relation.kind in ("r", "p", "m") and any(part.rows < 0 for part in parts):
        yield f"{relation} has no statistics, so shards are cut by a guess: ANALYZE {relation}."
    if foreign := [str(part) for part in parts if part.kind == "f"]:
        yield f"{', '.join(foreign)} is foreign: its rows are not read in one snapshot, compare it where it lives."


def _key(session: Session, relation: Relation) -> Iterator[str]:
    if not key(session, relation):
        kind = KINDS[relation.kind]
        yield (
            f"the {kind} {relation} has no primary key nor a unique index over NOT NULL columns: "
            "add one, or name the key columns with key = [...] or --key."
        )


def _columns(session: Session, types: TypeCatalog, relation: Relation) -> Iterator[str]:
    for attribute in attributes(session, types, relation):
        kind = attribute.type
        if kind.logical is None:
            yield (
                f"column {attribute.name} ({attribute.declared}) is not compared: {kind.refusal}; "
                f"bind it with expression = '\"{attribute.name}\"::text', or ignore it."
            )
        elif kind.lost:
            yield f"column {attribute.name} ({attribute.declared}) is compared without {kind.lost}."
        if kind.caseless or attribute.caseless:
            yield f'column {attribute.name} compares without case here: give it rules = ["casefold"] in the profile.'


_IDENTITY = """
SELECT c.relreplident::text, EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
                                        AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END)
  FROM pg_catalog.pg_class c WHERE c.oid = %s
"""


def _changes(session: Session, relation: Relation) -> Iterator[str]:
    """What refreshing from the log of changes will need; comparing without it works."""
    if relation.kind not in ("r", "p"):
        return
    row = session.execute("SELECT pg_catalog.current_setting('wal_level')").fetchone()
    if row and row[0] != "logical":
        yield (
            f"wal_level is {row[0]}: full scans work with it, but refreshing from changes needs "
            "ALTER SYSTEM SET wal_level = 'logical' and a restart."
        )
    for part in [part for part in physical_parts(session, relation) if part.kind == "r"]:
        found = session.execute(_IDENTITY, (part.oid,)).fetchone()
        identity, indexed = found if found else ("n", False)
        if identity == "n" or (identity != "f" and not indexed):
            full = f"add a primary key or run ALTER TABLE {part} REPLICA IDENTITY FULL"
            yield (
                f"{part} has no replica identity: once it is published, UPDATE and DELETE on it fail; "
                f"before that, {f'run ALTER TABLE {part} REPLICA IDENTITY DEFAULT' if indexed else full}."
            )
