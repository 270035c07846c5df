"""SQLite's own traps: write-ahead logs, locks, collations, row ids, and files that are replaced."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from reading import INT, TEXT, binding, looked_up, scanned, types, values

from edge_agent.connectors.contract import Source
from edge_agent.connectors.sqlite import SqliteConnector, database, lookup, schema
from paritree.core.errors import ConfigError, SourceError
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

NUMBERS = binding("t", types(id="int", v="int"), ["id"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def numbers(path: Path, count: int = 20, mode: str = "delete") -> None:
    rows = ", ".join(f"({n}, {n * 10})" for n in range(count))
    run(path, f"PRAGMA journal_mode = {mode}", "CREATE TABLE t (id INTEGER PRIMARY KEY, v INTEGER)")
    run(path, f"INSERT INTO t VALUES {rows}")


def connected(path: Path) -> SqliteConnector:
    return SqliteConnector.connect(Source(f"sqlite:///{path}"))


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """A program that has a database in WAL mode open."""
    numbers(path, mode="wal")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("SELECT count(*) FROM t").fetchone()
        yield connection


def test_an_idle_wal_database_is_read_without_a_file_beside_it(path: Path) -> None:
    numbers(path, mode="wal")
    before = {each: each.stat().st_mtime_ns for each in path.parent.iterdir()}
    assert list(before) == [path]
    connector = connected(path)
    with connector.plan(NUMBERS, 5) as plan:
        rows = [row for shard in plan.shards for row in values(NUMBERS, connector.scan(NUMBERS, shard))]
        assert len(rows) == 20
        assert plan.position().point
    assert {each: each.stat().st_mtime_ns for each in path.parent.iterdir()} == before


def test_a_writer_that_comes_to_an_idle_wal_database_is_noticed(path: Path) -> None:
    numbers(path, mode="wal")
    connector = connected(path)
    with connector.plan(NUMBERS, 5) as plan:
        batches = connector.scan(NUMBERS, plan.shards[0])
        next(batches)
        run(path, "UPDATE t SET v = 0")
        with pytest.raises(SourceError) as error:
            list(batches)
        assert error.value.retryable
        with pytest.raises(SourceError):
            plan.position()


def test_a_live_wal_database_is_read_with_what_its_log_has(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("UPDATE t SET v = -1 WHERE id = 7")
    connector = connected(path)
    with connector.plan(NUMBERS, 5) as plan:
        rows = [row for shard in plan.shards for row in values(NUMBERS, connector.scan(NUMBERS, shard))]
        assert {row["id"]: row["v"] for row in rows}[7] == -1
        assert plan.position().point
        writer.execute("UPDATE t SET v = -2 WHERE id = 7")
        assert not plan.position().point


def test_a_shard_reads_one_state_while_a_writer_commits(path: Path, writer: sqlite3.Connection) -> None:
    writer.execute("WITH RECURSIVE n(i) AS (SELECT 20 UNION ALL SELECT i + 1 FROM n WHERE i < 40000) "
                   "INSERT INTO t SELECT i, i * 10 FROM n")  # fmt: skip
    connector = connected(path)
    with connector.plan(NUMBERS, 100_000) as plan:
        batches = connector.scan(NUMBERS, plan.shards[0])
        rows = values(NUMBERS, [next(batches)])
        writer.execute("UPDATE t SET v = -1")
        rows += values(NUMBERS, batches)
    assert len(rows) == 40_001
    assert all(row["v"] == row["id"] * 10 for row in rows)


def test_a_locked_database_is_worth_another_try(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers(path)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError) as error:
            connected(path)
    assert error.value.retryable


def test_a_replaced_file_is_noticed(path: Path) -> None:
    numbers(path)
    copy = shutil.copy(path, path.with_suffix(".copy"))
    connector = connected(path)
    with connector.plan(NUMBERS, 5) as plan:
        os.replace(copy, path)
        with pytest.raises(SourceError):
            list(connector.scan(NUMBERS, plan.shards[0]))
        with pytest.raises(SourceError):
            plan.position()


@pytest.mark.parametrize("shard_rows", [1, 3, 100])
@pytest.mark.parametrize("table", ["sparse", "keyed", "viewed", "shadowed", "everything_shadowed"])
def test_every_kind_of_table_is_cut(path: Path, table: str, shard_rows: int) -> None:
    run(
        path,
        "CREATE TABLE sparse (id INTEGER PRIMARY KEY, v INTEGER)",
        "CREATE TABLE keyed (id INTEGER, v INTEGER, w TEXT, PRIMARY KEY (w DESC, id)) WITHOUT ROWID",
        "CREATE VIEW viewed AS SELECT id, v FROM sparse",
        "CREATE TABLE shadowed (id INTEGER, v INTEGER, rowid TEXT)",
        "CREATE TABLE everything_shadowed (id INTEGER, v INTEGER, rowid TEXT, _rowid_ TEXT, oid TEXT)",
    )
    ids = [-(2**63), -5, 0, 1, 7, 10**15, 2**63 - 1]
    for number, key in enumerate(ids):
        run(
            path,
            f"INSERT INTO sparse VALUES ({key}, {number})",
            f"INSERT INTO keyed VALUES ({key}, {number}, CAST(x'ff{number % 2:02x}' AS TEXT))",
            f"INSERT INTO shadowed VALUES ({key}, {number}, 'same')",
            f"INSERT INTO everything_shadowed VALUES ({key}, {number}, 'a', 'b', 'c')",
        )
    bound = binding(table, types(id="int", v="int"), ["id"])
    rows = scanned(connected(path), bound, shard_rows)
    assert sorted((row["v"], row["id"]) for row in rows) == list(enumerate(ids))


def test_rows_inserted_after_planning_are_in_one_shard(path: Path) -> None:
    numbers(path, 10)
    connector = connected(path)
    with connector.plan(NUMBERS, 4) as plan:
        run(path, "INSERT INTO t VALUES (-1, 0), (99, 0)", "DELETE FROM t WHERE id = 4")
        rows = [row["id"] for shard in plan.shards for row in values(NUMBERS, connector.scan(NUMBERS, shard))]
    assert sorted(rows) == [-1, 0, 1, 2, 3, 5, 6, 7, 8, 9, 99]


def test_collations_are_told_and_look_ups_stay_exact(path: Path) -> None:
    run(path, "CREATE TABLE t (k TEXT COLLATE NOCASE, r TEXT COLLATE RTRIM, v INTEGER)")
    run(path, "INSERT INTO t VALUES ('a', 'x', 1), ('A', 'x ', 2)")
    connector = connected(path)
    columns = connector.describe("t").columns
    assert [(c.caseless, c.padded) for c in columns] == [(True, False), (False, True), (False, False)]
    for name, key, found in (("k", "a", [1]), ("k", "A", [2]), ("r", "x", [1]), ("r", "x ", [2])):
        bound = binding("t", types(k="text", r="text", v="int"), [name])
        assert [row["v"] for batch in connector.lookup(bound, [(key,)]) for row in values(bound, [batch])] == found


def test_an_index_serves_a_look_up(path: Path) -> None:
    numbers(path, 2000)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with database.opened(str(path)) as opened:
        opened.connection.set_progress_handler(count, 10)
        found = list(lookup.find(opened, NUMBERS, schema.read_table(opened, "t"), [(7,), (1999,)]))
    assert sum(batch.num_rows for batch in found) == 2
    assert steps < 50, "a scan of 2000 rows takes thousands of steps"


@pytest.mark.parametrize(
    ("declared", "kind", "stored", "key"),
    [
        ("TEXT", "int", ["7", "07", "+7"], 7),
        ("TEXT", "decimal", ["1.10", "1.1", "11e-1"], "1.1"),
        ("NUMERIC", "decimal", [1.1, "1.10"], "1.1"),
        ("", "int", [7, "7"], 7),
        ("UUID", "uuid", ["00010203-0405-0607-0809-0a0b0c0d0e0f", bytes(range(16))], bytes(range(16))),
        ("DATETIME", "datetime", ["1970-01-01 00:00:01", "1970-01-01T00:00:01.000"], 1_000_000),
        ("TIMESTAMPTZ", "timestamp", ["1970-01-01 00:00:01Z", "1969-12-31T22:00:01-02:00"], 1_000_000),
        ("TIME", "time", ["00:01", "00:01:00", "00:01:00.0"], 60_000_000),
        ("INET", "inet", ["::1", "0::1"], "::1"),
        ("BOOLEAN", "bool", [1, "true", "T"], True),
        ("REAL", "float", [1.5, "1.5"], 1.5),
        ("DATE", "date", ["1970-01-02", "+1970-01-02", "+01970-01-02"], 1),
        ("DATE", "date", ["infinity", "Infinity"], 2**63 - 1),
        ("DATE", "date", ["-0001-01-01"], -719893),
        ("DATETIME", "datetime", ["1970-01-01T24:00", "1970-01-02 00:00:00", "+1970-01-02 00:00"], 86_400_000_000),
        (
            "TIMESTAMPTZ",
            "timestamp",
            ["1969-12-31 24:00+00:01", "1970-01-01T23:58+23:59", "1969-12-31 00:00-23:59"],
            -60_000_000,
        ),
        (
            "TEXT",
            "uuid",
            ["00010203-0405-0607-0809-0a0b0c0d0e0f", "000102030405060708090A0B0C0D0E0F"],
            bytes(range(16)),
        ),
        ("TEXT", "duration", ["PT1M", "PT60S"], (0, 0, 60_000_000)),
    ],
)
def test_every_spelling_of_a_key_is_found(
    path: Path, declared: str, kind: str, stored: list[object], key: object
) -> None:
    run(path, f"CREATE TABLE t (k {declared}, v INTEGER)", "CREATE INDEX i ON t (k)")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(value, n) for n, value in enumerate(stored)])
        connection.execute("INSERT INTO t VALUES ('other', -1)")
    bound = binding("t", {"k": parse_type(kind), "v": INT}, ["k"])
    assert sorted(row["v"] for row in looked_up(connected(path), bound, (key,))) == list(range(len(stored)))


def test_text_that_is_not_utf8_is_a_dead_letter_and_its_row_is_kept(path: Path) -> None:
    run(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b DATE)")
    run(path, "INSERT INTO t VALUES (1, CAST(x'61ff' AS TEXT), CAST(x'ff' AS TEXT)), (2, 'ok', '2020-01-01')")
    bound = binding("t", types(id="int", a="text", b="date"), ["id"])
    rows = scanned(connected(path), bound)
    assert [str(rows[0][name]) for name in "ab"] == ["text that is not UTF-8"] * 2
    assert rows[1]["a"] == "ok"


def test_a_type_that_sqlite_cannot_hold_is_refused_before_the_scan(path: Path) -> None:
    numbers(path)
    for kind in ("list<int>", "set<text>", "struct{a: int}"):
        bound = Binding(
            "d", "t", ("id",), (BoundColumn("id", INT, source="id"), BoundColumn("v", parse_type(kind), source="v"))
        )
        with pytest.raises(ConfigError) as error:
            connected(path).plan(bound, 10)
        assert "'v'" in str(error.value)


def test_a_declared_type_that_means_nothing_leaves_the_decision_to_the_profile(path: Path) -> None:
    run(path, "CREATE TABLE t (id INTEGER PRIMARY KEY, m MONEY)", "INSERT INTO t VALUES (1, 5)")
    connector = connected(path)
    column = connector.describe("t").column("m")
    assert column is not None
    assert column.logical is None
    assert "MONEY" in column.refusal
    assert scanned(connector, binding("t", types(id="int", m="decimal"), ["id"])) == [{"id": 1, "m": 5}]


def test_a_name_that_is_no_column_is_never_taken_for_text(path: Path) -> None:
    numbers(path, 1)
    bound = Binding("d", "t", ("id",), (BoundColumn("id", INT, source="id"), BoundColumn("x", TEXT, source="nope")))
    with pytest.raises(ConfigError):
        list(connected(path).lookup(bound, [(0,)]))


def test_urls(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers(path)
    monkeypatch.chdir(path.parent)
    for url in (f"sqlite:///{path}", f"sqlite:////{path.relative_to('/')}", "sqlite:///store.db", f"sqlite://{path}"):
        assert SqliteConnector.connect(Source(url)).path == str(path)
    (path.parent / path.relative_to("/")).parent.mkdir(parents=True)
    shutil.copy(path, path.parent / path.relative_to("/"))
    with pytest.raises(ConfigError) as error:
        SqliteConnector.connect(Source(f"sqlite://{path}"))
    assert "two files" in str(error.value)
    for url in ("sqlite:///:memory:", "sqlite:///absent.db", "sqlite://host/store.db", "sqlite:///store.db?cache=1"):
        with pytest.raises(ConfigError):
            SqliteConnector.connect(Source(url))
    assert not Path(":memory:").exists()


def test_advice_names_what_stands_in_the_way(path: Path) -> None:
    numbers(path)
    run(path, "CREATE TABLE loose (v INTEGER)")
    assert ["WAL" in line for line in connected(path).advice("t")] == [True]
    assert any("primary key" in line for line in connected(path).advice("loose"))
