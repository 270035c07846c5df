"""Files that match a glob as one table: Parquet and CSV."""

from edge_agent.connectors.files.connector import CsvConnector, ParquetConnector

__all__ = ["CsvConnector", "ParquetConnector"]
