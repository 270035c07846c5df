"""Look-ups: every row that a scan gives is found by its key, whatever the key's type, and nothing else is."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from reading import INT, binding, filled, looked_up, scanned, types, values
from switches.base import INT64_MAX, INT64_MIN, Switches

from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import LogicalType, parse_type

KEYS: dict[str, list[Any]] = {
    "bool": [True, False],
    "int": [0, 1, -1, 7, 1 << 31, INT64_MAX, INT64_MIN],
    "decimal": [Decimal(text) for text in ("0", "7", "1.5", "-1.5", "0.0001", "1234567890.1234", "100000")],
    "float": [0.0, 1.5, -1.5, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan],
    "text": [
        "",
        "a",
        "A",
        "a ",
        " a",
        "a'b",
        'a"b',
        "--",
        "%",
        "NULL",
        "7",
        "7.0",
        "é",
        "e\u0301",
        "😀",
        "a\nb",
        "\\",
        "a\0b",
    ],
    "bytes": [b"", b"\0", b"a", b"a\0", b"\xff\x00", b"\\x61", bytes(range(256))],
    "date": [0, -1, 19000, 10957, -719162, 2932896],
    "time": [0, 1, 43_200_000_000, 86_399_999_999, 3_599_000_000],
    "timestamp": [0, -1, 1, 1_577_836_800_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999, 1_000_000],
    "datetime": [0, -1, 1, 1_577_836_800_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999, 1_000_000],
    "uuid": [bytes(16), bytes(range(16)), b"\xff" * 16],
}
ABSENT: dict[str, Any] = {
    "int": 5,
    "decimal": Decimal("1.50001"),
    "float": 1.25,
    "text": "zz",
    "bytes": b"zz",
    "date": 5,
    "time": 5_000_000,
    "timestamp": 5_000_000,
    "datetime": 5_000_000,
    "uuid": b"\1" * 16,
}


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type(store: Switches, name: str) -> None:
    kind = parse_type(name)
    _, refused = store.cannot_hold.get(name, ("", ()))
    keys = [key for key in KEYS[name] if not any(_equal(key, other) for other in refused)]
    columns = {"k": kind, "n": INT}
    table = store.create("keyed", columns, ["k"], [(key, number) for number, key in enumerate(keys)])
    bound = binding(table, columns, ["k"])
    with store.connect() as connector:
        assert len(scanned(connector, bound)) == len(keys)
        for number, key in enumerate(keys):
            assert [row["n"] for row in looked_up(connector, bound, (key,))] == [number], key
        together = looked_up(connector, bound, *((key,) for key in keys), *((key,) for key in keys))
        assert sorted(row["n"] for row in together) == list(range(len(keys)))
        if name in ABSENT:
            assert looked_up(connector, bound, (ABSENT[name],)) == []


def _equal(left: Any, right: Any) -> bool:
    both_nan = isinstance(left, float) and math.isnan(left) and isinstance(right, float) and math.isnan(right)
    return both_nan or bool(left == right)


def test_a_negative_zero_finds_a_zero(store: Switches) -> None:
    columns = types(k="float", n="int")
    table = store.create("zeros", columns, ["k"], [(0.0, 1)])
    with store.connect() as connector:
        assert len(looked_up(connector, binding(table, columns, ["k"]), (-0.0,))) == 1


def test_composite_keys(store: Switches) -> None:
    columns = types(a="int", b="text", c="date", v="int")
    rows = [(1, "x", 0, 1), (1, "x", 1, 2), (1, "y", 0, 3), (2, "x", 0, 4), (2, "x,0", 0, 5)]
    table = store.create("composite", columns, ["a", "b", "c"], rows)
    bound = binding(table, columns, ["a", "b", "c"])
    with store.connect() as connector:
        for a, b, c, v in rows:
            assert [row["v"] for row in looked_up(connector, bound, (a, b, c))] == [v]
        asked = [(1, "x", 0), (2, "x", 0), (2, "y", 0), (1, "x", 2), (9, "x", 0)]
        assert sorted(row["v"] for row in looked_up(connector, bound, *asked)) == [1, 4]


def test_the_order_of_the_bindings_key_is_its_own(store: Switches) -> None:
    columns = types(a="int", b="text", v="int")
    table = store.create("ordered", columns, ["a", "b"], [(1, "x", 1), (2, "y", 2)])
    with store.connect() as connector:
        (row,) = looked_up(connector, binding(table, columns, ["b", "a"]), ("y", 2))
        assert row["v"] == 2


def test_null_parts_never_match(store: Switches) -> None:
    columns = types(id="int", k="text", v="int")
    table = store.create("nullable", columns, ["id"], [(1, None, 1), (2, "", 2), (3, "x", 3)])
    bound = binding(table, columns, ["k"])
    with store.connect() as connector:
        assert looked_up(connector, bound, (None,)) == []
        assert [row["v"] for row in looked_up(connector, bound, (None,), ("x",))] == [3]
        assert [row["v"] for row in looked_up(connector, bound, ("",))] == [2]


def test_duplicate_keys_give_every_row(store: Switches) -> None:
    columns = types(id="int", k="text")
    table = store.create("duplicates", columns, ["id"], [(1, "a"), (2, "a"), (3, "b")])
    bound = binding(table, columns, ["k"])
    with store.connect() as connector:
        assert sorted(row["id"] for row in looked_up(connector, bound, ("a",), ("a",))) == [1, 2]


def test_many_keys_at_once(store: Switches) -> None:
    bound = filled(store, 1500)
    asked = [(number,) for number in range(-500, 3000)]
    with store.connect() as connector:
        rows = values(bound, connector.lookup(bound, asked))
    assert sorted(row["id"] for row in rows) == list(range(1500))


def test_no_keys_give_no_rows(store: Switches) -> None:
    bound = filled(store, 3)
    with store.connect() as connector:
        assert looked_up(connector, bound) == []


def test_a_look_up_reads_now_not_the_plans_state(store: Switches) -> None:
    bound = filled(store, 20)
    with store.connect() as connector:
        store.change(bound.table)
        rows = looked_up(connector, bound, (0,), (1,), (2,), (1000,))
    assert {row["id"]: row["v"] for row in rows} == {1: -1, 2: 20, 1000: 10_000}


def test_folded_and_constant_keys(store: Switches) -> None:
    columns = types(id="int", tenant="text", bucket="int")
    table = store.create("folded", columns, ["tenant", "bucket"], [(1, "a", 7), (2, "a:7", 1), (3, "b", 0)])
    text: LogicalType = parse_type("text")
    bound = Binding(
        "dataset",
        table,
        ("scope", "region"),
        (
            BoundColumn("id", INT, source="id"),
            BoundColumn("scope", text, parts=("tenant", "bucket"), joiner=":"),
            BoundColumn("region", text, constant="eu"),
        ),
    )
    with store.connect() as connector:
        assert [row["id"] for row in looked_up(connector, bound, ("a:7", "eu"))] == [1]
        assert [row["id"] for row in looked_up(connector, bound, ("a:7:1", "eu"), ("b:9", "eu"))] == [2]
        assert looked_up(connector, bound, ("a:7", "us")) == []
