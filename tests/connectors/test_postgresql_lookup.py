"""Look-ups by key: any key type, by index, in the same carriers as a scan."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from connectors.pg_case import PgCase, bound, rows

from edge_agent.connectors.postgresql import relation
from edge_agent.connectors.postgresql.lookup import BinaryValue, _BinaryValueDumper, statement
from edge_agent.connectors.postgresql.projection import project
from edge_agent.connectors.postgresql.session import connect
from edge_agent.connectors.postgresql.types import TypeCatalog
from paritree.core.canonical import RowEncoder
from paritree.core.carrier import plain_values
from paritree.core.display import key_values
from paritree.core.errors import ConfigError
from paritree.core.profile import Binding, Profile

pytestmark = pytest.mark.servers

MAX, MIN = (1 << 63) - 1, -(1 << 63)

KEYS: dict[str, list[str]] = {
    "bigint": ["-9223372036854775808", "9223372036854775807", "0", "42"],
    "smallint": ["-32768", "32767"],
    "oid": ["0", "4294967295"],
    "boolean": ["true", "false"],
    "numeric": [
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "0",
        "1.10",
        "-0.000001",
        "1e30",
        "123456789.987654321",
        "10000",
        "1e-30",
    ],
    "real": ["1.1", "'NaN'", "'-Infinity'", "'-0'", "1e-45"],
    "double precision": ["1.1", "'NaN'", "'Infinity'", "'-0'"],
    "text": ["''", "'a'", "'Zoë ☃'", "'it''s %s {} \\'"],
    "varchar(9)": ["'ab '", "'ab'"],
    "char(4)": ["'ab'", "'abcd'"],
    "name": ["'ab'", "''"],
    '"char"': ["'a'", "''"],
    "citext": ["'AbC'", "'x'"],
    "bytea": ["''", r"'\x00ff'"],
    "date": ["'infinity'", "'-infinity'", "'2024-02-29'", "'4714-11-24 BC'", "'5874897-12-31'"],
    "time": ["'00:00'", "'24:00'", "'12:34:56.789'"],
    "timestamp": ["'infinity'", "'-infinity'", "'1999-12-31 23:59:59.999999'", "'4714-11-24 BC'", "'294000-01-01'"],
    "timestamptz": ["'infinity'", "'-infinity'", "'2024-06-01 12:00+02'"],
    "interval": ["'1 mon'", "'-3 days 4.000001 s'", "'0'"],
    "uuid": ["'00112233-4455-6677-8899-aabbccddeeff'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "inet": ["'10.1.2.3'", "'10.1.2.3/8'", "'::1'", "'::ffff:1.2.3.4'", "'fe80::1/64'"],
    "cidr": ["'10.0.0.0/8'", "'10.1.2.3/32'", "'2001:db8::/32'"],
    "jsonb": ["'{\"a\": [1, 2.50]}'", "'\"x\"'", "'12'"],
    "mood": ["'ok'", "'Zoë'"],
    "positive": ["1", "7"],
    "int[]": ["'{}'", "'{1,NULL,3}'", "'{1}'"],
    "text[]": ["'{}'", "'{a,NULL,\"\"}'"],
    "numeric[]": ["'{1.5,NaN}'"],
}


@pytest.mark.parametrize("declared", KEYS)
def test_every_key_finds_its_row_again(pg: PgCase, declared: str) -> None:
    """From the scan's carriers to canonical key bytes, back to look-up values, and to the same row."""
    literals = KEYS[declared]
    if declared == "citext":
        pg.run("CREATE EXTENSION citext")
    pg.run("CREATE TYPE mood AS ENUM ('ok', 'Zoë', 'spare')", "CREATE DOMAIN positive AS int CHECK (VALUE > 0)")
    pg.run(f"CREATE TABLE t (k {declared} PRIMARY KEY, n int)")
    pg.run(*(f"INSERT INTO t VALUES ({literal}, {n})" for n, literal in enumerate(literals)))
    binding = pg.bind("t")
    profile = Profile("t", ("k",), {column.name: column.type for column in binding.columns})
    encoder = RowEncoder(profile)
    with pg.connector.plan(binding, 1000) as plan:
        batches = list(pg.connector.scan(binding, plan.shards[0]))
    scanned = rows(batches)
    assert len(scanned) == len(literals)
    values = [value for batch in batches for value in plain_values(batch.column("k"), profile.columns["k"])]
    for row, value in zip(scanned, values, strict=True):
        locator = encoder.key_bytes({"k": encoder.value_bytes("k", value)})
        (found,) = pg.lookup(binding, key_values(locator, profile))
        assert repr(found) == repr(row)
    everything = pg.lookup(binding, *[(value,) for value in values])
    assert sorted(row["n"] for row in everything) == list(range(len(literals)))


@pytest.mark.parametrize(
    ("declared", "absent"),
    [
        ("smallint", [40_000, -40_000, 1 << 70]),
        ("int", [1 << 31, Decimal("1.5")]),
        ("bigint", [1 << 63]),
        ("oid", [-1, 1 << 32]),
        ("text", ["a\0b", "A"]),
        ('"char"', ["ab", "é"]),
        ("real", [1e300]),
        ("numeric", [Decimal("1e200000"), Decimal("1e-20000")]),
        ("date", [1 << 40, -(1 << 40)]),
        ("time", [-1, 86_400_000_001]),
        ("timestamp", [MIN + 1]),
        ("mood", ["nosuch"]),
        ("uuid", [b"short"]),
        ("inet", ["nonsense", "fe80::1%eth0"]),
        ("int[]", [[1 << 40]]),
    ],
)
def test_keys_that_no_row_can_have_give_no_row_and_no_error(pg: PgCase, declared: str, absent: list[Any]) -> None:
    pg.run("CREATE TYPE mood AS ENUM ('ok')", f"CREATE TABLE t (k {declared} PRIMARY KEY)")
    assert pg.lookup(pg.bind("t"), *[(value,) for value in absent], (None,)) == []


def test_nulls_never_match_and_absent_keys_give_no_row(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (a int, b int, v text)", "INSERT INTO t VALUES (1, NULL, 'x'), (NULL, NULL, 'y'), (1, 1, 'z')"
    )
    binding = pg.bind("t", key=["a", "b"])
    assert pg.lookup(binding, (1, None), (None, None), (None, 1), (2, 2)) == []
    assert pg.lookup(binding, (1, 1), (1, None)) == [{"a": 1, "b": 1, "v": "z"}]
    assert pg.lookup(binding) == []


def test_duplicates_give_several_rows_and_repeated_keys_do_not(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'x'), (1, 'x'), (2, 'x')")
    assert len(pg.lookup(pg.bind("t", key=["a"]), (1,), (1,), (1,))) == 2
    assert len(pg.lookup(pg.bind("t", key=["a", "b"]), (1, "x"), (1, "x"))) == 2


def test_keys_that_are_equal_to_the_column_do_not_repeat_the_row(pg: PgCase) -> None:
    pg.run(
        "CREATE EXTENSION citext",
        "CREATE TABLE t (a citext, b char(3), PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES ('x', 'y')",
    )
    assert len(pg.lookup(pg.bind("t"), ("x", "y"), ("X", "y"), ("x", "y  "))) == 1


def test_citext_is_compared_by_its_own_operator_outside_the_search_path(pg: PgCase) -> None:
    pg.run("CREATE SCHEMA ext", "CREATE EXTENSION citext SCHEMA ext", "CREATE TABLE t (a ext.citext PRIMARY KEY)")
    pg.run("INSERT INTO t VALUES ('AbC')")
    assert pg.lookup(pg.bind("t"), ("aBC",)) == [{"a": "AbC"}]


def test_composite_keys_of_several_types(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (a timestamptz, b numeric, c text, v int, PRIMARY KEY (c, a, b))",
        "INSERT INTO t VALUES ('epoch', 1.5, 'x', 1), ('infinity', 'NaN', 'y', 2), ('epoch', 1.5, 'y', 3)",
    )
    binding = pg.bind("t")
    assert binding.key == ("c", "a", "b")
    keys = [("x", 0, Decimal("1.50")), ("y", MAX, Decimal("NaN")), ("x", MAX, Decimal("1.5"))]
    assert sorted(row["v"] for row in pg.lookup(binding, *keys)) == [1, 2]


def test_thousands_of_keys(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 5000) n",
    )
    found = pg.lookup(pg.bind("t"), *[(n,) for n in range(-100, 3000)])
    assert sorted(row["id"] for row in found) == list(range(1, 3000))


def test_many_large_rows_come_in_bounded_batches(pg: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.connectors.postgresql.lookup.BATCH_BYTES", 10_000)
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    pg.run("INSERT INTO t SELECT n, repeat('v', 3000) FROM generate_series(1, 20) n")
    batches = list(pg.connector.lookup(pg.bind("t"), [(n,) for n in range(1, 21)]))
    assert [batch.num_rows for batch in batches] == [4] * 5
    assert sorted(row["id"] for row in rows(batches)) == list(range(1, 21))


def test_the_key_may_be_bound_to_constants_and_expressions(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    columns = [
        bound("region", constant="eu"),
        bound("n", "int", constant="007"),
        bound("double", "int", expression="id * 2"),
    ]
    binding = Binding("t", "t", ("region", "double", "n"), (*columns, bound("v")))
    keys = [("eu", 2, 7), ("us", 4, 7), ("eu", 4, 8), ("eu", 5, 7)]
    assert pg.lookup(binding, *keys) == [{"region": "eu", "n": "007", "double": 2, "v": "a"}]
    constant = Binding("t", "t", ("region",), (*columns, bound("v")))
    assert len(pg.lookup(constant, ("eu",), ("us",))) == 2
    assert pg.lookup(constant, ("us",)) == []


FOLDS = [
    (("a", "b"), "-", ["1-x", "1-x-y", "2-", "-5--z"]),
    (("a", "b"), "", ["1x", "1x-y", "2", "-5-z"]),
    (("b", "a"), "-", ["x-1", "x-y-1", "-2", "-z--5"]),
    (("b", "c"), "--", ["x--y--q", "x-y--", None, "-z----"]),
]


@pytest.mark.parametrize(("parts", "joiner", "texts"), FOLDS)
@pytest.mark.parametrize("splits_max", [16, 0])
def test_folded_keys(
    pg: PgCase, parts: tuple[str, ...], joiner: str, texts: list[str], splits_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the parts' index, or by the folding expression where a text can be read in too many ways."""
    monkeypatch.setattr("edge_agent.connectors.postgresql.lookup.SPLITS_MAX", splits_max)
    pg.run("CREATE TABLE t (a int, b text, c text)")
    pg.run("INSERT INTO t VALUES (1, 'x', 'y--q'), (1, 'x-y', ''), (2, '', NULL), (-5, '-z', '--')")
    binding = Binding("t", "t", ("k",), (bound("k", parts=parts, joiner=joiner), bound("a", "int"), bound("b")))
    expected = pg.scan(binding)
    assert [row["k"] for row in expected] == texts
    asked = [text for text in texts if text is not None]
    found = [
        row
        for row in pg.lookup(binding, *[(text,) for text in asked], ("nothing-like-it",), ("007-x",))
        if row["k"] in asked
    ]
    assert sorted(found, key=str) == sorted((row for row in expected if row["k"] is not None), key=str)


def test_folded_parts_in_another_spelling_are_not_found(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (u uuid, ok bool)", "INSERT INTO t VALUES ('00112233-4455-6677-8899-aabbccddeeff', true)")
    binding = Binding("t", "t", ("k",), (bound("k", parts=("u", "ok"), joiner="/"),))
    right = "00112233-4455-6677-8899-aabbccddeeff/true"
    assert pg.lookup(binding, (right,), (right.upper(),), (right.replace("true", "t"),)) == [{"k": right}]


@pytest.mark.parametrize(
    ("declared", "kind"),
    [("json", "json"), ("text", "int"), ("text", "uuid"), ("pair", None), ("int[]", "set<int>"), ("hstore", None)],
)
def test_keys_that_cannot_be_sought_are_refused_before_the_scan(pg: PgCase, declared: str, kind: str | None) -> None:
    pg.run("CREATE EXTENSION hstore", "CREATE TYPE pair AS (x int)", f"CREATE TABLE t (k {declared}, v int)")
    binding = pg.bind("t", key=["k"], types={"k": kind} if kind else None)
    with pytest.raises(ConfigError, match=r"column k: keys of type .* cannot be sought") as error:
        pg.connector.plan(binding, 100)
    assert "expression" in error.value.next_step


def explained(pg: PgCase, binding: Binding, keys: list[tuple[Any, ...]]) -> str:
    """The plan of a look-up as JSON text."""
    session = connect(pg.connector._source)
    try:
        found = relation.resolve(session, binding.table)
        query, arrays = statement(project(session, TypeCatalog(), found, binding), binding, keys)
        cursor = psycopg.RawCursor(session.connection)
        cursor.adapters.register_dumper(BinaryValue, _BinaryValueDumper)
        cursor.execute(b"EXPLAIN (FORMAT JSON) " + query.as_bytes(session.connection), arrays)
        row = cursor.fetchone()
        assert row is not None
        return json.dumps(row[0])
    finally:
        session.close()


INDEXED: dict[str, tuple[str, list[Any]]] = {
    "bigint": ("n", list(range(1, 1001))),
    "int": ("n", list(range(1, 101))),
    "numeric": ("n / 8.0", [Decimal(n) / 8 for n in range(1, 101)]),
    "uuid": ("md5(n::text)::uuid", [struct.pack(">QQ", n, n) for n in range(1, 101)]),
    "text": ("md5(n::text)", [f"{n:032x}" for n in range(1, 101)]),
    "varchar(40)": ("md5(n::text)", [f"{n:032x}" for n in range(1, 101)]),
    "char(32)": ("md5(n::text)", [f"{n:032x}" for n in range(1, 101)]),
    "timestamptz": ("'epoch'::timestamptz + n * interval '1 s'", [n * 1_000_000 for n in range(1, 101)]),
    "date": ("'2000-01-01'::date + n", list(range(1, 101))),
    "positive": ("n", list(range(1, 101))),
}


@pytest.mark.parametrize("declared", INDEXED)
@pytest.mark.parametrize("partitioned", [False, True])
def test_the_index_is_used(pg: PgCase, declared: str, partitioned: bool) -> None:
    value, keys = INDEXED[declared]
    pg.run("CREATE DOMAIN positive AS int")
    fill(pg, f"k {declared} PRIMARY KEY", value, 100 * len(keys), partitioned)
    plan = explained(pg, pg.bind("t", key=["k"]), [(key,) for key in keys])
    assert "Index" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("partitioned", [False, True])
def test_the_index_is_used_for_composite_and_folded_keys(pg: PgCase, partitioned: bool) -> None:
    fill(pg, "k bigint, u uuid, PRIMARY KEY (k, u)", "n, md5(n::text)::uuid", 100_000, partitioned)
    composite = pg.bind("t", key=["k", "u"])
    folded = Binding("t", "t", ("f",), (bound("f", parts=("k", "u"), joiner=":"),))
    identity = "00112233-4455-6677-8899-aabbccddeeff"
    keys = [(n, bytes.fromhex(identity.replace("-", ""))) for n in range(1, 1001)]
    for plan in (
        explained(pg, composite, keys),
        explained(pg, folded, [(f"{n}:{identity}",) for n in range(1, 1001)]),
    ):
        assert "Index" in plan
        assert "Seq Scan" not in plan


def fill(pg: PgCase, columns: str, values: str, count: int, partitioned: bool) -> None:
    """A table so wide that reading all of it is no match for an index."""
    by = f" PARTITION BY HASH ({columns.split()[0]})" if partitioned else ""
    pg.run(f"CREATE TABLE t (v text, {columns}){by}")
    if partitioned:
        pg.run(*(f"CREATE TABLE t{n} PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER {n})" for n in range(2)))
    pg.run(f"INSERT INTO t SELECT repeat('v', 150), {values} FROM generate_series(1, {count}) n", "VACUUM ANALYZE t")


def test_text_that_the_databases_encoding_lacks_is_in_no_row(pg: PgCase) -> None:
    pg.server.create_database("latin", encoding="LATIN1", locale="C")
    latin = PgCase(pg.server, "latin")
    try:
        latin.run("CREATE TABLE t (k text PRIMARY KEY, v text)", "INSERT INTO t VALUES ('Zoë', 'ü'), ('b', 'c')")
        binding = latin.bind("t")
        assert sorted(row["v"] for row in latin.scan(binding)) == ["c", "ü"]
        keys = [(f"☃{n}",) for n in range(5)]
        assert sorted(row["v"] for row in latin.lookup(binding, ("b",), *keys, ("Zoë",))) == ["c", "ü"]
        assert latin.lookup(binding, *keys) == []
    finally:
        latin.close()


def test_sql_ascii_text_is_handed_out_as_it_is(pg: PgCase) -> None:
    """Asked for UTF-8, the server would end the scan at the first byte that is not."""
    pg.server.create_database("raw", encoding="SQL_ASCII", locale="C")
    raw = PgCase(pg.server, "raw")
    try:
        raw.run(
            "SET client_encoding = 'UTF8'",
            'CREATE TABLE "tä" (k text PRIMARY KEY, v text)',
            "INSERT INTO \"tä\" VALUES ('Zoë', 'ok'), ('bad', E'\\xff\\xfe'), ('last', 'ok')",
        )
        binding = raw.bind("tä")
        with raw.connector.plan(binding, 1000) as plan:
            scanned = list(raw.connector.scan(binding, plan.shards[0]))
        found = list(raw.connector.lookup(binding, [("Zoë",), ("bad",)]))
        for batches, count in ((scanned, 3), (found, 2)):
            kind = binding.column("v").type
            values = [value for batch in batches for value in plain_values(batch.column("v"), kind)]
            keys = [value for batch in batches for value in plain_values(batch.column("k"), kind)]
            dead = [key for key, value in zip(keys, values, strict=True) if value != "ok"]
            assert dead == ["bad"]
            assert len(values) == count
        assert [column.name for column in raw.connector.describe("tä").columns] == ["k", "v"]
    finally:
        raw.close()
