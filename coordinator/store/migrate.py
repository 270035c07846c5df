"""Bring a store to the schema of this version, from empty or from any older one; refuse a newer one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from coordinator.store.engine import shown
from coordinator.store.tables import metadata
from paritree.core.errors import ConfigError

VERSION_TABLE: Final = "paritree_version"
"""Not Alembic's default name, so that a database shared with another program keeps both versions apart."""
_LOCK: Final = 0x7061726974726565
"""Advisory lock of PostgreSQL ("paritree" in ASCII) that lets one process migrate at a time."""


def migrate(engine: sa.Engine) -> None:
    """Upgrade to the newest revision in one transaction. Raises ConfigError for a store not ours or newer."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        config = _config(connection)
        _check(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")


def current_revision(connection: sa.Connection) -> str | None:
    """The revision that the store has, None for an empty database."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def _config(connection: sa.Connection) -> Config:
    config = Config()
    folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    return config


def _check(connection: sa.Connection, scripts: ScriptDirectory) -> None:
    current = current_revision(connection)
    known = {script.revision for script in scripts.walk_revisions()}
    where = f"store {shown(connection.engine.url)}"
    if current is not None and current not in known:
        raise ConfigError(
            f"{where}: has schema '{current}', and this version of paritree knows up to '{scripts.get_current_head()}'",
            next_step="run the newer paritree, or use another store",
        )
    taken = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if current is None and taken:
        raise ConfigError(
            f"{where}: has a table '{taken[0]}' that paritree did not make",
            next_step="use a database or file of its own for the store",
        )
