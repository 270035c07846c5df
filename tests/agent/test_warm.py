"""An index that follows a PostgreSQL table through sweeps, restarts and whatever ends the following."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from agent.warm_case import Warm, scanned
from connectors.pg_case import PgCase
from connectors.pg_follow import Background
from indexed import reformatted
from servers.postgresql import PostgresqlServer

from edge_agent.build import build_index
from edge_agent.connectors.postgresql import slot
from edge_agent.executors import SerialExecutor
from edge_agent.letters.store import LetterStore
from edge_agent.letters.sweep import SchemaDrift, SweepLetters
from edge_agent.refresh import Refresher
from paritree.core.errors import ConfigError, SourceError
from paritree.core.messages import Progress
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers


@pytest.fixture
def warm(postgresql: PostgresqlServer, tmp_path: Path) -> Iterator[Warm]:
    """A table of 500 rows and a warm index of it, which was not built yet."""
    postgresql.create_database("warm")
    pg = PgCase(postgresql, "warm")
    pg.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2))",
        "INSERT INTO orders SELECT i, 'c' || i, i / 4.0 FROM generate_series(1, 500) AS i",
    )
    with ExitStack() as closing:
        closing.callback(pg.close)
        case = Warm(pg, tmp_path, pg.bind("orders"))
        closing.callback(case.close)
        yield case


def test_only_the_first_sweep_scans(warm: Warm) -> None:
    assert scanned(warm.check())
    built = warm.check()
    assert not scanned(built)
    assert built.position.point, "nothing was read again: it is the table at that position"
    warm.pg.run(
        "UPDATE orders SET code = 'x' WHERE id <= 10",
        "DELETE FROM orders WHERE id = 11",
        "UPDATE orders SET id = 1000 WHERE id = 12",
        "INSERT INTO orders VALUES (2000, 'new', 1)",
    )
    built = warm.check()
    assert not scanned(built)
    assert not built.position.point
    assert "13 changes of 14 keys" in built.notes[-1]
    assert not scanned(warm.check())


def test_a_restarted_agent_goes_on_where_the_index_is(warm: Warm) -> None:
    warm.built()
    warm.pg.run("UPDATE orders SET code = 'a' WHERE id = 1")
    warm.built()
    warm.pg.run("UPDATE orders SET code = 'b' WHERE id = 2")
    warm.index.close()
    warm.index = warm.opened()
    built = warm.check()
    assert not scanned(built)
    assert "1 changes" in built.notes[-1]


def test_an_agent_that_ends_before_it_acknowledges_is_told_again(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    warm.built()
    warm.pg.run("DELETE FROM orders WHERE id < 5")

    def killed(*_: object) -> None:
        raise SourceError("the agent ends here")

    with monkeypatch.context() as patched:
        patched.setattr(slot, "advance", killed)
        with pytest.raises(SourceError, match="ends here"):
            warm.built()
    with monkeypatch.context() as patched:
        patched.setattr(Refresher, "_take_over", killed)
        with pytest.raises(SourceError, match="ends here"):
            warm.built()
    warm.index.close()
    warm.index = warm.opened()
    assert not scanned(warm.check())


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        (["TRUNCATE orders", "INSERT INTO orders VALUES (1, 'new', 1)"], "emptied"),
        (["ALTER TABLE orders ALTER code TYPE text USING upper(code)"], "written anew"),
        (["SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'warm'"], "is gone"),
    ],
)
def test_what_ends_the_following_is_scanned_and_said(warm: Warm, statements: list[str], why: str) -> None:
    warm.built()
    warm.pg.run(*statements)
    built = warm.check()
    assert scanned(built)
    assert why in built.notes[-1]
    assert not scanned(warm.check())


def test_an_index_of_another_format_is_not_used_and_said(warm: Warm) -> None:
    warm.built()
    warm.index.close()
    reformatted(warm.folder / "index", 2)
    warm.index = warm.opened()
    built = warm.check()
    assert scanned(built)
    assert "it has format 2, which this version does not read" in built.notes[-1]
    assert not scanned(warm.check())


def test_a_table_that_cannot_be_followed_is_scanned_every_time(warm: Warm) -> None:
    warm.pg.run("ALTER TABLE orders REPLICA IDENTITY NOTHING")
    for _ in range(2):
        built = warm.check()
        assert scanned(built)
        assert "changes are not followed: " in built.notes[-1]
        assert "ALTER TABLE public.orders REPLICA IDENTITY USING INDEX orders_pkey" in built.notes[-1]
    warm.pg.run("ALTER TABLE orders REPLICA IDENTITY DEFAULT")
    warm.check()
    assert not scanned(warm.check())


def test_an_open_transaction_keeps_the_following_from_beginning(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    other = warm.pg.session()
    other.execute("BEGIN; UPDATE orders SET code = 'open' WHERE id = 1")
    with monkeypatch.context() as patched:
        patched.setattr(slot, "START_S_MAX", 0.3)
        built = warm.built()
    assert "changes are not followed yet" in built.notes[-1]
    assert f"process {other.info.backend_pid}" in built.notes[-1]
    other.execute("COMMIT")
    other.close()
    warm.check()
    assert not scanned(warm.check())


def test_a_scan_that_fails_leaves_no_slot(warm: Warm) -> None:
    def cancelled(_: Progress) -> None:
        raise SourceError("nobody wants it any more")

    letters = SweepLetters(None, warm.copy.profile, warm.copy.keys, "")
    with pytest.raises(SourceError, match="nobody wants"):
        warm.index.built(SerialExecutor, warm.folder / "sweep", cancelled, letters)
    slots = "SELECT FROM pg_replication_slots WHERE database = current_database()"
    assert warm.pg.admin.execute(slots).fetchall() == []
    assert scanned(warm.check())


def test_a_table_that_became_another_is_not_compared(warm: Warm) -> None:
    """As a scan says it, so does a refresh: what was declared is no longer what is there."""
    store = LetterStore(warm.folder / "letters.db", "eu")
    letters = SweepLetters(store, warm.copy.profile, warm.copy.keys, "s1")
    warm.index.built(SerialExecutor, warm.folder / "sweep", lambda _: None, letters)
    warm.pg.run("ALTER TABLE orders ADD COLUMN more text DEFAULT 'x'")
    with pytest.raises(SchemaDrift) as refreshed:
        warm.index.built(SerialExecutor, warm.folder / "sweep", lambda _: None, letters)
    with pytest.raises(SchemaDrift) as scanned_anew:
        build_index(warm.copy, SerialExecutor(), warm.folder / "cold", lambda _: None, letters)
    assert refreshed.value.message == scanned_anew.value.message


def test_the_background_keeps_up_and_a_sweep_finds_little_to_do(warm: Warm) -> None:
    warm.index.keep_up()
    warm.built()
    warm.pg.run("SET synchronous_commit = on", "UPDATE orders SET code = 'x' WHERE id <= 100")
    assert warm.index.keep_up() >= warm.index.interval_s
    built = warm.check()
    assert "0 changes" in built.notes[-1]
    warm.pg.run("TRUNCATE orders")
    warm.index.keep_up()
    assert scanned(warm.check())


def test_a_sweep_beside_writers_sees_what_was_committed_before_it(warm: Warm) -> None:
    warm.built()
    stop = False

    def write(session: psycopg.Connection) -> None:
        number = 0
        while not stop:
            number += 1
            session.execute(f"UPDATE orders SET amount = {number} WHERE id = {1 + number % 50}")

    writing = Background(warm.pg, write)
    try:
        for turn in range(3):
            warm.pg.run(
                f"SET synchronous_commit = off; UPDATE orders SET code = 'turn {turn}' WHERE id BETWEEN 400 AND 410"
            )
            assert not scanned(warm.built())
            warm.index.keep_up()
    finally:
        stop = True
        writing.join()
    assert not scanned(warm.check())


def test_keys_that_a_rule_makes_one_are_kept_apart(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    """``casefold`` on the key: two rows of the table are one key here, and a change of one leaves the other."""
    postgresql.create_database("ruled")
    pg = PgCase(postgresql, "ruled")
    pg.run(
        "CREATE TABLE names (name text PRIMARY KEY, v int)",
        "INSERT INTO names VALUES ('Ab', 1), ('aB', 2), ('c', 3)",
    )
    kind = parse_type({"type": "text", "rules": ["casefold"]})
    case = Warm(pg, tmp_path, pg.bind("names", types={"name": kind}))
    try:
        case.check()
        pg.run("UPDATE names SET v = 5 WHERE name = 'Ab'", "INSERT INTO names VALUES ('AB', 7)")
        assert not scanned(case.check())
        pg.run("DELETE FROM names WHERE name = 'aB'", "UPDATE names SET name = 'C' WHERE name = 'c'")
        assert not scanned(case.check())
    finally:
        case.close()
        pg.close()


def test_dead_letters_come_and_go_with_changes(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    postgresql.create_database("letters")
    pg = PgCase(postgresql, "letters")
    pg.run("CREATE TABLE docs (id int PRIMARY KEY, doc json)", "INSERT INTO docs VALUES (1, '1'), (2, '2'), (3, '3')")
    case = Warm(pg, tmp_path, pg.bind("docs"))
    try:
        case.built()
        pg.run("""UPDATE docs SET doc = '"\\u0000"' WHERE id < 3""")
        built = case.built()
        assert not scanned(built)
        assert (built.dead.keyed, sum(built.dead.reasons.values())) == (2, 2)
        pg.run("UPDATE docs SET doc = '4' WHERE id = 1", "DELETE FROM docs WHERE id = 2")
        assert case.check().dead.keyed == 0
    finally:
        case.close()
        pg.close()


def test_one_agent_has_the_index(warm: Warm) -> None:
    with pytest.raises(ConfigError, match="another process"):
        warm.opened()
