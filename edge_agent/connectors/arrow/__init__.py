"""Arrow's types as source types: what Parquet files and in-process tables have in common."""
