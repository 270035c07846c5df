"""One exported snapshot over all shards, and the locks without which it would not hold."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from connectors.pg_case import PgCase, rows
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.contract import Source
from edge_agent.connectors.postgresql import PostgresqlConnector, shards
from edge_agent.connectors.postgresql.relation import Relation, physical_parts
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers

COUNT = 5_000
FILL = f"INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {COUNT}) AS n"


@pytest.fixture
def filled(pg: PgCase) -> PgCase:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)", FILL, "ANALYZE t")
    return pg


def ids(found: list[dict[str, object]]) -> list[object]:
    return sorted(row["id"] for row in found)  # type: ignore[type-var]


REWRITES = [
    "TRUNCATE t",
    "VACUUM FULL t",
    "CLUSTER t USING t_pkey",
    "DROP TABLE t",
    "ALTER TABLE t ALTER v TYPE bytea USING ''",
]


def test_a_snapshot_without_the_lock_would_show_an_empty_table(filled: PgCase) -> None:
    """The failure that the lock prevents, on the server as it is."""
    with filled.session() as holder, filled.session() as reader:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = holder.execute("SELECT pg_export_snapshot()").fetchone()
        assert snapshot is not None
        filled.run("TRUNCATE t")
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        reader.execute(f"SET TRANSACTION SNAPSHOT '{snapshot[0]}'")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("statement", REWRITES)
def test_rewriting_waits_until_the_plan_is_closed(filled: PgCase, statement: str) -> None:
    binding = filled.bind("t")
    with filled.connector.plan(binding, 1_000) as plan, filled.session() as other:
        assert len(plan.shards) > 3
        other.execute("SET lock_timeout = '100ms'")
        found = []
        for shard in plan.shards:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(statement)
            found += rows(filled.connector.scan(binding, shard))
        assert ids(found) == list(range(1, COUNT + 1))
    with filled.session() as other:
        other.execute(statement)


@pytest.mark.parametrize(
    "statement", ["TRUNCATE low", "TRUNCATE t", "ALTER TABLE t DETACH PARTITION low", "DROP TABLE low"]
)
def test_partitions_are_locked_too(pg: PgCase, statement: str) -> None:
    partitioned(pg)
    binding = pg.bind("t")
    with pg.connector.plan(binding, 1_000) as plan, pg.session() as other:
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(statement)
        assert len(pg.scan_plan(binding, plan)) == COUNT


def partitioned(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (2000)",
        "CREATE TABLE high PARTITION OF t FOR VALUES FROM (2000) TO (10000)",
        FILL,
        "ANALYZE t",
    )


def test_writes_during_the_scan_are_not_seen_at_all(filled: PgCase) -> None:
    binding = filled.bind("t")
    with filled.connector.plan(binding, 1_000) as plan:
        before = rows(filled.connector.scan(binding, plan.shards[0]))
        filled.run(
            "UPDATE t SET v = 'moved to another block'",
            "DELETE FROM t WHERE id % 2 = 0",
            "INSERT INTO t SELECT n, repeat('y', 2000) FROM generate_series(100001, 104000) AS n",
            "UPDATE t SET id = id + 1000000 WHERE id % 3 = 0",
        )
        found = before + [row for shard in plan.shards[1:] for row in rows(filled.connector.scan(binding, shard))]
    assert ids(found) == list(range(1, COUNT + 1))
    assert {row["v"] for row in found} == {"x" * 100}


def test_what_committed_before_the_snapshot_is_seen_wherever_it_lies(
    filled: PgCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size is read after the snapshot: rows added just before it lie in blocks of some shard."""
    late = "INSERT INTO t SELECT n, 'late' FROM generate_series(100001, 102000) AS n"
    once = iter([late])

    def and_write(session: Session, relation: Relation) -> list[Relation]:
        for statement in once:  # the first call is the one before the lock
            filled.run(statement)
        return physical_parts(session, relation)

    monkeypatch.setattr(shards, "physical_parts", and_write)
    assert len(filled.scan(filled.bind("t"))) == COUNT + 2_000


def test_the_last_range_is_open(filled: PgCase) -> None:
    with filled.connector.plan(filled.bind("t"), 1_000) as plan:
        pieces = [piece for shard in plan.shards for piece in shard.range["pieces"]]
    assert [piece["first"] for piece in pieces] == [0, *(piece["last"] for piece in pieces[:-1])]
    assert "last" not in pieces[-1]


def test_a_partition_attached_after_the_plan_is_not_seen(pg: PgCase) -> None:
    partitioned(pg)
    pg.run(
        "CREATE TABLE more (id int PRIMARY KEY, v text)",
        "INSERT INTO more SELECT n, '' FROM generate_series(20000, 20099) n",
    )
    binding = pg.bind("t")
    with pg.connector.plan(binding, 1_000) as plan:
        pg.run("ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (20000) TO (30000)")
        assert len(pg.scan_plan(binding, plan)) == COUNT
    assert len(pg.scan(binding)) == COUNT + 100


def test_a_partition_attached_before_the_lock_is_locked_and_seen(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    partitioned(pg)
    pg.run(
        "CREATE TABLE more (id int PRIMARY KEY, v text)",
        "INSERT INTO more SELECT n, '' FROM generate_series(20000, 20099) n",
    )
    binding = pg.bind("t")
    once = iter(["ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (20000) TO (30000)"])

    def and_attach(session: Session, relation: Relation) -> list[Relation]:
        parts = physical_parts(session, relation)
        for statement in once:
            pg.run(statement)
        return parts

    monkeypatch.setattr(shards, "physical_parts", and_attach)
    with pg.connector.plan(binding, 1_000) as plan, pg.session() as other:
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("TRUNCATE more")
        assert len(pg.scan_plan(binding, plan)) == COUNT + 100


def test_partitions_that_keep_changing_end_in_an_error(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    partitioned(pg)
    lists = iter(range(1_000))

    def changing(session: Session, relation: Relation) -> list[Relation]:
        return physical_parts(session, relation)[next(lists) % 2 :]

    monkeypatch.setattr(shards, "physical_parts", changing)
    with pytest.raises(SourceError, match="keep changing") as error:
        pg.connector.plan(pg.bind("t"), 1_000)
    assert error.value.retryable


def test_shards_can_be_scanned_from_another_connector(filled: PgCase) -> None:
    binding = filled.bind("t")
    other = filled.connect()
    with filled.connector.plan(binding, 1_000) as plan:
        shards_sent = pickle.loads(pickle.dumps(plan.shards))
        filled.run("DELETE FROM t")
        found = [row for shard in shards_sent for row in rows(other.scan(binding, shard))]
    assert ids(found) == list(range(1, COUNT + 1))


def test_a_closed_plan_is_said_to_be_gone(filled: PgCase) -> None:
    binding = filled.bind("t")
    plan = filled.connector.plan(binding, 1_000)
    plan.close()
    plan.close()
    assert filled.in_transaction() == 0
    with pytest.raises(SourceError, match="no longer valid") as error:
        rows(filled.connector.scan(binding, plan.shards[0]))
    assert error.value.next_step == "plan the scan again"
    assert not error.value.retryable


def test_a_plan_whose_backend_was_ended_is_said_to_be_gone(filled: PgCase) -> None:
    binding = filled.bind("t")
    with filled.connector.plan(binding, 1_000) as plan:
        filled.run("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE state = 'idle in transaction'")
        with pytest.raises(SourceError, match="no longer valid"):
            rows(filled.connector.scan(binding, plan.shards[0]))


def test_position(filled: PgCase) -> None:
    with filled.connector.plan(filled.bind("t"), 1_000) as plan:
        position = plan.position()
    assert re.fullmatch(r"pg:snapshot=\d+:\d+:[\d,]* lsn=[0-9A-F]+/[0-9A-F]+", position.text)
    assert position.point


def test_the_plan_outlives_the_roles_idle_timeout(filled: PgCase) -> None:
    role = filled.role("sleepy", "GRANT SELECT ON t")
    filled.run(f"ALTER ROLE {role} SET idle_in_transaction_session_timeout = '50ms'")
    connector, binding = filled.connect(role), filled.bind("t")
    with connector.plan(binding, 1_000) as plan:
        time.sleep(0.3)
        assert len(filled.scan_plan(binding, plan, connector)) == COUNT


@contextmanager
def waiting(pg: PgCase, statement: str) -> Iterator[None]:
    """Run a statement in another session, which has to wait for a lock during the block."""
    with pg.session() as other:
        thread = threading.Thread(target=other.execute, args=(statement,))
        thread.start()
        deadline = time.monotonic() + 60
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while pg.admin.execute(query).fetchone() == (0,) and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
        thread.join(60)
        assert not thread.is_alive()


def test_a_waiting_alter_table_ends_the_scan_instead_of_waiting_for_ever(filled: PgCase) -> None:
    """It waits for the plan, and new readers queue behind it: without a limit all three would wait for each other."""
    connector, binding = filled.connect(lock_timeout_ms="200"), filled.bind("t")
    plan = connector.plan(binding, 1_000)
    with waiting(filled, "ALTER TABLE t ADD COLUMN w int"):
        with pytest.raises(SourceError, match="lock timeout") as error:
            rows(connector.scan(binding, plan.shards[0]))
        assert error.value.retryable
        assert "another session" in error.value.next_step
        plan.close()


def test_a_locked_table_ends_the_plan(filled: PgCase) -> None:
    connector, binding = filled.connect(lock_timeout_ms="200"), filled.bind("t")
    with filled.session() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(SourceError, match="lock timeout"):
            connector.plan(binding, 1_000)


def test_a_table_put_in_the_place_of_the_planned_one_is_noticed(pg: PgCase) -> None:
    pg.run("CREATE SCHEMA a", "CREATE TABLE a.t (id int PRIMARY KEY)", "INSERT INTO a.t VALUES (1)")
    binding = pg.bind("a.t")
    with pg.connector.plan(binding, 1_000) as plan:
        pg.run("ALTER SCHEMA a RENAME TO b", "CREATE SCHEMA a", "CREATE TABLE a.t (id int PRIMARY KEY)")
        with pytest.raises(SourceError, match="no longer the table"):
            rows(pg.connector.scan(binding, plan.shards[0]))


def test_an_abandoned_scan_leaves_nothing_behind(filled: PgCase) -> None:
    filled.run("INSERT INTO t SELECT n, repeat('z', 500) FROM generate_series(10000, 60000) AS n")
    binding = filled.bind("t")
    with filled.connector.plan(binding, 1_000_000) as plan:
        scan = filled.connector.scan(binding, plan.shards[0])
        next(scan)
        scan.close()  # type: ignore[attr-defined]
        assert len(filled.scan_plan(binding, plan)) == COUNT + 50_001
    deadline = time.monotonic() + 60
    active = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'paritree' AND state <> 'idle' AND datname = current_database()"
    )
    while filled.admin.execute(active).fetchone() != (0,):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_hot_standby_can_be_scanned(filled: PgCase) -> None:
    standby = PostgresqlServer()
    try:
        standby.start_as_standby_of(filled.server)
        with PostgresqlConnector.connect(Source(standby.url(filled.database))) as connector:
            binding = filled.bind("t")
            with connector.plan(binding, 1_000) as plan:
                assert len(plan.shards) > 3
                assert re.search(r" lsn=[0-9A-F]+/[0-9A-F]+$", plan.position().text)
                filled.run("DELETE FROM t")
                assert ids(filled.scan_plan(binding, plan, connector)) == list(range(1, COUNT + 1))
            assert rows(connector.lookup(binding, [(COUNT + 1,)])) == []
    finally:
        standby.remove()


@pytest.mark.parametrize("buffer_bytes", range(64, 76))
def test_the_end_is_found_wherever_it_falls_in_the_buffer(
    pg: PgCase, buffer_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last message may arrive in two reads; waiting for more after it would be waiting for ever."""
    monkeypatch.setattr("edge_agent.connectors.postgresql.tuples.BUFFER_BYTES", buffer_bytes)
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 30)")
    assert len(pg.scan(pg.bind("t"), connector=pg.connect(statement_timeout_ms="30000"))) == 30
