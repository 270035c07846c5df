"""When a change can be seen, and when the log tells of it: neither is early, nothing lies between the two."""

from __future__ import annotations

import time
from contextlib import ExitStack

import numpy as np
import psycopg
import pytest
from connectors.pg_case import PgCase
from connectors.pg_follow import Background, Follower, filled, following, settings, until

from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import slot
from edge_agent.connectors.postgresql.session import connect
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers


WAITING = "SELECT FROM pg_stat_activity"
AWAITED = "SELECT FROM pg_locks w JOIN pg_locks h ON w.transactionid = h.transactionid AND NOT w.granted"
MADE = "SELECT FROM pg_replication_slots"


def found(pg: PgCase, query: str) -> bool:
    """Whether a query has a row."""
    return pg.admin.execute(query).fetchone() is not None


def write_synchronously(session: psycopg.Connection, code: str) -> None:
    """A commit that waits for standbys."""
    session.execute("SET synchronous_commit = on")
    session.execute(f"UPDATE orders SET code = '{code}' WHERE id = 1")


def test_what_was_committed_asynchronously_is_flushed_before_anything_is_proven(pg: PgCase) -> None:
    filled(pg)
    with settings(pg, wal_writer_delay="10s"), following(pg, pg.bind("orders")) as follower:
        pg.run("CHECKPOINT")
        pg.run("SET synchronous_commit = off", "UPDATE orders SET code = 'async' WHERE id = 1")
        insert, flush = pg.admin.execute(
            "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8, (pg_current_wal_flush_lsn() - '0/0')::int8"
        ).fetchone() or (0, 0)
        assert flush < insert, "the commit is seen, and not on the disk"
        follower.refresh(proven=False)
        assert follower.changes == 0
        assert int(follower.mark.text.split("/")[1], 16) < insert & 0xFFFFFFFF, "no claim past what was flushed"
        follower.refresh(proven=True).check()
        assert follower.changes == 1


def test_a_change_that_is_logged_but_not_seen_is_waited_for(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that waits for a synchronous standby comes out of the slot long before anybody sees its rows."""
    filled(pg)
    nobody = settings(pg, synchronous_standby_names="nobody")
    with ExitStack() as last, following(pg, pg.bind("orders")) as follower, nobody:
        until(lambda: found(pg, "SELECT WHERE current_setting('synchronous_standby_names') = 'nobody'"))
        writing = Background(pg, lambda session: write_synchronously(session, "late"))
        last.callback(writing.session.close)
        until(lambda: found(pg, f"{WAITING} WHERE datname = current_database() AND wait_event = 'SyncRep'"))
        monkeypatch.setattr(slot.await_visible, "__defaults__", (0.2,))
        before = follower.mark
        with pytest.raises(SourceError, match="nobody sees them yet") as refused:
            follower.refresh()
        assert refused.value.retryable
        assert follower.mark == before
        pg.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        writing.join()
        follower.refresh().check()
        assert follower.held[1,][0]["code"] == "late"


def test_a_transaction_that_is_over_when_the_slot_begins_but_not_seen_yet_is_scanned(pg: PgCase) -> None:
    """The slot does not tell of it, as it committed before; a scan at once would not see it: nobody ever would.

    first ──┐ open when the slot is asked for
    second ─┼──┐ begun meanwhile, the slot waits for it too
    hidden  │  ├── commits while the slot waits, and then waits for a standby
    """
    filled(pg)
    first, second = pg.session(), pg.session()
    follower = Follower(pg, pg.bind("orders"))
    with settings(pg, synchronous_standby_names="nobody"):
        until(lambda: found(pg, "SELECT WHERE current_setting('synchronous_standby_names') = 'nobody'"))
        first.execute("SET synchronous_commit = off; BEGIN; UPDATE orders SET n = -1 WHERE id = 2")
        starting = Background(pg, lambda _: follower.start() and None)
        until(lambda: found(pg, f"{WAITING} WHERE wait_event = 'transactionid' AND query LIKE '%create_logical%'"))
        second.execute("SET synchronous_commit = off; BEGIN; UPDATE orders SET n = -1 WHERE id = 3")
        first.execute("COMMIT")
        until(lambda: found(pg, f"{AWAITED} WHERE h.granted AND h.pid = {second.info.backend_pid}"))
        hidden = Background(pg, lambda session: write_synchronously(session, "hidden"))
        until(lambda: found(pg, f"{WAITING} WHERE datname = current_database() AND wait_event = 'SyncRep'"))
        second.execute("COMMIT")
        until(lambda: found(pg, f"{MADE} WHERE confirmed_flush_lsn IS NOT NULL AND database = current_database()"))
        time.sleep(0.2)
        assert starting.running, "the scan waits for what the slot does not tell"
        pg.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        hidden.join()
        starting.join()
    first.close()
    second.close()
    try:
        follower.refresh().check()
        assert follower.held[1,][0]["code"] == "hidden"
    finally:
        follower.close()


def test_nothing_is_lost_between_the_scan_and_the_stream(pg: PgCase) -> None:
    """A session writes all the time while a follower starts, again and again."""
    filled(pg, 200)
    stop = False

    def write(session: psycopg.Connection) -> None:
        rng = np.random.default_rng(7)
        number = 1_000
        while not stop:
            number += 1
            session.execute(f"INSERT INTO orders VALUES ({number}, 'new', 0)")
            session.execute(f"UPDATE orders SET n = n + 1 WHERE id = {rng.integers(1, 200)}")
            if number % 3 == 0:
                session.execute(f"DELETE FROM orders WHERE id = {rng.integers(1_000, number)}")

    writing = Background(pg, write)
    try:
        for _ in range(3):
            with following(pg, pg.bind("orders")) as follower:
                follower.refresh()
                follower.refresh(proven=False)
        with following(pg, pg.bind("orders")) as follower:
            follower.refresh()
            stop = True
            writing.join()
            follower.refresh().check()
    finally:
        stop = True
    assert len(follower.held) > 200


def test_a_transaction_number_that_wrapped_is_told_from_one_that_is_ahead(pg: PgCase) -> None:
    session = connect(Source(pg.server.url(pg.database)))
    with session.connection:
        high = int(slot.one(session, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text"))
        slot.await_visible(session, np.array([high - 1, (high - 5) % 2**32], np.uint32))
        with pytest.raises(SourceError, match="1 transactions"):
            slot.await_visible(session, np.array([high - 1, high + 1000], np.uint32), within_s=0.01)
