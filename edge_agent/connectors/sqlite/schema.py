"""Tables and columns of the file's catalogue; declared types by types.toml and SQLite's rule of affinity."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from typing import Any

from edge_agent.connectors.names import absent
from edge_agent.connectors.sqlite.database import Database
from edge_agent.connectors.sqlite.errors import translated
from edge_agent.connectors.translation import Translation, load, refused
from paritree.core.schema import SourceColumn, TableSchema

PACKAGE = "edge_agent.connectors.sqlite"
ROWIDS = ("rowid", "_rowid_", "oid")
ROW_BYTES_MIN = 8
"""A row takes at least its cell pointer, header and row id: bounds the estimate where row ids are sparse."""
_ARGUMENTS = re.compile(r"\s*\([^)]*\)\s*")
_AFFINITIES = (
    ("INT", "INTEGER"),
    ("CHAR", "TEXT"),
    ("CLOB", "TEXT"),
    ("TEXT", "TEXT"),
    ("BLOB", "BLOB"),
    ("REAL", "REAL"),
    ("FLOA", "REAL"),
    ("DOUB", "REAL"),
)
"""https://sqlite.org/datatype3.html section 3.1, in this order; no declared type is BLOB, all else NUMERIC."""


@dataclass(frozen=True, slots=True)
class Table:
    """One entry of the catalogue. ``rowid`` is the name by which the row id can be written, "" where there is none."""

    name: str
    kind: str
    without_rowid: bool
    rowid: str
    columns: tuple[dict[str, Any], ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The primary key in its declared order."""
        parts = sorted((column["pk"], column["name"]) for column in self.columns if column["pk"])
        return tuple(name for _, name in parts)

    def affinity(self, column: str) -> str:
        """INTEGER, TEXT, BLOB, REAL or NUMERIC: how SQLite stores and compares values of that column."""
        return affinity(next(c["type"] for c in self.columns if c["name"] == column))


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def affinity(declared: str) -> str:
    """SQLite's affinity of a declared type."""
    word = declared.upper()
    if not word:
        return "BLOB"
    return next((result for part, result in _AFFINITIES if part in word), "NUMERIC")


def translate(declared: str) -> Translation:
    """The row of types.toml for a declared type."""
    rows = load(PACKAGE)
    word = " ".join(_ARGUMENTS.sub(" ", declared.upper()).split())
    if word in rows:
        return rows[word]
    stored = affinity(declared)
    if stored == "NUMERIC":
        return refused(declared, f"'{declared}' is no type that SQLite or the translation table knows")
    return rows[stored]


def table_names(database: Database) -> list[str]:
    """Tables and views of the user, sorted."""
    with translated(database.path):
        rows = database.connection.execute("PRAGMA main.table_list").fetchall()
    return sorted(name for _, name, kind, *_ in rows if kind != "shadow" and not name.startswith("sqlite_"))


def read_table(database: Database, name: str) -> Table:
    """The catalogue's entry of a table or view. Raises ConfigError where it is absent or cannot be read."""
    with translated(database.path):
        listed = database.connection.execute("PRAGMA main.table_list").fetchall()
        found = next((row for row in listed if row[1] == name and row[2] != "shadow"), None)
        if found is None:
            raise absent("table", name, table_names(database), database.path)
        cursor = database.connection.execute(f"PRAGMA main.table_xinfo({quoted(name)})")
        titles = [column[0] for column in cursor.description]
        columns = [dict(zip(titles, row, strict=True)) for row in cursor]
    visible = tuple(column for column in columns if column["hidden"] != 1)
    taken = {column["name"].lower() for column in visible}
    free = next((rowid for rowid in ROWIDS if rowid not in taken), "")
    rowid = free if found[2] == "table" and not found[4] else ""
    return Table(name, found[2], bool(found[4]), rowid, visible)


def describe(database: Database, name: str) -> TableSchema:
    """The table's schema; ``consistent`` is False, since only the end of a sweep shows that nobody wrote."""
    table = read_table(database, name)
    with translated(database.path):
        columns = tuple(_column(database.connection, table, column) for column in table.columns)
        rows = _rows_estimate(database.connection, table)
    return TableSchema(table.name, columns, table.key, rows, consistent=False)


def _column(connection: sqlite3.Connection, table: Table, row: dict[str, Any]) -> SourceColumn:
    name, declared = row["name"], row["type"]
    nullable = not (row["notnull"] or (row["pk"] and (table.without_rowid or _is_rowid_alias(table, row))))
    column = translate(declared).column(name, declared, nullable=nullable, typed=False)
    caseless, padded = _collation(connection, table, name)
    if not caseless and not padded:
        return column
    return SourceColumn(
        name, declared, column.logical, nullable, None, column.lost, column.refusal, False, padded, caseless
    )


def _is_rowid_alias(table: Table, row: dict[str, Any]) -> bool:
    return bool(len(table.key) == 1 and row["type"].upper() == "INTEGER" and table.kind == "table")


def _collation(connection: sqlite3.Connection, table: Table, name: str) -> tuple[bool, bool]:
    """Whether the column's collation ignores case, and trailing spaces: asked of SQLite itself, without a row."""
    source = f"SELECT {quoted(name)} AS c FROM {quoted(table.name)} WHERE 0 UNION ALL SELECT 'q'"
    caseless, padded = connection.execute(f"SELECT c = 'Q', c = 'q  ' FROM ({source})").fetchone()
    return bool(caseless), bool(padded)


def _rows_estimate(connection: sqlite3.Connection, table: Table) -> int:
    """Rows by the range of row ids, exact for a table that only grew; 0 where unknown."""
    if not table.rowid:
        return 0
    source, rowid = quoted(table.name), table.rowid
    low, high = connection.execute(
        f"SELECT (SELECT min({rowid}) FROM {source}), (SELECT max({rowid}) FROM {source})"
    ).fetchone()
    (file_bytes,) = connection.execute(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
    ).fetchone()
    return 0 if low is None else min(int(high) - int(low) + 1, int(file_bytes) // ROW_BYTES_MIN)
