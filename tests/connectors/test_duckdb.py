"""DuckDB's own traps: locks, logs, schemas, row ids and what its Arrow output does to values."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from reading import INT, binding, looked_up, scanned, types, values

from edge_agent.connectors.contract import Source
from edge_agent.connectors.duckdb import DuckdbConnector
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

NUMBERS = binding("t", types(id="int", v="int"), ["id"])
HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
TRY = "import duckdb, sys; duckdb.connect(sys.argv[1])"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


def run(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def connected(path: Path) -> DuckdbConnector:
    return DuckdbConnector.connect(Source(f"duckdb:///{path}"))


def numbers(path: Path, count: int = 20) -> None:
    run(path, f"CREATE TABLE t AS SELECT range AS id, range * 10 AS v FROM range({count})")


def test_a_file_that_another_process_writes_is_worth_another_try(path: Path) -> None:
    numbers(path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(SourceError) as error:
            connected(path)
        assert other.stdin is not None
        other.stdin.close()
        other.wait(timeout=60)
    assert error.value.retryable
    assert "close the writer" in str(error.value)


def test_an_open_plan_keeps_writers_out_and_a_closed_one_does_not(path: Path) -> None:
    numbers(path)
    connector = connected(path)
    with connector.plan(NUMBERS, 5):
        refused = subprocess.run([sys.executable, "-c", TRY, str(path)], capture_output=True, check=False)
        assert b"lock" in refused.stderr
    run(path, "DELETE FROM t WHERE id > 4")
    assert len(scanned(connector, NUMBERS)) == 5


def test_a_file_that_this_process_writes_is_named(path: Path) -> None:
    numbers(path)
    with duckdb.connect(str(path)), pytest.raises(SourceError) as error:
        connected(path)
    assert "in this process" in str(error.value)


def test_what_is_still_in_the_log_is_read_and_left_there(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in (
            "SET wal_autocheckpoint = '1GB'",
            "CREATE TABLE t AS SELECT range AS id, 0 AS v FROM range(3)",
            "CHECKPOINT",
            "INSERT INTO t VALUES (3, 0)",
        ):
            connection.execute(statement).fetchall()
        for suffix in ("", ".wal"):
            shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    before = {each: each.read_bytes() for each in tmp_path.glob("copy.*")}
    assert len(before) == 2
    connector = connected(copy)
    with connector.plan(NUMBERS, 10) as plan:
        assert len(values(NUMBERS, connector.scan(NUMBERS, plan.shards[0]))) == 4
        assert plan.position().text.startswith("2 files")
    assert {each: each.read_bytes() for each in tmp_path.glob("copy.*")} == before


def test_tables_of_other_schemas_views_and_generated_columns(path: Path) -> None:
    run(
        path,
        "CREATE SCHEMA shop",
        'CREATE TABLE shop."o.rders" (id INTEGER PRIMARY KEY, twice INTEGER GENERATED ALWAYS AS (id * 2))',
        'INSERT INTO shop."o.rders" VALUES (4)',
        'CREATE VIEW big AS SELECT * FROM shop."o.rders" WHERE id > 3',
        "CREATE TABLE shadowed (rowid INTEGER, id INTEGER)",
        "INSERT INTO shadowed VALUES (1, 5), (1, 6)",
        "CREATE TEMP TABLE hidden (id INTEGER)",
    )
    connector = connected(path)
    assert connector.tables() == ["big", "shadowed", "shop.o.rders"]
    assert connector.describe("shop.o.rders").key == ("id",)
    for table in ("shop.o.rders", "big"):
        bound = binding(table, types(id="int", twice="int"), ["id"])
        assert scanned(connector, bound, 1) == [{"id": 4, "twice": 8}]
    assert [row["id"] for row in scanned(connector, binding("shadowed", types(id="int"), ["id"]), 1)] == [5, 6]


def test_deleted_rows_leave_no_gap_in_the_shards(path: Path) -> None:
    numbers(path, 10_000)
    run(path, "DELETE FROM t WHERE id BETWEEN 100 AND 9000", "CHECKPOINT")
    rows = scanned(connected(path), NUMBERS, 500)
    assert sorted(row["id"] for row in rows) == [*range(100), *range(9001, 10_000)]


def test_collations_are_told_and_look_ups_stay_exact(path: Path) -> None:
    run(path, "CREATE TABLE t (k VARCHAR COLLATE NOCASE, v INTEGER)", "INSERT INTO t VALUES ('a', 1), ('A', 2)")
    connector = connected(path)
    assert [column.caseless for column in connector.describe("t").columns] == [True, False]
    bound = binding("t", types(k="text", v="int"), ["k"])
    assert [row["v"] for batch in connector.lookup(bound, [("A",)]) for row in values(bound, [batch])] == [2]


@pytest.mark.parametrize(
    ("declared", "stored", "kind", "key"),
    [
        ("FLOAT", "0.1", "float", 0.10000000149011612),
        ("DOUBLE", "'nan'", "float", float("nan")),
        ("HUGEINT", str(2**127 - 1), "int", 2**127 - 1),
        ("UHUGEINT", str(2**128 - 1), "int", 2**128 - 1),
        ("BIGNUM", f"'{10**50}'", "int", 10**50),
        ("DECIMAL(10, 2)", "1.10", "decimal", "1.1"),
        ("ENUM('a', 'b')", "'b'", "text", "b"),
        ("DATE", "'-infinity'", "date", -(2**63)),
        ("TIMESTAMP", "'-infinity'", "datetime", -(2**63)),
        ("TIMESTAMP_NS", "'1969-12-31 23:59:59.999999001'", "datetime", -1),
        ("TIMESTAMP_S", "'1970-01-01 00:00:01'", "datetime", 1_000_000),
        ("TIMESTAMPTZ", "'1970-01-01 02:00:01+02'", "timestamp", 1_000_000),
        ("TIME", "'24:00:00'", "time", 86_400_000_000),
        ("TIME_NS", "'00:00:00.000001999'", "time", 1),
        ("INTERVAL", "INTERVAL '1 month'", "duration", (1, 0, 0)),
        ("INTEGER[]", "[1, NULL]", "list<int>", [1, None]),
        ("VARCHAR", "'007'", "int", 7),
        ("VARCHAR", "'00010203-0405-0607-0809-0A0B0C0D0E0F'", "uuid", bytes(range(16))),
    ],
)
def test_a_key_of_any_type_is_found(path: Path, declared: str, stored: str, kind: str, key: object) -> None:
    run(path, f"CREATE TABLE t (k {declared}, v INTEGER)", f"INSERT INTO t VALUES ({stored}, 1), (NULL, 2)")
    bound = binding("t", {"k": parse_type(kind), "v": INT}, ["k"])
    connector = connected(path)
    assert [row["v"] for row in looked_up(connector, bound, (key,), (None,))] == [1]
    both = binding("t", {"k": parse_type(kind), "v": INT}, ["v", "k"])
    assert [row["v"] for row in looked_up(connector, both, (1, key), (2, key))] == [1]


def test_expressions_reach_nothing_but_the_database(path: Path, tmp_path: Path) -> None:
    numbers(path, 1)
    (tmp_path / "x.csv").write_text("a\n1\n")
    secret = [7]
    for expression in (f"(SELECT count(*) FROM read_csv('{tmp_path}/x.csv'))", "(SELECT count(*) FROM secret)"):
        columns = (BoundColumn("id", INT, source="id"), BoundColumn("x", INT, expression=expression))
        with pytest.raises((ConfigError, SourceError)):
            scanned(connected(path), Binding("d", "t", ("id",), columns))
    assert secret == [7]


def test_a_failed_conversion_does_not_quote_the_value(path: Path) -> None:
    run(path, "CREATE TABLE t AS SELECT 1 AS id, 'topsecret' AS v")
    columns = (BoundColumn("id", INT, source="id"), BoundColumn("x", INT, expression="v::INTEGER"))
    with pytest.raises(SourceError) as error:
        scanned(connected(path), Binding("d", "t", ("id",), columns))
    assert "topsecret" not in str(error.value)


def test_nested_infinities_keep_their_place(path: Path) -> None:
    run(path, "CREATE TABLE t (id INTEGER, l DATE[], m MAP(TIMESTAMP, TIMESTAMPTZ_NS), s STRUCT(a DATE, b DATE[]))")
    run(
        path,
        "INSERT INTO t VALUES (1, ['infinity', NULL, '1970-01-02'], MAP {'-infinity': 'infinity'}, NULL), (2, NULL, "
        "MAP {}, {'a': '-infinity', 'b': ['1970-01-01', 'infinity']}), (3, [], NULL, {'a': NULL, 'b': NULL})",
    )
    high, low = 2**63 - 1, -(2**63)
    kinds = types(id="int", l="list<date>", m="map<datetime,timestamp>", s="struct{a: date, b: list<date>}")
    assert scanned(connected(path), binding("t", kinds, ["id"])) == [
        {"id": 1, "l": [high, None, 1], "m": [(low, high)], "s": None},
        {"id": 2, "l": None, "m": [], "s": {"a": low, "b": [0, high]}},
        {"id": 3, "l": [], "m": None, "s": {"a": None, "b": None}},
    ]


def test_a_nested_interval_is_refused_with_its_reason(path: Path) -> None:
    run(path, "CREATE TABLE t (id INTEGER, l INTERVAL[], s STRUCT(u UNION(a INTEGER)))")
    columns = connected(path).describe("t").columns
    assert "INTERVAL" in columns[1].refusal
    assert "union" in columns[2].refusal
    with pytest.raises(ConfigError):
        connected(path).plan(binding("t", types(id="int", l="list<duration>"), ["id"]), 10)


def test_advice_names_a_missing_key(path: Path) -> None:
    numbers(path)
    run(path, "CREATE TABLE keyed (id INTEGER PRIMARY KEY)")
    assert len(connected(path).advice("t")) == 1
    assert connected(path).advice("keyed") == []
