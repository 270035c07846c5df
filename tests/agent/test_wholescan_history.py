"""Whatever is done to a table between the kills of a scan, the index that it ends in is the one that a scan makes."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from agent.scan_case import Killed, sweep_of
from agent.warm_case import probe_of
from connectors.pg_case import PgCase
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from servers.postgresql import PostgresqlServer

from edge_agent.build import build_index
from edge_agent.executors import SerialExecutor
from paritree.core.messages import Freshness

pytestmark = pytest.mark.servers
IDS = st.integers(1, 36)
WRITES = st.one_of(
    st.tuples(st.just("UPDATE orders SET v = repeat('{}', 1500) WHERE id >= %s"), IDS),
    st.tuples(st.just("UPDATE orders SET v = '{}' WHERE id <= %s"), IDS),
    st.tuples(st.just("UPDATE orders SET id = 100 + id WHERE id = %s"), IDS),
    st.tuples(st.just("DELETE FROM orders WHERE id %% 7 = %s %% 7"), IDS),
    st.tuples(st.just("INSERT INTO orders SELECT i, repeat('{}', 1500) FROM generate_series(%s, 30) i"
                      " ON CONFLICT DO NOTHING"), IDS),
)  # fmt: skip
REST = st.sampled_from(["VACUUM orders", "VACUUM orders", "VACUUM FULL orders", "TRUNCATE orders", "ANALYZE orders"])


class History(RuleBasedStateMachine):
    """A table of five rows a block, each block a shard, and an index whose scans are killed."""

    pg: PgCase
    monkeypatch: pytest.MonkeyPatch

    @initialize()
    def table(self) -> None:
        self.pg.run(
            "DROP TABLE IF EXISTS orders",
            "DO $$ DECLARE p text; BEGIN FOR p IN SELECT pubname FROM pg_publication LOOP"
            " EXECUTE format('DROP PUBLICATION %I', p); END LOOP; END $$",
            "CREATE TABLE orders (id bigint PRIMARY KEY, v text) WITH (autovacuum_enabled = off)",
            "ALTER TABLE orders ALTER v SET STORAGE PLAIN",
            "INSERT INTO orders SELECT i, repeat('x', 1500) FROM generate_series(1, 30) i",
            "ANALYZE orders",
        )
        self.folder = Path(tempfile.mkdtemp(prefix="paritree-scans-"))
        self.scan = Killed(self.pg, self.folder, self.monkeypatch)
        self.scan.copy = replace(self.scan.copy, shard_rows=5)
        self.colds = 0

    @rule(writes=st.lists(WRITES, min_size=1, max_size=3), letter=st.sampled_from("abc"))
    def write(self, writes: list[tuple[str, int]], letter: str) -> None:
        self.pg.run("BEGIN")
        for number, (statement, value) in enumerate(writes):
            self.pg.run(f"SAVEPOINT s{number}")
            try:
                self.pg.admin.execute(statement.format(letter), (value,))
            except Exception:  # noqa: BLE001 - two keys became one: as if it had not been tried
                self.pg.run(f"ROLLBACK TO s{number}")
        self.pg.run("COMMIT")

    @rule(statement=REST)
    def maintain(self, statement: str) -> None:
        self.pg.run(statement)

    @rule(until=st.integers(1, 5))
    def killed(self, until: int) -> None:
        self.stopped(until, rebuild=False)

    @rule(until=st.integers(1, 5))
    def killed_in_a_rebuild(self, until: int) -> None:
        self.stopped(until, rebuild=True)

    def stopped(self, until: int, *, rebuild: bool) -> None:
        """A process that goes on with the scan, or begins one, and is killed when so many shards were read, if any."""
        before = self.scan.finished
        whole = self.scan.killed(until, rebuild=rebuild)
        if not whole and not rebuild and before <= self.scan.finished:
            assert not before & set(self.scan.read)

    @rule()
    def background(self) -> None:
        with self.scan.opened() as index:
            index.keep_up()

    @rule(freshness=st.sampled_from([Freshness(None, rescan=True), Freshness(0.0, rescan=True)]))
    def sweep(self, freshness: Freshness) -> None:
        self.colds += 1
        with self.scan.opened() as index:
            built = sweep_of(index, self.folder, freshness)
            cold = build_index(self.scan.copy, SerialExecutor(), self.folder / f"cold-{self.colds}", lambda _: None)
            assert built.index.sums.root == cold.index.sums.root
            for one, other in zip(probe_of(built), probe_of(cold), strict=True):
                assert (one == other).all()
            assert built.index.duplicates() == 0
            assert built.faults == index._index.view().state.faults == ()

    def teardown(self) -> None:
        if not hasattr(self, "scan"):
            return
        try:
            self.sweep(Freshness(None, rescan=True))
        finally:
            with self.scan.opened() as index:
                index.forget()
            shutil.rmtree(self.folder)


def test_an_index_equals_its_rebuild_whatever_was_killed(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgresql.create_database("scans")
    pg = PgCase(postgresql, "scans")
    monkeypatch.setattr(History, "pg", pg, raising=False)
    monkeypatch.setattr(History, "monkeypatch", monkeypatch, raising=False)
    try:
        run_state_machine_as_test(
            History,
            settings=settings(
                max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        pg.close()
