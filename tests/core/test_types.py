"""Logical types: their written forms, their rules, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from canonical_strategies import bare_kinds
from hypothesis import given

from paritree.core.errors import ConfigError
from paritree.core.types import LogicalType, parse_type


@given(bare_kinds())
def test_the_mapping_form_comes_back(kind: LogicalType) -> None:
    assert parse_type(kind.spec()) == kind


@pytest.mark.parametrize(
    "text",
    [
        "int",
        "decimal(2)",
        "timestamp(ms)",
        "list<set<int>>",
        "map<text, list<decimal(3)>>",
        "struct{a: int, b: time(s)}",
    ],
)
def test_the_text_form_comes_back(text: str) -> None:
    assert str(parse_type(text)) == text
    assert parse_type(text.replace(" ", "\n ")) == parse_type(text)


@pytest.mark.parametrize(
    ("declared", "spec"),
    [
        ("decimal(2)", {"type": "decimal", "scale": 2}),
        ({"type": "decimal(2)", "rounding": "floor"}, {"type": "decimal", "scale": 2, "rounding": "floor"}),
        ({"type": "text", "rules": ["casefold", "nfc"]}, {"type": "text", "rules": ["nfc", "casefold"]}),
        ({"type": "list<int>"}, {"type": "list", "of": {"type": "int"}}),
        (
            {"type": "set", "of": {"type": "time", "precision": "s"}},
            {"type": "set", "of": {"type": "time", "precision": "s"}},
        ),
        (
            {"type": "struct", "fields": {"b": "int", "aa": "text", "é": "bool"}},
            {"type": "struct", "fields": {"aa": {"type": "text"}, "b": {"type": "int"}, "é": {"type": "bool"}}},
        ),
    ],
)
def test_what_was_declared_is_kept_and_nothing_else(declared: Any, spec: dict[str, Any]) -> None:
    assert parse_type(declared).spec() == spec


REFUSED_TEXTS = (
    *("", "nope", "int4", "int x", "list", "list<int", "list<>", "map<int>", "struct{}", "struct{a}", "struct{a: int"),
    *("text(2)", "int(2)", "decimal(ms)", "decimal(16384)", "timestamp(ns)", "timestamp(3)", "date(ms)", "INT", "int>"),
    *("decimal(-1)", "struct{a: int, a: text}", "decimal(" + "9" * 5000 + ")", "list<" * 3000 + "int" + ">" * 3000),
    "list<" * 32 + "int" + ">" * 32,
)
REFUSED_TABLES: tuple[dict[str, Any], ...] = (
    *({}, {"type": 1}, {"type": ["int"]}, {"type": "nope"}, {"type": "int", "scale": 2}, {"type": "list"}),
    *({"type": "decimal", "scale": True}, {"type": "decimal", "scale": "2"}, {"type": "decimal", "scale": -1}),
    *({"type": "decimal", "rounding": "up"}, {"type": "text", "rounding": "floor"}, {"type": "text", "rules": "nfc"}),
    *({"type": "text", "rules": ["upper"]}, {"type": "int", "rules": ["nfc"]}, {"type": "timestamp", "precision": 3}),
    *(
        {"type": "int", "tolerance": 1},
        {"type": "map", "key": "int"},
        {"type": "struct"},
        {"type": "int", "of": "text"},
    ),
    *({"type": "struct", "fields": {}}, {"type": "list", "of": "nope"}, {"type": "list", "of": "int", "scale": 1}),
    *({"type": "text", "rules": [["nfc"]]}, {"type": "list", "of": "int", "key": "int"}),
)


@pytest.mark.parametrize("declared", [*REFUSED_TEXTS, *REFUSED_TABLES, None, 1, []], ids=lambda d: repr(d)[:40])
def test_what_is_refused_names_the_place(declared: object) -> None:
    with pytest.raises(ConfigError, match=r"^orders\.toml: columns\.c"):
        parse_type(declared, "orders.toml: columns.c")


def test_the_bare_type_changes_no_value() -> None:
    kind = parse_type({"type": "map", "key": {"type": "text", "rules": ["rtrim"]}, "value": "list<decimal(2)>"})
    assert kind.bare == parse_type("map<text, list<decimal>>")
    assert parse_type({"type": "struct", "fields": {"t": "time(s)"}}).bare == parse_type("struct{t: time}")


@pytest.mark.parametrize(
    ("declared", "unit"), [("time", 1), ("time(us)", 1), ("time(ms)", 1_000), ("time(s)", 1_000_000)]
)
def test_units(declared: str, unit: int) -> None:
    assert parse_type(declared).unit_us == unit


def test_roundings_that_hold_without_a_word() -> None:
    assert parse_type("decimal(2)").rounding_mode == "half_even"
    assert parse_type("timestamp(ms)").rounding_mode == "floor"
    assert parse_type({"type": "timestamp", "rounding": "half_up"}).rounding_mode == "half_up"
