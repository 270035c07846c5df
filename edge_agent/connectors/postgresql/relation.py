"""Tables by name: what the operator wrote -> one relation of the catalogue, its physical parts, who may read it."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError

KINDS: Final = {"r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "f": "foreign table"}
"""pg_class.relkind of what can be compared."""


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation. ``kind`` is pg_class.relkind, ``rows`` and ``pages`` the planner's estimate (rows -1: unknown).

    ``heap`` says that its rows lie in blocks that a ctid range can name; ``readable`` that the role may SELECT from it.
    """

    oid: int
    schema: str
    name: str
    kind: str
    heap: bool
    rows: float
    pages: int
    readable: bool

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return ".".join(part if _PLAIN.fullmatch(part) else _quoted(part) for part in (self.schema, self.name))


_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")
_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_COLUMNS = """
SELECT c.oid, n.nspname, c.relname, c.relkind::text, COALESCE(m.amname = 'heap', false), c.reltuples, c.relpages,
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
"""
_BY_NAME = (
    _COLUMNS
    + """
 WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND CASE WHEN %s::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = %s END
"""
)
_PARTS = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid {attached}
)
"""
_ALL = """
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY n.nspname, c.relname
"""
# What a view reads, through other views; a materialized view holds its own rows.
_READS_FOREIGN = """
WITH RECURSIVE reads(oid) AS (
    SELECT %s::oid
    UNION
    SELECT part.oid
      FROM reads JOIN pg_catalog.pg_class c ON c.oid = reads.oid AND c.relkind IN ('r', 'p', 'v'),
   LATERAL (SELECT d.refobjid AS oid FROM pg_catalog.pg_rewrite w
              JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
                                         AND d.refclassid = 'pg_catalog.pg_class'::regclass
             WHERE w.ev_class = c.oid
            UNION ALL
            SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid) AS part
)
SELECT EXISTS (SELECT FROM reads JOIN pg_catalog.pg_class c ON c.oid = reads.oid WHERE c.relkind = 'f')
"""


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def tables(session: Session) -> list[str]:
    """The user's tables, partitioned tables (not their partitions), views and foreign tables, schema-qualified."""
    return [row[0] for row in session.execute(_ALL).fetchall()]


def resolve(session: Session, table: str) -> Relation:
    """The relation that ``table`` names: ``table``, ``schema.table`` or quoted parts as in SQL.

    An unquoted part is taken as it is written, else in lower case as SQL would; a name that no such reading finds is
    tried as one whole (names with dots). Raises ConfigError, with similar names, when there is none.
    """
    for schema, name in _readings(session, table):
        row = session.execute(_BY_NAME, (name, schema, schema)).fetchone()
        if row is not None:
            return Relation(*row)
    known = tables(session)
    short = {full.removeprefix("public."): full for full in known}
    near = difflib.get_close_matches(table, [*short, *known], n=3)
    step = f"similar: {', '.join(dict.fromkeys(short.get(name, name) for name in near))}" if near else "check the name"
    raise ConfigError(f"postgresql: no table '{table}' in database {session.connection.info.dbname}", next_step=step)


def _readings(session: Session, table: str) -> list[tuple[str | None, str]]:
    """(schema or None, name) in the order in which they are tried."""
    parts = _split(table)
    readings: list[tuple[str | None, str]] = []
    if parts and len(parts) == 3 and parts[0][0] == session.connection.info.dbname:
        parts = parts[1:]
    if parts and len(parts) <= 2:
        names = [[text] if quoted or text == text.lower() else [text, text.lower()] for text, quoted in parts]
        schemas: list[str | None] = [None] if len(parts) == 1 else [*names[0]]
        readings = [(schema, name) for name in names[-1] for schema in schemas]
    if (None, table) not in readings:
        readings.append((None, table))
    return readings


def _split(table: str) -> list[tuple[str, bool]]:
    """The dotted parts of a name, each with whether it was quoted; [] when it cannot be read so."""
    parts: list[tuple[str, bool]] = []
    rest = table
    while match := _PART.match(rest):
        quoted = match.group(1) is not None
        parts.append((match.group(1).replace('""', '"') if quoted else match.group(2), quoted))
        rest = rest[match.end() :]
        if not rest:
            return parts
        if not rest.startswith("."):
            return []
        rest = rest[1:]
    return []


def physical_parts(session: Session, relation: Relation) -> list[Relation]:
    """The relations that hold the rows: the table itself, every leaf partition (nested too), every inheriting table.

    A partitioned table without partitions has none. A partition being detached is one no longer.
    """
    attached = "AND NOT i.inhdetachpending" if session.server_version >= 140_000 else ""
    query = (
        _PARTS.format(attached=attached)
        + _COLUMNS
        + (
            " JOIN tree ON tree.oid = c.oid WHERE c.relkind <> 'p' AND NOT pg_catalog.pg_is_other_temp_schema(n.oid)"
            " ORDER BY n.nspname, c.relname"
        )
    )
    return [Relation(*row) for row in session.execute(query, (relation.oid,)).fetchall()]


def reads_foreign(session: Session, relation: Relation) -> bool:
    """Whether rows come from a foreign table, whose snapshot is not ours."""
    row = session.execute(_READS_FOREIGN, (relation.oid,)).fetchone()
    return bool(row and row[0])


def demand_access(session: Session, relation: Relation) -> None:
    """Raise ConfigError, with the statement to run, where the role cannot read every row of the relation."""
    role = _quoted(session.role)
    row = session.execute(
        "SELECT pg_catalog.has_schema_privilege(%s::text, 'USAGE'), pg_catalog.row_security_active(%s::oid)",
        (relation.schema, relation.oid),
    ).fetchone()
    usage, filtered = row if row else (False, False)
    if not usage:
        step = f"GRANT USAGE ON SCHEMA {_quoted(relation.schema)} TO {role}"
        raise ConfigError(f"postgresql: role {session.role} may not use schema {relation.schema}", next_step=step)
    if not relation.readable:
        step = f"GRANT SELECT ON {relation} TO {role} (on the whole table: scans read it by block)"
        raise ConfigError(f"postgresql: role {session.role} may not read {relation}", next_step=step)
    if filtered:
        step = f"ALTER ROLE {role} BYPASSRLS, or connect as a role that sees every row"
        raise ConfigError(
            f"postgresql: a row security policy hides rows of {relation} from {session.role}", next_step=step
        )
