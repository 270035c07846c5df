"""Result pages from bytes to Arrow: the plain decoder against known bytes, the fast one against the plain one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.connectors.cassandra import decode, fast
from edge_agent.connectors.cassandra.cqltype import TABLE, CqlType
from edge_agent.connectors.cassandra.decode import Cell, Rows
from paritree.core.errors import SourceError

INT, TEXT, VARINT = CqlType("int"), CqlType("text"), CqlType("varint")
SCALARS = [name for name, row in TABLE.items() if row.logical is not None]
NESTED = [
    CqlType("list", (INT,)),
    CqlType("set", (VARINT,)),
    CqlType("map", (TEXT, CqlType("list", (TEXT,)))),
    CqlType("tuple", (INT, TEXT), ("0", "1")),
    CqlType("udt", (TEXT, CqlType("set", (INT,))), ("street", "floors"), label="address"),
    CqlType("vector", (CqlType("float"),), dimensions=3),
    CqlType("vector", (TEXT,), dimensions=2),
    CqlType("vector", (CqlType("smallint"),), dimensions=2),
]
KINDS = [*map(CqlType, SCALARS), *NESTED]


def page(rows: Sequence[Sequence[Cell]], before: bytes = b"") -> Rows:
    """Rows of cells in wire form, behind ``before``, as metadata stands in a frame."""
    cells = [
        struct.pack(">i", -1) if cell is None else struct.pack(">i", len(cell)) + cell for row in rows for cell in row
    ]
    return Rows(before + b"".join(cells), len(rows), len(before))


def sized(*cells: Cell) -> bytes:
    return page([cells]).data


def one(kind: CqlType, cell: Cell) -> tuple[object, str]:
    """The value of one cell and the reason of its reject."""
    found = decode.decode(page([[cell]]), [kind])
    return found.arrays[0].to_pylist()[0], found.rejects[0][2] if found.rejects else ""


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("int", b"\xff\xff\xff\xfe", -2),
        ("tinyint", b"\x80", -128),
        ("boolean", b"\1", True),
        ("boolean", b"\0", False),
        ("text", "é".encode(), "é"),
        ("text", b"", ""),
        ("blob", b"", b""),
        ("varint", b"\x00\x80", 128),
        ("varint", b"\x80", -128),
        ("varint", b"\x00\xff\xff\xff\xff\xff\xff\xff\xff", str(2**64 - 1)),
        ("decimal", struct.pack(">i", 2) + b"\x05", "0.05"),
        ("decimal", struct.pack(">i", 0) + b"\xff", "-1"),
        ("decimal", struct.pack(">i", 3) + b"\xfb\x2e", "-1.234"),
        ("decimal", struct.pack(">i", -2_000_000_000) + b"\1", "1E+2000000000"),
        ("decimal", struct.pack(">i", 2_000_000_000) + b"\1", "1E-2000000000"),
        ("inet", b"\x7f\0\0\1", "127.0.0.1"),
        ("inet", bytes(15) + b"\1", "::1"),
        ("inet", bytes(10) + b"\xff\xff\x7f\0\0\1", "::ffff:127.0.0.1"),
        ("duration", b"\x02\x04\x9f\x40", struct.pack(">iiq", 1, 2, 4)),
        ("duration", b"\x01\x03\x00", struct.pack(">iiq", -1, -2, 0)),
    ],
)
def test_known_bytes(kind: str, cell: bytes, value: object) -> None:
    assert one(CqlType(kind), cell) == (value, "")


def test_times_are_in_the_engines_own_unit() -> None:
    kinds = [CqlType("date"), CqlType("time"), CqlType("timestamp")]
    cells = [struct.pack(">I", (1 << 31) - 1), struct.pack(">q", 86_399_999_999_999), struct.pack(">q", -1)]
    arrays = decode.decode(page([cells]), kinds).arrays
    assert [a.type for a in arrays] == [pa.date32(), pa.time64("ns"), pa.timestamp("ms", "UTC")]
    assert arrays[0].cast(pa.int32()).to_pylist() == [-1]
    assert [a.cast(pa.int64()).to_pylist() for a in arrays[1:]] == [[86_399_999_999_999], [-1]]


def test_huge_whole_numbers_have_all_their_digits() -> None:
    number = 7**6_000  # 5,071 digits: more than str() converts
    value, reason = one(VARINT, number.to_bytes(2_200, "big", signed=True))
    assert reason == ""
    assert isinstance(value, str)
    assert len(value) == 5_071
    assert int(value[:50]) == number // 10 ** (5_071 - 50)


@pytest.mark.parametrize("name", [n for n in SCALARS if n not in ("text", "ascii", "varchar", "blob")])
def test_an_empty_value_is_a_reject_not_null(name: str) -> None:
    value, reason = one(CqlType(name), b"")
    assert value is None
    assert reason == f"an empty {name}: Cassandra holds zero bytes where a value belongs"


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        (INT, b"\0\0\0", "a int of 3 bytes"),
        (CqlType("timestamp"), struct.pack(">q", 1 << 60), "a timestamp outside the range of 64-bit microseconds"),
        (CqlType("time"), struct.pack(">q", 86_400_000_000_000), "a time outside 00:00:00 to 24:00:00"),
        (CqlType("duration"), b"\0\0\x02", "a duration finer than a microsecond"),
        (CqlType("duration"), b"\xff\0", "a variable-length number that is cut off"),
        (CqlType("inet"), bytes(5), "a inet of 5 bytes"),
        (NESTED[0], struct.pack(">i", 1 << 30), "a list that is cut off"),
        (NESTED[0], struct.pack(">i", 1) + sized(bytes(3)), "a int of 3 bytes"),
        (NESTED[2], struct.pack(">i", 1) + sized(None, None), "a map with a null key"),
        (NESTED[3], sized(bytes(4), b"x", b"y"), "a tuple with more fields than it declares"),
        (NESTED[5], bytes(13), "a vector with bytes left over"),
        (NESTED[5], bytes(11), "a vector that is cut off"),
    ],
)
def test_a_cell_that_is_no_value_is_a_reject(kind: CqlType, cell: bytes, reason: str) -> None:
    assert one(kind, cell) == (None, reason)


def test_nested_values() -> None:
    four = struct.pack(">i", 4)
    assert one(NESTED[0], struct.pack(">i", 2) + sized(four, None)) == ([4, None], "")
    assert one(NESTED[1], struct.pack(">i", 1) + sized(b"\1")) == (["1"], "")
    assert one(NESTED[2], struct.pack(">i", 1) + sized(b"k", struct.pack(">i", 0))) == ([(b"k", [])], "")
    assert one(NESTED[3], sized(four, b"a")) == ({"0": 4, "1": b"a"}, "")
    assert one(NESTED[3], sized(four)) == ({"0": 4, "1": None}, "")  # written before the second field was added
    assert one(NESTED[5], struct.pack(">fff", 1, 2, 3)) == ([1.0, 2.0, 3.0], "")
    assert one(NESTED[6], b"\1a\2bc") == ([b"a", b"bc"], "")


def same(left: decode.Columns, right: decode.Columns) -> None:
    assert left.rejects == right.rejects
    for a, b in zip(left.arrays, right.arrays, strict=True):
        assert a.type == b.type
        b.validate(full=not pa.types.is_string(b.type))  # texts may hold bytes that are not UTF-8
        assert raw(a) == raw(b)


def raw(array: pa.Array) -> list[object]:
    """Values as Python objects that compare bit by bit: NaN too, and times beyond Python's calendar."""
    kind = array.type
    if pa.types.is_floating(kind):
        return [
            None if v is None else struct.pack(">d", v + 0.0 if v == v else float("nan")) for v in array.to_pylist()
        ]
    if pa.types.is_string(kind):
        return list(array.view(pa.binary()).to_pylist())
    if pa.types.is_temporal(kind):
        return list(array.view(pa.int32() if pa.types.is_date32(kind) else pa.int64()).to_pylist())
    if pa.types.is_nested(kind):
        return list(map(repr, array.to_pylist()))
    return list(array.to_pylist())


SIZES = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 16, 17])
CELL = st.none() | st.binary(max_size=24) | SIZES.flatmap(lambda n: st.binary(min_size=n, max_size=n))
NUMBER = st.tuples(st.integers(-3, 45), st.integers(-(1 << 70), 1 << 70)).map(
    lambda pair: struct.pack(">i", pair[0]) + pair[1].to_bytes((pair[1].bit_length() // 8) + 1, "big", signed=True)
)
LIST = st.lists(CELL, max_size=3).map(lambda cells: struct.pack(">i", len(cells)) + sized(*cells))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_fast_decoder_gives_what_the_plain_one_gives(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    row = st.tuples(*(CELL | NUMBER | LIST for _ in kinds))
    rows = page(data.draw(st.lists(row, max_size=12)), before=data.draw(st.binary(max_size=3)))
    same(decode.decode(rows, kinds), fast.decode(rows, kinds))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_broken_pages_are_source_errors_in_both(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from([INT, TEXT, VARINT, CqlType("decimal")]), min_size=1, max_size=3))
    rows = page(data.draw(st.lists(st.tuples(*(CELL for _ in kinds)), min_size=1, max_size=4)))
    torn = bytearray(rows.data)
    for _ in range(data.draw(st.integers(0, 3))):
        torn[data.draw(st.integers(0, len(torn) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(torn[: data.draw(st.integers(0, len(torn)))]) + data.draw(st.binary(max_size=5))
    broken = Rows(cut, data.draw(st.just(rows.count) | st.integers(0, 1 << 31)), 0)
    outcomes = []
    for decoder in (decode.decode, fast.decode):
        try:
            outcomes.append(decoder(broken, kinds))
        except SourceError:
            outcomes.append(None)
    plain, quick = outcomes
    assert (plain is None) == (quick is None)
    if plain is not None and quick is not None:
        same(plain, quick)


@pytest.mark.parametrize("decoder", [decode.decode, fast.decode])
@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\5abcd", b"\x7f\xff\xff\xffabcd", b"\0\0\0\1ab"])
def test_a_page_whose_lengths_do_not_add_up(decoder: object, data: bytes) -> None:
    assert callable(decoder)
    with pytest.raises(SourceError, match="lengths do not add up"):
        decoder(Rows(data, 1, 0), [INT])
