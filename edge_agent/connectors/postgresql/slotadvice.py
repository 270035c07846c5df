"""What ``paritree doctor`` tells of a slot before there is one, and while there is."""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent.connectors.postgresql import slot
from edge_agent.connectors.postgresql.relation import Relation
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError

_MIB = 1 << 20
_MAY_PUBLISH = """
SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE')
       AND pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
  FROM pg_catalog.pg_class c WHERE c.oid = %s
"""
_ROOM = """
SELECT pg_catalog.current_setting('max_replication_slots')::int - pg_catalog.count(*)
  FROM pg_catalog.pg_replication_slots
"""
_MAY_REPLICATE = """
SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user
"""
_OTHERS = """
SELECT slot_name::text, COALESCE(pg_catalog.pg_current_wal_lsn() - restart_lsn, 0)::int8
  FROM pg_catalog.pg_replication_slots
 WHERE slot_name LIKE 'paritree\\_%%' AND slot_name <> %s AND NOT active AND database = pg_catalog.current_database()
 ORDER BY 1
"""


def may_publish(session: Session, relation: Relation) -> bool:
    """Whether the role can make the publication itself."""
    return bool(slot.one(session, _MAY_PUBLISH, (relation.oid,)))


def advice(session: Session, name: str) -> list[str]:
    """Sentences about the slot of that name. Raises ConfigError, with what to run, where there can be none."""
    if slot.find(session, name) is None:
        if not slot.one(session, _MAY_REPLICATE):
            raise ConfigError(
                f"postgresql: role {session.role} may not use slots", next_step=slot.replication_grant(session)
            )
        if slot.one(session, _ROOM) < 1:
            raise ConfigError(
                "postgresql: no replication slot is free",
                next_step="raise max_replication_slots (needs a restart), or drop a slot that nobody reads",
            )
    return list(_sentences(session, name))


def _sentences(session: Session, name: str) -> Iterator[str]:
    found = slot.find(session, name)
    if found is None:
        yield f"the slot {name} is made when the dataset is first swept."
    else:
        lag = slot.lag(session, name)
        yield f"the slot {name} keeps {lag.bytes_kept / _MIB:,.1f} MiB of the log ({found.status})."
        if lag.worry:
            yield f"{lag.worry}."
    if slot.one(session, "SELECT pg_catalog.current_setting('max_slot_wal_keep_size')") == "-1":
        yield (
            "max_slot_wal_keep_size is not set: while this agent is away, its slot makes the server keep its log until "
            "the disk is full; ALTER SYSTEM SET max_slot_wal_keep_size = '50GB' (or what there is room for)."
        )
    for other, kept in session.execute(_OTHERS, (name,)).fetchall():
        yield (
            f"the slot {other} is of another dataset or agent, and keeps {kept / _MIB:,.1f} MiB of the log: if nobody "
            f"reads it any more, SELECT pg_drop_replication_slot('{other}')."
        )
