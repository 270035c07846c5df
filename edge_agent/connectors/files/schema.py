"""The one table that the files of a glob are: its name, and columns on which all files agree."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from edge_agent.connectors.names import absent
from paritree.core.errors import ConfigError
from paritree.core.schema import SourceColumn, TableSchema

_WILDCARD = re.compile(r"[*?\[]")
_SUFFIX = re.compile(r"(\.(parquet|parq|pq|csv|tsv|txt|gz|bz2|zst|lz4))+$")


def table_name(pattern: str) -> str:
    """The last part of the glob without wildcards, without its suffix: ``/data/orders/*.parquet`` is ``orders``."""
    plain = [part for part in pattern.split(os.sep) if part and not _WILDCARD.search(part)]
    return _SUFFIX.sub("", plain[-1]) if plain else "files"


def describe(pattern: str, files: Mapping[str, tuple[SourceColumn, ...]], table: str) -> TableSchema:
    """The schema that all files (path -> columns) have. The key is never known: the dataset declares it.

    Raises ConfigError where the table has another name or the files do not agree.
    """
    name = table_name(pattern)
    if table not in ("", name):
        raise absent("table", table, [name], pattern)
    (first_path, first), *others = files.items()
    for path, columns in others:
        _agree(first_path, first, path, columns)
    return TableSchema(name, first)


def _agree(first_path: str, first: Sequence[SourceColumn], path: str, columns: Sequence[SourceColumn]) -> None:
    expected = {column.name: column for column in first}
    found = {column.name: column for column in columns}
    for name in [*expected, *found]:
        if name not in found:
            raise ConfigError(f"{path} has no column '{name}', which {first_path} has", next_step=_STEP)
        if name not in expected:
            raise ConfigError(f"{path} has a column '{name}', which {first_path} has not", next_step=_STEP)
        if found[name].engine_type != expected[name].engine_type:
            raise ConfigError(
                f"column '{name}' is {found[name].engine_type} in {path} and {expected[name].engine_type} "
                f"in {first_path}",
                next_step=_STEP,
            )


_STEP = "narrow the glob to files of one schema, or rewrite the odd ones"
