"""The decoder against made bytes: the compiled primitives equal the plain ones; malformed bytes end in SourceError."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.connectors.postgresql import primitives
from edge_agent.connectors.postgresql.copy import CopyAnswer
from edge_agent.connectors.postgresql.decode import decode
from edge_agent.connectors.postgresql.encode import encode_numeric
from edge_agent.connectors.postgresql.fast import FAST
from edge_agent.connectors.postgresql.primitives import PLAIN, Fields, Primitives, TooLarge, numeric_text
from edge_agent.connectors.postgresql.tuples import (
    FRAME,
    FULL,
    MALFORMED,
    MORE,
    SIGNATURE,
    TRAILER,
    TupleReader,
    locate,
)
from edge_agent.connectors.postgresql.types import EngineType
from paritree.core.errors import SourceError
from paritree.core.types import LogicalType

Row = Sequence[bytes | None]
HEADER = SIGNATURE + bytes(8)
TRAILING = struct.pack(">h", -1)
BOTH = pytest.mark.parametrize("use", [PLAIN, FAST], ids=["plain", "fast"])
COPY_OUT, COPY_DONE, READY = b"H\0\0\0\x07\1\0\0", b"c\0\0\0\4", b"Z\0\0\0\5T"


def tuple_bytes(row: Row) -> bytes:
    fields = [struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value for value in row]
    return struct.pack(">h", len(row)) + b"".join(fields)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def complete(tag: bytes) -> bytes:
    return message(b"C", tag + b"\0")


def stream_bytes(rows: Sequence[Row], framed: bool) -> bytes:
    """What the server sends for those rows: the header shares the first message with the first row."""
    if not framed:
        return HEADER + b"".join(map(tuple_bytes, rows)) + TRAILING
    bodies = [*map(tuple_bytes, rows), TRAILING]
    bodies[0] = HEADER + bodies[0]
    data = b"".join(message(b"d", body) for body in bodies)
    return COPY_OUT + data + COPY_DONE + complete(b"COPY %d" % len(rows)) + READY


class Script:
    """A stream of given bytes, handed out in pieces of given sizes."""

    def __init__(self, data: bytes, framed: bool, sizes: Sequence[int] = (1 << 20,), count: int | None = None) -> None:
        self.data, self.framed, self.sizes = data, framed, list(sizes)
        self.count = count
        self.answer = CopyAnswer("testing")
        self.turn = 0

    def fill(self, into: memoryview) -> int:
        size = min(len(into), self.sizes[self.turn % len(self.sizes)], len(self.data))
        self.turn += 1
        if not size and self.framed:
            raise SourceError("the connection ended")
        into[:size], self.data = self.data[:size], self.data[size:]
        return size

    def message(self, kind: int, body: bytes) -> bool:
        return self.answer.message(kind, body)

    def rows_sent(self) -> int:
        return self.answer.rows_sent() if self.framed or self.count is None else self.count


def read(script: Script, columns: int, use: Primitives, rows_max: int = 3) -> list[list[bytes | None]]:
    """The rows that a reader finds in a stream, as bytes."""
    found: list[list[bytes | None]] = []
    for tuples in TupleReader(script, columns, use.locate, rows_max):
        assert 0 < tuples.rows <= rows_max
        data = tuples.data.tobytes()
        found += [
            [
                None if size < 0 else data[at : at + size]
                for at, size in zip(tuples.at[:, row].tolist(), tuples.size[:, row].tolist(), strict=True)
            ]
            for row in range(tuples.rows)
        ]
    return found


VALUES = st.one_of(st.none(), st.binary(max_size=40))


@st.composite
def tables(draw: st.DrawFn) -> list[list[bytes | None]]:
    columns = draw(st.integers(0, 5))
    return draw(st.lists(st.lists(VALUES, min_size=columns, max_size=columns), max_size=12))


@BOTH
@given(rows=tables(), framed=st.booleans(), sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4))
@settings(deadline=None)
def test_reader_finds_every_row_however_the_bytes_arrive(
    use: Primitives, rows: list[list[bytes | None]], framed: bool, sizes: list[int]
) -> None:
    columns = len(rows[0]) if rows else 2
    script = Script(stream_bytes(rows, framed), framed, sizes, count=len(rows))
    assert read(script, columns, use) == rows


@BOTH
@given(rows=tables(), framed=st.booleans(), cut=st.integers(0, 400), noise=st.binary(max_size=8))
@settings(deadline=None)
def test_reader_never_takes_a_damaged_stream_for_a_whole_one(
    use: Primitives, rows: list[list[bytes | None]], framed: bool, cut: int, noise: bytes
) -> None:
    """Cut or overwritten anywhere: an error, or exactly the rows of a stream that was not damaged in what counts."""
    columns = len(rows[0]) if rows else 2
    whole = stream_bytes(rows, framed)
    damaged = whole[:cut] + noise + whole[cut + len(noise) :] if noise else whole[:cut]
    script = Script(damaged, framed, [64], count=len(rows))
    try:
        found = read(script, columns, use)
    except SourceError:
        return
    assert len(found) == len(rows)
    if not noise:
        assert damaged == whole
        assert found == rows


@BOTH
@pytest.mark.parametrize("framed", [True, False])
def test_reader_grows_its_buffer_for_a_large_row(
    use: Primitives, framed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.connectors.postgresql.tuples.BUFFER_BYTES", 64)
    rows: list[Row] = [[b"a" * 10], [b"b" * 5_000], [None], [b"c" * 200]]
    assert read(Script(stream_bytes(rows, framed), framed, [50], count=4), 1, use) == rows


@BOTH
@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(SIGNATURE, b"PGCOPX\n\xff\r\n\0"),
        lambda data: data.replace(HEADER, SIGNATURE + b"\0\1\0\0" + bytes(4)),
        lambda data: data.replace(HEADER, SIGNATURE + bytes(4) + b"\0\0\0\1"),
        lambda data: data.replace(tuple_bytes([b"two"]), tuple_bytes([b"two"]).replace(b"\0\3", b"\x7f\3")),
        lambda data: data.replace(tuple_bytes([b"two"]), b"\0\2" + tuple_bytes([b"two"])[2:]),
    ],
)
def test_reader_refuses(use: Primitives, framed: bool, damage: Callable[[bytes], bytes]) -> None:
    data = stream_bytes([[b"one"], [b"two"]], framed)
    assert damage(data) != data
    with pytest.raises(SourceError):
        read(Script(damage(data), framed, count=2), 1, use)


@BOTH
def test_reader_refuses_rows_after_the_trailer_and_a_wrong_count(use: Primitives) -> None:
    row = tuple_bytes([b"x"])
    with pytest.raises(SourceError, match=r"after the end|in the middle"):
        read(Script(HEADER + TRAILING + row, False, count=1), 1, use)
    with pytest.raises(SourceError, match="the server sent 2 rows, 1 arrived"):
        read(Script(HEADER + row + TRAILING, False, count=2), 1, use)
    with pytest.raises(SourceError, match="in the middle"):
        read(Script(HEADER + row, False, count=1), 1, use)
    with pytest.raises(SourceError, match="in the middle"):
        read(Script(b"", False, count=0), 1, use)


@given(
    data=st.binary(max_size=120),
    columns=st.integers(0, 3),
    framed=st.booleans(),
    start=st.integers(0, 20),
    room=st.integers(1, 4),
)
@settings(deadline=None, max_examples=400)
def test_locate_is_equal_on_any_bytes(data: bytes, columns: int, framed: bool, start: int, room: int) -> None:
    compare_locate(data, columns, framed, min(start, len(data)), room)


@given(rows=tables(), framed=st.booleans(), cut=st.integers(0, 200), room=st.integers(1, 20))
@settings(deadline=None)
def test_locate_is_equal_on_real_rows(rows: list[list[bytes | None]], framed: bool, cut: int, room: int) -> None:
    bodies = [*map(tuple_bytes, rows), TRAILING]
    data = b"".join(message(b"d", body) for body in bodies) if framed else b"".join(bodies)
    compare_locate(data[:cut] if cut < 150 else data, len(rows[0]) if rows else 1, framed, 0, room)


def compare_locate(data: bytes, columns: int, framed: bool, start: int, room: int) -> None:
    buffer = np.frombuffer(bytearray(data), np.uint8)
    results = []
    for function in (locate, FAST.locate):
        at, size = np.full((columns, room), -7, np.int32), np.full((columns, room), -7, np.int32)
        rows, position, why = function(buffer, start, len(data), framed, at, size)
        assert why in (MORE, FULL, FRAME, TRAILER, MALFORMED)
        assert start <= position <= len(data)
        results.append((rows, position, why, at[:, :rows].tolist(), size[:, :rows].tolist()))
    assert results[0] == results[1]


def fields(values: Sequence[bytes | None]) -> Fields:
    """A column of those values, with bytes between them that belong to none."""
    data = bytearray(b"\xee")
    at, size = [], []
    for value in values:
        at.append(len(data))
        size.append(-1 if value is None else len(value))
        data += (value or b"") + b"\xee"
    return Fields(np.frombuffer(data, np.uint8), np.array(at, np.int32), np.array(size, np.int32))


def outcome(call: Callable[[], object]) -> object:
    """What a primitive gives, or the error that it ends in, to be compared."""
    try:
        result = call()
    except (SourceError, TooLarge) as error:
        return type(error)
    if isinstance(result, tuple):
        return [(part.dtype, part.tolist()) for part in result]
    assert isinstance(result, np.ndarray)
    return result.dtype, result.tolist()


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@given(data=st.data())
@settings(deadline=None)
def test_words_are_equal(width: int, data: st.DataObject) -> None:
    exact = st.one_of(st.none(), st.binary(min_size=width, max_size=width))
    column = fields(data.draw(st.one_of(st.lists(exact, max_size=9), st.lists(VALUES, max_size=3))))
    assert outcome(lambda: PLAIN.words(column, width)) == outcome(lambda: FAST.words(column, width))


@given(st.one_of(st.lists(st.one_of(st.none(), st.binary(min_size=16, max_size=16))), st.lists(VALUES)))
@settings(deadline=None)
def test_blocks_are_equal(values: list[bytes | None]) -> None:
    column = fields(values)
    assert outcome(lambda: PLAIN.blocks(column)) == outcome(lambda: FAST.blocks(column))


@given(st.lists(VALUES))
@settings(deadline=None)
def test_texts_are_equal(values: list[bytes | None]) -> None:
    column = fields(values)
    assert outcome(lambda: PLAIN.texts(column)) == outcome(lambda: FAST.texts(column))


@st.composite
def numerics(draw: st.DrawFn) -> bytes:
    """Binary numerics, most of them as PostgreSQL makes them, some only nearly."""
    digits = draw(st.lists(st.sampled_from([0, 1, 5, 10, 99, 1000, 9999]), max_size=6))
    if draw(st.integers(0, 20)) == 0:
        digits.append(draw(st.sampled_from([10_000, 65_535])))
    weight = draw(st.integers(-6, 8))
    sign = draw(st.sampled_from([0, 0, 0, 0x4000, 0x4000, 0xC000, 0xD000, 0xF000, 1, 0x8000]))
    lowest = max(0, 4 * (len(digits) - weight - 1))
    scale = draw(st.one_of(st.just(lowest), st.integers(0, 30), st.sampled_from([0x3FFF, 0x4000, 0xFFFF])))
    count = len(digits) + draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]))
    return struct.pack(f">HhHH{len(digits)}H", max(count, 0), weight, sign, scale, *digits)


@given(st.lists(st.one_of(st.none(), numerics()), max_size=4))
@settings(deadline=None, max_examples=500)
def test_decimals_are_equal(values: list[bytes | None]) -> None:
    column = fields(values)
    assert outcome(lambda: PLAIN.decimals(column)) == outcome(lambda: FAST.decimals(column))


@given(st.lists(VALUES, max_size=4))
@settings(deadline=None)
def test_decimals_of_any_bytes_are_equal(values: list[bytes | None]) -> None:
    column = fields(values)
    assert outcome(lambda: PLAIN.decimals(column)) == outcome(lambda: FAST.decimals(column))


@given(st.decimals(allow_nan=True, allow_infinity=True))
@settings(deadline=None)
def test_numeric_text_reads_what_encode_writes(value: Decimal) -> None:
    encoded = encode_numeric(value)
    if encoded is None:
        assert abs(value.adjusted()) > 16_000
        return
    text = numeric_text(encoded).decode()
    assert (text == "NaN") if value.is_nan() else Decimal(text) == value


def test_places_outside_the_data_are_refused_by_the_compiled_primitives() -> None:
    data = np.zeros(16, np.uint8)
    for at, size in [(12, 8), (-4, 8), (1 << 30, 8), (2_147_483_647, 8), (16, 1)]:
        column = Fields(data, np.array([at], np.int32), np.array([size], np.int32))
        for call in (
            lambda c=column: FAST.words(c, 8),
            lambda c=column: FAST.words(c, 4),
            lambda c=column: FAST.words(c, 1),
            lambda c=column: FAST.blocks(c),
            lambda c=column: FAST.texts(c),
            lambda c=column: FAST.decimals(c),
        ):
            with pytest.raises(SourceError):
                call()


@BOTH
def test_a_batch_of_huge_numerics_is_cut_not_refused(use: Primitives, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitives, "COLUMN_BYTES_MAX", 100_000)
    monkeypatch.setattr("edge_agent.connectors.postgresql.fast.COLUMN_BYTES_MAX", 100_000)
    huge = struct.pack(">HhHHH", 1, 9_999, 0, 0, 1)
    assert outcome(lambda: use.decimals(fields([huge, huge, huge]))) is TooLarge
    assert outcome(lambda: use.decimals(fields([huge, huge]))) is not TooLarge


SCALARS = {
    name: EngineType(0, name, name, LogicalType("text"))
    for name in ("text", "int4", "jsonb", "inet", "char", "timestamp", "date", "interval", "numeric", "bool")
}
NESTED = {
    "array": EngineType(0, "int4[]", "array", None, element=SCALARS["int4"]),
    "arrays": EngineType(0, "x[]", "array", None, element=EngineType(0, "t[]", "array", None, element=SCALARS["text"])),
    "composite": EngineType(
        0,
        "pair",
        "composite",
        None,
        fields=(("a", SCALARS["int4"]), ("b", EngineType(0, "", "array", None, element=SCALARS["numeric"]))),
    ),
    "hstore": EngineType(0, "hstore", "hstore", None),
}


@pytest.mark.parametrize("kind", [*SCALARS.values(), *NESTED.values()], ids=[*SCALARS, *NESTED])
@given(values=st.lists(st.one_of(st.none(), st.binary(max_size=30)), max_size=4))
@settings(deadline=None)
def test_any_bytes_decode_or_end_in_source_error(kind: EngineType, values: list[bytes | None]) -> None:
    column = fields(values)
    results: list[object] = []
    for use in (PLAIN, FAST):
        try:
            decoded = decode(kind, column, use)
        except SourceError:
            results.append(SourceError)
        else:
            assert len(decoded.array) == len(values)
            results.append((decoded.array.type, decoded.array.is_null().to_pylist(), decoded.rejects))
    assert results[0] == results[1]


@st.composite
def items(draw: st.DrawFn, count: int) -> bytes:
    parts = []
    for _ in range(count):
        value = draw(st.one_of(st.none(), st.binary(max_size=6), st.just(bytes(4))))
        size = -1 if value is None else len(value) + draw(st.sampled_from([0, 0, 0, 0, 5, -3]))
        parts.append(struct.pack(">i", size) + (value or b""))
    return b"".join(parts)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_nearly_right_arrays_decode_or_end_in_source_error(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 4))
    said = count + data.draw(st.sampled_from([0, 0, 0, 1, -1, 1 << 30]))
    dimensions = data.draw(st.sampled_from([0, 1, 1, 1, 1, 2, 7, -1]))
    value = struct.pack(">iiIii", dimensions, 0, 23, said, 1) + data.draw(items(count))
    try:
        decoded = decode(NESTED["array"], fields([value]))
    except SourceError:
        return
    assert isinstance(decoded.array, pa.ListArray)
    assert dimensions in (0, 2) or len(decoded.array[0]) == said
    decoded.array.validate(full=True)
