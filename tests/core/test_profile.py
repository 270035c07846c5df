"""Profiles and bindings: what is in their ids, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import pytest

from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type


def profile(**changes: Any) -> Profile:
    given: dict[str, Any] = {
        "dataset": "d",
        "key": ("id",),
        "columns": {"id": parse_type("int"), "v": parse_type("decimal(2)"), "t": parse_type("timestamp(ms)")},
        **changes,
    }
    return Profile(**given)


def columns(**kinds: Any) -> dict[str, Any]:
    return {name: parse_type(kind) for name, kind in kinds.items()}


def test_the_id_is_the_digest_of_exactly_what_is_compared() -> None:
    content = {
        "canonical": 1,
        "columns": {
            "id": {"type": "int"},
            "t": {"precision": "ms", "type": "timestamp"},
            "v": {"scale": 2, "type": "decimal"},
        },
        "dataset": "d",
        "empty_collection": "keep",
        "key": ["id"],
    }
    assert profile().profile_id == hashlib.blake2b(msgpack.packb(content), digest_size=16).digest()


def test_the_id_does_not_depend_on_the_order_of_declaration_or_on_what_is_ignored() -> None:
    turned = dict(reversed(profile().columns.items()))
    assert profile(columns=turned).profile_id == profile().profile_id
    assert profile(ignored=("x",)).profile_id == profile().profile_id
    one = {"type": "struct", "fields": {"b": "int", "a": "int"}}
    other = {"type": "struct", "fields": {"a": "int", "b": "int"}}
    assert (
        profile(columns=columns(id="int", s=one)).profile_id == profile(columns=columns(id="int", s=other)).profile_id
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "e"},
        {"key": ("id", "v")},
        {"key": ("v", "id")},
        {"empty_collection": "null"},
        {"columns": columns(id="int", v="decimal(2)")},
        {"columns": columns(id="int", v="decimal(2)", t="timestamp(us)")},
        {"columns": columns(id="int", v="decimal(2)", t="datetime(ms)")},
        {"columns": columns(id="int", v="decimal(3)", t="timestamp(ms)")},
        {"columns": columns(id="int", v={"type": "decimal", "scale": 2, "rounding": "half_up"}, t="timestamp(ms)")},
        {"columns": columns(id="int", w="decimal(2)", t="timestamp(ms)")},
    ],
)
def test_the_id_changes_with_anything_that_is_compared(changes: dict[str, Any]) -> None:
    assert profile(**changes).profile_id != profile().profile_id
    assert len({profile(**changes).profile_id, profile(**{**changes, "dataset": "other"}).profile_id}) == 2


def test_row_columns_are_in_the_order_of_their_bytes() -> None:
    named = profile(columns=columns(id="int", **{"é": "int", "z": "int", "～": "int", "🚀": "int", "B": "int"}))
    assert named.row_columns == ("B", "id", "z", "é", "～", "🚀")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": ""}, "name"),
        ({"key": ()}, "--key a,b"),
        ({"key": ("nope",)}, "'nope'"),
        ({"key": ("id", "id")}, "twice"),
        ({"empty_collection": "maybe"}, "'keep' or 'null'"),
    ],
)
def test_a_profile_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        profile(**changes)


def binding(**changes: Any) -> Binding:
    bound = (BoundColumn("id", parse_type("int"), source="id"), BoundColumn("v", parse_type("text"), source="V"))
    return Binding(**{"dataset": "d", "table": "t", "key": ("id",), "columns": bound, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"table": "u"},
        {"where": "id > 1"},
        {"where": ""},
        {"options": {"a": "b"}},
        {"columns": (BoundColumn("id", parse_type("int"), source="id"),)},
        {"columns": (*binding().columns[:1], BoundColumn("v", parse_type("text"), source="v"))},
        {"columns": (*binding().columns[:1], BoundColumn("v", parse_type("text"), expression="V"))},
        {"columns": (*binding().columns[:1], BoundColumn("v", parse_type("text"), constant="V"))},
        {"columns": (*binding().columns[:1], BoundColumn("v", parse_type("text"), parts=("V",)))},
        {"columns": (*binding().columns[:1], BoundColumn("v", parse_type("int"), source="V"))},
    ],
)
def test_a_changed_binding_is_another_index(changes: dict[str, Any]) -> None:
    assert binding(**changes).binding_id != binding().binding_id
    assert binding(columns=binding().columns[::-1]).binding_id == binding().binding_id


def test_columns_of_a_binding_by_name() -> None:
    assert [column.name for column in binding().key_columns] == ["id"]
    with pytest.raises(KeyError):
        binding().column("nope")
