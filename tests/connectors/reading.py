"""Reading a source through its connector, as the contract tests do over and over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from switches.base import Switches

from edge_agent.connectors.contract import BATCH_ROWS, REJECTS, REJECTS_TYPE, Connector
from paritree.core.canonical import encode
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import LogicalType, parse_type

_WHOLE = re.compile("-?[0-9]{1,100}")
INT, TEXT = parse_type("int"), parse_type("text")


def types(**columns: str) -> dict[str, LogicalType]:
    """Column name -> logical type, from the types' text forms."""
    return {name: parse_type(kind) for name, kind in columns.items()}


def binding(table: str, columns: Mapping[str, LogicalType], key: Sequence[str], **other: Any) -> Binding:
    """A binding of each column under its own name."""
    bound = tuple(BoundColumn(name, kind, source=name) for name, kind in columns.items())
    return Binding("dataset", table, tuple(key), bound, **other)


def values(bound: Binding, batches: Iterable[pa.RecordBatch]) -> list[dict[str, Any]]:
    """Rows as plain values by logical name; a value that does not fit is its DeadLetter."""
    out: list[dict[str, Any]] = []
    for batch in batches:
        check_shape(bound, batch)
        columns = {c.name: _plain(batch.column(c.name), c.type.bare) for c in bound.columns}
        rejects = batch.column(REJECTS).to_pylist() if REJECTS in batch.schema.names else [None] * batch.num_rows
        for row, bad in enumerate(rejects):
            found = {name: column[row] for name, column in columns.items()}
            for reject in bad or ():
                assert found[reject["column"]] is None, "a rejected value is null in its column"
                found[reject["column"]] = DeadLetter(reject["reason"])
            out.append(found)
    return out


def _plain(array: pa.Array, kind: LogicalType) -> list[Any]:
    """Plain values; whole numbers that came as text as int, which is the same plain value."""
    found = plain_values(array, kind)
    return [int(v) if kind.name == "int" and isinstance(v, str) and _WHOLE.fullmatch(v) else v for v in found]


def check_shape(bound: Binding, batch: pa.RecordBatch) -> None:
    """What every batch has to be."""
    names = [column.name for column in bound.columns]
    assert batch.num_rows <= BATCH_ROWS
    assert sorted(name for name in batch.schema.names if name != REJECTS) == sorted(names)
    if REJECTS in batch.schema.names:
        assert batch.schema.field(REJECTS).type == REJECTS_TYPE


def scanned(connector: Connector, bound: Binding, shard_rows: int = 1_000) -> list[dict[str, Any]]:
    """Every row of every shard of one plan."""
    with connector.plan(bound, shard_rows) as plan:
        return [row for shard in plan.shards for row in values(bound, connector.scan(bound, shard))]


def looked_up(connector: Connector, bound: Binding, *keys: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The rows of a look-up, without those that were not asked for, which its caller drops."""
    kinds = [column.type.bare for column in bound.key_columns]
    asked = [key for key in keys if None not in key]

    def wanted(row: dict[str, Any]) -> bool:
        found = [row[name] for name in bound.key]
        return any(all(map(same, found, key, kinds)) for key in asked)

    return [row for row in values(bound, connector.lookup(bound, list(keys))) if wanted(row)]


def same(left: Any, right: Any, kind: LogicalType) -> bool:
    """Whether two plain values have equal canonical bytes; text may hold a NUL here."""
    if isinstance(left, DeadLetter):
        return False
    if left is None or right is None or (isinstance(left, str) and kind.name == "text"):
        return bool(left == right)
    return encode(left, kind) == encode(right, kind)


def filled(store: Switches, count: int, table: str = "numbers") -> Binding:
    """A table ``id`` = 0 to count - 1 (key), ``v`` = id * 10, bound as it is."""
    columns = types(id="int", v="int")
    name = store.create(table, columns, ["id"], [(number, number * 10) for number in range(count)])
    return binding(name, columns, ["id"])
