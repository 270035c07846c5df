"""Arrow carriers to plain values: every type of the contract, and every shape an array of it can come in."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.canonical import encode
from paritree.core.canonical.times import Nanos
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.types import parse_type

INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


def plain(array: pa.Array, kind: str) -> list[Any]:
    """Plain values, with the reason in place of a dead letter."""
    return [f"dead: {v.message}" if isinstance(v, DeadLetter) else v for v in plain_values(array, parse_type(kind))]


ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
DURATION = struct.pack(">iiq", 14, -3, 1)
CASES: list[tuple[str, Any, list[Any], list[Any]]] = [
    ("bool", pa.bool_(), [True, False], [True, False]),
    *(("int", kind, [1, 2], [1, 2]) for kind in (pa.int8(), pa.uint16(), pa.int64())),
    ("int", pa.uint64(), [(1 << 64) - 1], [(1 << 64) - 1]),
    ("int", pa.decimal256(60, 0), [Decimal(10**50)], [Decimal(10**50)]),
    ("int", pa.utf8(), ["12"], ["12"]),
    ("decimal", pa.decimal32(5, 2), [Decimal("1.10")], [Decimal("1.10")]),
    ("decimal", pa.decimal128(38, 10), [Decimal("-0.1")], [Decimal("-0.1")]),
    ("decimal", pa.decimal256(76, 2), [Decimal(10**70)], [Decimal(10**70)]),
    ("decimal", pa.int32(), [5], [5]),
    ("decimal", pa.large_utf8(), ["1E+3", "NaN"], ["1E+3", "NaN"]),
    ("float", pa.float16(), [np.float16(0.5)], [0.5]),
    ("float", pa.float32(), [0.10000000149011612], [0.10000000149011612]),
    ("float", pa.float64(), [0.1], [0.1]),
    *(("text", kind, ["é", ""], ["é", ""]) for kind in (pa.utf8(), pa.large_utf8(), pa.string_view())),
    *(("text", kind, ["é".encode()], ["é"]) for kind in (pa.binary(), pa.large_binary(), pa.binary(2))),
    *(("bytes", kind, [b"\xff\x00"], [b"\xff\x00"]) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
    ("bytes", pa.binary(2), [b"\xff\x00"], [b"\xff\x00"]),
    ("date", pa.date32(), [dt.date(1970, 1, 2)], [1]),
    ("date", pa.date64(), [dt.date(1969, 12, 31)], [-1]),
    ("date", pa.int64(), [INT64_MAX, INT64_MIN, 3], [INT64_MAX, INT64_MIN, 3]),
    ("date", pa.utf8(), ["1970-01-02"], [1]),
    ("time", pa.time32("s"), [dt.time(0, 0, 1)], [1_000_000]),
    ("time", pa.time32("ms"), [dt.time(0, 0, 1)], [1_000_000]),
    ("time", pa.time64("us"), [dt.time(0, 0, 1)], [1_000_000]),
    ("time", pa.time64("ns"), [dt.time(0, 0, 1)], [1_000_000_000]),
    ("time", pa.int64(), [86_400_000_000], [86_400_000_000]),
    ("time", pa.utf8(), ["24:00:00"], [86_400_000_000]),
    ("timestamp", pa.int64(), [INT64_MAX, INT64_MIN, 5], [INT64_MAX, INT64_MIN, 5]),
    ("timestamp", pa.utf8(), ["1970-01-01T00:00:01Z"], [1_000_000]),
    ("datetime", pa.utf8(), ["1970-01-01T00:00:01"], [1_000_000]),
    ("uuid", pa.binary(16), [ID.bytes], [ID.bytes]),
    ("uuid", pa.binary(), [ID.bytes], [ID.bytes]),
    ("uuid", pa.utf8(), [str(ID)], [ID.bytes]),
    ("duration", pa.binary(16), [DURATION], [(14, -3, 1)]),
    ("duration", pa.month_day_nano_interval(), [(14, -3, 1_000)], [(14, -3, 1)]),
    ("duration", pa.duration("ms"), [5], [(0, 0, 5_000)]),
    ("duration", pa.duration("ns"), [-5_000, 1], [(0, 0, -5), "dead: duration finer than a microsecond"]),
    ("inet", pa.utf8(), ["::1/64"], ["::1/64"]),
    ("json", pa.utf8(), ["{}"], ["{}"]),
    ("list<int>", pa.list_(pa.int32()), [[1, None], []], [[1, None], []]),
    ("list<int>", pa.large_list(pa.int32()), [[1]], [[1]]),
    ("list<int>", pa.list_(pa.int32(), 2), [[1, 2], [3, None]], [[1, 2], [3, None]]),
    ("list<int>", pa.list_view(pa.int32()), [[1, None], []], [[1, None], []]),
    ("set<text>", pa.list_(pa.string_view()), [["b", "a"]], [["b", "a"]]),
    ("set<date>", pa.list_(pa.date32()), [[dt.date(1970, 1, 2)]], [[1]]),
    ("map<text,int>", pa.map_(pa.utf8(), pa.int64()), [[("a", 1), ("b", None)], []], [[("a", 1), ("b", None)], []]),
    (
        "struct{a: int, b: list<text>}",
        pa.struct([("b", pa.list_(pa.utf8())), ("a", pa.int8())]),
        [{"a": 1, "b": ["x"]}],
        [{"a": 1, "b": ["x"]}],
    ),
    ("struct{a: int, b: text}", pa.struct([("a", pa.int8())]), [{"a": 1}, {"a": None}], [{"a": 1}, {"a": None}]),
    ("list<list<int>>", pa.list_(pa.list_(pa.int8())), [[[1], None, []]], [[[1], None, []]]),
]
IDS = [f"{kind}-{arrow}" for kind, arrow, _, _ in CASES]


@pytest.mark.parametrize(("kind", "arrow", "given_values", "expected"), CASES, ids=IDS)
def test_every_carrier_in_every_shape(kind: str, arrow: Any, given_values: list[Any], expected: list[Any]) -> None:
    """Whole, with nulls, sliced, empty: what lies outside of the slice or under a null never shows."""
    array = pa.array([None, *given_values, None, *given_values], arrow)
    everything = [None, *expected, None, *expected]
    assert plain(array, kind) == everything
    for start in range(len(array) + 1):
        for stop in range(start, len(array) + 1):
            assert plain(array.slice(start, stop - start), kind) == everything[start:stop]
    assert plain(pa.array([], arrow), kind) == []
    assert plain(pa.nulls(2, arrow), kind) == [None, None]


@pytest.mark.parametrize(("kind", "arrow", "given_values", "expected"), CASES, ids=IDS)
def test_every_carrier_inside_of_a_struct_and_a_list(
    kind: str, arrow: Any, given_values: list[Any], expected: list[Any]
) -> None:
    if "dead" in str(expected):
        return
    child = pa.array([*given_values, None], arrow)
    nested = pa.StructArray.from_arrays([child], ["f"], mask=pa.array([False] * len(given_values) + [True]))
    found = plain(nested.slice(1), f"struct{{f: {kind}}}")
    assert found == [*({"f": value} for value in expected[1:]), None]
    lists = pa.ListArray.from_arrays(pa.array([0, 1, len(child)], pa.int32()), child)
    assert plain(lists.slice(1), f"list<{kind}>") == [[*expected[1:], None]]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize(("kind", "zone"), [("timestamp", "UTC"), ("timestamp", "Europe/Berlin"), ("datetime", None)])
def test_arrow_times_are_finite_and_in_microseconds(unit: str, kind: str, zone: str | None) -> None:
    raw = pa.array([1, -1, INT64_MAX, INT64_MIN, None], pa.int64()).cast(pa.timestamp(unit, zone))
    factor = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[unit]
    found = plain(raw, kind)
    assert found[:2] == [factor, -factor]
    assert found[4] is None
    if unit == "ns":
        assert all(isinstance(value, Nanos) for value in found[:4])
        assert found[2:4] == [INT64_MAX, INT64_MIN]
        assert encode(found[2], parse_type(kind))[2:] == (INT64_MAX // 1_000).to_bytes(8, "big", signed=True)
    else:
        assert found[2:4] == ["dead: time outside the range of 64-bit microseconds"] * 2


@pytest.mark.parametrize(("kind", "zone"), [("timestamp", None), ("datetime", "UTC")])
def test_an_instant_and_a_local_time_are_never_mixed(kind: str, zone: str | None) -> None:
    with pytest.raises(InvariantBroken, match="never mixed"):
        plain(pa.array([0], pa.timestamp("us", zone)), kind)


def test_text_that_is_not_utf8_is_a_dead_letter_alone() -> None:
    offsets = pa.py_buffer(np.array([0, 1, 3, 4], np.int32).tobytes())
    bad = pa.Array.from_buffers(pa.utf8(), 3, [None, offsets, pa.py_buffer(b"a\xff\xfeb")])
    assert plain(bad, "text") == ["a", "dead: text that is not UTF-8", "b"]
    assert plain(bad, "json")[1] == "dead: text that is not UTF-8"
    assert plain(pa.array([b"\xed\xa0\x80"]), "text") == ["dead: text that is not UTF-8"]


def test_garbage_under_a_null_parent_never_shows() -> None:
    offsets = pa.array([0, 2, 4], pa.int32())
    child = pa.array(["x", "x", "1970-01-02", "1970-01-03"])
    lists = pa.ListArray.from_arrays(offsets, child, mask=pa.array([True, False]))
    assert plain(lists, "list<date>") == [None, [1, 2]]
    structs = pa.StructArray.from_arrays([pa.array(["x", "1970-01-02"])], ["d"], mask=pa.array([True, False]))
    assert plain(structs, "struct{d: date}") == [None, {"d": 1}]
    validity = pa.py_buffer(b"\x02")
    fixed = pa.Array.from_buffers(pa.list_(pa.utf8(), 2), 2, [validity], children=[child])
    assert plain(fixed, "list<date>") == [None, [1, 2]]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([["x", "1970-01-02"]]), "list<date>"),
        (pa.array([["x"]]), "set<date>"),
        (pa.array([[("x", 1)]], pa.map_(pa.utf8(), pa.int64())), "map<date,int>"),
        (pa.array([[(1, "x")]], pa.map_(pa.int64(), pa.utf8())), "map<int,date>"),
        (pa.array([{"a": "x"}]), "struct{a: date}"),
        (pa.array([[[{"a": "x"}]]]), "list<list<struct{a: date}>>"),
    ],
)
def test_a_dead_letter_inside_makes_the_whole_value_one(array: pa.Array, kind: str) -> None:
    assert plain(array, kind) == ["dead: not a date (YYYY-MM-DD)"]


def test_an_undeclared_field_is_a_dead_letter_of_its_row() -> None:
    array = pa.array([{"a": 1, "b": 2}, None])
    assert plain(array, "struct{a: int}") == ["dead: struct with an undeclared field", None]


def test_a_date64_within_a_day_is_a_dead_letter() -> None:
    array = pa.Array.from_buffers(pa.date64(), 2, [None, pa.py_buffer(np.array([1, 86_400_000]).tobytes())])
    assert plain(array, "date") == ["dead: a date that is not midnight", 1]


def test_encodings_change_no_value() -> None:
    texts = pa.array(["b", None, "a", "b"])
    assert plain(texts.dictionary_encode().slice(1), "text") == [None, "a", "b"]
    with_null = pa.DictionaryArray.from_arrays(pa.array([0, 1, None]), pa.array(["a", None]))
    assert plain(with_null, "text") == ["a", None, None]
    assert plain(pc.run_end_encode(pa.array([1, 1, None, 2])).slice(1), "int") == [1, None, 2]
    nested = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), texts.dictionary_encode())
    assert plain(nested, "list<text>") == [["b", None], ["a", "b"]]
    assert plain(pa.array([ID.bytes, None], pa.uuid()).slice(0, 1), "uuid") == [ID.bytes]
    assert plain(pa.array(["{}"], pa.json_()), "json") == ["{}"]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1]), "bool"),
        (pa.array([1.5]), "int"),
        (pa.array([1.5]), "decimal"),
        (pa.array([b"x"]), "int"),
        (pa.array([Decimal(1)]), "float"),
        (pa.array([1]), "text"),
        (pa.array([1]), "bytes"),
        (pa.array([0], pa.timestamp("us")), "date"),
        (pa.array([0], pa.date32()), "timestamp"),
        (pa.array([b"x" * 15], pa.binary(15)), "duration"),
        (pa.array(["[]"]), "list<int>"),
        (pa.array([{"a": 1}]), "list<int>"),
        (pa.array([[("a", 1)]], pa.map_(pa.utf8(), pa.int64())), "list<int>"),
        (pa.array([[1]]), "map<int,int>"),
        (pa.array([[("a", 1)]], pa.map_(pa.utf8(), pa.int64())), "struct{a: int}"),
        (pa.array([ID.bytes], pa.uuid()), "text"),
        (pa.array([ID.bytes], pa.uuid()), "bytes"),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), "text"),
    ],
)
def test_what_is_no_carrier_stops_the_scan(array: pa.Array, kind: str) -> None:
    with pytest.raises(InvariantBroken, match="carrier"):
        plain(array, kind)


def test_nulls_of_no_type_are_nulls() -> None:
    assert plain(pa.nulls(2), "map<int,text>") == [None, None]


def test_a_slice_reads_only_its_part_of_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else reading a table slice by slice costs its square."""
    read: list[str] = []
    monkeypatch.setattr("paritree.core.carrier.parse_text", lambda text, _: read.append(text) or text)
    lists = pa.ListArray.from_arrays(pa.array(range(11), pa.int32()), pa.array([str(n) for n in range(10)]))
    assert plain(lists.slice(1, 2), "list<date>") == [["1"], ["2"]]
    assert read == ["1", "2"]


def test_a_dead_letter_keeps_no_batch_alive() -> None:
    (letter,) = plain_values(pa.array(["x"]), parse_type("date"))
    assert isinstance(letter, DeadLetter)
    assert letter.__traceback__ is None


@given(
    st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=4)), max_size=6), st.data()
)
def test_any_slice_of_any_list(items: list[Any], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(items)))
    stop = data.draw(st.integers(start, len(items)))
    for arrow in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_view(pa.int8())):
        assert plain(pa.array(items, arrow).slice(start, stop - start), "list<int>") == items[start:stop]
    pairs = [None if item is None else [(index, value) for index, value in enumerate(item)] for item in items]
    arrow_map = pa.array(pairs, pa.map_(pa.int8(), pa.int8())).slice(start, stop - start)
    assert plain(arrow_map, "map<int,int>") == pairs[start:stop]
