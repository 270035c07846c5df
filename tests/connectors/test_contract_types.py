"""One test for each row of every translation table: what the catalogue says of the type, and its values."""

from __future__ import annotations

from typing import Any

from reading import INT, same, values
from switches.base import Dead, Refused, Switches
from switches.found import switches_of, type_rows

from edge_agent.connectors.contract import Connector
from paritree.core.canonical import encode
from paritree.core.errors import DeadLetter
from paritree.core.profile import Binding, BoundColumn
from paritree.core.schema import SourceColumn
from paritree.core.types import LogicalType, parse_type


def test_each_type(store: Switches, type_row: str) -> None:
    sample = store.samples[type_row]
    if isinstance(sample, Refused):
        table = store.create_typed("typed", sample.declared, [sample.native])
        with store.connect() as connector:
            column = described(connector, table)
        assert column.logical is None
        assert column.refusal
        return
    assert sample.cases, "a row without a value proves nothing"
    natives = [native for native, _ in sample.cases]
    table = store.create_typed("typed", sample.declared, [*natives, None])
    with store.connect() as connector:
        column = described(connector, table)
        assert str(column.logical) == sample.logical, column.refusal
        assert not column.refusal
        kind = parse_type(sample.read_as or sample.logical)
        bound = Binding(
            "dataset", table, ("id",), (BoundColumn("id", INT, source="id"), BoundColumn("c", kind, source="c"))
        )
        with connector.plan(bound, 1000) as plan:
            rows = [row for shard in plan.shards for row in values(bound, connector.scan(bound, shard))]
    found = {int(row["id"]): row["c"] for row in rows}
    assert sorted(found) == list(range(len(natives) + 1))
    assert found[len(natives)] is None, "NULL is null"
    for number, (native, expected) in enumerate(sample.cases):
        compare(native, found[number], expected, kind)


def described(connector: Connector, table: str) -> SourceColumn:
    column = connector.describe(table).column("c")
    assert column is not None
    return column


def compare(native: Any, found: Any, expected: Any, kind: LogicalType) -> None:
    if isinstance(expected, Dead):
        assert expected.reason in why_dead(found, kind), native
    else:
        assert not isinstance(found, DeadLetter), (native, found)
        assert same(found, expected, kind), (native, found, expected)


def why_dead(found: Any, kind: LogicalType) -> str:
    """The reason why a value is a dead letter, "" where it is none."""
    try:
        encode(found, kind)
    except DeadLetter as error:
        return error.message
    return ""


def test_every_row_has_a_sample_and_no_other(engine: str) -> None:
    assert sorted(switches_of(engine).samples) == sorted(type_rows(engine))
