"""What a sweep does to the server beside reading: nothing that writers notice, and nothing for long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from connectors.pg_case import PgCase, Row, rows

from edge_agent.build import Built, Copy, build_index
from edge_agent.connections import UNBOUNDED
from edge_agent.connectors.contract import Shard, Source
from edge_agent.executors import Executor, SerialExecutor, ThreadExecutor
from edge_agent.pace import Throttle
from edge_agent.searching import search
from edge_agent.snapshots import PASSES_MAX, Snapshots
from paritree.core.digest import DatasetKeys
from paritree.core.display import key_values
from paritree.core.errors import SourceError
from paritree.core.messages import Progress
from paritree.core.profile import Binding, Profile

pytestmark = pytest.mark.servers

COUNT = 4_000
LIMIT_S = 10.0
KEYS = DatasetKeys.of(bytes(32), "t")


@pytest.fixture
def filled(pg: PgCase) -> PgCase:
    """Rows 1001 to 4000, with room in the first blocks: that is where new versions of rows go."""
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (autovacuum_enabled = off)",
        f"INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {COUNT}) AS n",
        "DELETE FROM t WHERE id <= 1000",
        "VACUUM ANALYZE t",
    )
    return pg


def test_a_held_plan_has_access_share_locks_only_and_blocks_no_write(filled: PgCase) -> None:
    binding = filled.bind("t")
    with filled.connector.plan(binding, 500) as plan, filled.session() as other:
        other.execute("SET lock_timeout = '200ms'")
        scan = filled.connector.scan(binding, plan.shards[-1])
        first = next(scan)
        locks = filled.admin.execute(
            "SELECT DISTINCT mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE locktype = 'relation' AND application_name = 'paritree' AND a.datname = current_database()"
        ).fetchall()
        assert locks == [("AccessShareLock",)]
        for statement in (
            "UPDATE t SET v = 'new' WHERE id % 3 = 0",
            "DELETE FROM t WHERE id % 7 = 0",
            "INSERT INTO t VALUES (100001, 'new')",
            "SELECT * FROM t FOR UPDATE",
            "VACUUM t",
            "CREATE INDEX ON t (v)",
            "ANALYZE t",
        ):
            other.execute(statement)
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("ALTER TABLE t ADD COLUMN w int")
        found = rows([first, *scan]) + [r for s in plan.shards[:-1] for r in rows(filled.connector.scan(binding, s))]
    assert sorted(r["id"] for r in found) == list(range(1_001, COUNT + 1))
    assert {r["v"] for r in found} == {"x" * 100}
    filled.run("ALTER TABLE t ADD COLUMN w int")


class Sweep:
    """Reads a table shard by shard on a clock that the test moves; ``between`` are run before the shard of a number."""

    def __init__(self, pg: PgCase, binding: Binding, between: dict[int, Callable[[], object]]) -> None:
        self.pg, self.binding, self.between = pg, binding, between
        self.now = 0.0
        self.read: dict[int, list[Row]] = {}
        self.snapshots: Snapshots[None] = Snapshots(pg.connector.plan(binding, 250), LIMIT_S, clock=lambda: self.now)

    def pass_time(self) -> None:
        self.now += LIMIT_S + 1

    def run(self) -> list[Row]:
        def before(_meanwhile: Callable[[], None]) -> None:
            self.between.pop(self.snapshots.given, lambda: None)()

        with self.snapshots:
            results = self.snapshots.results(
                SerialExecutor(), self._scan, lambda shard: shard, connections=UNBOUNDED, before=before
            )
            for _ in results:
                pass
        return [row for found in self.read.values() for row in found]

    def _scan(self, shard: Shard) -> None:
        assert shard.number not in self.read, "every run has a file of its own"
        self.read[shard.number] = rows(self.pg.connector.scan(self.binding, shard))


def in_order(*steps: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for step in steps:
            step()

    return run


def current(pg: PgCase) -> set[tuple[int, str]]:
    return set(pg.admin.execute("SELECT id, v FROM t").fetchall())


def versions(found: list[Row]) -> set[tuple[int, str]]:
    return {(row["id"], row["v"]) for row in found}


def test_one_snapshot_is_enough_where_the_limit_does_not_pass(filled: PgCase) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})
    assert len(sweep.run()) == COUNT - 1_000
    assert sweep.snapshots.passes == 1
    assert sweep.snapshots.note() == ""
    assert sweep.snapshots.position().point


def test_a_row_that_moves_to_where_was_read_already_is_found_all_the_same(filled: PgCase) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})
    shards = len(sweep.snapshots._plans[0].shards)
    assert shards >= 8
    update = lambda: filled.run("UPDATE t SET v = 'moved' WHERE id > 3500")  # noqa: E731
    sweep.between[shards // 2] = in_order(update, sweep.pass_time)
    found = sweep.run()
    first_pass = [row for number, read in sweep.read.items() if number < shards for row in read]
    missed = {(row_id, "moved") for row_id in range(3_501, COUNT + 1)} - versions(first_pass)
    assert len(missed) > 100, "the test needs rows that the first pass cannot see"
    assert current(filled) <= versions(found)
    assert sweep.snapshots.passes == 2
    assert not sweep.snapshots.position().point
    assert "read in 3 snapshots" in sweep.snapshots.note()
    again = [row for number, read in sweep.read.items() if number >= shards for row in read]
    assert {row["v"] for row in again} == {"moved"}, "only what changed is read again"


def test_what_a_subtransaction_wrote_is_found_too(filled: PgCase) -> None:
    """A snapshot does not list subtransactions: by its list alone their rows would look as if it had seen them."""
    with filled.session() as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO t VALUES (0, 'top')")
        writer.execute("SAVEPOINT s")
        writer.execute("UPDATE t SET v = 'moved' WHERE id > 3500")
        filled.run("CREATE TABLE other AS SELECT 1 AS n")  # a later transaction is over: the snapshot's end lies behind
        sweep = Sweep(filled, filled.bind("t"), {})
        shards = len(sweep.snapshots._plans[0].shards)
        sweep.between[shards // 2] = in_order(lambda: writer.execute("COMMIT"), sweep.pass_time)
        found = sweep.run()
    assert current(filled) <= versions(found)
    assert (0, "top") in versions(found)


def test_the_limit_may_pass_again_and_again(filled: PgCase) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})
    shards = len(sweep.snapshots._plans[0].shards)
    opened: list[int] = []

    def step(number: int) -> Callable[[], None]:
        def run() -> None:
            filled.run(f"UPDATE t SET v = 'step {number}' WHERE id % {shards} = {number}")
            opened.append(filled.in_transaction(1))
            sweep.pass_time()

        return run

    sweep.between = {number: step(number) for number in range(1, shards + 3)}  # some in the second pass too
    found = sweep.run()
    assert current(filled) <= versions(found)
    assert sweep.snapshots.passes == 3
    assert max(opened) == 1, "old snapshots are given up"
    assert filled.in_transaction() == 0


def test_a_table_that_cannot_be_read_in_time_is_an_error(filled: PgCase) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})
    shards = len(sweep.snapshots._plans[0].shards)
    sweep.between = dict.fromkeys(range(1, shards * PASSES_MAX + 1), sweep.pass_time)
    with pytest.raises(SourceError, match="could not be read in snapshots of 10 s") as caught:
        sweep.run()
    assert "snapshot_max_s" in caught.value.next_step
    assert filled.in_transaction() == 0


@pytest.mark.parametrize("statement", ["TRUNCATE t", "VACUUM FULL t", "CLUSTER t USING t_pkey", "DROP TABLE t"])
def test_nothing_rewrites_the_table_between_two_snapshots(filled: PgCase, statement: str) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})

    def refused() -> None:
        with filled.session() as other:
            other.execute("SET lock_timeout = '100ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute(statement)

    sweep.between = {2: in_order(refused, sweep.pass_time), 3: refused, 5: in_order(sweep.pass_time, refused)}
    assert len(versions(sweep.run())) == COUNT - 1_000
    filled.run(statement)


@pytest.mark.parametrize("statement", ["TRUNCATE t", "VACUUM FULL t"])
def test_a_rewritten_table_is_noticed_where_the_lock_was_lost(filled: PgCase, statement: str) -> None:
    sweep = Sweep(filled, filled.bind("t"), {})
    end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'paritree'"
    sweep.between[2] = in_order(lambda: filled.run(end, statement), sweep.pass_time)
    with pytest.raises(SourceError, match="was rewritten or truncated") as caught:
        sweep.run()
    assert caught.value.retryable
    assert caught.value.next_step == "sweep again"


def test_a_partition_attached_between_two_snapshots_is_noticed(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF t FOR VALUES FROM (0) TO (2000)",
        "CREATE TABLE more (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, 'x' FROM generate_series(1, 1999) AS n",
        "ANALYZE t",
    )
    sweep = Sweep(pg, pg.bind("t"), {})
    attach = lambda: pg.run("ALTER TABLE t ATTACH PARTITION more FOR VALUES FROM (2000) TO (9000)")  # noqa: E731
    sweep.between[1] = in_order(attach, sweep.pass_time)
    with pytest.raises(SourceError, match="has other partitions"):
        sweep.run()


def test_a_statement_that_waits_for_the_table_ends_the_sweep_in_time(filled: PgCase) -> None:
    """It waits for the old snapshot's lock, the new one for it: the sweep gives way."""
    connector, binding = filled.connect(lock_timeout_ms="200"), filled.bind("t")
    with Snapshots[None](connector.plan(binding, 500), None) as snapshots, filled.session() as other:
        waiting = threading.Thread(target=other.execute, args=("ALTER TABLE t ADD COLUMN w int",))
        waiting.start()
        while filled.admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
            assert waiting.is_alive()
        with pytest.raises(SourceError, match="lock timeout"):
            snapshots._renew()
        assert waiting.is_alive()
        snapshots.__exit__()
        waiting.join(20)
        assert not waiting.is_alive()


def test_views_are_read_by_key_and_need_no_second_pass(filled: PgCase) -> None:
    filled.run("CREATE VIEW seen AS SELECT * FROM t")
    sweep = Sweep(filled, filled.bind("seen", key=["id"]), {})
    assert len(sweep.snapshots._plans[0].shards) > 3
    sweep.between[2] = in_order(lambda: filled.run("UPDATE t SET v = 'new' WHERE id > 3000"), sweep.pass_time)
    found = sweep.run()
    assert sweep.snapshots.passes == 1
    assert len(sweep.snapshots._plans) == 2
    assert sorted(row["id"] for row in found) == list(range(1_001, COUNT + 1))


def copy_of(pg: PgCase, throttle: Throttle, shard_rows: int = 500) -> Copy:
    binding = pg.bind("t")
    profile = Profile("t", ("id",), {column.name: column.type for column in binding.columns})
    return Copy(Source(pg.server.url(pg.database)), profile, binding, KEYS, shard_rows, "plain", throttle)


def entries(copy: Copy, built: Built) -> list[tuple[int, bytes]]:
    """(id, row digest) of every entry of the index."""
    return [
        (key_values(run.locator(row), copy.profile)[0], run.row_digest(row))
        for run in built.index.runs
        for row in range(run.rows)
    ]


@contextmanager
def writing(pg: PgCase) -> Iterator[None]:
    """Somebody updates, inserts and deletes rows all the time."""
    ended = threading.Event()

    def write() -> None:
        with pg.session() as session:
            for number in range(1_000_000):
                # Fewer rows than may be read in the same time, so that what changed in one pass fits into the next.
                if ended.wait(0.02):
                    return
                session.execute(f"UPDATE t SET v = 'w{number}' WHERE id = {1_001 + number * 37 % 2_900}")
                session.execute(f"INSERT INTO t VALUES ({10_000 + number}, 'new')")
                session.execute(f"DELETE FROM t WHERE id = {10_000 + number - 5}")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(20)


@pytest.mark.parametrize("make", [SerialExecutor, lambda: ThreadExecutor(3)])
def test_an_index_built_past_the_limit_has_every_row(
    filled: PgCase, tmp_path: Path, make: Callable[[], Executor]
) -> None:
    """A real clock, real writers: every row that lived when the scan ended is in the index as it was then."""
    copy = copy_of(filled, Throttle(snapshot_max_s=4, max_rate_rows_s=400), shard_rows=200)
    with make() as executor, writing(filled):
        built = build_index(copy, executor, tmp_path / "past", lambda _: None)
    assert not built.position.point
    assert any("snapshots, none for longer than 4 s" in note for note in built.notes), built.notes
    assert any(note.startswith("throttled for") for note in built.notes)
    with SerialExecutor() as executor:
        after = build_index(copy_of(filled, Throttle()), executor, tmp_path / "after", lambda _: None)
    assert after.position.point
    assert after.notes == ()
    read = entries(copy, built)
    quiet = {entry for entry in entries(copy, after) if 3_900 < entry[0] < 10_000}
    assert len(quiet) == 100
    assert quiet <= set(read)
    assert {row_id for row_id, _ in entries(copy, after) if row_id <= COUNT} <= {row_id for row_id, _ in read}
    assert not list((tmp_path / "past").glob("*.partial"))


def test_searching_for_keys_keeps_to_the_limit_too(filled: PgCase, tmp_path: Path) -> None:
    copy = copy_of(filled, Throttle(snapshot_max_s=0.001))
    with SerialExecutor() as executor:
        built = build_index(copy_of(filled, Throttle()), executor, tmp_path, lambda _: None)
        run = built.index.runs[-1]
        key_digest = run.key_digests(0, run.rows)[0].tobytes()
        with pytest.raises(SourceError, match="raise snapshot_max_s") as caught:
            search(copy, executor, [key_digest])
        assert not caught.value.retryable
        found = search(copy_of(filled, Throttle(snapshot_max_s=60)), executor, [key_digest])
    assert [(match.key_digest, match.locator) for match in found] == [(key_digest, run.locator(0))]


def test_a_loaded_server_makes_the_scan_wait_and_then_go_on(filled: PgCase, tmp_path: Path) -> None:
    copy = copy_of(filled, Throttle(backends_active_max=0))
    told: list[Progress] = []
    with filled.session() as other:
        busy = threading.Thread(target=other.execute, args=("SELECT pg_sleep(6)",))
        busy.start()
        while not filled.connector.load(None, 0):
            assert busy.is_alive()
        with SerialExecutor() as executor:
            built = build_index(copy, executor, tmp_path, told.append)
        busy.join(60)
    assert built.waited.load_s >= 1
    assert built.index.sums.root.count == COUNT - 1_000
    assert told[1].rows == 0, "signs of life while it waits"


def test_the_time_that_the_server_took_is_measured(filled: PgCase) -> None:
    binding = filled.bind("t")
    slow = Binding("t", "t", binding.key, binding.columns, where="id <> 1001 OR pg_sleep(0.4) IS NULL")
    with filled.connector.plan(slow, 100_000) as plan:
        rows(filled.connector.scan(slow, plan.shards[0]))
    waited_s = filled.connector.waited_s
    assert waited_s is not None
    assert 0.4 <= waited_s < 20


def test_rows_are_chosen_by_writer_where_identifiers_wrap(filled: PgCase) -> None:
    """The range of 32-bit identifiers may begin just below 2^32 and end behind 0."""
    binding = filled.bind("t")
    row: Any = filled.admin.execute("SELECT xmin::text::bigint FROM t WHERE id = 2000").fetchone()
    with filled.connector.plan(binding, 100_000) as plan:
        (shard,) = plan.shards
        for first, width, count in [
            (row[0], 1, COUNT - 1_000),
            (row[0] + 1, 1 << 31, 0),
            ((row[0] - 10) % (1 << 32), 11, COUNT - 1_000),
            ((1 << 32) - 5, row[0] + 6, COUNT - 1_000),
            ((1 << 32) - 5, row[0] + 5, 0),
        ]:
            pieces = [{**p, "written_from": first, "written_width": width} for p in shard.range["pieces"]]
            part = Shard(0, "part", {**shard.range, "pieces": pieces})
            assert len(rows(filled.connector.scan(binding, part))) == count


def test_a_look_up_that_takes_too_long_is_given_up(filled: PgCase) -> None:
    binding = filled.bind("t")
    slow = Binding("t", "t", binding.key, binding.columns, where="pg_sleep(30) IS NOT NULL")
    connector = filled.connect(statement_timeout_ms="3000")
    with pytest.raises(SourceError, match="statement timeout") as caught:
        rows(connector.lookup(slow, [(2_000,)]))
    assert caught.value.retryable
    assert "raise statement_timeout_ms" in caught.value.next_step
    assert rows(connector.lookup(binding, [(2_000,)])) == [{"id": 2_000, "v": "x" * 100}]
