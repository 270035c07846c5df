"""Tables and columns of the file's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_agent.connectors.duckdb.database import Database
from edge_agent.connectors.duckdb.errors import translated
from edge_agent.connectors.names import absent
from edge_agent.connectors.translation import PRECISIONS, Translation, load, refused
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import LogicalType

PACKAGE = "edge_agent.connectors.duckdb"
_PARAMETRIC = frozenset({"decimal", "enum", "list", "array", "map", "struct", "union"})
_TOP_LEVEL_ONLY = frozenset({"INTERVAL"})
"""Types that are taken apart in the query, which only a top-level value can be."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view. ``rows`` is the catalogue's estimate, 0 for a view."""

    schema: str
    name: str
    rows: int
    view: bool

    @property
    def shown(self) -> str:
        """The name that ``describe`` takes: with the schema unless that is ``main``."""
        return self.name if self.schema == "main" else f"{self.schema}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.name)}"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def tables(database: Database) -> dict[str, Table]:
    """The tables and views of the file by the name that is shown; a name of ``main`` wins over a schema's."""
    found = [
        *(
            Table(schema, name, int(rows or 0), view=False)
            for schema, name, rows in database.rows(
                "SELECT schema_name, table_name, estimated_size FROM duckdb_tables() "
                "WHERE database_name = current_database() AND NOT internal AND NOT temporary"
            )
        ),
        *(
            Table(schema, name, 0, view=True)
            for schema, name in database.rows(
                "SELECT schema_name, view_name FROM duckdb_views() "
                "WHERE database_name = current_database() AND NOT internal AND NOT temporary"
            )
        ),
    ]
    return {table.shown: table for table in sorted(found, key=lambda table: (table.schema == "main", table.name))}


def read_table(database: Database, name: str) -> Table:
    """The catalogue's entry. Raises ConfigError where it is absent."""
    known = tables(database)
    if name not in known:
        raise absent("table", name, known, database.path)
    return known[name]


def types(database: Database, expressions: list[str], table: Table) -> list[Any]:
    """The DuckDB types of expressions over a table (alias t); nothing is read. Raises ConfigError."""
    with translated(database.path):
        relation = database.connection.sql(f"SELECT {', '.join(expressions)} FROM {table.sql} AS t LIMIT 0")
        return list(relation.types)


def describe(database: Database, name: str) -> TableSchema:
    """The table's schema from the catalogue."""
    table = read_table(database, name)
    listed = database.rows(
        "SELECT column_name, data_type, is_nullable FROM duckdb_columns() WHERE database_name = current_database() "
        "AND schema_name = ? AND table_name = ? ORDER BY column_index",
        [table.schema, table.name],
    )
    kinds = types(database, [f"t.{quoted(column)}" for column, _, _ in listed], table)
    columns = tuple(
        _column(database, table, column, declared, bool(nullable), kind)
        for (column, declared, nullable), kind in zip(listed, kinds, strict=True)
    )
    return TableSchema(name, columns, _key(database, table), table.rows)


def _key(database: Database, table: Table) -> tuple[str, ...]:
    found = database.rows(
        "SELECT constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY' "
        "AND database_name = current_database() AND schema_name = ? AND table_name = ?",
        [table.schema, table.name],
    )
    return tuple(found[0][0]) if found else ()


def _column(database: Database, table: Table, name: str, declared: str, nullable: bool, kind: Any) -> SourceColumn:
    translation, logical, precision, refusal = translated_type(kind)
    caseless = type_name(kind) == "VARCHAR" and _caseless(database, table, name)
    return SourceColumn(
        name,
        declared,
        None if refusal else logical,
        nullable,
        precision,
        translation.lost,
        refusal,
        caseless=caseless,
    )


def _caseless(database: Database, table: Table, name: str) -> bool:
    """Whether the column's collation ignores case: asked of DuckDB itself, without a row."""
    source = f"SELECT {quoted(name)} AS c FROM {table.sql} WHERE false UNION ALL SELECT 'q'"
    return bool(database.rows(f"SELECT c = 'Q' FROM ({source})")[0][0])


def type_name(kind: Any) -> str:
    """The row of types.toml that stands for a DuckDB type."""
    return str(kind.id).upper() if kind.id in _PARAMETRIC else str(kind)


def inner_types(kind: Any) -> list[tuple[str, Any]]:
    """The types that a list, array, map or struct is built of, with their names."""
    return [(name, child) for name, child in kind.children if name != "size"]


def translated_type(kind: Any, top: bool = True) -> tuple[Translation, LogicalType | None, str | None, str]:
    """The row, logical type, precision and refusal of a type; nested types are built of their parts."""
    name = type_name(kind)
    row = load(PACKAGE).get(name) or refused(name)
    if row.refusal or (not top and name in _TOP_LEVEL_ONLY):
        return row, None, None, row.refusal or f"{name} inside of another type is not read"
    if not row.shape:
        return row, row.logical, row.precision, ""
    parts = [(field, *translated_type(child, top=False)[1:]) for field, child in inner_types(kind)]
    if refusal := next((refusal for *_, refusal in parts if refusal), ""):
        return row, None, None, refusal
    finest = max((precision for _, _, precision, _ in parts if precision), key=PRECISIONS.index, default=None)
    named = [(field, logical) for field, logical, _, _ in parts if logical is not None]
    if row.shape == "struct":
        fields = tuple(sorted(named, key=lambda item: item[0].encode()))
        return row, LogicalType("struct", fields=fields), finest, ""
    return row, LogicalType(row.shape, of=tuple(logical for _, logical in named)), finest, ""
