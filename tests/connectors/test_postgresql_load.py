"""The load of a server as others make it: active sessions, replicas that are behind, and roles that see neither."""

from __future__ import annotations

import threading
import time

import psycopg
import pytest
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from paritree.core.errors import ConfigError

pytestmark = pytest.mark.servers
WAIT_S = 60.0


@pytest.fixture
def filled(pg: PgCase) -> PgCase:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)")
    return pg


def test_the_load_of_a_server_is_seen(filled: PgCase) -> None:
    assert filled.connector.load(None, None) == ""
    assert filled.connector.load(0.0, 0) == ""
    with filled.session() as other:

        def sleep() -> None:
            with pytest.raises(psycopg.errors.QueryCanceled):
                other.execute("SELECT pg_sleep(600)")

        busy = threading.Thread(target=sleep)
        busy.start()
        try:
            while not (reason := filled.connector.load(None, 0)):
                assert busy.is_alive()
            assert reason == "1 backends are active, more than 0"
            assert filled.connector.load(None, 1) == ""
        finally:
            other.cancel()
            busy.join(20)
    assert not busy.is_alive()


def test_a_role_that_cannot_see_the_load_is_told_so(filled: PgCase) -> None:
    role = filled.role("blind", "GRANT SELECT ON t")
    with pytest.raises(ConfigError, match="cannot see replication and other sessions") as caught:
        filled.connect(role).load(1.0, None)
    assert caught.value.next_step.startswith(f'GRANT pg_read_all_stats TO "{role}"')
    filled.run(f"GRANT pg_read_all_stats TO {role}")
    assert filled.connect(role).load(1.0, None) == ""


def test_a_replica_that_is_behind_is_seen_from_both_sides(filled: PgCase) -> None:
    """Replay is paused on a real standby: its own lag grows, and so does what the primary knows of it."""
    standby = PostgresqlServer()
    try:
        standby.start_as_standby_of(filled.server)
        replica = Source(standby.url(filled.database))
        with PostgresqlConnector.connect(replica) as connector, standby.connect(filled.database) as admin:
            assert connector.load(3_600, None) == ""
            admin.execute("SELECT pg_wal_replay_pause()")
            deadline = time.monotonic() + WAIT_S
            seen = ["", ""]
            while not all(seen):
                assert time.monotonic() < deadline, seen
                filled.run("INSERT INTO t SELECT COALESCE(max(id), 0) + 1 FROM t")
                time.sleep(0.2)
                seen = [seen[0] or connector.load(1.0, None), seen[1] or filled.connector.load(1.0, None)]
            assert all("s behind, more than 1 s" in reason for reason in seen)
            admin.execute("SELECT pg_wal_replay_resume()")
            while connector.load(1.0, None):
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        standby.remove()
