"""Every logical type in every carrier gives what the plain digester gives: digests, locators and dead letters."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paritree.core.digester import REJECTS
from paritree.core.profile import Profile
from paritree.core.types import LogicalType, parse_type

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
DAY_US = 86_400_000_000
ROUNDINGS = ("floor", "truncate", "half_up", "half_even")
REJECTS_TYPE = pa.list_(pa.struct([("column", pa.utf8()), ("reason", pa.utf8())]))

Make = Callable[[list[Any]], pa.Array]
Carrier = tuple[Make, st.SearchStrategy[Any]]


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    """Integers near every limit where the canonical form changes, and others."""
    edges = {
        sign * (1 << bits) + near
        for bits in (0, 5, 7, 8, 15, 16, 31, 32, 53, 63, 64)
        for sign in (1, -1)
        for near in (-1, 0, 1)
    }
    inside = sorted(edge for edge in edges | {0, low, high} if low <= edge <= high)
    return st.sampled_from(inside) | st.integers(low, high)


def arrow(kind: pa.DataType) -> Make:
    return lambda values: pa.array(values, kind)


def viewed(kind: pa.DataType) -> Make:
    """Times from their ticks, whatever they are."""
    ticks = pa.int32() if kind.bit_width == 32 else pa.int64()
    return lambda values: pa.array(values, ticks).view(kind)


def ticks(kind: pa.DataType) -> st.SearchStrategy[int]:
    bits = kind.bit_width
    around = st.sampled_from((0, DAY_US, 1_767_225_600_123_456)).flatmap(
        lambda middle: st.integers(middle - 3, middle + 3)
    )
    halves = st.integers(-9, 9).map(lambda n: n * 500) | st.integers(-9, 9).map(lambda n: n * 500_000)
    wide = integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    return (halves | around | wide | st.integers(-(10**7), 10**14)).filter(
        lambda n: -(1 << (bits - 1)) <= n < 1 << (bits - 1)
    )


def extension(kind: pa.DataType, storage: pa.DataType) -> Make:
    return lambda values: pa.ExtensionArray.from_storage(kind, pa.array(values, storage))


def run_ends(kind: pa.DataType) -> Make:
    return lambda values: pc.run_end_encode(pa.array(values, kind))


def as_binary(kind: pa.DataType) -> Make:
    """Text types with bytes that may not be text."""
    binary = pa.large_binary() if kind == pa.large_utf8() else pa.binary()
    return lambda values: pa.array(values, binary).view(kind)


INTEGERS = {
    pa.int8(): (-(1 << 7), (1 << 7) - 1),
    pa.int16(): (-(1 << 15), (1 << 15) - 1),
    pa.int32(): (-(1 << 31), (1 << 31) - 1),
}
INTEGERS |= {pa.int64(): (INT64_MIN, INT64_MAX), pa.uint8(): (0, 255), pa.uint16(): (0, (1 << 16) - 1)}
INTEGERS |= {pa.uint32(): (0, (1 << 32) - 1), pa.uint64(): (0, (1 << 64) - 1)}
INTEGER_CARRIERS: list[Carrier] = [(arrow(kind), integers(*limits)) for kind, limits in INTEGERS.items()]


def decimal_carrier(kind: pa.DataType) -> Carrier:
    unscaled = integers(-(10**18), 10**18) | st.integers(-(10**kind.precision) + 1, 10**kind.precision - 1)
    fits = unscaled.filter(lambda n: abs(n) < 10**kind.precision)
    return arrow(kind), fits.map(lambda n: Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -kind.scale)))


DECIMALS = [
    pa.decimal128(12, 2),
    pa.decimal128(38, 0),
    pa.decimal128(19, 0),
    pa.decimal128(38, 10),
    pa.decimal128(22, 22),
]
DECIMALS += [
    pa.decimal128(38, 30),
    pa.decimal128(5, -3),
    pa.decimal256(30, 4),
    pa.decimal256(60, 7),
    pa.decimal64(18, 3),
]
DECIMAL_CARRIERS = [decimal_carrier(kind) for kind in DECIMALS]

NUMBER_TEXTS = st.one_of(
    st.from_regex(r"[+-]?[0-9]{1,25}(\.[0-9]{0,25})?", fullmatch=True),
    st.from_regex(r"-?0{0,30}[0-9]{1,6}\.[0-9]{0,4}0{0,30}", fullmatch=True),
    st.from_regex(r"[+-]?\.?[0-9]{0,3}[eE][+-]?[0-9]{1,3}", fullmatch=True),
    st.sampled_from(
        ("NaN", "-Infinity", "inf", "", "-", "+", ".", "-.5", "5.", "1..2", "1 ", " 1", "1_0", "٣", "1e5", "0x1")
    ),
    st.sampled_from(("9" * 18, "9" * 19, "1" + "0" * 18, "-" + "0" * 40, "2.5", "-2.5", "0.05", "99.995", "1" * 1000)),
    integers(INT64_MIN, 1 << 64).map(str),
)
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(max_codepoint=0x2FF), max_size=40),
    st.text("aB \tZz{@[`", max_size=70),
    st.text("éß ǅİ가각あ́aA", max_size=12),
    st.sampled_from(("a" * 31, "a" * 32, "x" * 255, "y" * 256, "z" * 65_535 + " ", "e\u0301", "\u0340", "a\0b", "   ")),
)
RAW = st.one_of(
    st.binary(max_size=20),
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        (
            b"\xed\xa0\x80",
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xf4\x90\x80\x80",
            b"\xf0\x8f\xbf\xbf",
            b"ab\xc3",
            b"\x80",
            b"\xff",
        )
    ),
    st.sampled_from(
        (
            b"\xed\x9f\xbf",
            b"\xee\x80\x80",
            b"\xf4\x8f\xbf\xbf",
            b"\xf0\x90\x80\x80",
            b"\xe0\xa0\x80",
            b"0123456\xc2\x80",
        )
    ),
)
TEXT_CARRIERS: list[Carrier] = [
    (arrow(pa.utf8()), TEXTS),
    (arrow(pa.large_utf8()), TEXTS),
    (arrow(pa.binary()), RAW),
    (arrow(pa.large_binary()), RAW),
    (as_binary(pa.utf8()), RAW),
    (as_binary(pa.large_utf8()), RAW),
    (arrow(pa.binary(5)), st.binary(min_size=5, max_size=5) | st.just(b"abcde") | st.just(b"AB\xc3\xa9 ")),
    (lambda values: pa.array(values, pa.utf8()).dictionary_encode(), TEXTS),
    (run_ends(pa.utf8()), TEXTS),
    (arrow(pa.string_view()), TEXTS),
    (arrow(pa.binary_view()), RAW),
    (extension(pa.uuid(), pa.binary(16)), st.binary(min_size=16, max_size=16)),
]
UUID_TEXTS = st.uuids().flatmap(
    lambda u: st.sampled_from(
        (str(u), str(u).upper(), u.hex, f"{{{u}}}", f"urn:uuid:{u}", str(u)[:-1] + "g", str(u).replace("-", ",")[:36])
    )
)
SIXTEEN = st.binary(min_size=16, max_size=16)
CLOCKS = [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")]
TIME_TEXTS = st.sampled_from(
    (
        "12:00:00",
        "24:00:00",
        "25:00:00",
        "2026-01-01",
        "2026-01-01 00:00:00.5Z",
        "2026-01-01T00:00:00.123456789",
        "infinity",
        "x",
    )
)
FLOATS = st.floats() | st.sampled_from((-0.0, 5e-324, float("nan"), float("-inf")))

CARRIERS: dict[str, list[Carrier]] = {
    "bool": [(arrow(pa.bool_()), st.booleans()), (arrow(pa.utf8()), st.sampled_from(("t", "false", "yes")))],
    "int": [
        *INTEGER_CARRIERS,
        *DECIMAL_CARRIERS,
        (arrow(pa.utf8()), NUMBER_TEXTS),
        (arrow(pa.large_utf8()), NUMBER_TEXTS),
        (as_binary(pa.utf8()), RAW),
        (lambda values: pa.array(values, pa.int64()).dictionary_encode(), integers(INT64_MIN, INT64_MAX)),
    ],
    "decimal": [
        *INTEGER_CARRIERS,
        *DECIMAL_CARRIERS,
        (arrow(pa.utf8()), NUMBER_TEXTS),
        (arrow(pa.large_utf8()), NUMBER_TEXTS),
        (as_binary(pa.utf8()), RAW),
    ],
    "float": [
        *INTEGER_CARRIERS,
        (arrow(pa.float64()), FLOATS),
        (arrow(pa.float32()), st.floats(width=32)),
        (
            lambda values: pa.array([None if v is None else np.float16(v) for v in values], pa.float16()),
            st.floats(width=16),
        ),
        (lambda values: pa.array(values, pa.int64()).view(pa.float64()), st.integers(0x7FEFFFFFFFFFFFFF, INT64_MAX)),
        (arrow(pa.utf8()), st.floats().map(str)),
    ],
    "text": [*TEXT_CARRIERS, (extension(pa.json_(pa.utf8()), pa.utf8()), TEXTS)],
    "bytes": [*TEXT_CARRIERS, (arrow(pa.utf8()), st.binary().map(bytes.hex))],
    "date": [
        *INTEGER_CARRIERS,
        (viewed(pa.date32()), integers(-(1 << 31), (1 << 31) - 1)),
        (arrow(pa.utf8()), TIME_TEXTS),
    ],
    "time": [
        *INTEGER_CARRIERS,
        *((viewed(kind), ticks(kind)) for kind in CLOCKS),
        (arrow(pa.int64()), ticks(pa.int64())),
        (arrow(pa.utf8()), TIME_TEXTS),
    ],
    "timestamp": [
        *INTEGER_CARRIERS,
        *((viewed(pa.timestamp(unit, "UTC")), ticks(pa.int64())) for unit in ("s", "ms", "us", "ns")),
        (viewed(pa.timestamp("us")), ticks(pa.int64())),
        (arrow(pa.int64()), ticks(pa.int64())),
        (arrow(pa.utf8()), TIME_TEXTS),
    ],
    "datetime": [
        *INTEGER_CARRIERS,
        *((viewed(pa.timestamp(unit)), ticks(pa.int64())) for unit in ("s", "ms", "us", "ns")),
        (viewed(pa.timestamp("ms", "Europe/Berlin")), ticks(pa.int64())),
        (arrow(pa.int64()), ticks(pa.int64())),
        (arrow(pa.utf8()), TIME_TEXTS),
    ],
    "uuid": [
        (arrow(pa.binary(16)), SIXTEEN),
        (extension(pa.uuid(), pa.binary(16)), SIXTEEN),
        (arrow(pa.binary_view()), SIXTEEN),
        (arrow(pa.binary()), SIXTEEN | st.binary(max_size=18)),
        (arrow(pa.large_binary()), SIXTEEN),
        (arrow(pa.binary(15)), st.binary(min_size=15, max_size=15)),
        (arrow(pa.utf8()), UUID_TEXTS),
        (arrow(pa.large_utf8()), UUID_TEXTS),
        (as_binary(pa.utf8()), SIXTEEN),
    ],
    "duration": [
        (arrow(pa.binary(16)), SIXTEEN),
        (arrow(pa.binary(15)), st.binary(min_size=15, max_size=15)),
        (
            arrow(pa.month_day_nano_interval()),
            st.tuples(
                integers(-(1 << 31), (1 << 31) - 1),
                st.integers(-99, 99),
                integers(INT64_MIN, INT64_MAX) | st.integers(-999, 999).map(lambda n: n * 1000),
            ),
        ),
        (arrow(pa.utf8()), TIME_TEXTS),
    ],
    "inet": [(arrow(pa.utf8()), st.ip_addresses().map(str) | st.sampled_from(("10.0.0.1/8", "fe80::1%eth0", "x")))],
    "json": [
        (arrow(pa.utf8()), st.sampled_from(('{"b":1,"a":[1.0,null]}', "null", "1e5", "nope", '"\\u0000"', " [ ] ")))
    ],
    "list": [(arrow(pa.list_(pa.int64())), st.lists(st.none() | st.integers(0, 300), max_size=3))],
    "set": [(arrow(pa.large_list(pa.utf8())), st.lists(st.sampled_from(("b", "a", "", "a\0")), max_size=4))],
    "map": [
        (
            arrow(pa.map_(pa.utf8(), pa.int64())),
            st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=3),
        )
    ],
    "struct": [
        (
            arrow(pa.struct([("a", pa.int64()), ("b", pa.utf8())])),
            st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.none() | st.just("x")}),
        )
    ],
}
NULL_CARRIER: Carrier = (lambda values: pa.nulls(len(values)), st.none())
NESTED = {"list": "list<int>", "set": "set<text>", "map": "map<text,int>", "struct": "struct{a: int, b: text}"}


@st.composite
def kinds(draw: st.DrawFn, name: str) -> LogicalType:
    """The type with any of its rules."""
    spec: dict[str, Any] = {"type": name}
    if name == "decimal":
        spec["scale"] = draw(st.sampled_from((None, 0, 1, 2, 5, 30)))
        spec["rounding"] = draw(st.sampled_from((None, *ROUNDINGS)))
    elif name in ("time", "timestamp", "datetime"):
        spec["precision"] = draw(st.sampled_from((None, "us", "ms", "s")))
        spec["rounding"] = draw(st.sampled_from((None, *ROUNDINGS)))
    elif name == "text":
        spec["rules"] = draw(st.lists(st.sampled_from(("nfc", "rtrim", "casefold")), unique=True))
    return parse_type({k: v for k, v in spec.items() if v is not None} if name not in NESTED else NESTED[name])


@st.composite
def columns(draw: st.DrawFn, rows: int, name: str, carrier: Carrier) -> tuple[LogicalType, pa.Array]:
    """A type with some rules and a sliced array of ``rows`` values in that carrier."""
    make, values = carrier
    maybe = values if draw(st.booleans()) else st.none() | values
    before, after = draw(st.integers(0, 9)), draw(st.integers(0, 2))
    items = draw(st.lists(maybe, min_size=rows + before + after, max_size=rows + before + after))
    return draw(kinds(name)), make(items).slice(before, rows)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Profile, pa.RecordBatch]:
    rows = draw(st.sampled_from((0, 1, 2, 7, 8, 9, 20)))
    names = draw(st.lists(st.sampled_from(sorted(CARRIERS)), min_size=1, max_size=4))
    carriers = [draw(st.sampled_from([*CARRIERS[name], NULL_CARRIER])) for name in names]
    drawn = {f"c{i}" if i else "ä": draw(columns(rows, names[i], carriers[i])) for i in range(len(names))}
    labels = draw(st.permutations(list(drawn)))
    key = tuple(labels[: draw(st.integers(1, len(labels)))])
    empty = draw(st.sampled_from(("keep", "null")))
    profile = Profile("orders", key, {label: drawn[label][0] for label in labels}, empty_collection=empty)
    arrays = {label: drawn[label][1] for label in labels}
    if draw(st.integers(0, 4)) == 0:
        reject = st.fixed_dictionaries({"column": st.sampled_from((*labels, "?")), "reason": st.just("malformed")})
        rejects = draw(st.lists(st.none() | st.lists(reject, max_size=2), min_size=rows, max_size=rows))
        arrays[REJECTS] = pa.array(rejects, REJECTS_TYPE)
    return profile, pa.RecordBatch.from_pydict(arrays)


QUICK = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=60, **QUICK)
@given(table=tables())
def test_any_table(compared: Any, table: tuple[Profile, pa.RecordBatch]) -> None:
    compared(*table)


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name in CARRIERS for place in range(len(CARRIERS[name]))]
)
@settings(max_examples=8, **QUICK)
@given(data=st.data())
def test_each_type_in_each_carrier(compared: Any, name: str, place: int, data: st.DataObject) -> None:
    """As a value and as the key; rows enough for lanes and nulls."""
    kind, array = data.draw(columns(20, name, CARRIERS[name][place]))
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(20)), "value": array})
    for key in ("id", "value"):
        compared(Profile("orders", (key,), {"id": parse_type("int"), "value": kind}), batch)
