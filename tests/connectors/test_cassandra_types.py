"""Every row of the translation table on a real server: what it is called, what its values become, what is refused."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, bound, found, keyspace, plain, scanned

from edge_agent.connectors.cassandra.cqltype import TABLE
from edge_agent.connectors.contract import REJECTS
from paritree.core.canonical.times import Nanos
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers
ID = uuid.UUID("f47ac10b-58cc-11e4-8ed6-0800200c9a66")


@pytest.fixture(scope="module")
def ks(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "types") as made:
        made.run("CREATE TYPE {ks}.address (street text, floors frozen<set<int>>)")
        yield made


ROWS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ascii": ("ascii", "text", {"'a'": "a", "''": ""}),
    "text": ("text", "text", {"'é\U0001f600'": "é\U0001f600", "''": "", "'it''s'": "it's"}),
    "varchar": ("varchar", "text", {"'x'": "x"}),
    "tinyint": ("tinyint", "int", {"-128": -128, "127": 127}),
    "smallint": ("smallint", "int", {"-32768": -32768, "32767": 32767}),
    "int": ("int", "int", {"-2147483648": -(2**31), "2147483647": 2**31 - 1}),
    "bigint": ("bigint", "int", {str(-(2**63)): -(2**63), str(2**63 - 1): 2**63 - 1}),
    "varint": ("varint", "int", {"0": 0, "-1": -1, "255": 255, str(-(2**63)): -(2**63)}),
    "decimal": (
        "decimal",
        "decimal",
        {"1.10": "1.10", "-0.001": "-0.001", "1E3": "1E+3", "0.00": "0.00"},
    ),
    "float": ("float", "float", {"1.5": 1.5, "-0.0": -0.0, "Infinity": float("inf")}),
    "double": ("double", "float", {"0.1": 0.1, "-Infinity": float("-inf"), "4.9E-324": 5e-324}),
    "boolean": ("boolean", "bool", {"true": True, "false": False}),
    "blob": ("blob", "bytes", {"0x": b"", "0x00ff": b"\x00\xff"}),
    "date": ("date", "date", {"'1970-01-01'": 0, "'1969-12-31'": -1, "0": -(2**31), "4294967295": 2**31 - 1}),
    "time": ("time", "time", {"'00:00:00'": 0, "'23:59:59.999999999'": 86_399_999_999_999, "1": 1}),
    "timestamp": (
        "timestamp",
        "timestamp",
        {"0": 0, "-1": -1_000, "'2024-02-29T12:00:00.123Z'": 1_709_208_000_123_000},
    ),
    "duration": ("duration", "duration", {"1mo2d3us": (1, 2, 3), "-1y1ms": (-12, 0, -1_000), "0s": (0, 0, 0)}),
    "uuid": ("uuid", "uuid", {str(ID): ID.bytes}),
    "timeuuid": ("timeuuid", "uuid", {str(ID): ID.bytes}),
    "inet": ("inet", "inet", {"'127.0.0.1'": "127.0.0.1", "'2001:DB8:0::1'": "2001:db8::1"}),
    "list": ("list<int>", "list<int>", {"[2, 1, 2]": [2, 1, 2], "[]": None}),
    "set": ("set<text>", "set<text>", {"{'b', 'a'}": ["a", "b"], "{}": None}),
    "map": ("map<int, varint>", "map<int, int>", {"{2: 20, 1: 10}": [(1, "10"), (2, "20")], "{}": None}),
    "vector": ("vector<float, 2>", "list<float>", {"[1.5, -2]": [1.5, -2.0]}),
    "tuple": ("tuple<int, text>", "struct{0: int, 1: text}", {"(1, null)": {"0": 1, "1": None}}),
    "udt": (
        "address",
        "struct{floors: set<int>, street: text}",
        {
            "{street: 'x', floors: {2, 1}}": {"street": "x", "floors": [1, 2]},
            "{street: 'y'}": {"street": "y", "floors": None},
        },
    ),
}
OTHERS = {"counter", "custom"}
"""Rows with a test of their own below: no literal can be inserted."""


def test_every_row_of_the_table_has_a_test() -> None:
    assert set(TABLE) == set(ROWS) | OTHERS


@pytest.mark.parametrize("row", ROWS)
def test_a_type_and_its_values(ks: Keyspace, row: str) -> None:
    cql, logical, values = ROWS[row]
    name = f"t_{row}"
    ks.create(name, f"id int PRIMARY KEY, v {cql}")
    for number, literal in enumerate([*values, "null"]):
        ks.run(f"INSERT INTO {{ks}}.{name} (id, v) VALUES ({number}, {literal})")
    with ks.connect() as connector:
        schema = connector.describe(name)
        column = schema.column("v")
        assert column is not None
        assert str(column.logical) == logical
        assert column.lost.startswith(TABLE[row].lost)
        assert column.precision == {"timestamp": "ms", "time": "ns"}.get(row)
        assert (schema.key, schema.empty_is_null, schema.consistent) == (("id",), True, False)
        binding = bound(connector, name)
        rows = scanned(connector, binding)
        assert {each["id"]: repr(each["v"]) for each in rows} == dict(enumerate(map(repr, [*values.values(), None])))
        assert not any("rejects" in each for each in rows)
        looked_up = found(connector, binding, *((number,) for number in range(len(values) + 1)))
        assert sorted(map(repr, looked_up)) == sorted(map(repr, rows))


def test_times_keep_their_nanoseconds(ks: Keyspace) -> None:
    with ks.connect() as connector:
        rows = scanned(connector, bound(connector, "t_time"))
    assert all(row["v"] is None or isinstance(row["v"], Nanos) for row in rows)


def test_counters(ks: Keyspace) -> None:
    ks.create("t_counter", "id int PRIMARY KEY, n counter")
    ks.run("UPDATE {ks}.t_counter SET n = n - 7 WHERE id = 1")
    with ks.connect() as connector:
        binding = bound(connector, "t_counter")
        assert scanned(connector, binding) == [{"id": 1, "n": -7}]
        assert any("is a counter" in line for line in connector.advice("t_counter"))


def test_a_custom_type_is_refused_and_the_rest_compared(ks: Keyspace) -> None:
    ks.create("t_custom", "id int PRIMARY KEY, v 'org.apache.cassandra.db.marshal.LexicalUUIDType', t text")
    ks.run("INSERT INTO {ks}.t_custom (id, t) VALUES (1, 'x')")
    with ks.connect() as connector:
        column = connector.describe("t_custom").column("v")
        assert column is not None
        assert column.logical is None
        assert "Java class" in column.refusal
        binding = bound(connector, "t_custom")
        assert scanned(connector, binding) == [{"id": 1, "t": "x"}]
        with pytest.raises(ConfigError, match="Java class"):
            connector.plan(with_column(binding, "v", "text"), 1_000)
        assert any("cannot be compared" in line for line in connector.advice("t_custom"))


def with_column(binding: Binding, name: str, kind: str) -> Binding:
    return replace(binding, columns=(*binding.columns, BoundColumn(name, parse_type(kind), source=name)))


def test_whole_numbers_of_any_size(ks: Keyspace) -> None:
    ks.create("t_big", "id int PRIMARY KEY, v varint, d decimal")
    numbers = [2**63, -(2**63) - 1, 7**6_000]
    for number, value in enumerate(numbers):
        cell = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        ks.insert_raw("t_big", ["id", "v", "d"], [struct.pack(">i", number), cell, struct.pack(">i", 3) + cell])
    with ks.connect() as connector:
        rows = {row["id"]: row for row in scanned(connector, bound(connector, "t_big"))}
    for number, value in enumerate(numbers):
        assert int(Decimal(rows[number]["v"])) == value
        assert Decimal(rows[number]["d"]).scaleb(3) == value or value == 7**6_000
    assert len(rows[2]["d"]) == 5_071 + 1  # the point


def test_decimals_that_must_not_be_written_out(ks: Keyspace) -> None:
    ks.create("t_scale", "id int PRIMARY KEY, v decimal")
    for number, scale in enumerate([-2_000_000_000, 2_000_000_000, -(2**31), 2**31 - 1]):
        ks.insert_raw("t_scale", ["id", "v"], [struct.pack(">i", number), struct.pack(">i", scale) + b"\1"])
    with ks.connect() as connector:
        rows = scanned(connector, bound(connector, "t_scale"))
    assert {row["id"]: row["v"] for row in rows} == {
        0: "1E+2000000000",
        1: "1E-2000000000",
        2: "1E+2147483648",
        3: "1E-2147483647",
    }


def test_nested_frozen_collections(ks: Keyspace) -> None:
    ks.create(
        "t_nested",
        "id int PRIMARY KEY, a map<text, frozen<list<frozen<tuple<int, timestamp>>>>>, "
        "b list<frozen<address>>, c vector<text, 2>, d set<frozen<set<decimal>>>, e vector<vector<int, 2>, 2>, "
        "f vector<smallint, 2>, g vector<bigint, 1>, h vector<uuid, 1>, i vector<date, 1>",
    )
    ks.run(
        "INSERT INTO {ks}.t_nested (id, a, b, c, d, e, f, g, h, i) VALUES (1, {'k': [(1, 5), (null, null)], 'e': []}, "
        "[{street: 's', floors: {3}}], ['', 'long enough'], {{1.50}, {}}, [[1, 2], [3, 4]], [5, -6], [7], "
        f"[{ID}], ['1970-01-02'])"
    )
    with ks.connect() as connector:
        binding = bound(connector, "t_nested")
        (row,) = scanned(connector, binding)
    assert row == {
        "id": 1,
        "a": [("e", []), ("k", [{"0": 1, "1": 5_000}, {"0": None, "1": None}])],
        "b": [{"street": "s", "floors": [3]}],
        "c": ["", "long enough"],
        "d": [[], ["1.50"]],
        "e": [[1, 2], [3, 4]],
        "f": [5, -6],
        "g": [7],
        "h": [ID.bytes],
        "i": [1],
    }


def test_empty_values_are_rejects_with_their_reason(ks: Keyspace) -> None:
    """Cassandra takes zero bytes for most types; read as null or 0 they would be "equal" to a region that has those."""
    taken = ["int", "bigint", "boolean", "decimal", "double", "float", "inet", "timestamp", "uuid", "varint"]
    ks.create("t_empty", "id int PRIMARY KEY, t text, b blob, " + ", ".join(f"{k}_ {k}" for k in taken))
    names = [f"{kind}_" for kind in taken]
    ks.insert_raw("t_empty", ["id", "t", "b", *names], [struct.pack(">i", 1), *[b""] * (2 + len(taken))])
    with ks.connect() as connector:
        (row,) = scanned(connector, bound(connector, "t_empty"))
    assert (row["t"], row["b"]) == ("", b"")
    assert row["rejects"] == {
        f"{kind}_": f"an empty {kind}: Cassandra holds zero bytes where a value belongs" for kind in taken
    }


def test_values_that_no_carrier_holds(ks: Keyspace) -> None:
    ks.create("t_far", "id int PRIMARY KEY, at timestamp, d duration")
    for number, (at, length) in enumerate([(2**63 - 1, "1ns"), (-(2**63), "1us"), (9_223_372_036_854_775, "1us")]):
        ks.run(f"INSERT INTO {{ks}}.t_far (id, at, d) VALUES ({number}, {at}, {length})")
    with ks.connect() as connector:
        rows = {row["id"]: row for row in scanned(connector, bound(connector, "t_far"))}
    out = "a timestamp outside the range of 64-bit microseconds"
    assert rows[0]["rejects"] == {"at": out, "d": "a duration finer than a microsecond"}
    assert rows[1]["rejects"] == {"at": out}
    assert rows[2] == {"id": 2, "at": 9_223_372_036_854_775_000, "d": (0, 0, 1)}


def test_a_type_altered_between_pages_ends_the_scan(ks: Keyspace) -> None:
    """The new field would be read as if it were not there."""
    ks.run("CREATE TYPE IF NOT EXISTS {ks}.growing (a int)")
    ks.create("t_growing", "id int PRIMARY KEY, v growing")
    for number in range(600):
        ks.run(f"INSERT INTO {{ks}}.t_growing (id, v) VALUES ({number}, {{a: 1}})")
    with ks.connect(page_rows="100") as connector:
        binding = bound(connector, "t_growing")
        with connector.plan(binding, 250_000) as plan:
            (shard,) = plan.shards
            batches = connector.scan(binding, shard)
            assert REJECTS not in next(batches).schema.names
            ks.run("ALTER TYPE {ks}.growing ADD b int")
            for number in range(600):
                ks.run(f"UPDATE {{ks}}.t_growing SET v.b = 2 WHERE id = {number}")
            with pytest.raises(SourceError, match="types changed"):
                plain(binding, batches)
