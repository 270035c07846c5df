"""Alembic's entry: runs the revisions on the connection that ``coordinator.store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from coordinator.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=context.config.attributes["version_table"],
    render_as_batch=True,  # SQLite cannot alter a table in place
    transactional_ddl=True,  # the caller's transaction holds every revision, in both engines
)
context.run_migrations()
