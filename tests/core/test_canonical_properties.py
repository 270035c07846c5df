"""The canonical form is injective by value, independent of order, readable by any MessagePack, and stable."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack
import pytest
from canonical_strategies import DECIMALS, DOCUMENTS, MOMENTS, PRIMITIVES, TEXT, bare_kinds, meaning, values
from hypothesis import assume, example, given
from hypothesis import strategies as st

from paritree.core.canonical import encode
from paritree.core.canonical.times import Nanos
from paritree.core.errors import DeadLetter
from paritree.core.types import ROUNDINGS, TEXT_RULES, LogicalType, parse_type

INT64_MAX = (1 << 63) - 1


def same_bytes_exactly_when_same_value(one: object, other: object, kind: LogicalType) -> None:
    assert (encode(one, kind) == encode(other, kind)) == (meaning(one, kind) == meaning(other, kind))


@pytest.mark.parametrize("name", PRIMITIVES)
def test_injective_for_every_primitive(name: str) -> None:
    kind = LogicalType(name)

    @given(values(kind, nullable=True), values(kind, nullable=True))
    def run(one: object, other: object) -> None:
        same_bytes_exactly_when_same_value(one, other, kind)

    run()


@given(st.data())
def test_injective_for_nested_types(data: st.DataObject) -> None:
    kind = data.draw(bare_kinds())
    one, other = data.draw(values(kind, nullable=True)), data.draw(values(kind, nullable=True))
    same_bytes_exactly_when_same_value(one, other, kind)


@given(st.data())
def test_near_values_of_nested_types_differ(data: st.DataObject) -> None:
    """Random pairs are rarely alike, so change one thing: the same value inside another place."""
    kind = data.draw(bare_kinds())
    items = data.draw(st.lists(values(kind, nullable=True), min_size=1, max_size=3))
    place = data.draw(st.integers(0, len(items) - 1))
    changed = [*items[:place], data.draw(values(kind, nullable=True)), *items[place + 1 :]]
    for collection in ("list", "set"):
        same_bytes_exactly_when_same_value(items, changed, LogicalType(collection, of=(kind,)))


@given(st.data())
def test_types_of_one_value_do_not_meet(data: st.DataObject) -> None:
    """What two primitives of different kind mean never has the same bytes, but for int, decimal and json numbers."""
    pair = st.sampled_from([n for n in PRIMITIVES if n not in ("json", "int")])
    one, other = data.draw(pair), data.draw(pair)
    assume(one != other)
    assert encode(data.draw(values(LogicalType(one))), LogicalType(one)) != encode(
        data.draw(values(LogicalType(other))), LogicalType(other)
    )


@given(st.data(), st.randoms(use_true_random=False))
def test_sets_and_maps_do_not_depend_on_order_or_on_duplicates_in_sets(data: st.DataObject, rng: random.Random) -> None:
    element = data.draw(bare_kinds())
    set_kind = LogicalType("set", of=(element,))
    items = data.draw(values(set_kind))
    shuffled = [*items, *items]
    rng.shuffle(shuffled)
    assert encode(items, set_kind) == encode(shuffled, set_kind)
    map_kind = LogicalType("map", of=(element, LogicalType("int")))
    pairs = data.draw(values(map_kind))
    turned = list(pairs)
    rng.shuffle(turned)
    assert encode(pairs, map_kind) == encode(turned, map_kind)


def shuffled_document(node: Any, rng: random.Random) -> Any:
    if isinstance(node, dict):
        members = list(node.items())
        rng.shuffle(members)
        return {name: shuffled_document(item, rng) for name, item in members}
    return [shuffled_document(item, rng) for item in node] if isinstance(node, list) else node


@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_json_does_not_depend_on_order_spacing_or_escapes(document: Any, rng: random.Random) -> None:
    kind = LogicalType("json")
    other = json.dumps(
        shuffled_document(document, rng), indent=rng.choice([None, 0, 2]), ensure_ascii=rng.random() < 0.5
    )
    assert encode(json.dumps(document), kind) == encode(f" \r\n\t{other} ", kind)


@given(st.integers().filter(bool), st.integers(-30, 30), st.integers(0, 30), st.sampled_from("eE"))
def test_json_numbers_do_not_depend_on_their_writing(digits: int, exponent: int, zeros: int, letter: str) -> None:
    kind = LogicalType("json")
    plain = format(Decimal(f"{digits}E{exponent}"), "f")
    moved = f"{digits}{'0' * zeros}{letter}{exponent - zeros:+d}"
    assert encode(plain, kind) == encode(moved, kind)


def strict_json(text: str) -> bool:
    """Whether it is JSON by RFC 8259, by another reader."""

    def refuse(_: str) -> Any:
        raise ValueError

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


PIECES = st.sampled_from(
    ["[", "]", "{", "}", ",", ":", '"', '"a"', '"b":', " ", "1", "0", "-", ".5", "e1", "true", "null"]
)


@given(
    st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text('[]{}",:0123456789.eE+- \ntrufalsn\\', max_size=12))
)
def test_json_is_malformed_exactly_where_another_reader_says_so(text: str) -> None:
    try:
        encode(text, LogicalType("json"))
    except DeadLetter as error:
        if error.message == "malformed JSON":
            assert not strict_json(text)
        return
    assert strict_json(text)


def read(packed: bytes) -> Any:
    return msgpack.unpackb(packed, strict_map_key=False, object_pairs_hook=lambda pairs: ("map", pairs))


def number(node: Any) -> Fraction | str:
    if isinstance(node, int):
        return Fraction(node)
    text = node.data.decode()
    return text if text.strip("-")[0] in "NI" else Fraction(text)


@given(st.data())
def test_msgpack_reads_the_value_back(data: st.DataObject) -> None:
    """By the tables of CANONICAL, with nothing of ours but the bytes."""
    name = data.draw(st.sampled_from(PRIMITIVES))
    kind = LogicalType(name)
    value = data.draw(values(kind))
    node = read(encode(value, kind))
    code = {"date": 2, "time": 3, "timestamp": 4, "datetime": 5}.get(name)
    if name in ("bool", "text", "bytes"):
        assert node == value
        assert type(node) is type(value)
    elif name in ("int", "decimal"):
        assert number(node) == (Fraction(value) if name == "int" or value.is_finite() else str(value))
        assert name == "decimal" or isinstance(node, int) == (-(1 << 63) <= value < 1 << 64)
    elif name == "float":
        assert node == value or (node != node and value != value)
    elif code is not None:
        assert (node.code, int.from_bytes(node.data, "big", signed=True), len(node.data)) == (code, value, 8)
    elif name == "uuid":
        assert (node.code, node.data) == (6, value)
    elif name == "inet":
        assert node.code == 8
        assert meaning(node.data.decode(), kind) == meaning(value, kind)


@given(st.data())
def test_nested_bytes_are_msgpack_to_the_last_byte(data: st.DataObject) -> None:
    kind = data.draw(bare_kinds())
    packed = encode(data.draw(values(kind, nullable=True)), kind)
    unpacker = msgpack.Unpacker(strict_map_key=False, object_pairs_hook=list)
    unpacker.feed(packed)
    unpacker.skip()
    assert unpacker.tell() == len(packed)


@pytest.mark.parametrize("rule", TEXT_RULES)
def test_a_text_rule_twice_is_the_rule_once(rule: str) -> None:
    kind = LogicalType("text", rules=(rule,))

    @given(TEXT)
    @example("ẛ̣ \u0345\u0301")
    def run(text: str) -> None:
        once = encode(text, kind)
        assert encode(msgpack.unpackb(once), kind) == once

    run()


@given(DECIMALS, st.integers(0, 20), st.sampled_from(ROUNDINGS))
def test_rounding_a_decimal_is_nearest_in_its_direction_and_stable(value: Decimal, scale: int, mode: str) -> None:
    kind = LogicalType("decimal", scale=scale, rounding=mode)
    packed = encode(value, kind)
    got = number(msgpack.unpackb(packed))
    assert encode(msgpack.unpackb(packed).data.decode(), kind) == packed
    if not value.is_finite():
        assert got == str(value)
        return
    assert isinstance(got, Fraction)
    check_rounded(Fraction(value), got, Fraction(1, 10**scale), mode)


def check_rounded(exact: Fraction, got: Fraction, unit: Fraction, mode: str) -> None:
    """``got`` is the multiple of ``unit`` that the mode demands, told from the definition of the mode."""
    assert (got / unit).denominator == 1
    error = got - exact
    match mode:
        case "floor":
            assert -unit < error <= 0
        case "truncate":
            assert abs(got) <= abs(exact)
            assert abs(error) < unit
        case _:
            assert abs(error) <= unit / 2
            if abs(error) == unit / 2:
                assert abs(got) > abs(exact) if mode == "half_up" else (got / unit) % 2 == 0


@given(MOMENTS, st.sampled_from(["s", "ms", "us"]), st.sampled_from(ROUNDINGS), st.booleans())
def test_rounding_a_time_is_nearest_in_its_direction_and_stable(
    ticks: int, precision: str, mode: str, nanos: bool
) -> None:
    kind = LogicalType("timestamp", precision=precision, rounding=mode)
    value: int = Nanos(ticks) if nanos else ticks
    infinite = not nanos and ticks in (INT64_MAX, ~INT64_MAX)
    try:
        packed = encode(value, kind)
    except DeadLetter:
        assert not infinite
        assert abs(ticks) > INT64_MAX - 1_000_001  # only at the ends of the range
        return
    got = int.from_bytes(packed[2:], "big", signed=True)
    if infinite:
        assert got == ticks
        return
    assert encode(got, kind) == packed
    check_rounded(Fraction(ticks, 1_000 if nanos else 1), Fraction(got), Fraction(kind.unit_us), mode)


@given(st.lists(st.integers(-30, 30), max_size=6))
def test_rules_inside_a_set_apply_before_duplicates_are_dropped(hundredths: list[int]) -> None:
    kind = parse_type({"type": "set", "of": {"type": "decimal", "scale": 1, "rounding": "floor"}})
    packed = encode([Decimal(f"{n}E-2") for n in hundredths], kind)
    assert packed[0] & 0x0F == len({n // 10 for n in hundredths})
