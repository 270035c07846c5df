"""Look-ups by keys of every type, and bindings other than "every column under its own name"."""

from __future__ import annotations

import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from bench.cassandra_tables import load_cassandra
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, bound, found, keyspace, plain, scanned

from edge_agent.connectors.cassandra import lookup
from edge_agent.connectors.contract import REJECTS
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers
ID = uuid.UUID("f47ac10b-58cc-11e4-8ed6-0800200c9a66")
NAN = float("nan")


@pytest.fixture(scope="module")
def ks(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "lookups") as made:
        made.run("CREATE TYPE {ks}.pair (a int, b text)")
        yield made


KEYS: dict[str, tuple[str, str, Any]] = {
    "ascii": ("ascii", "'k'", "k"),
    "text": ("text", "'é'", "é"),
    "tinyint": ("tinyint", "-1", -1),
    "smallint": ("smallint", "300", 300),
    "int": ("int", "-5", -5),
    "bigint": ("bigint", str(2**62), 2**62),
    "varint": ("varint", "128", 128),
    "large_varint": ("varint", str(2**70), str(2**70)),
    "negative_varint": ("varint", "-128", -128),
    "decimal": ("decimal", "1.500", Decimal("1.5")),
    "decimal_zero": ("decimal", "0.00", Decimal(0)),
    "decimal_thousand": ("decimal", "1000", "1E+3"),
    "float": ("float", "1.5", 1.5),
    "double": ("double", "0.1", 0.1),
    "zero": ("double", "0.0", 0.0),
    "minus_zero": ("double", "-0.0", 0.0),
    "nan": ("double", "NaN", NAN),
    "boolean": ("boolean", "true", True),
    "blob": ("blob", "0x00ff", b"\x00\xff"),
    "date": ("date", "'1969-12-31'", -1),
    "time": ("time", "'00:00:00.000001'", 1),
    "timestamp": ("timestamp", "-1", -1_000),
    "uuid": ("uuid", str(ID), ID.bytes),
    "timeuuid": ("timeuuid", str(ID), ID.bytes),
    "inet4": ("inet", "'10.0.0.1'", "10.0.0.1"),
    "inet6": ("inet", "'2001:db8::1'", "2001:db8::1"),
    "list": ("frozen<list<int>>", "[2, 1]", [2, 1]),
    "set": ("frozen<set<text>>", "{'b', 'a'}", ["b", "a"]),
    "map": ("frozen<map<text, double>>", "{'b': -0.0, 'a': 1}", [("b", 0.0), ("a", 1.0)]),
    "tuple": ("frozen<tuple<int, text>>", "(1, null)", {"0": 1, "1": None}),
    "udt": ("frozen<pair>", "{a: 1, b: 'x'}", {"a": 1, "b": "x"}),
    "vector": ("vector<float, 2>", "[0.0, 1]", [-0.0, 1.0]),
}


@pytest.mark.parametrize("case", KEYS)
def test_a_key_of_each_type_in_both_places(ks: Keyspace, case: str) -> None:
    cql, literal, value = KEYS[case]
    table = f"k_{case}"
    ks.create(table, f"p {cql}, c {cql}, v int, PRIMARY KEY (p, c)")
    ks.run(f"INSERT INTO {{ks}}.{table} (p, c, v) VALUES ({literal}, {literal}, 1)")
    with ks.connect() as connector:
        binding = bound(connector, table)
        (batch,) = connector.lookup(binding, [(value, value)])
        with connector.plan(binding, 1_000) as plan:
            (scan,) = connector.scan(binding, plan.shards[0])
    assert REJECTS not in scan.schema.names
    assert batch.schema == scan.schema
    assert repr(batch.to_pylist()) == repr(scan.to_pylist())


def test_both_zeros_are_asked_for(ks: Keyspace) -> None:
    """Minus zero is a key of its own there: asked for as 0.0, the row would be missing."""
    ks.create("zeros", "p double, c float, v int, PRIMARY KEY (p, c)")
    for number, (p, c) in enumerate((p, c) for p in ("0.0", "-0.0") for c in ("0.0", "-0.0")):
        ks.run(f"INSERT INTO {{ks}}.zeros (p, c, v) VALUES ({p}, {c}, {number})")
    one = ks.session.execute(f"SELECT v FROM {ks.name}.zeros WHERE p = 0.0 AND c = 0.0")
    assert len(list(one)) == 1
    with ks.connect() as connector:
        assert sorted(r["v"] for r in found(connector, bound(connector, "zeros"), (0.0, 0.0))) == [0, 1, 2, 3]


def test_a_decimal_partition_key_is_found_whatever_its_scale(ks: Keyspace) -> None:
    ks.create("scales", "p decimal PRIMARY KEY, v int")
    written = ["1.1", "1.10", "1.1000000", "-5", "-5.00", "2000", "2E3"]
    for number, text in enumerate(written):
        ks.run(f"INSERT INTO {{ks}}.scales (p, v) VALUES ({text}, {number})")
    ks.insert_raw("scales", ["p", "v"], [struct.pack(">i", 40) + (3 * 10**40).to_bytes(18, "big"), bytes(4)])
    with ks.connect() as connector:
        binding = bound(connector, "scales")
        rows = scanned(connector, binding)
        assert [row["rejects"] for row in rows if "rejects" in row] == [
            {"p": "a decimal in the key, in a form that a look-up cannot ask for"}
        ]
        for value, numbers in {"1.1": [0, 1, 2], "-5": [3, 4], "2E+3": [5, 6], "3": []}.items():
            assert sorted(row["v"] for row in found(connector, binding, (Decimal(value),))) == numbers


@pytest.mark.parametrize(
    ("cql", "value"),
    [
        ("int", 2**31),
        ("int", "99999999999999999999"),
        ("float", 0.1),
        ("float", 1e300),
        ("timestamp", 1),
        ("date", 2**31),
        ("time", 86_400_000_000),
        ("inet", "10.0.0.0/8"),
        ("decimal", "NaN"),
        ("varint", "1E+900000000"),
        ("int", None),
    ],
)
def test_a_value_that_the_type_cannot_hold_finds_nothing(ks: Keyspace, cql: str, value: Any) -> None:
    ks.create("narrow", f"p {cql} PRIMARY KEY")
    with ks.connect() as connector:
        assert found(connector, bound(connector, "narrow"), (value,)) == []


def test_many_keys_absent_and_repeated(ks: Keyspace) -> None:
    ks.create("many", "p int, c text, v int, PRIMARY KEY (p, c)")
    load_cassandra(ks.session, ks.name, "many", ((i, f"c{i}", i) for i in range(3_000)), ["p", "c", "v"])
    keys = [(i, f"c{i}") for i in range(2_000, 4_000)]
    with ks.connect() as connector:
        binding = bound(connector, "many")
        assert list(connector.lookup(binding, [])) == []
        rows = found(connector, binding, *keys, *keys[:10], (1, None), (None, "c1"), (1, "c2"))
    assert sorted(row["v"] for row in rows) == list(range(2_000, 3_000))


def test_a_key_without_its_last_clustering_columns(ks: Keyspace) -> None:
    ks.create("prefix", "p int, c int, d int, v int, PRIMARY KEY (p, c, d)")
    load_cassandra(
        ks.session, ks.name, "prefix", ((1, c, d, 10 * c + d) for c in (1, 2) for d in (1, 2)), ["p", "c", "d", "v"]
    )
    with ks.connect(page_rows="1") as connector:
        by_two = bound(connector, "prefix", ("p", "c"))
        assert sorted(row["v"] for row in found(connector, by_two, (1, 2), (1, 9))) == [21, 22]
        by_last = bound(connector, "prefix", ("p", "d"))
        assert sorted(row["v"] for row in found(connector, by_last, (1, 2))) == [11, 12, 21, 22]  # the caller drops two
        with pytest.raises(ConfigError, match="lacks 'p'"):
            connector.plan(bound(connector, "prefix", ("c",)), 10)


def column(name: str, kind: str, **made: Any) -> BoundColumn:
    return BoundColumn(name, parse_type(kind), **made)


@pytest.fixture(scope="module")
def folded(ks: Keyspace) -> Keyspace:
    ks.create("folded", 'tenant text, no int, "Weird ""name" uuid, v text, PRIMARY KEY ((tenant, no), "Weird ""name")')
    for tenant, no in (("a-b", 1), ("a", -1), ("", 5)):
        ks.run(f"INSERT INTO {{ks}}.folded (tenant, no, \"Weird \"\"name\", v) VALUES ('{tenant}', {no}, {ID}, 'x')")
    return ks


def test_folds_constants_renames_and_expressions(folded: Keyspace) -> None:
    binding = Binding(
        "d",
        "folded",
        ("id",),
        (
            column("id", "text", parts=("tenant", "no", 'Weird "name'), joiner="-"),
            column("region", "text", constant="us"),
            column("value", "text", source="v"),
            column("again", "text", source="v"),
            column("written", "int", expression="writetime(v)"),
            column("number", "text", expression="CAST(no AS text)"),
        ),
    )
    with folded.connect() as connector:
        rows = {row["id"]: row for row in scanned(connector, binding)}
        assert set(rows) == {f"a-b-1-{ID}", f"a--1-{ID}", f"-5-{ID}"}
        row = rows[f"a--1-{ID}"]
        assert (row["region"], row["value"], row["again"], row["number"]) == ("us", "x", "x", "-1")
        assert row["written"] > 1_600_000_000_000_000
        for key in rows:
            assert key in {row["id"] for row in found(connector, binding, (key,))}
        assert found(connector, binding, ("nothing",), (f"a-x-{ID}",)) == []


def test_a_fold_with_too_many_readings_is_an_error(folded: Keyspace) -> None:
    binding = Binding("d", "folded", ("id",), (column("id", "text", parts=("tenant", "v"), joiner="-"),))
    with folded.connect() as connector:
        with pytest.raises(ConfigError, match="lacks 'no'"):
            list(connector.lookup(binding, [("x",)]))
        folded.create("twice", "a text, b text, PRIMARY KEY ((a, b))")
        twice = Binding("d", "twice", ("id",), (column("id", "text", parts=("a", "b"), joiner="-"),))
        with pytest.raises(SourceError, match="more than 256 forms"):
            list(connector.lookup(twice, [("-" * 400,)]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"where": "v = 'x'"}, "no WHERE over whole tables"),
        ({"table": "foldet"}, "no table 'foldet'; did you mean 'folded'"),
        ({"table": "nowhere.folded"}, "no keyspace 'nowhere'"),
        ({"table": "system.local"}, "keyspace system is Cassandra's own"),
        ({"table": "system_views.clients"}, "Cassandra's own"),
        ({"columns": [("x", {"source": "vv"})]}, "no column 'vv'"),
        ({"columns": [("x", {"expression": "no_such_function(v)"})]}, "expression of 'x'"),
        ({"columns": [("x", {"expression": "tenant = 'a'"})]}, "expression of 'x'"),
        ({"columns": [("x", {"expression": "CAST(no AS double)"})]}, "it gives float, not text"),
        ({"columns": [("x", {"expression": "v, v"})]}, "expression of 'x': not one term"),
        ({"columns": [("x", {"expression": "v) FROM"})]}, "expression of 'x'"),
        ({"columns": [("x", {})]}, "exactly one of"),
    ],
)
def test_what_cannot_be_read_is_named(folded: Keyspace, changed: dict[str, Any], message: str) -> None:
    with folded.connect() as connector:
        binding = bound(connector, "folded")
        extra = tuple(column(name, "text", **made) for name, made in changed.pop("columns", []))
        wrong = replace(binding, columns=(*binding.columns, *extra), **changed)
        with pytest.raises(ConfigError) as caught:
            list(connector.lookup(wrong, [("a", 1, ID.bytes)]))
        assert message in str(caught.value)
        assert caught.value.next_step or "exactly one" in message


def test_names_that_are_case_sensitive(ks: Keyspace) -> None:
    ks.run('CREATE TABLE {ks}."Orders" ("Id" int PRIMARY KEY, "select" text)')
    ks.run('INSERT INTO {ks}."Orders" ("Id", "select") VALUES (1, \'x\')')
    ks.create("plain", "id int PRIMARY KEY")
    with ks.connect() as connector:
        assert {'"Orders"', "plain"} <= set(connector.tables())
        assert scanned(connector, bound(connector, '"Orders"')) == [{"Id": 1, "select": "x"}]
        assert connector.describe('lookups."Orders"').key == ("Id",)
        with pytest.raises(ConfigError, match="did you mean '\"Orders\"'"):
            connector.describe("Orders")
    ks.run('DROP TABLE {ks}."Orders"')


def test_a_materialized_view_is_read_like_a_table(ks: Keyspace) -> None:
    ks.create("base", "id int PRIMARY KEY, name text")
    ks.run(
        "CREATE MATERIALIZED VIEW {ks}.by_name AS SELECT * FROM {ks}.base "
        "WHERE name IS NOT NULL AND id IS NOT NULL PRIMARY KEY (name, id)"
    )
    load_cassandra(ks.session, ks.name, "base", ((i, f"n{i}") for i in range(50)), ["id", "name"])
    with ks.connect() as connector:
        binding = bound(connector, "by_name")
        assert binding.key == ("name", "id")
        assert sorted(row["id"] for row in scanned(connector, binding)) == list(range(50))
        assert found(connector, binding, ("n7", 7)) == [{"name": "n7", "id": 7}]
        assert "by_name" not in connector.tables()
        assert any("compare base instead" in line for line in connector.advice("by_name"))
    ks.run("DROP MATERIALIZED VIEW {ks}.by_name")


def test_advice(ks: Keyspace, cassandra: CassandraServer) -> None:
    ks.create("advised", "d decimal PRIMARY KEY, at timestamp")
    ks.run("ALTER TABLE {ks}.advised WITH default_time_to_live = 60 AND gc_grace_seconds = 10")
    with ks.connect() as connector:
        text = "\n".join(connector.advice("advised"))
    for part in ("rows expire 60 s", "gc_grace_seconds is 10", "read_repair", "19 or more trailing zeros", "holds ms"):
        assert part in text
    with keyspace(cassandra, "copies", replicas=3) as copies:
        copies.create("t", "id int PRIMARY KEY")
        with copies.connect(consistency="LOCAL_ONE") as connector:
            assert any("reads one of 3 replicas" in line for line in connector.advice("t"))
        with copies.connect(consistency="ALL") as connector:
            assert any("as soon as one of 3 replicas is down" in line for line in connector.advice("t"))


def test_carriers_join_into_one_table(ks: Keyspace) -> None:
    ks.create("joined", "id int PRIMARY KEY, v text")
    load_cassandra(ks.session, ks.name, "joined", ((i, f"v{i}") for i in range(1_000)), ["id", "v"])
    with ks.connect() as connector:
        binding = bound(connector, "joined")
        batches = list(connector.lookup(binding, [(i,) for i in range(1_000)]))
        assert pa.Table.from_batches(batches).num_rows == 1_000
        assert max(batch.num_rows for batch in batches) <= lookup.BATCH_ROWS + 1
        assert len(plain(binding, batches)) == 1_000


LEAK = """
import os, sys, threading, time, warnings
warnings.simplefilter("error")
from edge_agent.connectors.cassandra import CassandraConnector
from edge_agent.connectors.contract import Source
from paritree.core.errors import ConfigError
files = len(os.listdir("/proc/self/fd"))
for _ in range(3):
    connector = CassandraConnector.connect(Source(sys.argv[1] + "/lookups"))
    assert connector.describe("plain").key == ("id",)
    connector.close()
    connector.close()
    try:
        CassandraConnector.connect(Source(sys.argv[1] + "/nowhere"))
    except ConfigError:
        pass
end = time.monotonic() + 5
while threading.active_count() > 1 and time.monotonic() < end:
    time.sleep(0.02)
assert threading.active_count() == 1, threading.enumerate()
open_files = len(os.listdir("/proc/self/fd"))
assert open_files <= files + 3, open_files  # the loop's own pipe stays
"""


def test_nothing_is_left_behind(ks: Keyspace, cassandra: CassandraServer) -> None:
    """In a process of its own: the driver's loop serves every session of a process."""
    ks.create("plain", "id int PRIMARY KEY")
    done = subprocess.run(
        [sys.executable, "-c", LEAK, cassandra.url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
