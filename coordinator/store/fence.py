"""Fencing: whoever takes the store gets a higher token, and no transaction of a lower one is committed any more.

A lock tells who may begin, but a process that was stopped, or cut off, may go on believing that it has the lock. So
each writing transaction reads the token under a row lock that the next coordinator's taking has to wait for: what was
committed before is seen by it, and nothing is committed after (Kleppmann, "How to do distributed locking", 2016).
Agents check the same token of every request.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from coordinator.store.errors import Fenced
from coordinator.store.tables import leases

_ONLY = 1
"""The id of the only row."""


def take(connection: sa.Connection, holder: str, now: datetime) -> int:
    """The next token, from now on the only valid one. Waits for transactions under the one before."""
    row = connection.execute(sa.select(leases.c.token).where(leases.c.id == _ONLY).with_for_update()).first()
    values = {"holder": holder, "taken_at": now, "renewed_at": _now(connection, now)}
    if row is None:
        connection.execute(sa.insert(leases).values(id=_ONLY, token=1, **values))
        return 1
    token = int(row[0]) + 1
    connection.execute(sa.update(leases).where(leases.c.id == _ONLY).values(token=token, **values))
    return token


def check(connection: sa.Connection, token: int) -> None:
    """Hold the token until the end of the transaction. Raises Fenced when it is not the newest."""
    query = sa.select(leases.c.token).where(leases.c.id == _ONLY).with_for_update(read=True)
    row = connection.execute(query).first()
    if row is None or row[0] != token:
        raise Fenced


def renew(connection: sa.Connection, token: int, now: datetime) -> None:
    """Say that the holder is alive. Raises Fenced when it is not the holder any more."""
    own = sa.update(leases).where(leases.c.id == _ONLY, leases.c.token == token)
    if connection.execute(own.values(renewed_at=_now(connection, now))).rowcount != 1:
        raise Fenced


def stale(connection: sa.Connection, lease_s: float) -> bool:
    """Whether the holder has not renewed for ``lease_s`` seconds by the server's clock. PostgreSQL only."""
    if not sa.inspect(connection).has_table(leases.name):
        return False  # the store of an older version, whose coordinators do not renew
    age = sa.func.clock_timestamp() - leases.c.renewed_at
    too_old = age > sa.func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    return bool(connection.scalar(sa.select(too_old).where(leases.c.id == _ONLY)))


def _now(connection: sa.Connection, now: datetime) -> Any:
    """The server's own clock where several machines may look at it."""
    return sa.func.clock_timestamp() if connection.dialect.name == "postgresql" else now
