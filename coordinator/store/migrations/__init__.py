"""Alembic revisions of the store, run by ``coordinator.store.migrate``; there is no alembic.ini."""
