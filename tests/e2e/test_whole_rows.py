"""Tables without a key: the whole row is compared, NULLs are values, and what counts is how often a row occurs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers.cassandra_keyspace import keyspace
from typer.testing import CliRunner

from edge_agent.policy import Policy
from paritree.cli.main import app
from paritree.core.profile import Profile
from paritree.core.types import parse_type

Row = tuple[str | None, str | None, int | None, str | None]
AT = "2024-05-01 10:00:00"
LOG: list[Row] = [
    *((AT, "login", n, None) for n in range(40)),
    *([(AT, "retry", 7, None)] * 3),  # a true duplicate
    *([(None, None, None, None)] * 2),  # and one without any value
    ("2024-05-01 10:00:00.000001", "Login", 1, '{"a": 1.0}'),
    (AT, "", 2, "{}"),
]


def less(rows: Sequence[Row], gone: Row, times: int = 1) -> list[Row]:
    """The rows without some copies of one."""
    left = list(rows)
    for _ in range(times):
        left.remove(gone)
    return left


def load_postgresql(url: str, rows: Sequence[Row]) -> None:
    with psycopg.connect(url) as pg:
        pg.execute("DROP TABLE IF EXISTS log")
        pg.execute("CREATE TABLE log (at timestamp, what text, who bigint, extra json)")  # json has no equality
        with pg.cursor().copy("COPY log FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)


def load_sqlite(path: Path, rows: Sequence[Row]) -> None:
    with closing(sqlite3.connect(path)) as lite, lite:
        lite.execute("DROP TABLE IF EXISTS log")
        lite.execute("CREATE TABLE log (what TEXT, at DATETIME, who INTEGER, extra JSON)")
        lite.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", [(what, at, who, x) for at, what, who, x in rows])


def load_duckdb(path: Path, rows: Sequence[Row]) -> None:
    with closing(duckdb.connect(str(path))) as duck:
        duck.execute('CREATE OR REPLACE TABLE log (who INTEGER, "at" TIMESTAMP, what VARCHAR, extra JSON)')
        duck.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", [(who, at, what, x) for at, what, who, x in rows])


def load_csv(path: Path, rows: Sequence[Row]) -> None:
    def field(value: object) -> str:
        return "" if value is None else '"' + str(value).replace('"', '""') + '"'

    lines = ["at,what,who,extra", *(",".join(map(field, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


class Copies:
    """The log in four engines, loaded anew for each comparison."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def compare(self, *flags: str, **rows: Sequence[Row]) -> tuple[int, Any]:
        loads: Mapping[str, tuple[str, Callable[[Sequence[Row]], None]]] = {
            "pg": (f"pg={self.url}#log", lambda r: load_postgresql(self.url, r)),
            "lite": (f"lite=sqlite:///{self.folder}/log.db#log", lambda r: load_sqlite(self.folder / "log.db", r)),
            "duck": (
                f"duck=duckdb:///{self.folder}/log.duckdb#log",
                lambda r: load_duckdb(self.folder / "log.duckdb", r),
            ),
            "csv": (f"csv=csv:///{self.folder}/log.csv", lambda r: load_csv(self.folder / "log.csv", r)),
        }
        for name, wanted in rows.items():
            loads[name][1](wanted)
        targets = [loads[name][0] for name in rows]
        result = CliRunner().invoke(app, ["diff", *targets, "--key", "*", "--lag-max", "0", "--json", *flags])
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture(scope="module")
def copies(postgresql: Any, tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return Copies(postgresql.create_database("whole_rows"), tmp_path_factory.mktemp("log"))


@pytest.mark.servers
@pytest.mark.parametrize("digester", ["plain", "compiled"])
def test_equal_multisets_are_equal_in_any_order_with_their_duplicates_counted(copies, digester):
    turned = LOG[::-1]
    code, report = copies.compare("--digester", digester, pg=LOG, lite=turned, duck=LOG[5:] + LOG[:5], csv=turned)
    assert (code, report["verdict"], report["findings"]) == (0, "equal", [])
    assert report["summary"]["duplicate"] == dict.fromkeys(("pg", "lite", "duck", "csv"), 2)
    assert {region["rows"] for region in report["regions"]} == {len(LOG)}
    assert not any(region["dead_letters"] for region in report["regions"])


@pytest.mark.servers
@pytest.mark.parametrize("shard_rows", ["250000", "7"])
def test_what_differs_is_a_row_that_is_missing_or_occurs_another_number_of_times(copies, shard_rows):
    retry, nothing = (AT, "retry", 7, None), (None, None, None, None)
    changed = [("2024-05-01 10:00:00.000002" if row[1] == "Login" else row[0], *row[1:]) for row in LOG]
    code, report = copies.compare(
        "--shard-rows", shard_rows, pg=less(LOG, retry), lite=less(LOG, nothing, 2), duck=changed, csv=[*LOG, nothing]
    )
    assert (code, report["verdict"]) == (1, "different")
    found = {(f["key"]["what"], f["key"]["at"]): f for f in report["findings"]}
    assert {(k, f["kind"]) for k, f in found.items()} == {
        (("retry", "2024-05-01T10:00:00"), "duplicate"),
        ((None, None), "duplicate"),
        (("Login", "2024-05-01T10:00:00.000001"), "missing"),
        (("Login", "2024-05-01T10:00:00.000002"), "missing"),
    }
    assert found["retry", "2024-05-01T10:00:00"]["counts"] == {"pg": 2, "lite": 3, "duck": 3, "csv": 3}
    assert found[None, None]["counts"] == {"pg": 2, "lite": 0, "duck": 2, "csv": 3}
    old, new = (found["Login", f"2024-05-01T10:00:00.00000{n}"] for n in (1, 2))
    assert (old["missing_in"], new["missing_in"]) == (["duck"], ["csv", "lite", "pg"])
    assert report["summary"]["duplicate"] == {"pg": 2, "lite": 1, "duck": 2, "csv": 2}


@pytest.mark.servers
def test_a_copy_that_heals_between_looks_is_no_finding_and_one_column_may_be_left_out(copies):
    other = [(at, what, who, "[]") for at, what, who, _ in LOG]
    code, report = copies.compare("--ignore", "extra", pg=LOG, lite=other)
    assert (code, report["summary"]["duplicate"]) == (0, {"pg": 2, "lite": 2})
    code, report = copies.compare("--columns", "who", pg=LOG, csv=less(LOG, LOG[0]))
    [finding] = report["findings"]
    assert (code, finding["kind"], finding["key"]) == (1, "missing", {"who": 0})


@pytest.mark.servers
def test_a_cassandra_table_and_a_file_without_a_key(cassandra, tmp_path):
    with keyspace(cassandra, "whole_rows") as space:
        space.create("log", "who int, n int, what text, PRIMARY KEY (who, n)")
        for values in ((1, 1, "a"), (1, 2, "a"), (2, 1, None)):
            space.run("INSERT INTO {ks}.log (who, n, what) VALUES (%s, %s, %s)", values)
        for name, whos in (("same", [1, 1, 2]), ("other", [1, 2, 2])):
            texts = pa.array(["a", "a", None] if name == "same" else ["a", None, None])
            pq.write_table(pa.table({"what": texts, "who": pa.array(whos, pa.int32())}), tmp_path / f"{name}.parquet")
        code = {}
        for name in ("same", "other"):
            targets = [f"ca={cassandra.url}/whole_rows#log", f"file=parquet:///{tmp_path}/{name}.parquet"]
            flags = ["--key", "*", "--ignore", "n", "--lag-max", "0", "--json"]
            result = CliRunner().invoke(app, ["diff", *targets, *flags])
            code[name] = result.exit_code, json.loads(result.stdout)
    assert code["same"][0] == 0
    assert code["same"][1]["summary"]["duplicate"] == {"ca": 1, "file": 1}
    assert code["other"][0] == 1
    assert {(f["key"]["who"], f["kind"], str(f["counts"])) for f in code["other"][1]["findings"]} == {
        (1, "duplicate", "{'ca': 2, 'file': 1}"),
        (2, "duplicate", "{'ca': 1, 'file': 2}"),
    }


def test_a_row_that_cannot_be_read_hides_what_else_is_missing_there(tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("a,b\n1,x\n2,y\n")
    bad.write_text("a,b\n1,x\nzwei,y\n")
    with closing(sqlite3.connect(tmp_path / "t.db")) as lite, lite:
        lite.execute("CREATE TABLE t (a INTEGER, b TEXT)")
        lite.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    typed = f"eu=sqlite:///{tmp_path}/t.db#t"
    result = CliRunner().invoke(app, ["diff", typed, f"us=csv:///{bad}", "--key", "*", "--lag-max", "0", "--json"])
    report = json.loads(result.stdout)
    assert (result.exit_code, report["verdict"], report["findings"]) == (3, "unknown", [])
    assert "dead letters without a readable key" in report["unknown_keys"][0]["reason"]
    assert CliRunner().invoke(app, ["diff", typed, f"us=csv:///{good}", "--key", "*"]).exit_code == 0


@pytest.mark.parametrize(("granted", "shown"), [(False, None), (True, {"amount": None, "id": 1, "name": "a"})])
def test_whole_rows_leave_a_region_only_where_its_policy_says_rows(memory_regions, granted, shown):
    regions = memory_regions()
    regions.profile = Profile.keyless(
        "orders", {"id": parse_type("int"), "name": parse_type("text"), "amount": parse_type("decimal")}
    )
    policy = Policy("keys", sealed_keys=True, whole_rows=granted)
    regions.add("eu", [(1, "a", None)] * 2, policy=policy)
    regions.add("us", [(1, "a", None)], policy=policy, digester="compiled")
    report = regions.sweep(purpose="audit")
    [finding] = report["findings"]
    assert (finding["kind"], finding["counts"], finding["key"]) == ("duplicate", {"eu": 2, "us": 1}, shown)
    assert finding["token"]
    assert report["bytes"]["revealed"] > 0 if granted else report["bytes"]["revealed"] == 0


def test_many_copies_of_one_row(memory_regions):
    regions = memory_regions()
    regions.profile = Profile.keyless(
        "orders", {"id": parse_type("int"), "name": parse_type("text"), "amount": parse_type("decimal")}
    )
    regions.add("eu", [(1, "a", None)] * 6_000, digester="compiled", shard_rows=50_000)
    regions.add("us", [(1, "a", None)] * 5_999, digester="compiled", shard_rows=50_000)
    regions.add("ap", [(1, "a", None)] * 6_000, digester="compiled", shard_rows=50_000)
    report = regions.sweep()
    [finding] = report["findings"]
    assert finding["counts"] == {"ap": 6_000, "eu": 6_000, "us": 5_999}
    assert sum(report["bytes"].values()) < 1 << 17
