"""What makes sweeps durable, on both engines: checkpoints, pause and cancel, breakers, and the fence around it all."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from coordinator.store import Answer, Fenced, NewSweep, Store, SweepRow, SweepState, Traffic
from coordinator.store import fence as fence_module
from coordinator.store.engine import make_engine
from paritree.core.breaker import Breaker, Circuit
from paritree.core.deadletters import LetterKind
from paritree.core.errors import ConfigError, InvariantBroken, SourceError
from paritree.core.watch import Events, Judged, Windows

if TYPE_CHECKING:
    from servers.postgresql import PostgresqlServer

Opened = Callable[..., Store]
REPORT = {"report": 1, "dataset": "orders", "verdict": "unknown"}
BEGIN = Answer("eu", 0, b"f" * 16, 1.5, (b"ready \x00\xff",))
LOST = Answer("us", 0, b"f" * 16, 1.75, lost="no answer", failed=True)
LISTS = Answer("eu", 1, b"g" * 16, 2.5, (b"a" * 2_000_000, b"", b"c"))


def begun(store: Store, number: int = 1) -> SweepRow:
    row, ours = store.begin(NewSweep(f"sweep-{number}", f"job-{number}", "orders", ("eu", "us")))
    assert ours
    return store.start(row.id)


def sweep(store: Store, sweep_id: str = "sweep-1") -> SweepRow:
    row = store.sweep(sweep_id)
    assert row is not None
    return row


def overtaken(url: str) -> None:
    """Another coordinator takes the store."""
    engine = make_engine(url)
    with engine.begin() as connection:
        fence_module.take(connection, "the other", datetime.now(UTC))
    engine.dispose()


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_answers_come_back_as_they_were_until_the_sweep_ends(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.checkpoint(row.id, [BEGIN], {"at_s": 1.5})
    store.checkpoint(row.id, [LOST, LISTS], {"at_s": 2.5, "bytes": {"eu": [1, 2]}})
    store.close()
    store = opened()
    assert store.answers(row.id) == [BEGIN, LISTS, LOST]
    assert sweep(store).checkpoint == {"at_s": 2.5, "bytes": {"eu": [1, 2]}}
    assert store.answers("another") == []
    store.finish(row.id, REPORT)
    assert store.answers(row.id) == []
    assert sweep(store).checkpoint is None


def test_a_round_is_kept_whole_or_not_at_all(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.checkpoint(row.id, [BEGIN], {"at_s": 1.5})
    with pytest.raises(InvariantBroken):
        store.checkpoint(row.id, [LISTS, BEGIN], {"at_s": 9.0})
    assert store.answers(row.id) == [BEGIN]
    assert sweep(store).checkpoint == {"at_s": 1.5}


def test_a_sweep_that_has_ended_takes_no_answers(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.finish(row.id, REPORT)
    with pytest.raises(InvariantBroken, match=r"is not open"):
        store.checkpoint(row.id, [BEGIN], {})
    assert store.answers(row.id) == []


def test_a_sweep_that_is_begun_anew_has_no_answers_of_before(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.checkpoint(row.id, [BEGIN], {"at_s": 1.5})
    store.fail(row.id, "why")
    assert store.answers(row.id) == []
    again = begun(store)
    assert (again.id, again.attempts, again.checkpoint) == (row.id, 2, None)


# --- pause, resume, cancel ------------------------------------------------------------------------------------------


def test_paused_a_sweep_keeps_its_answers_and_is_nobodys(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.checkpoint(row.id, [BEGIN], {"at_s": 1.5})
    assert store.pause(row.id, "ann")
    paused = sweep(store)
    assert (paused.state, paused.paused_by) == (SweepState.PAUSED, "ann")
    with pytest.raises(InvariantBroken, match=r"is not queued"):
        store.start(row.id)
    assert store.left_open() == []
    store.checkpoint(row.id, [LISTS], {"at_s": 2.5})  # what was on its way when it was paused
    assert store.begin(NewSweep("x", "job-1", "orders", ("eu", "us"))) == (sweep(store), False)
    assert store.resume(row.id)
    assert not store.resume(row.id)
    assert (sweep(store).state, sweep(store).resumed) == (SweepState.QUEUED, 1)
    assert store.start(row.id).state is SweepState.RUNNING
    assert store.answers(row.id) == [BEGIN, LISTS]


def test_cancelled_a_sweep_is_somebodys_until_it_has_a_report(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.pause(row.id, "ann")
    assert store.cancel(row.id, "bob")
    assert not store.pause(row.id, "ann")  # what is being cancelled does not rest
    assert [left.cancelled_by for left in store.left_open()] == ["bob"]
    store.start(row.id)
    store.finish(row.id, REPORT, cancelled=True)
    done = sweep(store)
    assert (done.state, done.cancelled_by, done.verdict) == (SweepState.CANCELLED, "bob", "unknown")
    for late in (store.cancel(row.id, "eve"), store.pause(row.id, "eve"), store.resume(row.id)):
        assert not late
    assert sweep(store).cancelled_by == "bob"


def test_a_sweep_that_was_complete_before_it_could_be_cancelled_is_finished(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.cancel(row.id, "bob")
    store.finish(row.id, REPORT)
    assert (sweep(store).state, sweep(store).cancelled_by) == (SweepState.FINISHED, None)


def test_a_sweep_is_found_by_its_job_id_too(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    assert sweep(store, "job-1").id == row.id
    store.begin(NewSweep("sweep-2", "sweep-1", "orders", ("eu", "us")))
    assert sweep(store, "sweep-1").id == "sweep-1"


# --- breakers -------------------------------------------------------------------------------------------------------


def test_breakers_survive_a_restart(opened: Opened) -> None:
    store = opened()
    broken = Breaker(Circuit.OPEN, 3, 1, 1_700_000_000.25, "no answer")
    store.set_breaker("eu", "orders", Breaker(failures=1, reason="x"))
    store.set_breaker("eu", "orders", broken)
    store.set_breaker("us", "orders", Breaker(failures=1, reason="y" * 5_000))
    store.set_breaker("us", "users", broken)
    store.set_breaker("us", "users", Breaker())
    store.close()
    assert opened().breakers() == {
        ("eu", "orders"): broken,
        ("us", "orders"): Breaker(failures=1, reason="y" * 2_000),
    }


# --- the fence ------------------------------------------------------------------------------------------------------


def test_every_coordinator_has_a_higher_token(opened: Opened) -> None:
    tokens = []
    for _ in range(3):
        store = opened()
        tokens.append(store.token)
        store.renew()
        store.close()
    assert tokens == [1, 2, 3]


WRITES: dict[str, Callable[[Store], Any]] = {
    "begin": lambda store: store.begin(NewSweep("new", "new", "orders", ("eu", "us"))),
    "start": lambda store: store.start("queued"),
    "requeue": lambda store: store.requeue("sweep-1"),
    "checkpoint": lambda store: store.checkpoint("sweep-1", [BEGIN], {}),
    "forget_answers": lambda store: store.forget_answers("sweep-1"),
    "finish": lambda store: store.finish("sweep-1", REPORT, [], [Traffic("eu", 0, "nodes", 1, 1)]),
    "fail": lambda store: store.fail("sweep-1", "why"),
    "pause": lambda store: store.pause("sweep-1", "ann"),
    "resume": lambda store: store.resume("paused"),
    "cancel": lambda store: store.cancel("sweep-1", "ann"),
    "agent_connected": lambda store: store.agent_connected("eu", "eu-1", "two"),
    "agent_gone": lambda store: store.agent_gone("eu", "eu-1", "one"),
    "set_breaker": lambda store: store.set_breaker("eu", "orders", Breaker(failures=1)),
    "replace_letters": lambda store: store.replace_letters("eu", "orders", [], 0),
    "note_own_letter": lambda store: store.note_own_letter(LetterKind.JOB, "orders", b"x", "why"),
    "end_own_letters": lambda store: store.end_own_letters(["A"]),
    "discard_own_letters": lambda store: store.discard_own_letters(["A"], "why"),
    "log_letter_act": lambda store: store.log_letter_act(
        operator="ann", action="discard", region="eu", dataset="orders", reason="why", ids=["A"]
    ),
    "renew": lambda store: store.renew(),
    "prove": lambda store: store.prove(),
    "note_events": lambda store: store.note_events("orders", "watch", Events({60: 1})),
    "open_window": lambda store: store.open_window("orders", "watch", Windows(60, 5), 1_000.0),
    "settle_window": lambda store: store.settle_window("orders", "watched", 60, Judged("equal", True), ["eu"], None),
}


def test_a_coordinator_that_was_overtaken_writes_nothing_any_more(opened: Opened, store_url: str) -> None:
    store = opened()
    store.checkpoint(begun(store).id, [LISTS], {"at_s": 2.5})
    store.begin(NewSweep("queued", "queued", "orders", ("eu", "us")))
    store.begin(NewSweep("paused", "paused", "orders", ("eu", "us")))
    store.pause("paused", "ann")
    store.agent_connected("eu", "eu-1", "one")
    overtaken(store_url)
    before = contents(store_url)
    for name, write in WRITES.items():
        with pytest.raises(Fenced) as caught:
            write(store)
        assert caught.value.next_step
        assert contents(store_url) == before, name
    assert sweep(store).state is SweepState.RUNNING  # reading does no harm


def test_every_public_method_that_writes_is_fenced() -> None:
    """A method that is added later and writes must be in the list above."""
    reads = {"open", "close", "abandon", "token", "sweep", "newest", "findings", "traffic", "answers", "breakers",
             "agents", "left_open",
             "unended", "letters", "letter_lists", "letter_acts", "watch", "verified_before"}  # fmt: skip
    public = {name for name in dir(Store) if not name.startswith("_")}
    assert public - reads == set(WRITES)


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    engine = make_engine(url)
    with engine.begin() as connection:
        names = sorted(sa.inspect(connection).get_table_names())
        rows = {name: sorted(map(repr, connection.execute(sa.text(f"SELECT * FROM {name}")))) for name in names}
    engine.dispose()
    return rows  # type: ignore[return-value]


def test_a_write_under_way_is_committed_before_the_store_is_taken(postgresql: PostgresqlServer) -> None:
    """Whoever takes the store waits for the transaction that has shown its token: it then sees what that wrote."""
    url = postgresql.create_database("store_fence_order")
    order: list[str] = []

    def take() -> None:
        overtaken(url)
        order.append("taken")

    with Store.open(url) as store:
        row = begun(store)
        taking = threading.Thread(target=take)
        with store._writing() as connection:
            taking.start()
            taking.join(0.3)
            order.append("written")
            connection.execute(sa.text("UPDATE sweeps SET error = 'late' WHERE id = :id"), {"id": row.id})
        taking.join(10.0)
        assert order == ["written", "taken"]
        with pytest.raises(Fenced):
            store.requeue(row.id)
        assert sweep(store).error == "late"


def test_a_holder_that_hangs_loses_a_postgresql_store(postgresql: PostgresqlServer) -> None:
    url = postgresql.create_database("store_stale")
    first = Store.open(url)
    row = begun(first)
    with pytest.raises(ConfigError, match=r"another coordinator uses it"):
        Store.open(url, lease_wait_s=0.0, lease_s=60.0)
    with postgresql.connect("store_stale") as connection:
        connection.execute("UPDATE leases SET renewed_at = renewed_at - interval '61 s'")
    with Store.open(url, lease_wait_s=5.0, lease_s=60.0) as second:
        assert second.token == first.token + 1
        assert [left.id for left in second.left_open()] == [row.id]
        for write in (first.renew, lambda: first.checkpoint(row.id, [BEGIN], {})):
            with pytest.raises(Fenced):
                write()
        second.renew()
        second.checkpoint(row.id, [BEGIN], {})
    first.close()


def test_a_holder_that_lost_its_session_keeps_the_store_where_nobody_took_it(postgresql: PostgresqlServer) -> None:
    url = postgresql.create_database("store_session")
    with Store.open(url) as store:
        with postgresql.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'store_session' AND pid <> pg_backend_pid()"
            )
        store.renew()
        with pytest.raises(ConfigError, match=r"another coordinator uses it"):
            Store.open(url, lease_wait_s=0.0)
        store.renew()


def test_a_holder_that_could_not_come_back_at_once_comes_back_later(postgresql: PostgresqlServer) -> None:
    """Its session is ended and the role has no connection left for a while, as when a server restarts."""
    url = postgresql.create_database("store_limited").replace("postgres@", "limited@", 1)
    ended = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'limited'"
    with postgresql.connect("store_limited") as connection:
        connection.execute("CREATE ROLE limited LOGIN")
        connection.execute("GRANT ALL ON SCHEMA public TO limited")
        with Store.open(url) as store:
            row = begun(store)
            connection.execute("ALTER ROLE limited CONNECTION LIMIT 0")
            connection.execute(ended)
            for _ in range(2):
                with pytest.raises(SourceError, match=r"too many connections") as caught:
                    store.renew()
                assert caught.value.retryable
            connection.execute("ALTER ROLE limited CONNECTION LIMIT -1")
            store.renew()
            store.checkpoint(row.id, [BEGIN], {})
            with pytest.raises(ConfigError, match=r"another coordinator uses it"):
                Store.open(url, lease_wait_s=0.0)
        connection.execute(ended)
        connection.execute("DROP OWNED BY limited")
        connection.execute("DROP ROLE limited")


def test_a_server_that_is_away_is_no_proof_of_anything(postgresql: PostgresqlServer) -> None:
    url = postgresql.create_database("store_away")
    with Store.open(url) as store:
        store._engine.dispose()
        broken = make_engine("postgresql://nobody@127.0.0.1:1/x")
        store._engine = broken
        with pytest.raises(SourceError) as caught:
            store.renew()
        assert not isinstance(caught.value, Fenced)
        assert caught.value.retryable
