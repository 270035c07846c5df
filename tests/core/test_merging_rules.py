"""What merged two keys is named by column and rule, and never more than did it."""

from __future__ import annotations

import math
import struct
from typing import Any

import pyarrow as pa
import pytest

from paritree.core.canonical import encode
from paritree.core.canonical.pack import array_header
from paritree.core.merging_rules import NEGATIVE_ZERO, NOT_A_NUMBER, NOTATION, ambiguous, raw_form, rules
from paritree.core.profile import Profile
from paritree.core.types import parse_type

COLUMNS = {
    "code": {"type": "text", "rules": ["nfc", "rtrim", "casefold"]},
    "at": {"type": "timestamp", "precision": "s"},
    "price": "decimal(1)",
    "ratio": "float",
    "parts": {"type": "list", "of": {"type": "decimal", "scale": 0}},
}


def profile(*key: str) -> Profile:
    return Profile("d", key, {name: parse_type(COLUMNS[name]) for name in key})


def merged(name: str, *values: Any) -> tuple[str, ...]:
    kind = parse_type(COLUMNS[name])
    assert len({encode(value, kind) for value in values}) == 1, "the example is one key"
    locators = [array_header(1) + encode(value, kind.bare) for value in values]
    return rules(profile(name), [(locator, ()) for locator in locators])


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("code", ("A", "a"), ["casefold"]),
        ("code", ("a ", "a"), ["rtrim"]),
        ("code", ("é", "e\u0301"), ["nfc"]),
        ("code", ("É ", "é"), ["rtrim", "casefold"]),
        ("code", ("ẞ", "SS", "ss  "), ["rtrim", "casefold"]),
        ("code", ("E\u0301 ", "é"), ["nfc", "rtrim", "casefold"]),
        ("code", ("a", "a"), []),
        ("at", (1_000_000, 1_999_999), ["precision s"]),
        ("price", ("1.04", "1.01"), ["scale 1"]),
        ("parts", (["1.2"], ["0.9"]), ["precision, scale or text rules inside of it"]),
    ],
)
def test_rules_that_change_values(name: str, values: tuple[Any, ...], expected: list[str]) -> None:
    assert merged(name, *values) == tuple(f"{name}: {rule}" for rule in expected)


def test_only_the_columns_that_differ_are_named() -> None:
    both = profile("code", "at")
    head, kinds = array_header(2), [both.columns[name].bare for name in both.key]
    keys = [head + encode("A", kinds[0]) + encode(at, kinds[1]) for at in (1, 2)]
    assert rules(both, [(key, ()) for key in keys]) == ("at: precision s",)


@pytest.mark.parametrize(
    ("values", "carrier", "expected"),
    [
        ([0.0, -0.0], pa.float64(), NEGATIVE_ZERO),
        ([0.0, -0.0], pa.float32(), NEGATIVE_ZERO),
        ([math.nan, struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0001))[0]], pa.float64(), NOT_A_NUMBER),
        (["1.0", "1.00"], pa.utf8(), NOTATION),
    ],
)
def test_forms_that_the_canonical_form_makes_one(values: list[Any], carrier: pa.DataType, expected: str) -> None:
    one = profile("ratio")
    array = pa.array(values, carrier)
    assert ambiguous(array, parse_type("float"))
    locator = array_header(1) + encode(float(values[0]), parse_type("float"))
    raws = [(locator, (raw_form(array, row),)) for row in range(2)]
    assert rules(one, raws) == (f"ratio: {expected}",)
    assert rules(one, [raws[0], raws[0]]) == (), "equal keys are merged by nothing"


def test_what_has_one_form_is_not_looked_at() -> None:
    for array, kind in (
        (pa.array([1]), "int"),
        (pa.array(["a"]), "text"),
        (pa.array([b"a"]), "bytes"),
        (pa.array(["a"]).dictionary_encode(), "uuid"),
    ):
        assert not ambiguous(array, parse_type(kind))
    assert raw_form(pa.array([None, "x"]), 0) is None
