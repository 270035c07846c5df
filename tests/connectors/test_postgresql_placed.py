"""COPY's bytes digested where they lie: digests, dead letters and errors are those of decoder and plain digester."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from edge_agent.connectors.postgresql.decode import decode_batches
from edge_agent.connectors.postgresql.fast import FAST
from edge_agent.connectors.postgresql.placing import FORMS, placed
from edge_agent.connectors.postgresql.primitives import PLAIN
from edge_agent.connectors.postgresql.projection import Output, Projection
from edge_agent.connectors.postgresql.tuples import Tuples
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.digest import DatasetKeys
from paritree.core.digester import DigestBatch, PlainDigester
from paritree.core.errors import InvariantBroken, SourceError
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import BoundColumn, Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(32), "orders")
KINDS = {
    "bool": ["bool"],
    "int2": ["int", "decimal", "float"],
    "int4": ["int", "decimal(2)", "float"],
    "int8": ["int", "decimal", "float"],
    "float4": ["float"],
    "float8": ["float"],
    "numeric": ["decimal", "decimal(2)", "decimal(0)", "int"],
    "text": ["text", "int", "decimal", "uuid", "timestamp", "json", "inet", "float"],
    "bytea": ["bytes", "text", "uuid"],
    "date": ["date"],
    "time": ["time", "time(s)"],
    "timestamp": ["timestamp", "timestamp(ms)", "datetime(s)"],
    "uuid": ["uuid"],
    "jsonb": ["json"],
    "inet": ["inet"],
    "interval": ["duration"],
    "oid": ["int"],
    "char": ["text"],
}
"""Wire form -> types of a profile that may be bound to it; the last ones have no form in which they could be placed."""
CASES = [(wire, kind) for wire, kinds in KINDS.items() for kind in kinds]
WIDTHS = {"bool": 1, "int2": 2, "int4": 4, "int8": 8, "float4": 4, "float8": 8, "date": 4, "time": 8, "timestamp": 8}
WIDTHS |= {"uuid": 16, "interval": 16, "oid": 4, "char": 1}
TEXTS = ["", "a", "é", "e\u0301", "ＡＢＣ", "a\0b", "-12.50", "1e5", "0012", "NaN", "007f", "x" * 300]


def test_every_form_is_tested() -> None:
    assert set(FORMS) <= set(KINDS)


@st.composite
def numerics(draw: st.DrawFn) -> bytes:
    """As PostgreSQL makes them, and nearly."""
    digits = draw(st.lists(st.sampled_from([0, 1, 5, 10, 99, 1000, 9999]), max_size=6))
    digits += draw(st.sampled_from([[], [], [], [10_000], [65_535]]))
    weight = draw(st.integers(-6, 8))
    sign = draw(st.sampled_from([0, 0, 0, 0x4000, 0x4000, 0xC000, 0xD000, 0xF000, 1]))
    lowest = max(0, 4 * (len(digits) - weight - 1))
    scale = draw(st.one_of(st.just(lowest), st.integers(0, 30), st.sampled_from([0x3FFF, 0x4000, 0xFFFF])))
    count = max(0, len(digits) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1])))
    return struct.pack(f">HhHH{len(digits)}H", count, weight, sign, scale, *digits)


def values(wire: str) -> st.SearchStrategy[bytes | None]:
    if wire == "numeric":
        usual: st.SearchStrategy[bytes] = numerics()
    elif wire in ("text", "jsonb"):
        head = b"\1" if wire == "jsonb" else b""
        usual = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12)).map(lambda text: head + text.encode())
    elif wire in WIDTHS:
        width = WIDTHS[wire]
        ends = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1), b"\x80" + bytes(width - 1)]
        near = struct.pack(">q", (1 << 63) - 1 - 946_684_800_000_000)  # the first microsecond without an int64 of ours
        usual = st.one_of(st.sampled_from([*ends, near[:width]]), st.binary(min_size=width, max_size=width))
        if width == 8:
            usual |= st.integers(-(10**12), 10**12).map(lambda n: struct.pack(">q", n))
    else:
        usual = st.binary(max_size=20)
    return st.one_of(st.none(), usual, usual, usual, usual)


def tuples_of(columns: Sequence[Sequence[bytes | None]]) -> Tuples:
    """Columns of values as COPY has them: row by row, with sizes between."""
    data, at, size = bytearray(), [], []
    for row in zip(*columns, strict=True):
        data += b"\0\2"
        for value in row:
            data += struct.pack(">i", -1 if value is None else len(value))
            at.append(len(data))
            size.append(-1 if value is None else len(value))
            data += value or b""
    shape = (-1, len(columns))
    places, sizes = (np.array(items, np.int32).reshape(shape).T.copy() for items in (at, size))
    return Tuples(np.frombuffer(data, np.uint8), places, sizes)


def projection(wire: str, kind: str) -> tuple[Profile, Projection]:
    types = {"id": parse_type("int"), "value": parse_type(kind)}
    wires = {"id": "int8", "value": wire}
    outputs = tuple(
        Output(BoundColumn(name, types[name], source=name), sql.SQL("x"), EngineType(0, w, w, types[name]))
        for name, w in wires.items()
    )
    nowhere: Any = None
    return Profile("orders", ("id",), types), Projection(nowhere, outputs, (), ("id", "value"), None, {})


def seen(
    batches: Sequence[DigestBatch],
) -> tuple[list[tuple[bytes, bytes, bytes]], list[tuple[int, str, bytes | None]]]:
    rows: list[tuple[bytes, bytes, bytes]] = []
    for batch in batches:
        digests = zip(batch.key_digests, batch.row_digests, batch.locators.to_pylist(), strict=True)
        rows += [(key.tobytes(), row.tobytes(), locator) for key, row, locator in digests]
    return sorted(rows), sorted((d.row, d.reason, d.locator) for batch in batches for d in batch.dead)


def both(wire: str, kind: str, found: Sequence[bytes | None], ids: Sequence[bytes | None]) -> tuple[object, object]:
    """What the specification and what the kernels say of one column: digests and dead letters, or an error."""
    profile, project = projection(wire, kind)
    tuples = tuples_of([ids, found])
    plain = PlainDigester(profile, KEYS, bytes)
    compiled = CompiledDigester(profile, KEYS, bytes)
    outcomes: list[object] = []
    for call in (
        lambda: [plain.digest(batch) for batch in decode_batches(project, tuples, PLAIN)],
        lambda: [compiled.digest(placed(project, tuples, FAST))],
    ):
        try:
            outcomes.append(seen(call()))
        except SourceError:
            outcomes.append(SourceError)
    return outcomes[0], outcomes[1]


def id_bytes(number: int) -> bytes:
    return struct.pack(">q", number)


@pytest.mark.parametrize(("wire", "kind"), CASES)
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_digests_in_place_are_those_of_the_decoder(wire: str, kind: str, data: st.DataObject) -> None:
    found = data.draw(st.lists(values(wire), max_size=9))
    ids = [id_bytes(n) for n in range(len(found))]
    if found and data.draw(st.booleans()):
        ids[data.draw(st.integers(0, len(found) - 1))] = data.draw(st.sampled_from([None, b"", b"\0\1"]))
    expected, got = both(wire, kind, found, ids)
    assert got == expected


@given(wire=st.sampled_from(sorted(KINDS)), found=st.lists(st.none() | st.binary(max_size=24), max_size=5))
@example(wire="numeric", found=[b"\0\1\x7f\xff\0\0\0\0\0\1"])
@settings(deadline=None, max_examples=400)
def test_any_bytes_in_place_are_those_of_the_decoder(wire: str, found: list[bytes | None]) -> None:
    expected, got = both(wire, KINDS[wire][0], found, [id_bytes(n) for n in range(len(found))])
    assert got == expected


def test_a_batch_of_all_sizes() -> None:
    for count in (0, 1, 255, 256, 257, 65_537):
        ids = [id_bytes(n) for n in range(count)]
        found = [None if n % 97 == 0 else f"text {n} é".encode() for n in range(count)]
        profile, project = projection("text", "text")
        tuples = tuples_of([ids, found]) if count else Tuples(np.zeros(0, np.uint8), *np.zeros((2, 2, 0), np.int32))
        compiled = CompiledDigester(profile, KEYS, bytes)
        decoded = [compiled.digest(batch) for batch in decode_batches(project, tuples, FAST)]
        assert seen([compiled.digest(placed(project, tuples, FAST))]) == seen(decoded)


@pytest.mark.parametrize(("at", "size"), [(1 << 30, 8), (-4, 8), (90, 8), (0, 1 << 30)])
def test_a_place_outside_the_data_is_never_read(at: int, size: int) -> None:
    profile, project = projection("int8", "int")
    tuples = tuples_of([[id_bytes(1)], [id_bytes(2)]])
    tuples.at[1, 0], tuples.size[1, 0] = at, size
    with pytest.raises(InvariantBroken, match="past the end"):
        CompiledDigester(profile, KEYS, bytes).digest(placed(project, tuples, FAST))
