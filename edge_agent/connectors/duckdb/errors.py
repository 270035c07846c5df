"""duckdb's exceptions into ours, once. Messages of failed conversions quote values, so they are not repeated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from paritree.core.errors import ConfigError, ParitreeError, SourceError

_REFUSED = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException)
"""Wrong queries: the only parts of them that are not ours are expressions and ``--where``."""
_QUOTING_VALUES = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise SourceError or ConfigError for any duckdb error inside; while rows stream, Arrow wraps them in its own."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise translate(error, path) from None


def translate(error: Exception, path: str) -> ParitreeError:
    """The error of ours that a duckdb error stands for."""
    message = str(error).split("\n", 1)[0]
    if isinstance(error, _REFUSED):
        return ConfigError(f"{path}: DuckDB refuses the query: {message}", next_step="check expressions and --where")
    if "Could not set lock" in message:
        return SourceError(
            f"{path} is open for writing in another process",
            next_step="close the writer, or compare a copy of the file",
            retryable=True,
        )
    if "different configuration" in message:
        return SourceError(
            f"{path} is open for writing in this process", next_step="close that connection", retryable=True
        )
    if "not a valid DuckDB database" in message or "Is a directory" in message:
        return ConfigError(f"{path} is not a DuckDB database", next_step="check the URL")
    if isinstance(error, _QUOTING_VALUES):
        return SourceError(f"{path}: {type(error).__name__} in the query", next_step="check expressions and --where")
    if isinstance(error, duckdb.OutOfMemoryException):
        return SourceError(f"{path}: DuckDB is out of memory", next_step="make shards smaller")
    if isinstance(error, duckdb.IOException):
        return SourceError(f"{path}: {message}", next_step="check the file and its permissions")
    if isinstance(error, duckdb.Error):
        return SourceError(f"{path}: {type(error).__name__}", next_step="check the file with the duckdb command line")
    kind = message.partition(" Error:")[0]  # "Conversion Error: Could not convert ..." quotes a value
    return SourceError(
        f"{path}: the query failed while its rows were read ({kind if len(kind) < len(message) else 'unknown error'})",
        next_step="check expressions and --where, and the file with the duckdb command line",
    )
