"""The publication of one followed table: made where the role may, and seen to be one of all of its changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from edge_agent.connectors.postgresql.identity import identity, key_sources, uncovered
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.relation import Relation
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding

COLUMN_LISTS_SINCE: Final = 150_000
"""The version since which a publication may have a list of columns and a filter of rows."""
STATEMENTS_LISTED: Final = 20
"""ALTER statements in one message; a table may have thousands of partitions."""


@dataclass(frozen=True, slots=True)
class Published:
    """A publication as the catalogue has it; ``version`` changes with anything in it."""

    version: str
    everything: bool
    all_kinds: bool
    via_root: bool
    relations: list[int]


_PUBLICATION = """
SELECT pg_catalog.concat_ws(':', p.oid, p.xmin, pg_catalog.string_agg(r.oid || ':' || r.xmin::text, ',')),
       p.puballtables, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate, p.pubviaroot,
       COALESCE(pg_catalog.array_agg(r.prrelid::int8) FILTER (WHERE r.oid IS NOT NULL), ARRAY[]::int8[])
  FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
 WHERE p.pubname = %s GROUP BY p.oid, p.xmin, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
       p.pubviaroot
"""
_PUBLISHED_PART = """
SELECT r.prqual IS NULL, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                                WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs::int2[]))
  FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid WHERE p.pubname = %s
"""


def publication_statement(relation: Relation, publication: str) -> str:
    """What makes the publication; only the table's owner may, who also has CREATE on the database."""
    root = " WITH (publish_via_partition_root = true)" if relation.kind == "p" else ""
    return f"CREATE PUBLICATION {publication} FOR TABLE {relation}{root}"


def find(session: Session, publication: str) -> Published | None:
    """The publication of that name."""
    row = session.execute(_PUBLICATION, (publication,)).fetchone()
    return None if row is None else Published(*row)


def publish(session: Session, projection: Projection, binding: Binding, publication: str) -> None:
    """Make the publication where it is missing. Raises ConfigError, with what to run, where it cannot be had."""
    demand_identity(session, projection, binding)
    if find(session, publication) is None:
        _create(session, projection.relation, publication)
    demand_fit(session, projection, binding, publication)


def demand_identity(session: Session, projection: Projection, binding: Binding) -> None:
    """Raise ConfigError, with the ALTER TABLE to run, where changed rows would come without the dataset's key."""
    if lacking := uncovered(session, projection, binding):
        raise ConfigError(
            f"postgresql: the log would not have the key of {binding.dataset} for changed rows of {lacking[0][0]}",
            next_step="; ".join(statement for _, statement in lacking[:STATEMENTS_LISTED]),
        )


def demand_fit(session: Session, projection: Projection, binding: Binding, publication: str) -> None:
    """Raise ConfigError, with what to run, for a publication that is missing or not of all that is to be followed."""
    relation = projection.relation
    found = find(session, publication)
    if found is None:
        statement = publication_statement(relation, publication)
        raise ConfigError(f"postgresql: {relation} is not published", next_step=f"have its owner run: {statement}")
    via_root = found.via_root or relation.kind != "p"
    if found.everything or found.relations != [relation.oid] or not found.all_kinds or not via_root:
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
    if find(session, publication) is None:
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
