"""The state store on SQLite and on PostgreSQL: the same answers from both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from coordinator.store import NewSweep, Store, SweepRow, SweepState, Traffic
from coordinator.store.engine import make_engine, translated
from coordinator.store.sweeps import INSERT_ROWS
from coordinator.store.tables import metadata
from paritree.core.errors import ConfigError, InvariantBroken, SourceError

if TYPE_CHECKING:
    from servers.postgresql import PostgresqlServer

Opened = Callable[..., Store]
REPORT = {"report": 1, "dataset": "orders", "verdict": "different", "findings_total": 2}
FINDINGS: list[dict[str, Any]] = [
    {
        "key": {"id": 37, "name": "nul \x00, surrogate \ud800, ключ"},
        "token": "ABCDEFGHIJKLMNOP",
        "kind": "different",
        "groups": [["eu"], ["us"]],
        "missing_in": [],
        "columns": ["amount"],
    },
    {"key": None, "token": None, "kind": "missing", "groups": [["eu"]], "missing_in": ["us"], "columns": []},
    {"key": None, "token": "B", "kind": "duplicate", "counts": {"eu": 2, "us": 1}},
    {"key": None, "token": None, "kind": "range", "prefix": "0f", "bits": 12, "rows": {"eu": 812, "us": 0}},
]


def new(number: int = 1, job_id: str = "", **changes: Any) -> NewSweep:
    values = {
        "id": f"sweep-{number}",
        "job_id": job_id or f"job-{number}",
        "dataset": "orders",
        "regions": ("eu", "us"),
        "options": {"limit": 10},
        "operator": "ann",
        "profile_id": "ab" * 16,
    }
    return NewSweep(**{**values, **changes})


def begun(store: Store, number: int = 1, **changes: Any) -> SweepRow:
    row, ours = store.begin(new(number, **changes))
    assert ours
    store.start(row.id)
    return row


def sweep(store: Store, sweep_id: str = "sweep-1") -> SweepRow:
    row = store.sweep(sweep_id)
    assert row is not None
    return row


def test_a_sweep_from_queued_to_finished(opened: Opened) -> None:
    store = opened()
    row, ours = store.begin(new())
    assert ours
    assert row.state is SweepState.QUEUED
    store.start(row.id)
    assert sweep(store).state is SweepState.RUNNING
    store.finish(row.id, REPORT, FINDINGS, [Traffic("eu", 0, "nodes", 5_000_000_000, 7)])
    done = sweep(store)
    assert (done.state, done.verdict, done.report) == (SweepState.FINISHED, "different", REPORT)
    assert (done.regions, done.options, done.operator) == (("eu", "us"), {"limit": 10}, "ann")
    assert done.finished_at is not None
    assert done.finished_at > done.started_at
    assert done.started_at.utcoffset() is not None
    assert store.findings(row.id, limit=10) == (FINDINGS, 4)
    assert store.traffic(row.id) == [Traffic("eu", 0, "nodes", 5_000_000_000, 7)]


def test_findings_come_in_pages_and_in_order(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    many = [{"key": None, "token": str(n), "kind": "missing", "groups": [], "missing_in": []} for n in range(2_500)]
    assert len(many) > 2 * INSERT_ROWS
    store.finish(row.id, REPORT, many)
    read: list[dict[str, Any]] = []
    while page := store.findings(row.id, limit=999, offset=len(read))[0]:
        read += page
    assert read == many
    assert store.findings("another", limit=5) == ([], 0)


def test_nothing_is_stored_that_was_not_given(opened: Opened, store_url: str) -> None:
    store = opened()
    row = begun(store)
    store.finish(row.id, REPORT, [FINDINGS[1]])
    engine = make_engine(store_url)
    with engine.connect() as connection:
        stored = connection.execute(sa.text("SELECT token, key, detail FROM findings")).all()
    engine.dispose()
    assert [tuple(values) for values in stored] == [(None, None, None)]


def test_the_same_job_is_one_sweep(opened: Opened) -> None:
    store = opened()
    row = begun(store, 1, job_id="nightly")
    again, ours = store.begin(new(2, job_id="nightly"))
    assert not ours
    assert again.id == row.id
    store.finish(row.id, REPORT)
    again, ours = store.begin(new(3, job_id="nightly"))
    assert not ours
    assert (again.id, again.report) == (row.id, REPORT)
    assert store.sweep("sweep-2") is None


def test_one_of_many_callers_at_once_runs_the_job(opened: Opened) -> None:
    store = opened()
    together = threading.Barrier(8)

    def call(number: int) -> tuple[str, bool]:
        together.wait()
        row, ours = store.begin(new(number, job_id="nightly"))
        return row.id, ours

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(call, range(8)))
    assert sum(ours for _, ours in outcomes) == 1
    assert len({sweep_id for sweep_id, _ in outcomes}) == 1


@pytest.mark.parametrize("end", ["none", "finish", "fail"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"dataset": "users"}, "dataset"),
        ({"regions": ("eu", "asia")}, "set of regions"),
        ({"options": {"limit": 11}}, "limit"),
        ({"options": {"limit": 10, "max_rows": 5}}, "max_rows"),
        ({"options": {}}, "limit"),
    ],
)
def test_a_job_id_belongs_to_one_request(opened: Opened, change: dict[str, Any], named: str, end: str) -> None:
    store = opened()
    row = begun(store, 1, job_id="nightly")
    if end != "none":
        store.finish(row.id, REPORT) if end == "finish" else store.fail(row.id, "why")
    with pytest.raises(ConfigError, match=rf"job 'nightly' is a sweep of orders over eu, us, .* another {named}"):
        store.begin(new(2, job_id="nightly", **change))
    assert store.sweep("sweep-2") is None
    again, _ = store.begin(new(3, job_id="nightly", options={"limit": 10, "max_rows": None}, operator="bob"))
    assert again.id == row.id


@pytest.mark.parametrize("state", [SweepState.FAILED, SweepState.INTERRUPTED])
def test_a_job_that_came_to_nothing_is_begun_anew(opened: Opened, state: SweepState) -> None:
    store = opened()
    row = begun(store, 1, job_id="nightly")
    store.fail(row.id, "why " * 2_000, state)
    failed = sweep(store)
    assert (failed.state, failed.attempts) == (state, 1)
    assert failed.error is not None
    assert failed.error.startswith("why why")
    assert len(failed.error) == 2_000
    again, ours = store.begin(new(2, job_id="nightly", operator="bob"))
    assert ours
    assert (again.id, again.attempts, again.operator) == (row.id, 2, "bob")
    assert (again.state, again.error, again.finished_at) == (SweepState.QUEUED, None, None)
    assert not store.begin(new(3, job_id="nightly"))[1]


def test_an_outcome_is_kept_once(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    store.finish(row.id, REPORT, FINDINGS)
    for late in (
        lambda: store.finish(row.id, {**REPORT, "verdict": "equal"}),
        lambda: store.fail(row.id, "late"),
        lambda: store.start(row.id),
        lambda: store.finish("nobody", REPORT),
    ):
        with pytest.raises(InvariantBroken):
            late()
    assert sweep(store).verdict == "different"


def test_an_outcome_is_kept_whole_or_not_at_all(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    with pytest.raises(InvariantBroken):
        store.finish(row.id, REPORT, [*FINDINGS, {"key": {"id": float("nan")}, "kind": "missing"}])
    with pytest.raises(InvariantBroken):
        store.finish(row.id, REPORT, FINDINGS, [Traffic("eu", 0, "nodes", 1, 1), Traffic("eu", 0, "nodes", 2, 2)])
    assert sweep(store).state is SweepState.RUNNING
    assert store.findings(row.id, limit=9) == ([], 0)
    store.finish(row.id, REPORT, FINDINGS)
    assert store.findings(row.id, limit=9) == (FINDINGS, 4)


def test_the_newest_sweep_of_a_dataset(opened: Opened) -> None:
    store = opened()
    assert store.newest("orders") is None
    one = begun(store, 1)
    begun(store, 2, dataset="users")
    store.finish(one.id, REPORT)
    begun(store, 3)
    for dataset, finished, expected in (
        ("orders", False, "sweep-3"),
        ("orders", True, "sweep-1"),
        ("users", False, "sweep-2"),
        ("users", True, None),
    ):
        found = store.newest(dataset, finished=finished)
        assert (found.id if found else None) == expected


def test_a_restart_finds_what_was_open_and_disconnects_everybody(opened: Opened) -> None:
    store = opened()
    done, running, paused = begun(store, 1), begun(store, 2), begun(store, 4)
    store.finish(done.id, REPORT)
    assert store.pause(paused.id, "ann")
    queued, _ = store.begin(new(3))
    store.agent_connected("eu", "eu-1", "first")
    store.close()
    store = opened()
    assert sweep(store, done.id).state is SweepState.FINISHED
    assert [row.id for row in store.left_open()] == [running.id, queued.id]
    assert [row.id for row in store.unended()] == [running.id, paused.id, queued.id]
    for left in (running, queued):
        store.requeue(left.id)
        assert store.start(left.id).state is SweepState.RUNNING
    assert (sweep(store, running.id).resumed, sweep(store, queued.id).resumed) == (1, 0)
    assert [agent.connected for agent in store.agents()] == [False]


def test_agents_come_and_go(opened: Opened) -> None:
    store = opened()
    store.agent_connected("eu", "eu-1", "first")
    store.agent_connected("us", "us-1", "other")
    store.agent_gone("eu", "eu-1", "first")
    eu, us = store.agents()
    assert (eu.connected, us.connected) == (False, True)
    assert eu.connected_since is not None
    assert eu.last_seen > eu.connected_since
    store.agent_connected("eu", "eu-1", "second")
    store.agent_gone("eu", "eu-1", "first")  # the end of the old connection is noticed late
    assert store.agents()[0].connected
    store.agent_connected("eu", "eu-2", "third")
    assert [(a.agent, a.connected) for a in store.agents() if a.region == "eu"] == [("eu-1", False), ("eu-2", True)]


def test_a_second_coordinator_is_refused_and_harms_nothing(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    with pytest.raises(ConfigError, match=r"another coordinator uses it") as caught:
        opened(lease_wait_s=0.0)
    assert caught.value.next_step
    assert sweep(store, row.id).state is SweepState.RUNNING
    store.close()
    assert sweep(opened(), row.id).state is SweepState.RUNNING


def test_a_second_coordinator_waits_for_one_that_is_stopping(opened: Opened) -> None:
    store = opened()
    stopping = threading.Timer(0.3, store.close)
    stopping.start()
    assert opened(lease_wait_s=10.0).agents() == []
    stopping.join()


def test_rows_of_a_sweep_go_with_it(opened: Opened, store_url: str) -> None:
    """Foreign keys are on, in SQLite too."""
    store = opened()
    row = begun(store)
    store.finish(row.id, REPORT, FINDINGS, [Traffic("eu", 0, "nodes", 1, 1)])
    engine = make_engine(store_url)
    with engine.begin() as connection:
        connection.execute(sa.delete(metadata.tables["sweeps"]))
    assert store.findings(row.id, limit=9) == ([], 0)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as connection:
        connection.execute(
            sa.insert(metadata.tables["traffic"]).values(
                sweep_id="nobody", region="eu", round=0, byte_class="nodes", bytes_sent=0, bytes_received=0
            )
        )
    engine.dispose()


def test_sqlite_writes_ahead_and_in_memory_works(tmp_path: Path) -> None:
    with Store.open(f"sqlite:///{tmp_path}/store.db"):
        assert (tmp_path / "store.db-wal").exists()
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("store.db*")} == {0o600}
    with Store.open("sqlite://") as store, ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: store.begin(new(1, job_id="one"))[1], range(16)))
        assert sum(outcomes) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "store: the URL cannot be read"),
        ("mysql://localhost/x", "store: no support for 'mysql:'"),
        ("postgresql://ann:hush@localhost/x", "store: the URL has a password inside"),
        ("sqlite:////nowhere/at/all/store.db", "store: there is no directory /nowhere/at/all"),
        ("sqlite:////tmp", "store: /tmp cannot be opened: Is a directory"),
    ],
)
def test_an_unusable_url_is_the_operators_mistake(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Store.open(url)
    assert caught.value.message.startswith(message)
    assert caught.value.next_step
    assert "hush" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("this is a letter to a friend, and long enough for a header of a file " * 20)
    with pytest.raises(SourceError, match=r"file is not a database"):
        Store.open(f"sqlite:///{tmp_path}/store.db")


def test_an_unreachable_server_is_an_error_that_a_retry_may_mend() -> None:
    with pytest.raises(SourceError, match=r"store postgresql://ann@127\.0\.0\.1:1/x: ") as caught:
        Store.open("postgresql://ann@127.0.0.1:1/x", password="hush")
    assert caught.value.retryable
    assert "hush" not in str(caught.value)


def test_a_server_that_goes_away_and_comes_back(postgresql: PostgresqlServer) -> None:
    url = postgresql.create_database("store_cut")
    with Store.open(url) as store:
        row = begun(store)
        with postgresql.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = 'store_cut' AND pid <> pg_backend_pid()"
            )
        assert sweep(store, row.id).state is SweepState.RUNNING


@pytest.mark.parametrize("masked", [False, True])
def test_what_sqlite_has_run_out_of_is_said_first(masked: bool) -> None:
    """It gives the transaction up by itself, so that leaving the savepoint fails as well."""

    def starving() -> None:
        try:
            raise MemoryError
        except MemoryError:
            if masked:
                raise sa.exc.OperationalError("ROLLBACK TO s", {}, Exception("no such savepoint: s"))  # noqa: B904
            raise

    engine = make_engine("sqlite://")
    with pytest.raises(SourceError, match=r"^out of memory; give it more memory") as caught, translated(engine):
        starving()
    assert caught.value.retryable


def test_values_of_a_failing_statement_are_not_in_the_error(opened: Opened) -> None:
    store = opened()
    row = begun(store)
    with pytest.raises((InvariantBroken, SourceError)) as caught:
        store.finish(
            row.id,
            {**REPORT, "verdict": "different"},
            [{"key": {"id": "clear"}, "kind": "missing"}] * 2 + [{"key": {"id": "clear"}, "kind": None}],
        )
    assert "clear" not in str(caught.value)
    assert caught.value.__cause__ is None
