"""Profiles derived from catalogues: what goes together, what is refused, and what the refusal says to add."""

from __future__ import annotations

from typing import Any

import pytest

from paritree.core.derive import FLAGS, LINES, Derived, derive_profile
from paritree.core.errors import ConfigError
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import parse_type


def column(name: str, kind: str | None, **rest: Any) -> SourceColumn:
    return SourceColumn(name, rest.pop("engine_type", kind or "weird"), kind and parse_type(kind), **rest)


def schema(*columns: SourceColumn, key: tuple[str, ...] = ("id",), **rest: Any) -> TableSchema:
    return TableSchema("t", columns, key, **rest)


ID = column("id", "int")


def derive(eu: TableSchema, us: TableSchema, **arguments: Any) -> Derived:
    return derive_profile("t", {"eu": eu, "us": us}, **arguments)


def pair(one: SourceColumn, other: SourceColumn, **arguments: Any) -> Derived:
    """Two regions with an id and one more column."""
    return derive(schema(ID, one), schema(ID, other), **arguments)


def refusal(one: SourceColumn, other: SourceColumn, **arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        pair(one, other, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("int", "int", "int"),
        ("int", "decimal", "decimal"),
        ("decimal(2)", "int", "decimal"),
        ("decimal(2)", "decimal(4)", "decimal"),
        ("list<int>", "list<decimal>", "list<decimal>"),
        ("map<text,int>", "map<text,decimal(1)>", "map<text, decimal>"),
        ("struct{a: int, b: text}", "struct{b: text, a: decimal}", "struct{a: decimal, b: text}"),
        ("uuid", "uuid", "uuid"),
    ],
)
def test_types_that_go_together(one: str, other: str, expected: str) -> None:
    assert str(pair(column("c", one), column("c", other)).profile.columns["c"]) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int", "text"),
        ("int", "float"),
        ("decimal", "float"),
        ("bool", "int"),
        ("date", "timestamp"),
        ("list<int>", "set<int>"),
        ("list<int>", "list<text>"),
        ("struct{a: int}", "struct{a: int, b: int}"),
        ("text", "uuid"),
    ],
)
def test_every_other_mismatch_is_refused_with_both_types_and_a_way_out(one: str, other: str) -> None:
    said = refusal(column("c", one), column("c", other))
    assert f"eu: {parse_type(one)}" in said
    assert f"us: {parse_type(other)}" in said
    assert "--ignore c" in said
    assert "c = { ignore = true }" in refusal(column("c", one), column("c", other), advice=LINES)


def test_an_instant_and_a_local_time_are_never_mixed() -> None:
    said = refusal(column("c", "timestamp", precision="us"), column("c", "datetime", precision="us"))
    assert "never mixed" in said
    assert "--ignore c" in said


def test_columns_match_by_name_then_by_the_only_name_of_other_case() -> None:
    found = derive(schema(ID, column("Name", "text")), schema(column("ID", "int"), column("NAME", "text"), key=("ID",)))
    assert found.bindings == {"eu": {"id": "id", "Name": "Name"}, "us": {"id": "ID", "Name": "NAME"}}
    assert found.profile.key == ("id",)
    assert "column 'NAME' of us is compared as 'Name'" in found.notes


def test_an_exact_name_wins_over_one_of_other_case() -> None:
    upper_first = schema(ID, column("NAME", "text"), column("name", "int"))
    found = derive(schema(ID, column("name", "int"), column("NAME", "text")), upper_first)
    assert found.bindings["us"] == {"id": "id", "name": "name", "NAME": "NAME"}


def test_an_ambiguous_name_is_refused_not_guessed() -> None:
    with pytest.raises(ConfigError, match="'Name' is missing in us"):
        derive(schema(ID, column("Name", "text")), schema(ID, column("NAME", "text"), column("name", "text")))


def test_a_column_that_a_region_lacks_is_refused_until_ignored() -> None:
    eu, us = schema(ID, column("extra", "text")), schema(ID, column("other", "text"))
    with pytest.raises(ConfigError) as caught:
        derive(eu, us)
    assert "'extra' is missing in us: --ignore extra" in str(caught.value)
    assert "'other' is missing in eu: --ignore other" in str(caught.value)
    found = derive(eu, us, ignore=["extra", "other"])
    assert set(found.profile.columns) == {"id"}
    assert found.profile.ignored == ("extra", "other")


def test_columns_limits_the_comparison_and_the_key_stays() -> None:
    eu = schema(ID, column("a", "int"), column("b", "int"))
    found = derive(eu, schema(ID, column("a", "int")), columns=["a"])
    assert set(found.profile.columns) == {"id", "a"}
    assert found.profile.ignored == ("b",)


def test_columns_in_all_three_regions() -> None:
    three = {"a": schema(ID, column("X", "int")), "b": schema(ID, column("x", "decimal")), "c": schema(ID)}
    with pytest.raises(ConfigError, match="'X' is missing in c"):
        derive_profile("t", three)
    three["c"] = schema(ID, column("x", "int"))
    found = derive_profile("t", three)
    assert found.profile.columns["X"].name == "decimal"
    assert [found.bindings[region]["X"] for region in "abc"] == ["X", "x", "x"]


def test_untyped_columns_take_the_typed_sides_type() -> None:
    found = pair(column("c", "uuid"), column("c", "text", typed=False))
    assert found.profile.columns["c"].name == "uuid"
    refused_type = column("c", None, typed=False, refusal="unknown")
    assert pair(refused_type, column("c", "decimal")).profile.columns["c"].name == "decimal"


def test_names_in_flags_can_be_pasted() -> None:
    said = refusal(column(" v", "int"), column(" v", "uuid"))
    assert "--ignore ' v'" in said


def test_untyped_on_all_sides_is_text_unless_the_declared_types_agree() -> None:
    def untyped(kind: str | None) -> SourceColumn:
        return column("c", kind, typed=False)

    assert pair(untyped("int"), untyped("int")).profile.columns["c"].name == "int"
    assert pair(untyped("int"), untyped("text")).profile.columns["c"].name == "text"
    assert pair(untyped(None), untyped("int")).profile.columns["c"].name == "text"
    with pytest.raises(ConfigError, match="declared types differ, and nothing else decides"):
        pair(untyped("int"), untyped("float"))


def test_a_column_without_a_declared_type_takes_a_declared_one() -> None:
    csv = SourceColumn("c", "csv", parse_type("text"), typed=False)
    declared = SourceColumn("c", "INTEGER", parse_type("int"), typed=False)
    assert pair(csv, declared).profile.columns["c"].name == "int"
    assert pair(declared, csv).profile.columns["c"].name == "int"
    assert pair(csv, csv).profile.columns["c"].name == "text"


def test_a_collection_cannot_be_read_from_an_untyped_column() -> None:
    said = refusal(column("c", "list<int>"), column("c", "text", typed=False))
    assert "cannot be read from an untyped column" in said
    assert "--ignore c" in said


def test_a_type_without_translation_is_refused_with_its_reason() -> None:
    said = refusal(column("c", None, refusal="its text depends on lc_monetary"), column("c", "decimal"))
    assert "lc_monetary" in said
    assert "--ignore c" in said
    assert pair(column("c", None, refusal="x"), column("c", "decimal"), ignore=["c"]).profile.ignored == ("c",)


@pytest.mark.parametrize(
    ("one", "other", "advised"),
    [("us", "ms", "ms"), ("ms", "s", "s"), ("ns", "us", "us"), ("ns", "ns", "us"), ("ns", "ms", "ms")],
)
def test_precision_is_never_lowered_without_being_said(one: str, other: str, advised: str) -> None:
    columns = column("at", "timestamp", precision=one), column("at", "timestamp", precision=other)
    assert f"--precision at={advised}" in refusal(*columns)
    assert f'at = {{ type = "timestamp", precision = "{advised}" }}' in refusal(*columns, advice=LINES)
    assert pair(*columns, precision={"at": advised}).profile.columns["at"].precision == advised


def test_equal_precision_is_taken_as_it_is() -> None:
    ms = column("at", "timestamp", precision="ms")
    assert pair(ms, ms).profile.columns["at"].precision == "ms"
    us = column("at", "timestamp", precision="us")
    assert pair(us, us).profile.columns["at"].precision is None


def test_an_untyped_time_may_have_any_digits_so_a_coarser_side_needs_a_word() -> None:
    columns = column("at", "timestamp", precision="ms"), column("at", "text", typed=False)
    assert "--precision at=ms" in refusal(*columns)
    assert pair(*columns, precision={"at": "ms"}).profile.columns["at"].precision == "ms"


def test_precision_reaches_times_inside_a_collection() -> None:
    columns = column("at", "list<timestamp>", precision="us"), column("at", "list<timestamp>", precision="ms")
    assert 'at = "list<timestamp(ms)>"' in refusal(*columns, advice=LINES)
    assert str(pair(*columns, precision={"at": "ms"}).profile.columns["at"]) == "list<timestamp(ms)>"


@pytest.mark.parametrize(
    ("said", "complaint"), [("us", "finer than"), ("ns", "none of s, ms, us"), ("fortnight", "none of s, ms, us")]
)
def test_a_precision_that_cannot_be_is_refused(said: str, complaint: str) -> None:
    ms = column("at", "timestamp", precision="ms")
    assert complaint in refusal(ms, ms, precision={"at": said})


def test_precision_of_what_is_no_time_is_refused() -> None:
    assert "precision is for times" in refusal(column("c", "int"), column("c", "int"), precision={"c": "ms"})


def test_padded_text_is_stripped_on_all_sides() -> None:
    found = pair(column("c", "text", padded=True), column("c", "text"), rules={"c": ["nfc"]})
    assert found.profile.columns["c"].rules == ("nfc", "rtrim")
    assert any("trailing spaces" in note for note in found.notes)


def test_a_caseless_key_needs_a_case_rule_and_another_column_does_not() -> None:
    eu = schema(column("email", "text", caseless=True), column("note", "text", caseless=True), key=("email",))
    us = schema(column("email", "text"), column("note", "text"), key=("email",))
    with pytest.raises(ConfigError) as caught:
        derive(eu, us)
    assert "--rule email=casefold" in str(caught.value)
    assert "note" not in str(caught.value)
    found = derive(eu, us, rules={"email": ["casefold"]})
    assert found.profile.columns["email"].rules == ("casefold",)
    assert any("'note' ignores case in eu" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rules", "complaint"), [({"c": ["upper"]}, "no text rule 'upper'"), ({"id": ["nfc"]}, "rules are for text")]
)
def test_rules_that_cannot_be_are_refused(rules: dict[str, list[str]], complaint: str) -> None:
    assert complaint in refusal(column("c", "text"), column("c", "text"), rules=rules)


def test_the_key_is_the_catalogues_with_the_order_of_the_first() -> None:
    columns = column("a", "int"), column("b", "int")
    assert derive(schema(*columns, key=("b", "a")), schema(*columns, key=("a", "b"))).profile.key == ("b", "a")
    assert derive(schema(*columns, key=()), schema(*columns, key=("a",))).profile.key == ("a",)


def test_keys_that_disagree_are_refused_and_key_overrides() -> None:
    columns = column("a", "int"), column("b", "int")
    with pytest.raises(ConfigError) as caught:
        derive(schema(*columns, key=("a",)), schema(*columns, key=("a", "b")))
    assert "eu: a; us: a, b" in str(caught.value)
    assert "--key a" in str(caught.value)
    assert derive(schema(*columns, key=("a",)), schema(*columns, key=("b",)), key=["B"]).profile.key == ("b",)


def test_no_key_anywhere_is_refused() -> None:
    with pytest.raises(ConfigError, match="--key a,b"):
        derive(schema(ID, key=()), schema(ID, key=()))
    with pytest.raises(ConfigError, match=r'key = \["a", "b"\]'):
        derive(schema(ID, key=()), schema(ID, key=()), advice=LINES)


def test_the_star_makes_the_whole_row_the_key() -> None:
    eu = schema(ID, column("a", "int"), column("skip", "int"), key=())
    profile = derive(eu, eu, key=["*"], ignore=["skip"]).profile
    assert profile.whole_row
    assert profile.key == ("a", "id")
    assert profile.lookup_key == ()


def test_whole_rows_need_no_case_rule_and_may_hold_nanoseconds_but_no_tolerance() -> None:
    eu = schema(column("code", "text", caseless=True), column("at", "timestamp", precision="ns"), key=())
    assert derive(eu, eu, key=["*"], precision={"at": "us"}).profile.whole_row
    price = schema(column("price", "float"), key=())
    with pytest.raises(ConfigError, match="whole rows are compared exactly"):
        derive(price, price, key=["*"], tolerance={"price": "0.1"})
    with pytest.raises(ConfigError, match="no column is left"):
        derive(eu, eu, key=["*"], ignore=["code", "at"])


def test_a_key_column_cannot_be_ignored_or_missing_or_named_twice() -> None:
    eu = schema(ID, column("a", "int"))
    with pytest.raises(ConfigError, match="key column 'id' is ignored"):
        derive(eu, eu, ignore=["id"])
    with pytest.raises(ConfigError, match="'id' is missing in us; name another key"):
        derive(eu, schema(column("a", "int"), key=()))
    with pytest.raises(ConfigError, match="named twice"):
        derive(eu, eu, key=["id", "ID"])


@pytest.mark.parametrize("flag", ["ignore", "columns", "key"])
def test_a_name_that_no_region_has_is_refused_with_what_comes_near(flag: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'amount'"):
        pair(column("amount", "int"), column("amount", "int"), **{flag: ["amuont"]})


def test_collections_are_null_when_empty_where_an_engine_cannot_tell() -> None:
    tags = column("tags", "set<text>")
    cassandra = schema(ID, tags, empty_is_null=True)
    assert derive(schema(ID, tags), cassandra).profile.empty_collection == "null"
    assert derive(schema(ID, tags), schema(ID, tags)).profile.empty_collection == "keep"
    assert derive(schema(ID, tags), cassandra, ignore=["tags"]).profile.empty_collection == "keep"
    udt = column("u", "struct{a: int}")
    assert derive(schema(ID, udt), schema(ID, udt, empty_is_null=True)).profile.empty_collection == "null"


def test_all_mistakes_are_listed_at_once() -> None:
    eu = schema(
        column("a", "int"), column("b", "timestamp", precision="us"), column("c", "text"), column("d", "text"), key=()
    )
    us = schema(column("a", "text"), column("b", "timestamp", precision="ms"), column("c", "text"), key=())
    with pytest.raises(ConfigError) as caught:
        derive(eu, us, ignore=["zzz"])
    said = str(caught.value)
    for part in ("5 things", "column 'a'", "--precision b=ms", "--ignore d", "no column 'zzz'", FLAGS.key(())):
        assert part in said


def test_losses_are_noted() -> None:
    found = pair(column("c", "decimal", lost="the scale"), column("c", "decimal"))
    assert found.notes == ("column 'c' of eu (decimal): the scale",)


def test_rows_cannot_be_looked_up_by_nanoseconds() -> None:
    at = column("at", "timestamp", precision="ns")
    with pytest.raises(ConfigError, match="looked up by microseconds; name another key"):
        derive(schema(ID, at), schema(ID, at), key=["at"], precision={"at": "us"})
