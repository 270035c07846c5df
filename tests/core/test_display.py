"""Locators read back: exact plain values for look-ups, clear values for people."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from canonical_strategies import PRIMITIVES, bare_kinds, meaning, values
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.canonical import RowEncoder
from paritree.core.display import clear, key_to_json, key_values
from paritree.core.errors import InvariantBroken
from paritree.core.profile import Profile
from paritree.core.types import LogicalType, parse_type

INT64_MAX = (1 << 63) - 1


def profile_of(kind: LogicalType) -> Profile:
    return Profile("d", ("k",), {"k": kind})


def locator_of(value: object, kind: LogicalType) -> bytes:
    encoder = RowEncoder(profile_of(kind))
    return encoder.key_bytes({"k": encoder.value_bytes("k", value)})


def check_round_trip(value: object, kind: LogicalType) -> None:
    locator = locator_of(value, kind)
    (back,) = key_values(locator, profile_of(kind))
    assert meaning(back, kind) == meaning(value, kind)
    assert locator_of(back, kind) == locator


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_comes_back(name: str) -> None:
    kind = LogicalType(name)

    @given(values(kind).filter(lambda value: meaning(value, kind) is not None))
    def run(value: object) -> None:
        check_round_trip(value, kind)

    run()


@given(st.data())
def test_nested_keys_come_back(data: st.DataObject) -> None:
    kind = data.draw(bare_kinds())
    value = data.draw(values(kind).filter(lambda value: meaning(value, kind) is not None))
    check_round_trip(value, kind)


@given(st.data())
def test_clear_values_are_json(data: st.DataObject) -> None:
    kind = data.draw(bare_kinds())
    value = data.draw(values(kind).filter(lambda value: meaning(value, kind) is not None))
    shown = key_to_json(locator_of(value, kind), profile_of(kind))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_a_composite_key_is_in_declared_order_with_native_types() -> None:
    kinds = {"b": parse_type("decimal(2)"), "a": parse_type("text"), "n": parse_type("int")}
    profile = Profile("d", ("b", "a"), kinds)
    encoder = RowEncoder(Profile("d", ("b", "a"), {name: kind.bare for name, kind in kinds.items()}))
    packed = {"b": encoder.value_bytes("b", "1.2345"), "a": encoder.value_bytes("a", "x ")}
    locator = encoder.key_bytes(packed)
    assert key_values(locator, profile) == (Decimal("1.2345"), "x ")
    assert list(key_to_json(locator, profile).items()) == [("b", "1.2345"), ("a", "x ")]


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("int", 37, 37),
        ("int", (1 << 64) - 1, 18446744073709551615),
        ("int", 1 << 64, "18446744073709551616"),
        ("decimal", "1E+3", "1000"),
        ("decimal", "-0.10", "-0.1"),
        ("decimal", "NaN", "NaN"),
        ("float", 0.5, 0.5),
        ("float", float("-inf"), "-inf"),
        ("bytes", b"\x00\xff", "0x00ff"),
        ("date", 0, "1970-01-01"),
        ("date", 11016, "2000-02-29"),
        ("date", -719528, "0000-01-01"),
        ("date", -719529, "-0001-12-31"),
        ("date", 2932897, "+10000-01-01"),
        ("date", INT64_MAX, "infinity"),
        ("time", 86_400_000_000, "24:00:00"),
        ("time", 1, "00:00:00.000001"),
        ("timestamp", 1767225600123456, "2026-01-01T00:00:00.123456Z"),
        ("timestamp", -1, "1969-12-31T23:59:59.999999Z"),
        ("timestamp", ~INT64_MAX, "-infinity"),
        ("datetime", 1767225600000000, "2026-01-01T00:00:00"),
        ("uuid", bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
        ("duration", (14, -3, -1_500_000), "P14M-3DT-1.500000S"),
        ("inet", "192.0.2.1/24", "192.0.2.1/24"),
        ("json", '{"b": 1.50, "a": ["ü"]}', '{"a":["ü"],"b":1.5}'),
        ("map<int,text>", [(2, "b"), (1, None)], [[1, None], [2, "b"]]),
        ("struct{no: int, at: date}", {"no": 1}, {"at": None, "no": 1}),
    ],
)
def test_clear_forms(kind: str, value: object, shown: object) -> None:
    parsed = parse_type(kind)
    assert key_to_json(locator_of(value, parsed), profile_of(parsed)) == {"k": shown}


def test_integers_beyond_pythons_limit_of_digits() -> None:
    number = 10**100_000 + 7
    (back,) = key_values(locator_of(number, LogicalType("int")), profile_of(LogicalType("int")))
    assert back == number
    assert clear(number, LogicalType("int")) == "1" + "0" * 99_999 + "7"


def test_deep_json_comes_back() -> None:
    text = "[" * 500 + "]" * 500
    kind = LogicalType("json")
    assert key_values(locator_of(text, kind), profile_of(kind)) == (text,)


@pytest.mark.parametrize(
    "damage", [b"", b"\x91", b"\x92\x01\x02", b"\x91\xc3", b"\x81\x01\x01", b"\x91\x01\x00", b"\xc1"]
)
def test_damaged_bytes_are_our_own_fault(damage: bytes) -> None:
    with pytest.raises(InvariantBroken):
        key_values(damage, profile_of(LogicalType("int")))


@pytest.mark.parametrize("kind", ["int", "decimal"])
def test_a_number_with_an_exponent_is_refused_before_it_is_a_number(kind: str) -> None:
    """A dozen bytes would be a number of gigabytes."""
    text = b"11E313180596"
    locator = bytes([0x91, 0xC7, len(text), 1]) + text
    with pytest.raises(InvariantBroken, match="exponent"):
        key_values(locator, profile_of(parse_type(kind)))
