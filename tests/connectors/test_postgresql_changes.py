"""Changes of a PostgreSQL table: what follows them is the table, whatever was done to it."""

from __future__ import annotations

import time
import uuid

import pytest
from connectors.pg_case import PgCase, bound
from connectors.pg_follow import following

from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.postgresql import changes
from edge_agent.connectors.postgresql.copy import SocketStream
from paritree.core.errors import ConfigError, InvariantBroken, SourceError

pytestmark = pytest.mark.servers


ENDED = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
"""Ends every other session of the database."""


def filled(pg: PgCase, count: int = 20, more: str = "") -> None:
    pg.run(
        f"CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2) {more})",
        f"INSERT INTO orders SELECT i, 'c' || i, i / 4.0 FROM generate_series(1, {count}) AS i",
    )


def test_every_kind_of_change_is_followed(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run(
            "INSERT INTO orders VALUES (100, 'new', 1)",
            "UPDATE orders SET amount = amount + 1 WHERE id IN (1, 2)",
            "DELETE FROM orders WHERE id = 3",
            "UPDATE orders SET id = 200 WHERE id = 4",
            "INSERT INTO orders VALUES (5, 'x', 2) ON CONFLICT (id) DO UPDATE SET code = excluded.code",
            "MERGE INTO orders USING (VALUES (6, 'm'), (300, 'm')) AS v (id, code) ON orders.id = v.id"
            " WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.code, 3)",
        )
        follower.refresh().check()
        assert follower.changes == 8
        follower.refresh().check()
        assert follower.changes == 0


def test_a_batch_says_when_its_changes_were_committed(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        began = time.time()
        pg.run("UPDATE orders SET code = 'x' WHERE id = 1")
        time.sleep(0.2)
        pg.run("UPDATE orders SET code = 'x' WHERE id = 2")
        batch = list(follower.source.changes(follower.mark, proven=True))[-1]
        assert batch.span_s is not None
        first_s, last_s = batch.span_s
        assert began - 0.1 <= first_s <= last_s - 0.15
        assert last_s <= time.time() + 0.1
        follower.refresh()
        assert list(follower.source.changes(follower.mark, proven=True))[-1].span_s is None


def test_what_was_rolled_back_is_not_told_and_what_was_released_is(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run("BEGIN", "UPDATE orders SET code = 'gone'", "ROLLBACK", "BEGIN")
        for number in range(1, 11):
            pg.run(f"SAVEPOINT s{number}", f"UPDATE orders SET code = 'sub' WHERE id = {number}")
            pg.run(f"ROLLBACK TO s{number}" if number % 2 else f"RELEASE s{number}")
        pg.run("COMMIT")
        follower.refresh().check()
        assert follower.changes == 5


def test_a_large_transaction_comes_in_batches(pg: PgCase) -> None:
    filled(pg, 20)
    with following(pg, pg.bind("orders"), keys_max=10_000) as follower:
        pg.run("INSERT INTO orders SELECT i, 'c' || i, 0 FROM generate_series(21, 20000) AS i")
        first = next(follower.source.changes(follower.mark, proven=True, keys_max=10_000))
        assert first.mark is None, "in the middle of a transaction nothing is reached"
        assert 10_000 <= first.keys.num_rows < 19_980
        follower.refresh().check()
        assert (follower.changes, follower.batches) == (19_980, 2)


def test_a_long_backlog_is_read_in_parts(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peek ends at the next transaction's end; each part has a mark, and the slot moves on with it."""
    monkeypatch.setattr(changes, "PEEK_MESSAGES", 10)
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        for number in range(1, 13):
            pg.run(f"UPDATE orders SET code = 'x' WHERE id IN ({number}, {number + 1})")
        mark = follower.mark
        batches = follower.source.changes(mark, proven=True)
        first = next(batches)
        assert first.mark is not None
        assert first.changes < 24
        with pytest.raises(InvariantBroken, match="acknowledged"):
            next(batches)
        batches = follower.source.changes(mark, proven=True)
        assert next(batches) == first
        follower.take(first)
        pg.run(ENDED)
        with pytest.raises(SourceError) as failed:
            next(batches)
        assert failed.value.retryable
        follower.refresh().check()
        assert (first.changes + follower.changes, follower.batches > 2) == (24, True)
        follower.refresh().check()
        assert follower.changes == 0


def test_open_transactions_are_told_once_they_end(pg: PgCase) -> None:
    filled(pg)
    other = pg.session()
    with following(pg, pg.bind("orders")) as follower:
        other.execute("BEGIN")
        other.execute("UPDATE orders SET code = 'open' WHERE id = 1")
        pg.run("UPDATE orders SET code = 'short' WHERE id = 2")
        follower.refresh().check()
        assert follower.changes == 1
        other.execute("COMMIT")
        follower.refresh().check()
        assert follower.changes == 1
    other.close()


def test_values_out_of_line_are_followed(pg: PgCase) -> None:
    """Unchanged values out of line are not in the log; keys out of line are sent as old keys."""
    pg.run(
        "CREATE TABLE wide (name text PRIMARY KEY, body text, n int)",
        "ALTER TABLE wide ALTER body SET STORAGE EXTERNAL, ALTER name SET STORAGE EXTERNAL",
        "INSERT INTO wide SELECT i || repeat('k', 2400), repeat('b', 9000 + i), i FROM generate_series(1, 5) AS i",
    )
    with following(pg, pg.bind("wide")) as follower:
        pg.run(
            "UPDATE wide SET n = n + 10 WHERE n IN (1, 2)",
            "UPDATE wide SET body = 'short' WHERE n = 3",
            "UPDATE wide SET name = 'z' || name WHERE n = 4",
            "DELETE FROM wide WHERE n = 5",
        )
        follower.refresh().check()
        assert follower.changes == 5


KEYED = {
    "composite": (
        "(tenant text, n int, v text, PRIMARY KEY (tenant, n))",
        [
            "('a b', 1, 'x')",
            "('q\"uo\\te', 2, 'x')",
            "('apos''trophe{},', 3, 'x')",
            "('', -4, 'x')",
            "('NULL', 5, 'x')",
        ],
    ),
    "uuid": ("(id uuid PRIMARY KEY, v text)", [f"('{uuid.UUID(int=n)}', 'x')" for n in range(5)]),
    "char": ("(id char(8) PRIMARY KEY, v text)", ["('a', 'x')", "('b''\"', 'x')"]),
    "varchar": ("(id varchar(9) PRIMARY KEY, v text)", ["('ä\\', 'x')", "('null', 'x')"]),
    "numeric": ("(id numeric PRIMARY KEY, v text)", ["(1.50, 'x')", "('NaN', 'x')", "(1e20, 'x')"]),
    "smallint": ("(id smallint PRIMARY KEY, v text)", ["(-1, 'x')", "(2, 'x')"]),
    "timestamp": (
        "(id timestamptz, d date, v text, PRIMARY KEY (id, d))",
        ["('2024-01-01 00:00:00.000001Z', 'infinity', 'x')", "('-infinity', '2024-02-29', 'x')"],
    ),
    "domain": ("(id positive PRIMARY KEY, v text)", ["(1, 'x')", "(2, 'x')"]),
    "odd names": ('("a ""b" int PRIMARY KEY, v text)', ["(1, 'x')", "(2, 'x')"]),
}


@pytest.mark.parametrize("kind", KEYED)
def test_keys_of_every_kind_are_followed(pg: PgCase, kind: str) -> None:
    columns, values = KEYED[kind]
    pg.run("CREATE DOMAIN positive AS bigint CHECK (VALUE > 0)", f"CREATE TABLE keyed {columns}")
    with following(pg, pg.bind("keyed")) as follower:
        pg.run(*(f"INSERT INTO keyed VALUES {value}" for value in values))
        follower.refresh().check()
        assert len(follower.held) == len(values)
        pg.run("UPDATE keyed SET v = 'y'")
        follower.refresh().check()
        pg.run("DELETE FROM keyed")
        follower.refresh().check()
        assert follower.held == {}


def test_a_computed_key_is_computed_by_the_server(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE parts (region text, n int, v text, PRIMARY KEY (region, n))",
        "INSERT INTO parts VALUES ('eu', 1, 'a'), ('us', 2, 'b')",
    )
    columns = (
        bound("key", "text", expression="upper(region) || '/' || n"),
        bound("fold", "text", parts=("region", "n"), joiner="-"),
        bound("site", "text", constant="here"),
        bound("v"),
    )
    with following(pg, pg.bind("parts", ("key", "fold", "site"), columns)) as follower:
        pg.run(
            "UPDATE parts SET v = 'c' WHERE n = 1",
            "DELETE FROM parts WHERE n = 2",
            "INSERT INTO parts VALUES ('a-b', 3, '')",
        )
        follower.refresh().check()
        assert set(follower.held) == {("EU/1", "eu-1", "here"), ("A-B/3", "a-b-3", "here")}


def test_a_key_that_computes_with_what_old_rows_lack_is_refused(pg: PgCase) -> None:
    filled(pg)
    binding = pg.bind("orders", ("key",), (bound("key", "text", expression="id || code"), bound("amount", "decimal")))
    with pytest.raises(ConfigError, match="code"), following(pg, binding):
        pass


def test_duplicates_of_a_declared_key_are_read_together(pg: PgCase) -> None:
    """The dataset's key need not be unique: what is replaced is all that the key has."""
    pg.run(
        "CREATE TABLE visits (id int PRIMARY KEY, who text NOT NULL, n int)",
        "INSERT INTO visits VALUES (1, 'a', 1), (2, 'a', 2), (3, 'b', 3)",
        "ALTER TABLE visits REPLICA IDENTITY FULL",
    )
    columns = (bound("who"), bound("n", "int"))
    with following(pg, pg.bind("visits", ("who",), columns)) as follower:
        pg.run("UPDATE visits SET n = 9 WHERE id = 1", "UPDATE visits SET who = 'b' WHERE id = 2")
        follower.refresh().check()
        assert len(follower.held["b",]) == 2


@pytest.mark.parametrize("identity", ["FULL", "USING INDEX by_code", "DEFAULT"])
def test_every_replica_identity_that_covers_the_key_will_do(pg: PgCase, identity: str) -> None:
    filled(pg, 6)
    pg.run(
        "ALTER TABLE orders ALTER code SET NOT NULL",
        "CREATE UNIQUE INDEX by_code ON orders (code, id)",
        f"ALTER TABLE orders REPLICA IDENTITY {identity}",
    )
    with following(pg, pg.bind("orders")) as follower:
        pg.run(
            "UPDATE orders SET code = 'k' || id WHERE id < 3",
            "UPDATE orders SET id = id + 50 WHERE id = 3",
            "DELETE FROM orders WHERE id = 4",
        )
        follower.refresh().check()


def test_a_row_with_null_in_its_key_ends_the_following(pg: PgCase) -> None:
    pg.run("CREATE TABLE loose (id int, v text)", "ALTER TABLE loose REPLICA IDENTITY FULL")
    with following(pg, pg.bind("loose", ("id",))) as follower:
        pg.run("INSERT INTO loose VALUES (1, 'a')")
        follower.refresh().check()
        pg.run("INSERT INTO loose VALUES (NULL, 'a')")
        with pytest.raises(RescanNeeded, match="NULL in its key"):
            follower.refresh()


def test_changes_come_over_encrypted_connections_too(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their bytes are not plain on the socket, so libpq hands them out."""
    monkeypatch.setattr(SocketStream, "possible", staticmethod(lambda _: False))
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run("UPDATE orders SET code = 'x' WHERE id < 9", "DELETE FROM orders WHERE id = 9")
        follower.refresh().check()
        assert follower.changes == 9


def test_applying_twice_is_applying_once(pg: PgCase) -> None:
    """An agent that ends between taking changes over and acknowledging them gets them again."""
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run("DELETE FROM orders WHERE id = 1", "UPDATE orders SET code = 'x' WHERE id = 2")
        before = follower.mark
        follower.refresh(acknowledge=False).check()
        follower.mark = before  # as if the index had not been written either
        pg.run("UPDATE orders SET code = 'y' WHERE id = 2")
        follower.refresh(acknowledge=False).check()
        assert follower.changes == 3
        follower.refresh().check()
        assert follower.changes == 0, "the mark was kept, so the slot goes on from it"


def test_nothing_is_left_behind(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        follower.source.stop()
        follower.source.stop()
    assert pg.admin.execute("SELECT FROM pg_replication_slots WHERE database = current_database()").fetchall() == []
    assert pg.admin.execute("SELECT FROM pg_publication").fetchall() == []


def test_sessions_that_were_ended_meanwhile_are_replaced(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run("UPDATE orders SET code = 'x'", ENDED)
        follower.refresh().check()
        assert follower.changes == 20
