"""The store's schema: from empty and from old files to head, head equals the tables, a newer one is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from coordinator.store import Store, SweepState
from coordinator.store.engine import make_engine
from coordinator.store.migrate import VERSION_TABLE, _config, current_revision, migrate
from coordinator.store.tables import metadata
from paritree.core.errors import ConfigError


@pytest.fixture
def engine(store_url: str) -> Iterator[sa.Engine]:
    made = make_engine(store_url)
    yield made
    made.dispose()


def head(connection: sa.Connection) -> str | None:
    return ScriptDirectory.from_config(_config(connection)).get_current_head()


def test_from_empty_to_head_and_again(engine: sa.Engine) -> None:
    for _ in range(2):
        migrate(engine)
        with engine.begin() as connection:
            assert current_revision(connection) == head(connection)


def test_head_is_what_the_tables_say(engine: sa.Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_constraints_of_head_are_those_of_the_tables(engine: sa.Engine) -> None:
    """Alembic compares no CHECK and no names; here everything that the engine tells of a table is compared."""
    with engine.begin() as connection:
        metadata.create_all(connection)
        expected = described(connection)
        metadata.drop_all(connection)
    migrate(engine)
    with engine.begin() as connection:
        assert described(connection) == expected


def described(connection: sa.Connection) -> dict[str, Any]:
    look = sa.inspect(connection)
    return {
        table: {
            "primary key": look.get_pk_constraint(table),
            "foreign keys": look.get_foreign_keys(table),
            "unique": look.get_unique_constraints(table),
            "check": sorted(map(str, look.get_check_constraints(table))),
            "indexes": look.get_indexes(table),
            "columns": [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in look.get_columns(table)],
        }
        for table in sorted(metadata.tables)
        if look.has_table(table)
    }


def test_every_step_from_the_first_revision_keeps_the_rows(engine: sa.Engine, opened: Callable[..., Store]) -> None:
    with engine.begin() as connection:
        command.upgrade(_config(connection), "0001")
        connection.execute(
            sa.text(
                "INSERT INTO sweeps "
                "(id, job_id, dataset, regions, options, operator, state, verdict, started_at, report) VALUES "
                "('s', 'j', 'orders', '[\"eu\",\"us\"]', '{}', 'ann', 'finished', 'equal', "
                "'2024-01-02 03:04:05.000000', '{\"verdict\":\"equal\"}')"
            )
        )
        connection.execute(
            sa.text("INSERT INTO findings (sweep_id, number, kind, token) VALUES ('s', 0, 'missing', 'TOKEN')")
        )
    store = opened()
    row = store.sweep("s")
    assert row is not None
    assert (row.state, row.attempts, row.report) == (SweepState.FINISHED, 1, {"verdict": "equal"})
    assert row.started_at.isoformat() == "2024-01-02T03:04:05+00:00"
    assert store.findings("s", limit=5) == ([{"key": None, "token": "TOKEN", "kind": "missing"}], 1)


def test_a_newer_schema_is_refused_and_left_alone(engine: sa.Engine, opened: Callable[..., Store]) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(ConfigError, match=r"has schema '9999'") as caught:
        opened()
    assert "newer paritree" in caught.value.next_step
    with engine.begin() as connection:
        assert current_revision(connection) == "9999"


def test_somebody_elses_tables_are_refused_and_left_alone(engine: sa.Engine, opened: Callable[..., Store]) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE findings (mine INTEGER)"))
    with pytest.raises(ConfigError, match=r"has a table 'findings' that paritree did not make"):
        opened()
    with engine.begin() as connection:
        assert [column["name"] for column in sa.inspect(connection).get_columns("findings")] == ["mine"]


def test_a_migration_that_fails_changes_nothing(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision runs in one transaction, in SQLite too."""
    revisions: list[str] = []
    upgrade = command.upgrade

    def failing(config: Any, revision: str) -> None:
        upgrade(config, revision)
        revisions.append(revision)
        raise RuntimeError("power cut")

    monkeypatch.setattr("coordinator.store.migrate.command.upgrade", failing)
    with pytest.raises(RuntimeError):
        migrate(engine)
    assert revisions == ["head"]
    with engine.begin() as connection:
        assert sa.inspect(connection).get_table_names() == []
