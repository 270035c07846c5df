"""PostgreSQL: scans by blocks inside one exported snapshot, COPY BINARY decoded in columns, look-ups by index."""

from edge_agent.connectors.postgresql.connector import PostgresqlConnector

__all__ = ["PostgresqlConnector"]
