"""A binding against its table's catalogue: every mistake is found before any scan."""

from __future__ import annotations

from typing import Any

import pytest

from paritree.core.derive import check_binding
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import parse_type


def check(declared: object, held: str | None, *, empty: str = "keep", key: str = "id", **source: Any) -> None:
    """Check a binding of one column ``c`` of the declared type over a source column of the held type."""
    kinds = {"id": parse_type("int"), "c": parse_type(declared)}
    profile = Profile("d", (key,), kinds, empty)
    binding = Binding("d", "t", (key,), tuple(BoundColumn(name, kind, source=name) for name, kind in kinds.items()))
    empty_is_null = source.pop("empty_is_null", False)
    columns = (
        SourceColumn("id", "integer", parse_type("int")),
        SourceColumn("c", held or "odd", held and parse_type(held), **source),
    )
    check_binding(profile, binding, TableSchema("t", columns, ("id",), empty_is_null=empty_is_null))


def refusal(declared: object, held: str | None, **rest: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check(declared, held, **rest)
    return str(caught.value)


@pytest.mark.parametrize(
    ("declared", "held"),
    [
        ("int", "int"),
        ("decimal(2)", "decimal"),
        ("decimal", "int"),
        ("int", "decimal"),
        ("json", "text"),
        ("uuid", "text"),
        ("uuid", "bytes"),
        ("text", "bytes"),
        ("timestamp", "text"),
        ("set<int>", "list<int>"),
        ("map<uuid,decimal>", "map<text,int>"),
        ("struct{a: int, b: text}", "struct{a: int}"),
    ],
)
def test_what_a_declared_type_can_be_read_from(declared: str, held: str) -> None:
    check(declared, held)


@pytest.mark.parametrize(
    ("declared", "held"),
    [
        ("text", "int"),
        ("text", "uuid"),
        ("text", "json"),
        ("timestamp", "int"),
        ("date", "timestamp"),
        ("float", "decimal"),
        ("decimal", "float"),
        ("bool", "int"),
        ("list<int>", "set<int>"),
        ("list<text>", "list<int>"),
        ("struct{a: int}", "struct{a: int, b: text}"),
        ("list<int>", "text"),
    ],
)
def test_what_it_cannot_be_read_from_is_refused_with_both_types(declared: str, held: str) -> None:
    said = refusal(declared, held)
    assert f"is {parse_type(held)}" in said
    assert f"says {parse_type(declared)}" in said


@pytest.mark.parametrize(("declared", "held"), [("timestamp", "datetime"), ("datetime", "timestamp")])
def test_an_instant_is_no_local_time(declared: str, held: str) -> None:
    assert "never mixed" in refusal(declared, held)


def test_an_untyped_source_takes_any_type_but_a_collection() -> None:
    check("uuid", "text", typed=False)
    check("decimal(2)", None, typed=False)
    assert "has no type" in refusal("list<int>", "text", typed=False)


def test_a_type_without_translation_is_refused_with_its_reason() -> None:
    assert "lc_monetary" in refusal("decimal", None, refusal="its text depends on lc_monetary")


@pytest.mark.parametrize(
    ("declared", "held", "line"),
    [
        ("timestamp", "ms", 'c = { type = "timestamp", precision = "ms" }'),
        ("timestamp(us)", "ms", 'precision = "ms"'),
        ("timestamp(ms)", "s", 'precision = "s"'),
        ("timestamp", "ns", 'precision = "us"'),
        ("list<timestamp>", "ms", 'c = "list<timestamp(ms)>"'),
    ],
)
def test_precision_that_differs_is_refused_with_the_line(declared: str, held: str, line: str) -> None:
    assert line in refusal(declared, declared.replace("(us)", "").replace("(ms)", ""), precision=held)


@pytest.mark.parametrize(
    ("declared", "held"),
    [("timestamp", "us"), ("timestamp(us)", "ns"), ("timestamp(s)", "ms"), ("timestamp(ms)", "ms")],
)
def test_precision_that_the_engine_holds_is_fine(declared: str, held: str) -> None:
    check(declared, "timestamp", precision=held)


def test_a_caseless_key_needs_a_case_rule() -> None:
    assert 'rules = ["casefold"]' in refusal("text", "text", key="c", caseless=True)
    check({"type": "text", "rules": ["casefold"]}, "text", key="c", caseless=True)
    check("text", "text", caseless=True)


def test_a_nullable_key_column_is_fine() -> None:
    check("text", "text", key="c", nullable=True)


def test_an_engine_that_cannot_tell_empty_from_null_needs_the_profile_to_say_so() -> None:
    assert 'empty_collection = "null"' in refusal("set<int>", "set<int>", empty_is_null=True)
    check("set<int>", "set<int>", empty_is_null=True, empty="null")
    check("int", "int", empty_is_null=True)


def test_absent_unbound_and_surplus_columns_are_all_listed() -> None:
    kinds = {name: parse_type("int") for name in ("id", "amount", "unbound")}
    profile = Profile("d", ("id",), kinds)
    columns = (
        BoundColumn("id", kinds["id"], source="id"),
        BoundColumn("amount", kinds["amount"], source="amuont"),
        BoundColumn("surplus", kinds["id"], source="id"),
    )
    schema = TableSchema("t", tuple(SourceColumn(name, "integer", kinds["id"]) for name in ("id", "amount")))
    with pytest.raises(ConfigError) as caught:
        check_binding(profile, Binding("d", "t", ("id",), columns), schema)
    said = str(caught.value)
    for part in (
        "3 things",
        "did you mean 'amount'",
        "'unbound' is not bound",
        "'surplus' is bound",
        "dataset d, table t",
    ):
        assert part in said


def test_constants_and_expressions_need_no_source_and_parts_need_theirs() -> None:
    text = parse_type("text")
    profile = Profile("d", ("a",), {"a": text, "b": text, "c": text})
    columns = (
        BoundColumn("a", text, parts=("x", "y"), joiner="/"),
        BoundColumn("b", text, constant="eu"),
        BoundColumn("c", text, expression="x::text"),
    )
    schema = TableSchema("t", (SourceColumn("x", "integer", parse_type("int")),))
    with pytest.raises(ConfigError, match="no source column 'y'"):
        check_binding(profile, Binding("d", "t", ("a",), columns), schema)


def test_rows_cannot_be_looked_up_by_nanoseconds() -> None:
    assert "looked up by microseconds" in refusal("timestamp(us)", "timestamp", key="c", precision="ns")
    check("timestamp(us)", "timestamp", key="c", precision="us")
