"""A logical replication slot: made, looked at, moved on, dropped; and when what it tells of can be seen by a query.

Two traps lie between the log and a snapshot, and both would lose changes for ever:

- A transaction is in the log, and handed out by the slot, some time before queries see it: it still waits for the disk
  or for a synchronous standby, minutes where that standby is away. So keys are handed out only once every transaction
  that touched them is seen (:func:`await_visible`).
- A slot begins at a moment when some transaction may be past its commit record and not yet seen: the slot does not hand
  it out, and a scan that begins at once does not see it. So the scan begins only when every transaction that had begun
  until then is over (:func:`await_older`).
"""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.changes import Lag, RescanNeeded
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import ConfigError, SourceError

PLUGIN: Final = "pgoutput"
VERSION_MIN: Final = 140_000
"""The first version whose pgoutput sends binary values and messages of the log."""
MARKER: Final = "paritree"
"""The prefix of what we write into the log to see it come out of the slot."""
VISIBLE_S_MAX: Final = 10.0
"""How long a transaction that is in the log is waited for until queries see it, before the refresh is given up."""
PAUSE_S: Final = 0.002
START_S_MAX: Final = 60.0
"""How long open transactions of others are waited for when a slot begins: until then there is a scan at every sweep."""
_NAME_CHARS_MAX = 63
_XIDS = 1 << 32


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot as pg_replication_slots has it. LSNs are numbers; ``restart`` is None where the log is lost."""

    plugin: str
    database: str
    active_pid: int | None
    restart: int | None
    confirmed: int | None
    status: str


def slot_name(dataset: str, name: str) -> str:
    """The name of a dataset's slot and publication at one agent: readable, and different for each of them."""
    digest = hashlib.blake2b(f"{dataset}\0{name}".encode(), digest_size=5).hexdigest()
    readable = re.sub(r"[^a-z0-9]+", "_", f"{dataset} {name}".lower()).strip("_")
    return f"paritree_{readable}"[: _NAME_CHARS_MAX - len(digest) - 1].rstrip("_") + f"_{digest}"


def lsn_text(lsn: int) -> str:
    """An LSN as PostgreSQL writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def one(session: Session, query: str, params: tuple[Any, ...] = (), *, doing: str = "reading the log's state") -> Any:
    """The only column of the only row."""
    row = session.execute(query, params, doing=doing).fetchone()
    if row is None:
        raise SourceError(f"postgresql: {doing}: no answer", retryable=True)
    return row[0]


_FLUSHED = "SELECT pg_catalog.pg_current_wal_flush_lsn() - '0/0'::pg_catalog.pg_lsn"
_SLOT = """
SELECT plugin::text, database::text, active_pid, (restart_lsn - '0/0'::pg_catalog.pg_lsn)::int8,
       (confirmed_flush_lsn - '0/0'::pg_catalog.pg_lsn)::int8, COALESCE(wal_status, 'reserved')
  FROM pg_catalog.pg_replication_slots WHERE slot_name = %s
"""
_MARK = "SELECT pg_catalog.pg_logical_emit_message(true, %s, %s)"
_OLDEST = """
SELECT pid, COALESCE(application_name, ''), pg_catalog.age(backend_xid) FROM pg_catalog.pg_stat_activity
 WHERE backend_xid IS NOT NULL ORDER BY pg_catalog.age(backend_xid) DESC LIMIT 1
"""


def flushed(session: Session) -> int:
    """Up to where the log is on the disk: what a slot hands out ends there."""
    return int(one(session, _FLUSHED))


def find(session: Session, name: str) -> Slot | None:
    """The slot of that name."""
    row = session.execute(_SLOT, (name,)).fetchone()
    return None if row is None else Slot(*row)


def demand(session: Session, name: str, since: int) -> Slot:
    """The slot, with everything after ``since`` still in it. Raises RescanNeeded, or SourceError while it is in use."""
    slot = find(session, name)
    if slot is None:
        raise RescanNeeded(f"postgresql: the slot {name} is gone: what has changed since is not known")
    if slot.plugin != PLUGIN or slot.database != session.connection.info.dbname:
        raise RescanNeeded(f"postgresql: the slot {name} is of another plugin or database")
    if slot.status == "lost" or slot.restart is None or slot.confirmed is None:
        raise RescanNeeded(f"postgresql: the server has given up the slot {name}: it kept more than it may")
    if slot.confirmed > since:
        raise RescanNeeded(
            f"postgresql: somebody else read the slot {name} from {lsn_text(since)} to {lsn_text(slot.confirmed)}"
        )
    if slot.active_pid is not None:
        raise SourceError(
            f"postgresql: the slot {name} is in use by process {slot.active_pid} of the server",
            next_step="end what else reads it: an agent of the same name, or a tool",
            retryable=True,
        )
    return slot


def create(session: Session, name: str) -> int:
    """Make the slot, in place of one that is there; returns where it begins. Waits for open transactions to end."""
    drop(session, name)
    session.execute(f"SET lock_timeout = 0; SET statement_timeout = {round(START_S_MAX * 1000)}")
    try:
        query = "SELECT lsn - '0/0'::pg_catalog.pg_lsn FROM pg_catalog.pg_create_logical_replication_slot(%s, %s)"
        return int(one(session, query, (name, PLUGIN), doing=f"making the slot {name}"))
    except SourceError as error:
        if "statement timeout" in error.message:
            raise _too_old(session, f"the slot {name} cannot begin") from error
        if "replication" in error.message and "role" in error.message:
            raise ConfigError(
                f"postgresql: role {session.role} may not use slots", next_step=replication_grant(session)
            ) from error
        raise
    finally:
        limits = session.options
        session.execute(
            f"SET lock_timeout = {limits.lock_timeout_ms}; SET statement_timeout = {limits.statement_timeout_ms}"
        )


def replication_grant(session: Session) -> str:
    """What lets the role have slots."""
    role = session.role.replace('"', '""')
    return f'ALTER ROLE "{role}" REPLICATION (hosted services have a role to grant instead, such as rds_replication)'


def drop(session: Session, name: str) -> None:
    """Drop the slot; one that is not there is fine."""
    query = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
    session.execute(f"{query} WHERE slot_name = %s", (name,), doing=f"dropping the slot {name}")


def advance(session: Session, name: str, lsn: int) -> None:
    """Everything before ``lsn`` was taken in: the server may forget it. Never goes back."""
    query = "SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_catalog.pg_lsn)"
    slot = find(session, name)
    if slot is not None and slot.confirmed is not None and slot.confirmed < lsn:
        session.execute(query, (name, lsn_text(lsn)), doing=f"moving the slot {name} on")


def emit_marker(session: Session, content: str) -> None:
    """Write a marker into the log and wait until it, and so everything before it, is on the disk.

    Transactions that commit asynchronously are seen by others before they are there: without this, what a sweep sees
    could be ahead of what the slot hands out. ``local`` does not wait for standbys.
    """
    session.execute("BEGIN")
    session.execute("SET LOCAL synchronous_commit = 'local'")
    session.execute(_MARK, (MARKER, content), doing="writing a marker into the log")
    session.execute("COMMIT")


def await_visible(session: Session, xids: NDArray[np.uint32], within_s: float = VISIBLE_S_MAX) -> None:
    """Return when queries that begin from now on see these transactions. Raises a SourceError to be tried again."""
    until = time.monotonic() + within_s
    while len(xids):
        _, high, running = _snapshot(session)
        ahead = (xids - np.uint32(high % _XIDS)) < np.uint32(1 << 31)  # transaction numbers of 32 bits wrap
        hidden = ahead | np.isin(xids, np.array([xid % _XIDS for xid in running], np.uint32))
        if not hidden.any():
            return
        if time.monotonic() > until:
            raise SourceError(
                f"postgresql: {int(hidden.sum())} transactions are in the log, but nobody sees them yet",
                next_step="see whether a synchronous standby is away; the refresh goes on when they are seen",
                retryable=True,
            )
        time.sleep(PAUSE_S)


def await_older(session: Session) -> None:
    """Return when every transaction that has begun until now is over. Raises a SourceError to be tried again."""
    until_xid = int(one(session, "SELECT pg_catalog.pg_current_xact_id()::text::int8"))
    until = time.monotonic() + START_S_MAX
    pause_s = PAUSE_S
    while _snapshot(session)[0] < until_xid:
        if time.monotonic() > until:
            raise _too_old(session, "changes cannot be followed yet")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.5)


def _snapshot(session: Session) -> tuple[int, int, list[int]]:
    """The lowest transaction that is not over, the first that nobody has seen begin, those that run between them."""
    low, high, running = str(one(session, "SELECT pg_catalog.pg_current_snapshot()::text")).split(":")
    return int(low), int(high), [int(xid) for xid in running.split(",") if xid]


def _too_old(session: Session, what: str) -> SourceError:
    row = session.execute(_OLDEST).fetchone()
    who = f"process {row[0]} {row[1]}".strip() if row else "a prepared transaction (pg_prepared_xacts)"
    return SourceError(
        f"postgresql: {what}: a transaction has been open for {START_S_MAX:g} s and more, the oldest by {who}",
        next_step="it begins once that has ended",
        retryable=True,
    )


def lag(session: Session, name: str) -> Lag:
    """What the server keeps for the slot, and whether it may stop to."""
    query = "SELECT (pg_catalog.pg_current_wal_lsn() - '0/0'::pg_catalog.pg_lsn)::int8"
    slot = find(session, name)
    if slot is None or slot.restart is None or slot.status == "lost":
        return Lag(0, f"the slot {name} is lost: the table is scanned anew")
    kept = int(one(session, query)) - slot.restart
    worry = f"the slot {name} holds more than it may, and is lost at the next checkpoint" if _ends(slot) else ""
    return Lag(max(kept, 0), worry)


def _ends(slot: Slot) -> bool:
    return slot.status == "unreserved"


def demand_possible(session: Session) -> None:
    """Raise ConfigError, with what to run, where this server or role cannot have a slot."""
    if session.server_version < VERSION_MIN:
        raise ConfigError(
            f"postgresql: changes are not followed on version {session.server_version // 10_000}",
            next_step="use 14 or later, or leave changes out for this dataset",
        )
    if one(session, "SELECT pg_catalog.pg_is_in_recovery()"):
        raise ConfigError(
            "postgresql: a standby does not hand out changes", next_step="connect to the primary, or leave changes out"
        )
    if (level := one(session, "SELECT pg_catalog.current_setting('wal_level')")) != "logical":
        raise ConfigError(
            f"postgresql: wal_level is {level}, so changes cannot be followed",
            next_step="ALTER SYSTEM SET wal_level = 'logical' and a restart, or leave changes out for this dataset",
        )
