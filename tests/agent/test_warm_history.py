"""Whatever is done to a table and to its agent, the index that followed is the one that a scan makes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from agent.warm_case import Warm, scanned
from connectors.pg_case import PgCase
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.postgresql import changes, slot
from edge_agent.index.durable import DurableIndex
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers

IDS = st.integers(1, 12)
WRITES = st.one_of(
    st.tuples(
        st.just(
            "INSERT INTO orders VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET note = excluded.note, n = orders.n + 1"
        ),
        st.tuples(IDS, st.sampled_from(["", "a", "\u00e4\\'\"", "x" * 3000])),
    ),
    st.tuples(st.just("DELETE FROM orders WHERE id = %s"), st.tuples(IDS)),
    st.tuples(
        st.just("UPDATE orders SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM orders WHERE id = %s)"),
        st.tuples(IDS, IDS).map(lambda ids: (*ids, ids[0])),
    ),
    st.tuples(st.just("UPDATE orders SET n = n + 1 WHERE id >= %s"), st.tuples(IDS)),
)
TABLES = {
    "plain": "CREATE TABLE orders (id int PRIMARY KEY, note text, n int DEFAULT 0)",
    "full": "CREATE TABLE orders (id int PRIMARY KEY, note text, n int DEFAULT 0);"
    "ALTER TABLE orders REPLICA IDENTITY FULL",
    "partitioned": "CREATE TABLE orders (id int PRIMARY KEY, note text, n int DEFAULT 0) PARTITION BY RANGE (id);"
    "CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM (MINVALUE) TO (7);"
    "CREATE TABLE orders_2 PARTITION OF orders FOR VALUES FROM (7) TO (MAXVALUE)",
}


class History(RuleBasedStateMachine):
    """Statements of an application, events of an agent's life, and sweeps that are checked."""

    pg: PgCase

    @initialize(kind=st.sampled_from(sorted(TABLES)))
    def table(self, kind: str) -> None:
        self.pg.run(
            # flushed at once, so that the background sees what was written; what is not is for sweeps, tested elsewhere
            "SET synchronous_commit = on",
            "DROP TABLE IF EXISTS orders",
            *TABLES[kind].split(";"),
            "INSERT INTO orders SELECT i, 'n' || i FROM generate_series(1, 9) AS i",
        )
        self.folder = Path(tempfile.mkdtemp(prefix="paritree-history-"))
        self.warm = Warm(self.pg, self.folder, self.pg.bind("orders"))
        self.emptied = ["orders", "orders_2"] if kind == "partitioned" else ["orders"]
        self.must_scan = True
        self.sweep()

    @rule(writes=st.lists(WRITES, min_size=1, max_size=4), how=st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
    def write(self, writes: list[tuple[str, tuple[Any, ...]]], how: str) -> None:
        self.pg.run("BEGIN")
        for number, (statement, params) in enumerate(writes):
            self.pg.run(f"SAVEPOINT s{number}")
            self.pg.admin.execute(statement, params)
        self.pg.run(*(["ROLLBACK TO s1", "COMMIT"] if len(writes) == 4 else [how]))

    @rule(which=st.integers(0, 7))
    def truncate(self, which: int) -> None:
        if which < 2:
            self.pg.run(f"TRUNCATE {self.emptied[-which]}")
            self.must_scan = True

    @rule(statement=st.sampled_from(["VACUUM FULL orders", "ALTER TABLE orders ADD COLUMN IF NOT EXISTS more int"]))
    def maintain(self, statement: str) -> None:
        self.pg.run(statement)
        self.must_scan = self.must_scan or ("VACUUM" in statement and len(self.emptied) > 1)

    @rule()
    def keep_up(self) -> None:
        self.warm.index.keep_up()

    @rule()
    def restart(self) -> None:
        self.warm.index.close()
        self.warm.index = self.warm.opened()

    @rule(where=st.sampled_from([(slot, "advance"), (DurableIndex, "apply"), (slot, "await_visible")]))
    def break_off(self, where: tuple[Any, str]) -> None:
        """A refresh that ends somewhere in the middle, then another process."""

        def ends(*_: object, **__: object) -> None:
            raise SourceError("the agent ends here")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(*where, ends)
            self.warm.index.keep_up()
        self.restart()

    @rule()
    def sweep(self) -> None:
        built = self.warm.check()
        assert self.must_scan or not scanned(built), built.notes
        self.must_scan = False

    @rule(writes=st.lists(WRITES, min_size=1, max_size=2))
    def write_and_sweep(self, writes: list[tuple[str, tuple[Any, ...]]]) -> None:
        self.write(writes, "COMMIT")
        self.sweep()

    def teardown(self) -> None:
        if not hasattr(self, "warm"):
            return
        try:
            self.sweep()
        finally:
            self.warm.close()
            shutil.rmtree(self.folder)


def test_an_index_equals_its_rebuild_after_any_history(
    postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PEEK_MESSAGES", 6)  # a backlog is read in many parts
    postgresql.create_database("history")
    pg = PgCase(postgresql, "history")
    monkeypatch.setattr(History, "pg", pg, raising=False)
    try:
        run_state_machine_as_test(
            History,
            settings=settings(
                max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
            ),
        )
    finally:
        pg.close()
