"""Pages digested where they lie: digests and dead letters are those of the plain decoder and the plain digester."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.connectors.cassandra import decode
from edge_agent.connectors.cassandra.cqltype import TABLE, CqlType
from edge_agent.connectors.cassandra.decode import Cell, Rows
from edge_agent.connectors.cassandra.placing import FORMS, placed
from edge_agent.connectors.cassandra.select import Select
from paritree.core.digest import DatasetKeys
from paritree.core.digester import DigestBatch, PlainDigester
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(32), "orders")
MORE_TYPES = {
    "int": ["decimal(2)", "float"],
    "varint": ["int", "decimal"],
    "decimal": ["decimal(0)", "decimal(2)", "int"],
    "text": ["int", "uuid", "timestamp", "decimal"],
    "timestamp": ["timestamp(s)", "timestamp(us)"],
    "time": ["time(s)"],
}
"""What a column may be bound as besides its own logical type."""
SCALARS = [name for name, row in TABLE.items() if row.logical is not None]
CASES = [(name, str(TABLE[name].logical)) for name in SCALARS] + [
    (n, kind) for n in MORE_TYPES for kind in MORE_TYPES[n]
]
WIDTHS = {"tinyint": 1, "smallint": 2, "int": 4, "bigint": 8, "counter": 8, "float": 4, "double": 8, "boolean": 1}
WIDTHS |= {"date": 4, "time": 8, "timestamp": 8, "uuid": 16, "timeuuid": 16}
TEXTS = ["", "a", "é", "e\u0301", "a\0b", "-12.50", "12", "0012", "NaN", "x" * 300]


def test_every_form_is_tested() -> None:
    assert set(FORMS) <= set(SCALARS)


def cells(name: str) -> st.SearchStrategy[Cell]:
    """Values of a type near its limits, and bytes that are none."""
    if name in WIDTHS:
        width = WIDTHS[name]
        ends = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\x80" + bytes(width - 1)]
        usual = st.one_of(st.sampled_from(ends), st.binary(min_size=width, max_size=width))
        if width == 8:
            usual |= st.integers(-(10**14), 10**14).map(lambda n: struct.pack(">q", n))
    elif name == "decimal":
        scales = st.one_of(st.integers(-3, 30), st.sampled_from([2**31 - 1, -(2**31)]))
        usual = st.builds(lambda scale, digits: struct.pack(">i", scale) + digits, scales, st.binary(max_size=10))
    elif name in ("text", "ascii", "varchar"):
        usual = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12)).map(str.encode)
    else:
        usual = st.binary(max_size=10)
    return st.one_of(st.none(), usual, usual, usual, st.binary(max_size=18))


def page(rows: Sequence[Sequence[Cell]]) -> Rows:
    parts = [struct.pack(">i", -1 if cell is None else len(cell)) + (cell or b"") for row in rows for cell in row]
    return Rows(b"head" + b"".join(parts), len(rows), 4)


def seen(
    batches: Sequence[DigestBatch],
) -> tuple[list[tuple[bytes, bytes, bytes]], list[tuple[int, str, bytes | None]]]:
    rows: list[tuple[bytes, bytes, bytes]] = []
    for batch in batches:
        digests = zip(batch.key_digests, batch.row_digests, batch.locators.to_pylist(), strict=True)
        rows += [(key.tobytes(), row.tobytes(), locator) for key, row, locator in digests]
    return sorted(rows), sorted((d.row, d.reason, d.locator) for batch in batches for d in batch.dead)


@pytest.mark.parametrize(("name", "kind"), CASES)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_digests_in_place_are_those_of_the_decoder(name: str, kind: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(cells(name), max_size=9))
    ids: list[Cell] = [struct.pack(">q", n) for n in range(len(values))]
    if values and data.draw(st.booleans()):
        ids[data.draw(st.integers(0, len(values) - 1))] = data.draw(st.sampled_from([None, b"", b"\0\1"]))
    types = {"id": parse_type("int"), "value": parse_type(kind)}
    profile = Profile("orders", ("id",), types)
    bound = tuple(BoundColumn(column, types[column], source=column) for column in types)
    nowhere: Any = None
    select = Select(
        Binding("orders", "orders", ("id",), bound), nowhere, ("id", "value"), (0, 1), (("id",), ("value",)), None, ()
    )
    rows, kinds = page(list(zip(ids, values, strict=True))), [CqlType("bigint"), CqlType(name)]
    plain = PlainDigester(profile, KEYS, bytes).digest(select.batch(rows, kinds, decode.decode))
    assert seen([CompiledDigester(profile, KEYS, bytes).digest(placed(select, rows, kinds))]) == seen([plain])
