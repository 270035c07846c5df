"""SQLite database files, opened read-only."""

from edge_agent.connectors.sqlite.connector import SqliteConnector

__all__ = ["SqliteConnector"]
