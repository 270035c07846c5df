"""Canonical bytes where the golden vectors do not reach: huge values, odd values, every form of a plain value."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgpack
import pytest

from paritree.core.canonical import NIL, RowEncoder, encode
from paritree.core.canonical.jsontext import DEPTH_MAX
from paritree.core.canonical.times import Nanos
from paritree.core.errors import DeadLetter
from paritree.core.profile import Profile
from paritree.core.types import PRIMITIVES, LogicalType, parse_type

INT64_MAX, INT64_MIN = (1 << 63) - 1, -(1 << 63)


def dead(value: object, kind: object) -> str:
    with pytest.raises(DeadLetter) as caught:
        encode(value, parse_type(kind))
    return caught.value.message


def text_of(packed: bytes) -> str:
    """The payload of an extension with a header for up to 2^32 bytes."""
    header = {0xC7: 3, 0xC8: 4, 0xC9: 6}.get(packed[0], 2)
    return packed[header:].decode()


ODD = {
    "object": object(),
    "set": {1, 2},
    "complex": 1 + 2j,
    "bytes": b"\xff" * 3,
    "surrogate": "\ud800",
    "text": "x",
    "nested": [[]],
    "dict": {"a": 1},
    "bool": True,
    "float": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "huge": 10**5000,
    "view": memoryview(b"x"),
}


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@pytest.mark.parametrize("odd", ODD)
def test_an_odd_value_is_a_dead_letter_or_bytes_and_never_another_error(name: str, odd: str) -> None:
    try:
        packed = encode(ODD[odd], LogicalType(name))
    except DeadLetter:
        return
    assert msgpack.unpackb(packed) is not None


@pytest.mark.parametrize("kind", ["list<int>", "set<int>", "map<int,int>", "struct{a: int}"])
@pytest.mark.parametrize("value", [1, "x", b"x", [object()], [[1]], [[1, 2, 3]], {"b": 1}, {1: 2, "a": 3}, object()])
def test_an_odd_collection_is_a_dead_letter(kind: str, value: object) -> None:
    dead(value, kind)


@pytest.mark.parametrize("kind", [*sorted(PRIMITIVES), "list<int>", "set<int>", "map<int,int>", "struct{a: int}"])
def test_none_is_nil_and_a_dead_letter_stays_one(kind: str) -> None:
    assert encode(None, parse_type(kind)) == NIL
    assert dead(DeadLetter("not UTF-8"), kind) == "not UTF-8"


@pytest.mark.parametrize("zeros", [1, 63, 64, 65, 4_000])
@pytest.mark.parametrize("digits", ["1", "102", "9876543210101"])
def test_trailing_zeros_do_not_matter_however_many(digits: str, zeros: int) -> None:
    kind = LogicalType("decimal")
    assert encode(digits + "0" * zeros, kind) == encode(f"{digits}E+{zeros}", kind)
    assert encode(f"0.{digits}" + "0" * zeros, kind) == encode(f"0.{digits}", kind)
    assert text_of(encode(f"-{digits}" + "0" * zeros, kind)) == f"-{digits}" + "0" * zeros


def test_decimals_at_the_limits_of_digits() -> None:
    assert text_of(encode("1E+131071", LogicalType("decimal"))) == "1" + "0" * 131_071
    assert text_of(encode("1E-16383", LogicalType("decimal"))) == "0." + "0" * 16_382 + "1"
    dead("1E+131072", "decimal")
    dead("1E-16384", "decimal")
    assert text_of(encode("9" * 131_072, LogicalType("decimal"))) == "9" * 131_072
    dead("9" * 131_072 + ".5", "decimal(0)")


def test_rounding_is_exact_at_any_length_and_before_the_limits() -> None:
    digits = "1" * 20_000
    assert text_of(encode(f"0.5{digits}", parse_type("decimal(0)"))) == "1"
    assert text_of(encode("0.5", parse_type("decimal(0)"))) == "0"
    assert text_of(encode(f"12.{'9' * 20_000}", parse_type("decimal(2)"))) == "13"


@pytest.mark.parametrize(
    "value",
    ["1E+2000000000", Decimal("1E+2000000000"), 1 << 40_000_000, "9" * 4_000_000],
    ids=["text", "decimal", "int", "digits"],
)
@pytest.mark.parametrize("kind", ["int", "decimal", "decimal(2)", "json"])
def test_huge_numbers_are_refused_at_once(value: object, kind: str) -> None:
    began = time.process_time()
    dead(value, kind)
    assert time.process_time() - began < 2


def test_ints_beyond_pythons_limit_of_digits() -> None:
    kind = LogicalType("int")
    assert encode(10**131_071, kind) == encode("1" + "0" * 131_071, kind)
    assert encode(-(10**5000), kind) == encode("-1E+5000", kind)
    dead(10**131_072, "int")


@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("NaN123"), Decimal("-NaN"), "nan", "NAN"])
def test_there_is_one_not_a_number(value: object) -> None:
    assert text_of(encode(value, parse_type("decimal(2)"))) == "NaN"


def test_an_int_is_a_float_only_where_the_float_holds_it() -> None:
    kind = LogicalType("float")
    assert encode(1 << 60, kind) == encode(float(1 << 60), kind)
    dead((1 << 53) + 1, "float")
    dead(10**400, "float")


@pytest.mark.parametrize("depth", [0, 700])
def test_the_depth_of_json_is_exact_whatever_the_callers_stack(depth: int) -> None:
    def at(left: int, call: Callable[[], Any]) -> Any:
        return at(left - 1, call) if left else call()

    kind = LogicalType("json")
    deep = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    objects = '{"a":' * DEPTH_MAX + "1" + "}" * DEPTH_MAX
    assert at(depth, lambda: encode(deep, kind)) == b"\x91" * (DEPTH_MAX - 1) + b"\x90"
    assert at(depth, lambda: encode(objects, kind)) == b"\x81\xa1a" * DEPTH_MAX + b"\x01"
    with pytest.raises(DeadLetter, match="deeper than 512"):
        at(depth, lambda: encode(f"[{deep}]", kind))


MALFORMED = (
    *(
        "",
        " ",
        "[",
        "]",
        "{",
        "}",
        "[1",
        "[1,",
        "[,1]",
        "{,}",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        "[}",
        "{]",
        "[1}",
        '{"a":1]',
    ),
    *("{a:1}", "[1 2]", '{"a":1 "b":2}', "[1]]", "1 2", "truex", "-", "1.", ".5", "1e", "01", "0x1", '"a', '"\\x"'),
    *("\u00a01", "１", '"\t"', "tru", "None", "[1]\x00"),
)


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_json(text: str) -> None:
    assert dead(text, "json") == "malformed JSON"


def test_json_numbers_at_the_limits_of_digits() -> None:
    kind = LogicalType("json")
    assert text_of(encode("1e10000", kind)) == "1" + "0" * 10_000
    assert text_of(encode("1e-10000", kind)) == "0." + "0" * 9_999 + "1"
    dead("1e10001", "json")
    dead("1e-10001", "json")


def test_a_long_json_document_takes_time_in_proportion() -> None:
    def seconds(items: int) -> float:
        text = "[" + ",".join(['{"a": "x"}'] * items) + "]"
        began = time.process_time()
        encode(text, LogicalType("json"))
        return time.process_time() - began

    assert seconds(40_000) < 40 * max(seconds(4_000), 0.005)


@pytest.mark.parametrize("kind", ["timestamp(ms)", "datetime(ms)"])
def test_a_time_from_nanoseconds_is_rounded_once(kind: str) -> None:
    half_up = parse_type({"type": kind.partition("(")[0], "precision": "ms", "rounding": "half_up"})
    assert encode(Nanos(1_499_999), half_up) == encode(1_000, half_up)  # via microseconds it would be 1.5 ms, so 2
    assert encode(Nanos(-1), parse_type(kind)) == encode(-1_000, parse_type(kind))


def test_a_finite_time_never_becomes_an_infinity() -> None:
    kind = LogicalType("timestamp")
    assert encode(INT64_MAX, kind) == b"\xd7\x04" + b"\x7f" + b"\xff" * 7
    for nanos in (INT64_MAX * 1_000, INT64_MAX * 1_000 + 999, INT64_MIN * 1_000, INT64_MIN * 1_000 + 999):
        dead(Nanos(nanos), "timestamp")
    assert encode(Nanos(INT64_MAX * 1_000 - 1), kind) == encode(INT64_MAX - 1, kind)
    half_up = {"type": "timestamp", "rounding": "half_up"}
    dead(Nanos(INT64_MAX * 1_000 - 1), half_up)
    dead(INT64_MAX + 1, "timestamp")
    dead(INT64_MAX, "time")
    dead(INT64_MAX + 1, "date")


@pytest.mark.parametrize(
    "value", ["10.0.0.0/" + "9" * 5_000, "1" * 10_000, "::/-1", "::/1_0", "1.2.3.4 ", "::%", "::ffff:1.2.3.4%1"]
)
def test_odd_addresses(value: str) -> None:
    dead(value, "inet")


def test_collections_of_many_elements_have_long_headers() -> None:
    kind = parse_type("list<bool>")
    assert encode([True] * 65_536, kind)[:5] == b"\xdd\x00\x01\x00\x00"
    assert encode([True] * 65_535, kind)[:3] == b"\xdc\xff\xff"
    numbers = parse_type("map<int,bool>")
    assert encode([(i, True) for i in range(65_536)], numbers)[:5] == b"\xdf\x00\x01\x00\x00"


def encoder_of(empty: str, **kinds: str) -> RowEncoder:
    return RowEncoder(Profile("d", ("k",), {name: parse_type(kind) for name, kind in kinds.items()}, empty))


@pytest.mark.parametrize("value", [None, DeadLetter("x")])
def test_a_null_in_the_key_is_refused_by_name(value: object) -> None:
    encoder = encoder_of("keep", k="int")
    with pytest.raises(DeadLetter, match=r"^k: "):
        encoder.key_bytes({"k": encoder.value_bytes("k", value)})


@pytest.mark.parametrize(("kind", "value"), [("json", "null"), ("list<int>", [])])
def test_what_becomes_nil_is_a_null_in_the_key(kind: str, value: object) -> None:
    encoder = encoder_of("null", k=kind)
    with pytest.raises(DeadLetter, match="NULL"):
        encoder.key_bytes({"k": encoder.value_bytes("k", value)})


@pytest.mark.parametrize(
    ("kind", "value", "nil"),
    [
        ("list<int>", [], True),
        ("set<int>", [], True),
        ("map<int,int>", [], True),
        ("struct{a: int, b: text}", {"a": None}, True),
        ("struct{a: list<int>}", {"a": []}, False),
        ("list<list<int>>", [[]], False),
        ("list<int>", [None], False),
        ("json", "[]", False),
        ("text", "", False),
    ],
)
def test_empty_collections_as_null_only_at_the_top_level(kind: str, value: object, nil: bool) -> None:
    assert (encoder_of("null", k="int", c=kind).value_bytes("c", value) == NIL) is nil
    assert encoder_of("keep", k="int", c=kind).value_bytes("c", value) != NIL


def test_row_bytes_follow_the_names_bytes_and_key_bytes_the_declared_order() -> None:
    kinds = {name: LogicalType("int") for name in ("z", "ä", "a", "B")}
    encoder = RowEncoder(Profile("d", ("z", "a"), kinds))
    packed = {name: encoder.value_bytes(name, number) for number, name in enumerate(("z", "ä", "a", "B"), 1)}
    assert encoder.row_bytes(packed) == bytes([0x94, 4, 3, 1, 2])
    assert encoder.key_bytes(packed) == bytes([0x92, 1, 3])
