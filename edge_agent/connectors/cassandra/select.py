"""What is read for a binding: one SELECT list for scan and look-up, and the way from a page to a record batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from edge_agent.connectors import columns
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Columns, Rows
from edge_agent.connectors.cassandra.identifiers import quote
from edge_agent.connectors.cassandra.keys import unaskable
from edge_agent.connectors.cassandra.pages import Statement
from edge_agent.connectors.cassandra.schema import Table, describe
from edge_agent.connectors.cassandra.session import Session
from paritree.core import compute as pc
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding

STATIC_ONLY: Final = "the partition has static columns only, so its clustering key is null"
Decode = Callable[[Rows, Sequence[CqlType]], Columns]


@dataclass(frozen=True, slots=True)
class Select:
    """The binding resolved against one table: ``terms`` are the distinct CQL terms, ``items`` index into them.

    ``witness`` indexes the first clustering column, which is null in a partition that has static columns only; None
    where the table has no static columns. ``exact`` are the indexes of key columns that a look-up must be able to ask
    for, with the column's role.
    """

    binding: Binding
    table: Table
    terms: tuple[str, ...]
    items: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    witness: int | None
    exact: tuple[tuple[int, CqlType, str], ...]

    @property
    def key_sources(self) -> set[str]:
        """The source columns that the key is made of."""
        return key_sources(self.binding)

    def cql(self, where: str) -> str:
        """The SELECT with that WHERE clause."""
        return f"SELECT {', '.join(self.terms)} FROM {self.table.cql} WHERE {where}"

    def prepare(self, session: Session, where: str, parameters: int) -> Statement:
        """The prepared SELECT. Raises ConfigError for an expression that CQL refuses."""
        expressions = [column for column in self.binding.columns if column.expression is not None]
        named = ", ".join(f"'{column.name}'" for column in expressions)
        step = "write a term of CQL's own functions over the table's columns, or bind a source column"
        try:
            statement = session.prepare(self.cql(where), f"reading {self.table.label}")
        except SourceError as error:
            if expressions and not error.retryable:
                raise ConfigError(
                    f"{self.table.label}, expression of {named}: {error.message}", next_step=step
                ) from error
            raise
        if len(statement.kinds) != len(self.terms) or len(statement.prepared.column_metadata) != parameters:
            raise ConfigError(f"{self.table.label}, expression of {named}: not one term", next_step=step)
        for column in expressions:
            kind = statement.kinds[self.terms.index(column.expression or "")]
            if kind.logical is None or not _carries(kind.logical.name, column.type.name):
                raise ConfigError(
                    f"{self.table.label}, expression of '{column.name}': it gives {kind.logical or kind.label}, "
                    f"not {column.type}",
                    next_step=step,
                )
        return statement

    def batch(self, rows: Rows, kinds: Sequence[CqlType], decode: Decode) -> pa.RecordBatch:
        """The record batch of a page's rows, with every reject under its logical column."""
        found = decode(rows, kinds)
        rejects = self.rejected(found)
        if self.witness is not None and found.arrays[self.witness].null_count:
            name = self.names[self.witness][0]
            refused = {row for row, term, _ in found.rejects if term == self.witness}
            nulls = pc.indices_nonzero(found.arrays[self.witness].is_null()).to_pylist()
            rejects += [(row, name, STATIC_ONLY) for row in nulls if row not in refused]
        for term, kind, role in self.exact:
            bad = unaskable(found.arrays[term], kind, role, rows, term, len(kinds))
            rejects += [(row, name, reason) for row, reason in bad for name in self.names[term]]
        return self.assembled(found, rows.count, rejects)

    def assembled(self, found: Columns, rows: int, rejects: Sequence[columns.Reject]) -> pa.RecordBatch:
        """The record batch of decoded terms."""
        arrays = [found.arrays[term] for term in self.items]
        return columns.assemble(self.binding.columns, arrays, rows, rejects)

    def rejected(self, found: Columns) -> list[columns.Reject]:
        """What no carrier holds, under its logical columns."""
        return [(row, name, reason) for row, term, reason in found.rejects for name in self.names[term]]


def _carries(given: str, wanted: str) -> bool:
    """Whether a value of one logical type can be read as another (the contract's carriers)."""
    return given == wanted or (given == "int" and wanted in ("decimal", "float")) or given == "text"


def resolve(binding: Binding, table: Table) -> Select:
    """Check the binding against the table. Raises ConfigError for what cannot be read or looked up."""
    if binding.where is not None:
        raise ConfigError(
            f"{table.label}: Cassandra has no WHERE over whole tables", next_step="leave --where out, or use a view"
        )
    columns.check(binding, describe(table, 0))
    _check_key(binding, table)
    terms: dict[str, int] = {}
    names: list[list[str]] = []

    def term(text: str, name: str) -> int:
        index = terms.setdefault(text, len(terms))
        if index == len(names):
            names.append([])
        if name not in names[index]:
            names[index].append(name)
        return index

    items = [
        term(quote(item.source) if item.source is not None else item.expression or "", item.column)
        for item in columns.items(binding.columns)
    ]
    witness = None
    if table.of_role("static") and table.clustering:
        text = quote(table.clustering[0])
        witness = terms[text] if text in terms else term(text, (binding.key or [binding.columns[0].name])[0])
    exact = tuple(
        (terms[quote(name)], table.column(name).kind, table.column(name).role)
        for name in table.key
        if quote(name) in terms and name in key_sources(binding)
    )
    return Select(binding, table, tuple(terms), tuple(items), tuple(map(tuple, names)), witness, exact)


def key_sources(binding: Binding) -> set[str]:
    """The source columns that the key is made of."""
    found: set[str] = set()
    for column in binding.key_columns:
        found |= set(column.parts) | ({column.source} if column.source is not None else set())
    return found


_FOLDED: Final = frozenset("ascii text varchar tinyint smallint int bigint varint uuid timeuuid boolean".split())  # noqa: SIM905


def _check_key(binding: Binding, table: Table) -> None:
    if not binding.key:  # rows are not looked up
        return
    if missing := [name for name in table.partition if name not in key_sources(binding)]:
        raise ConfigError(
            f"{table.label}: the key lacks '{missing[0]}', which is part of the table's partition key",
            next_step=f"Cassandra finds rows by their partition only: use the key {','.join(table.key)}",
        )
    for column in binding.key_columns:
        for part in column.parts:
            if part in table.key and table.column(part).kind.name not in _FOLDED:
                raise ConfigError(
                    f"{table.label}: '{part}' ({table.column(part).written}) cannot be folded into the key",
                    next_step="fold text, int, uuid and boolean columns only",
                )
