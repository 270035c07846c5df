"""Folds, constants, names and translation tables: what several connectors share."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import INT, TEXT, same

from edge_agent.connectors import columns, translation
from edge_agent.connectors.names import absent
from paritree.core.carrier import plain_values
from paritree.core.errors import ConfigError, DeadLetter, InvariantBroken
from paritree.core.profile import Binding, BoundColumn
from paritree.core.schema import SourceColumn, TableSchema
from paritree.core.types import parse_type


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "", ""),
        ("int", "-7", -7),
        ("decimal", "1.10", "1.1"),
        ("bool", "false", False),
        ("float", "1.5", 1.5),
        ("bytes", "\\x00ff", b"\0\xff"),
        ("date", "1970-01-02", 1),
        ("timestamp", "1970-01-01T00:00:01Z", 1_000_000),
        ("duration", "P1M", (1, 0, 0)),
        ("uuid", "00010203-0405-0607-0809-0a0b0c0d0e0f", bytes(range(16))),
        ("json", "{}", "{}"),
    ],
)
def test_a_constant_is_read_as_its_type(kind: str, text: str, value: object) -> None:
    logical = parse_type(kind)
    made = columns.constant(BoundColumn("c", logical, constant=text), 2)
    assert all(same(found, value, logical) for found in plain_values(made, logical))
    assert len(made) == 2


@pytest.mark.parametrize(("kind", "text"), [("bool", "yes"), ("float", "x"), ("bytes", "0"), ("list<int>", "[1]")])
def test_a_constant_that_is_no_value_of_its_type_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ConfigError) as error:
        columns.constant(BoundColumn("c", parse_type(kind), constant=text), 1)
    assert error.value.next_step


def test_parts_are_folded_by_their_one_text() -> None:
    parts = [
        pa.array(["a", "", None]),
        pa.array([1, -2, 3], pa.int8()),
        pa.array([bytes(range(16)), bytes(16), None], pa.binary(16)),
        pa.array([True, False, True]),
        pa.array(["x", "y", "x"]).dictionary_encode(),
    ]
    column = BoundColumn("c", TEXT, parts=tuple("abcde"), joiner="|")
    folded, rejects = columns.fold(column, parts)
    assert folded.to_pylist() == [
        "a|1|00010203-0405-0607-0809-0a0b0c0d0e0f|true|x",
        "|-2|00000000-0000-0000-0000-000000000000|false|y",
        None,
    ]
    assert rejects == []


def test_a_part_without_one_text_is_refused_and_broken_text_a_reject() -> None:
    column = BoundColumn("c", TEXT, parts=("a", "b"), joiner="|")
    with pytest.raises(ConfigError):
        columns.fold(column, [pa.array([1.5]), pa.array(["x"])])
    batch = columns.assemble([column], [pa.array([b"\xff", b"ok"]), pa.array(["x", "y"])], 2)
    assert batch.column("c").to_pylist() == [None, "ok|y"]
    assert batch.column("paritree.rejects").to_pylist() == [[{"column": "c", "reason": "part 'a' is not UTF-8"}], None]


@given(st.lists(st.text("a:", max_size=4), min_size=1, max_size=4), st.sampled_from([":", "::", ""]))
def test_unfolding_has_the_way_it_was_folded(parts: list[str], joiner: str) -> None:
    text = joiner.join(parts)
    ways = list(columns.unfold(text, joiner, len(parts)))
    assert tuple(parts) in ways
    assert len(set(ways)) == len(ways)
    assert all(joiner.join(way) == text for way in ways)


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (BoundColumn("c", INT), "exactly one of"),
        (BoundColumn("c", INT, source="a", constant="1"), "exactly one of"),
        (BoundColumn("c", INT, source="aa"), "did you mean 'a'"),
        (BoundColumn("c", INT, parts=("a", "b")), "a fold is text"),
        (BoundColumn("c", TEXT, parts=("a", "z"), joiner="-"), "no column 'z'"),
        (BoundColumn("c", INT, source="b"), "it is odd"),
        (BoundColumn("c", INT, expression="1"), "no expressions"),
        (BoundColumn("c", parse_type("bool"), constant="1"), "'1' is not a bool"),
    ],
)
def test_a_binding_that_cannot_be_read_is_refused(column: BoundColumn, says: str) -> None:
    known = (SourceColumn("a", "int", INT), SourceColumn("b", "odd", None, refusal="it is odd"))
    with pytest.raises(ConfigError) as error:
        columns.check(Binding("d", "t", ("c",), (column,)), TableSchema("t", known), expressions=False)
    assert says in str(error.value)


def test_a_name_that_is_absent_lists_what_comes_near() -> None:
    assert "did you mean 'orders'" in str(absent("table", "ordrs", ["orders", "customers"], "shop.db"))
    assert "did you mean 'ORDERS'" in str(absent("table", "orders", ["ORDERS"]))
    assert "known: a, b" in str(absent("table", "zzz", ["b", "a"]))
    assert str(absent("table", "x", [])) == "no table 'x'; there is no table at all"
    assert str(absent("column", "x", (f"c{n:03}" for n in range(50)))).endswith("c011, ...")


@pytest.mark.parametrize(
    "row", ['logical = "int"\nshape = "list"', 'lost = "all"', 'shape = "heap"', 'logical = "int"\ncolour = "red"']
)
def test_a_translation_table_says_one_thing_of_a_type(
    row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "oddly_typed"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "types.toml").write_text(f"[odd]\n{row}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "oddly_typed", raising=False)
    translation.load.cache_clear()
    with pytest.raises(InvariantBroken):
        translation.load("oddly_typed")


def test_a_dead_letter_is_never_the_same_as_a_value() -> None:
    assert not same(DeadLetter("x"), DeadLetter("x"), TEXT)
