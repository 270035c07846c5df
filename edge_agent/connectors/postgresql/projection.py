"""A binding against one relation: the SELECT list that yields its columns, and the type of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from edge_agent.connectors.postgresql.narrowing import narrowed
from edge_agent.connectors.postgresql.relation import Relation
from edge_agent.connectors.postgresql.schema import Attribute, attributes
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.types import EngineType, TypeCatalog
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import LogicalType

CARRIED: Final[Mapping[str, frozenset[str]]] = {
    "bool": frozenset({"bool"}),
    "int": frozenset({"int", "decimal", "float"}),
    "decimal": frozenset({"decimal", "int"}),
    "float": frozenset({"float"}),
    "text": frozenset(
        {"text", "bool", "int", "decimal", "float", "date", "time", "timestamp", "datetime", "uuid", "inet", "json"}
    ),
    "bytes": frozenset({"bytes", "text", "uuid"}),
    "list": frozenset({"list", "set"}),
}
"""What a logical type of ours may be bound as; any other type only as itself. The rest needs an expression."""

FOLDED: Final = frozenset({"text", "int", "uuid", "bool"})
"""Types whose text is the same in every engine, so that they may be parts of a fold."""


@dataclass(frozen=True, slots=True)
class Output:
    """One column that the server yields: its logical name, its SQL and its type."""

    column: BoundColumn
    expression: sql.Composable
    type: EngineType

    @property
    def name(self) -> str:
        return self.column.name


@dataclass(frozen=True, slots=True)
class Projection:
    """What a binding reads of a relation. ``outputs`` and ``constants`` together are the binding's columns.

    ``narrowed`` is what rows of the binding's bucket fulfil, where there is one that can be asked for.
    """

    relation: Relation
    outputs: tuple[Output, ...]
    constants: tuple[BoundColumn, ...]
    names: tuple[str, ...]
    where: str | None
    sources: Mapping[str, Attribute]
    narrowed: sql.Composable | None = None

    def output(self, name: str) -> Output | None:
        """The output of that logical column; None for a constant."""
        return next((output for output in self.outputs if output.name == name), None)

    def select(self, source: sql.Composable, condition: sql.Composable | None = None) -> sql.Composed:
        """SELECT the outputs from ``source`` (which may be a part of the relation, under the relation's name)."""
        conditions = [each for each in (condition, self.narrowed) if each is not None]
        wanted = sql.SQL(" AND ").join(conditions) if conditions else None
        return select_list([o.expression for o in self.outputs], self.relation, source, wanted, self.where)


def column_of(relation: Relation, name: str) -> sql.Composable:
    """A column of the relation, under whatever part of it is being read."""
    return sql.Identifier(relation.name, name)


def raw(expression: str) -> sql.Composable:
    """The operator's SQL in parentheses; the line break ends a comment that it may end in."""
    return sql.SQL("(") + sql.SQL(expression) + sql.SQL("\n)")


def select_list(
    columns: list[sql.Composable],
    relation: Relation,
    source: sql.Composable,
    condition: sql.Composable | None,
    where: str | None,
) -> sql.Composed:
    """SELECT columns FROM source AS the relation's name WHERE condition AND the operator's predicate."""
    query = sql.SQL("SELECT {} FROM {} AS {}").format(
        sql.SQL(", ").join(columns), source, sql.Identifier(relation.name)
    )
    conditions = [condition] if condition is not None else []
    if where:
        conditions.append(raw(where))
    if conditions:
        query += sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions)
    return query


def project(session: Session, types: TypeCatalog, relation: Relation, binding: Binding) -> Projection:
    """The projection of a binding. Raises ConfigError for what cannot be read as the profile's type."""
    known = {attribute.name: attribute for attribute in attributes(session, types, relation)}
    computed = [column for column in binding.columns if column.constant is None]
    expressions = [_expression(column, relation, known) for column in computed]
    outputs: list[Output] = []
    for column, expression, oid in zip(
        computed, expressions, _described(session, relation, binding, computed, expressions), strict=True
    ):
        kind = types.resolve(session, oid)
        _demand_carrier(column, relation, kind)
        outputs.append(Output(column, expression, kind))
    return Projection(
        relation=relation,
        outputs=tuple(outputs),
        constants=tuple(column for column in binding.columns if column.constant is not None),
        names=tuple(column.name for column in binding.columns),
        where=binding.where,
        sources=known,
        narrowed=narrowed(binding.bucket, {o.name: (o.expression, o.type) for o in outputs}, session.encoding),
    )


def _expression(column: BoundColumn, relation: Relation, known: Mapping[str, Attribute]) -> sql.Composable:
    given = [column.source is not None, column.expression is not None, bool(column.parts)]
    if sum(given) != 1:
        raise ConfigError(f"column {column.name}: give exactly one of source column, expression, constant and parts")
    if column.source is not None:
        _demand_source(column, column.source, relation, known)
        return column_of(relation, column.source)
    if column.expression is not None:
        return raw(column.expression)
    folded: list[sql.Composable] = []
    for part in column.parts:
        kind = _demand_source(column, part, relation, known).type
        if kind.logical is None or kind.logical.name not in FOLDED:
            raise ConfigError(
                f"column {column.name}: part {part} is {kind.name}, whose text differs between engines",
                next_step="fold text, int, uuid and bool columns, or write an expression",
            )
        folded += [sql.Literal(column.joiner), column_of(relation, part) + sql.SQL("::text")]
    return sql.SQL("(") + sql.SQL(" || ").join(folded[1:]) + sql.SQL(")")


def _demand_source(column: BoundColumn, name: str, relation: Relation, known: Mapping[str, Attribute]) -> Attribute:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        step = f"similar: {', '.join(near)}" if near else f"its columns: {', '.join(known)}"
        raise ConfigError(f"column {column.name}: {relation} has no column '{name}'", next_step=step)
    return known[name]


def _described(
    session: Session,
    relation: Relation,
    binding: Binding,
    columns: list[BoundColumn],
    expressions: list[sql.Composable],
) -> list[int]:
    """The type of each expression as the server sees it; no row is read."""
    doing = f"reading {relation}"
    try:
        return _types(session, relation, expressions, binding.where, doing)
    except ConfigError:
        for column, expression in zip(columns, expressions, strict=True):  # say which column or clause is at fault
            _types(session, relation, [expression], None, f"column {column.name}")
        if binding.where:
            _types(session, relation, [], binding.where, "the where clause")
        raise


def _types(
    session: Session, relation: Relation, expressions: list[sql.Composable], where: str | None, doing: str
) -> list[int]:
    query = select_list(expressions, relation, relation.identifier, sql.SQL("false"), where)
    return [column.type_code for column in session.execute(query, doing=doing).description or ()]


def _demand_carrier(column: BoundColumn, relation: Relation, kind: EngineType) -> None:
    if kind.logical is None:
        what = column.source or column.expression
        raise ConfigError(
            f"column {column.name}: {what} of {relation} is {kind.name}, which is not compared: {kind.refusal}",
            next_step="bind it with an expression such as (column)::text, or ignore it",
        )
    if not carries(kind.logical, column.type):
        raise ConfigError(
            f"column {column.name}: {relation} holds {kind.name} ({kind.logical}), the profile says {column.type}",
            next_step="change the profile's type, or convert with an expression in the binding",
        )


def carries(ours: LogicalType, wanted: LogicalType) -> bool:
    """Whether values of a logical type of ours can be handed out as the profile's type without a conversion."""
    if wanted.name not in CARRIED.get(ours.name, frozenset({ours.name})):
        return False
    if ours.name == "struct":
        declared = dict(wanted.fields)
        return all(name in declared and carries(kind, declared[name]) for name, kind in ours.fields)
    return all(carries(part, other) for part, other in zip(ours.of, wanted.of, strict=False))
