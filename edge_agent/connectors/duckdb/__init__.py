"""DuckDB database files, opened read-only."""

from edge_agent.connectors.duckdb.connector import DuckdbConnector

__all__ = ["DuckdbConnector"]
