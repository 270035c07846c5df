"""A table as the catalogue has it: names and roles from system_schema, types from the server's result metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.identifiers import quote, table_name, written
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.names import absent
from paritree.core.errors import ConfigError
from paritree.core.schema import SourceColumn, TableSchema

PARTITIONER: Final = "Murmur3Partitioner"
SYSTEM: Final = frozenset(
    {
        "system",
        "system_auth",
        "system_cluster_metadata",
        "system_distributed",
        "system_schema",
        "system_traces",
        "system_views",
        "system_virtual_schema",
    }
)
_ROLES: Final = {"partition_key": 0, "clustering": 1, "static": 2, "regular": 3}


@dataclass(frozen=True, slots=True)
class Column:
    """``role`` is partition_key, clustering, static or regular; ``written`` the type as CQL has it."""

    name: str
    role: str
    written: str
    kind: CqlType


@dataclass(frozen=True, slots=True)
class Table:
    """A table or materialized view. Columns: partition key, clustering (both in key order), static, regular by name."""

    keyspace: str
    name: str
    columns: tuple[Column, ...]
    base: str = ""

    @property
    def partition(self) -> tuple[str, ...]:
        return self.of_role("partition_key")

    @property
    def clustering(self) -> tuple[str, ...]:
        return self.of_role("clustering")

    @property
    def key(self) -> tuple[str, ...]:
        return self.partition + self.clustering

    def of_role(self, role: str) -> tuple[str, ...]:
        """The names of the columns of one role, in order."""
        return tuple(column.name for column in self.columns if column.role == role)

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        return {column.name: column for column in self.columns}[name]

    @property
    def cql(self) -> str:
        """The name for CQL that we send."""
        return f"{quote(self.keyspace)}.{quote(self.name)}"

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{written(self.keyspace)}.{written(self.name)}"

    @property
    def token(self) -> str:
        """The token function over the partition key, in CQL."""
        return f"token({', '.join(map(quote, self.partition))})"


def keyspaces(session: Session) -> list[str]:
    """The user's keyspaces, sorted."""
    found = {row[0] for row in session.catalogue("SELECT keyspace_name FROM system_schema.keyspaces")}
    return sorted(found - SYSTEM)


def check_keyspace(session: Session, keyspace: str) -> None:
    """Raise ConfigError unless it is a keyspace of the user's."""
    if keyspace in SYSTEM:
        raise ConfigError(f"keyspace {keyspace} is Cassandra's own", next_step="name a keyspace with your tables")
    known = keyspaces(session)
    if keyspace not in known:
        raise absent("keyspace", written(keyspace), map(written, known), session.settings.where)


def tables(session: Session, keyspace: str) -> list[str]:
    """The tables of a keyspace, without its views, sorted."""
    cql = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = %s"
    return sorted(row[0] for row in session.catalogue(cql, [keyspace]))


def _views(session: Session, keyspace: str) -> dict[str, str]:
    cql = "SELECT view_name, base_table_name FROM system_schema.views WHERE keyspace_name = %s"
    return {str(view): str(base) for view, base in session.catalogue(cql, [keyspace])}


def read_table(session: Session, text: str) -> Table:
    """The table that ``table`` or ``keyspace.table`` names. Raises ConfigError where it is absent or unreadable."""
    keyspace, name = table_name(text, session.settings.keyspace)
    check_keyspace(session, keyspace)
    views = _views(session, keyspace)
    known = [*tables(session, keyspace), *views]
    if name not in known:
        raise absent("table", written(name), map(written, known), f"keyspace {written(keyspace)}")
    cql = "SELECT column_name, kind, position, type FROM system_schema.columns"
    rows = session.catalogue(f"{cql} WHERE keyspace_name = %s AND table_name = %s", [keyspace, name])
    rows.sort(key=lambda row: (_ROLES[row[1]], row[2], row[0]))
    names = [str(row[0]) for row in rows]
    target = f"{quote(keyspace)}.{quote(name)}"
    statement = session.prepare(
        f"SELECT {', '.join(map(quote, names))} FROM {target}", f"describing {written(keyspace)}.{written(name)}"
    )
    columns = zip(rows, statement.kinds, strict=True)
    return Table(
        keyspace, name, tuple(Column(row[0], row[1], row[3], kind) for row, kind in columns), views.get(name, "")
    )


def describe(table: Table, rows_estimate: int) -> TableSchema:
    """What a connector says of the table."""
    return TableSchema(
        table=table.label,
        columns=tuple(_source_column(table, column) for column in table.columns),
        key=table.key,
        rows_estimate=rows_estimate,
        empty_is_null=True,
        consistent=False,
    )


def _source_column(table: Table, column: Column) -> SourceColumn:
    row, kind = column.kind.row, column.kind
    refusal = next((inner.row.refusal for inner in kind.walk() if inner.row.refusal), "")
    return SourceColumn(
        name=column.name,
        engine_type=column.written,
        logical=kind.logical,
        nullable=column.name not in table.key,
        precision=row.precision,
        lost="; ".join(dict.fromkeys(inner.row.lost for inner in kind.walk() if inner.row.lost)),
        refusal=refusal,
    )
