"""PostgreSQL, Cassandra and DuckDB, an agent process each: every kind of difference is found, named and paid for."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pytest
from servers.fleet import Fleet, paritree

REGIONS = ("ap", "eu", "us")
"""DuckDB, PostgreSQL, Cassandra."""
ROWS = 3_000
COLUMNS = {
    "id": '"int"',
    "amount": '"decimal"',
    "at": '{ type = "timestamp", precision = "ms" }',
    "open": '"bool"',
    "note": '"text"',
    "day": '"date"',
    "ref": '"uuid"',
    "ratio": '"float"',
}
POSTGRESQL = {"id": "bigint", "amount": "numeric(12,2)", "at": "timestamptz", "open": "boolean", "note": "text"}
POSTGRESQL |= {"day": "date", "ref": "uuid", "ratio": "double precision"}
CASSANDRA = {"id": "bigint", "amount": "decimal", "at": "timestamp", "open": "boolean", "note": "text"}
CASSANDRA |= {"day": "date", "ref": "uuid", "ratio": "double"}
DUCKDB = {"id": "BIGINT", "amount": "DECIMAL(14,4)", "at": "TIMESTAMPTZ", "open": "BOOLEAN", "note": "VARCHAR"}
DUCKDB |= {"day": "DATE", "ref": "UUID", "ratio": "DOUBLE"}
OTHER: dict[str, Any] = {
    "amount": Decimal("-7.25"),
    "at": datetime(1999, 12, 31, 23, 59, 59, 1000, UTC),
    "open": None,
    "note": "",
    "day": date(1600, 2, 29),
    "ref": uuid.UUID(int=7),
    "ratio": 0.1,
}
"""Another value for each column; a text that is empty is not one that is null."""
Row = dict[str, Any]
Expected = tuple[str, list[list[str]], list[str], list[str]]


def some_row(number: int) -> Row:
    return {
        "id": number * 1_000_003,
        "amount": Decimal(number) / 4,
        "at": datetime(2024, 2, 28, tzinfo=UTC) + timedelta(milliseconds=number * 86_399_001),
        "open": number % 3 == 0,
        "note": None if number % 11 == 0 else f"näme {number} ✓",
        "day": date(1900, 1, 1) + timedelta(days=number * 17),
        "ref": uuid.UUID(int=number << 64 | number),
        "ratio": math.nan if number % 97 == 0 else number / 7,
    }


class Planted:
    """A copy of the rows for each region, differences of every kind, and what has to be found of them by id."""

    def __init__(self) -> None:
        self.tables = {region: [some_row(number) for number in range(ROWS)] for region in REGIONS}
        self.expected: dict[int, Expected] = {}
        self.duplicate: dict[int, dict[str, int]] = {}
        self._numbers = iter(range(10, ROWS))
        for column, value in OTHER.items():
            for region in REGIONS:
                self._change(region, {column: value})
        self._change("us", {"note": "both", "amount": Decimal("0.01")})
        self._all_differ()
        for region in REGIONS:
            self._lose(region)
            self._only(region)
        self._double()
        self._same_in_other_words()

    def _take(self) -> int:
        return next(self._numbers)

    def _change(self, region: str, changes: Row) -> None:
        number = self._take()
        self.tables[region][number] |= changes
        others = [name for name in REGIONS if name != region]
        self.expected[some_row(number)["id"]] = ("different", [others, [region]], [], sorted(changes))

    def _all_differ(self) -> None:
        number = self._take()
        self.tables["ap"][number]["day"] = date(2000, 1, 1)
        self.tables["eu"][number]["day"] = date(2000, 1, 2)
        self.tables["us"][number]["open"] = None
        self.expected[some_row(number)["id"]] = ("different", [["ap"], ["eu"], ["us"]], [], ["day", "open"])

    def _lose(self, region: str) -> None:
        number = self._take()
        self.tables[region][number] = {}
        others = [name for name in REGIONS if name != region]
        self.expected[some_row(number)["id"]] = ("missing", [others], [region], [])

    def _only(self, region: str) -> None:
        extra = some_row(ROWS + len(self.expected))
        self.tables[region].append(extra)
        self.expected[extra["id"]] = ("missing", [[region]], [n for n in REGIONS if n != region], [])

    def _double(self) -> None:
        """DuckDB's table has no primary key: one row is there twice."""
        number = self._take()
        self.tables["ap"].append(self.tables["ap"][number])
        self.duplicate[some_row(number)["id"]] = {"ap": 2, "eu": 1, "us": 1}

    def _same_in_other_words(self) -> None:
        """What is no difference: microseconds below the profile's precision, another scale, a negative zero."""
        self.tables["eu"][1]["at"] += timedelta(microseconds=999)
        self.tables["us"][2]["amount"] = Decimal("0.500000")
        self.tables["ap"][3]["ratio"], self.tables["eu"][3]["ratio"], self.tables["us"][3]["ratio"] = -0.0, 0.0, -0.0

    def rows(self, region: str) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in COLUMNS) for row in self.tables[region] if row]


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


def load_postgresql(url: str, rows: list[tuple[Any, ...]]) -> None:
    columns = ", ".join(f'"{name}" {POSTGRESQL[name]}' for name in COLUMNS)
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE orders ({columns}, PRIMARY KEY (id))")
        with cursor.copy("COPY orders FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE orders")


def load_cassandra(session: Any, keyspace: str, rows: list[tuple[Any, ...]]) -> None:
    from cassandra.concurrent import execute_concurrent_with_args

    columns = ", ".join(f"{name} {CASSANDRA[name]}" for name in COLUMNS)
    session.execute(f"CREATE TABLE {keyspace}.orders ({columns}, PRIMARY KEY (id))")
    marks = ", ".join("?" for _ in COLUMNS)
    insert = session.prepare(f"INSERT INTO {keyspace}.orders ({', '.join(COLUMNS)}) VALUES ({marks})")
    results = execute_concurrent_with_args(session, insert, rows, concurrency=200, raise_on_first_error=True)
    assert all(result.success for result in results)


def load_duckdb(path: Path, rows: list[tuple[Any, ...]]) -> None:
    texts = [[None if value is None else str(value) for value in column] for column in zip(*rows, strict=True)]
    loaded = pa.table(dict(zip(COLUMNS, (pa.array(text, pa.utf8()) for text in texts), strict=True)))
    with duckdb.connect(str(path)) as connection:
        connection.register("loaded", loaded)
        typed = ", ".join(f'CAST("{name}" AS {DUCKDB[name]}) AS "{name}"' for name in COLUMNS)
        connection.execute(f"CREATE TABLE orders AS SELECT {typed} FROM loaded")


@pytest.fixture(scope="module")
def stores(planted, postgresql, cassandra, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The URL of each region's store, loaded."""
    file = tmp_path_factory.mktemp("duckdb") / "orders.duckdb"
    load_duckdb(file, planted.rows("ap"))
    url = postgresql.create_database("engines")
    load_postgresql(url, planted.rows("eu"))
    with cassandra.session() as session:
        session.execute(
            "CREATE KEYSPACE engines WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        load_cassandra(session, "engines", planted.rows("us"))
        yield {"ap": f"duckdb:///{file}", "eu": url, "us": f"{cassandra.url}/engines"}
        session.execute("DROP KEYSPACE engines")


def datasets_file(*regions: str) -> str:
    parts = ['[dataset.orders]\nkey = ["id"]\nlag_max_s = 0.2\n[dataset.orders.columns]']
    parts += [f"{name} = {kind}" for name, kind in COLUMNS.items()]
    for region in regions:
        table = "public.orders" if region == "eu" else "orders"
        parts.append(f'[dataset.orders.regions.{region}]\nconnection = "main"\ntable = "{table}"')
    return "\n".join(parts) + "\n"


@pytest.fixture(scope="module")
def fleet(stores, tmp_path_factory, pki_dir) -> Iterator[Fleet]:
    with Fleet(tmp_path_factory.mktemp("fleet"), pki_dir) as made:
        made.datasets(datasets_file(*REGIONS))
        made.start_coordinator()
        for region, url in stores.items():
            made.start_agent(region, url, extra='policy = { disclosure = "keys" }\nshard_rows = 700')
        made.wait_connected(REGIONS)
        yield made


def assert_cost(report: dict[str, Any], rows: int) -> None:
    """The classes add up to all that was moved, and all but the details is below the bound."""
    moved = sum(region["bytes_sent"] + region["bytes_received"] for region in report["regions"])
    assert sum(report["bytes"].values()) == moved
    searched = moved - report["bytes"]["details"] - report["bytes"]["revealed"]
    assert searched <= len(report["regions"]) * (2 * 24 * rows + 16_384)
    assert report["rounds"] <= 3


def test_differences_of_every_kind_are_found_and_named(fleet, planted):
    report, code = fleet.sweep("orders", "--purpose", "engines")
    assert (report["verdict"], code) == ("different", 1)
    found = {f["key"]["id"]: f for f in report["findings"]}
    assert len(found) == report["findings_total"] == len(planted.expected) + len(planted.duplicate)
    assert {
        key: (f["kind"], f["groups"], f["missing_in"], f["columns"])
        for key, f in found.items()
        if f["kind"] != "duplicate"
    } == planted.expected
    assert {k: f["counts"] for k, f in found.items() if f["kind"] == "duplicate"} == planted.duplicate
    kinds = [kind for kind, *_ in planted.expected.values()]
    assert report["summary"]["different"] == kinds.count("different") == 23
    assert report["summary"]["missing"] == dict.fromkeys(REGIONS, 3)
    assert {r["name"]: (r["engine"], r["rows"], r["dead_letters"]) for r in report["regions"]} == {
        name: (engine, len(planted.rows(name)), 0)
        for name, engine in zip(REGIONS, ("duckdb", "postgresql", "cassandra"), strict=True)
    }
    assert_cost(report, ROWS)
    assert report["rounds"] == 2


def test_more_than_the_probe_decodes_takes_three_rounds(fleet, planted, stores):
    """Hundreds of rows change in PostgreSQL, some of them where a difference is already."""
    with psycopg.connect(stores["eu"]) as connection:
        changed = connection.execute("UPDATE orders SET amount = amount + 1 WHERE id % 4 = 1").rowcount
    report, code = fleet.sweep("orders", "--limit", "10000")
    assert (report["verdict"], code) == ("different", 1)
    missing = {key for key, (kind, *_) in planted.expected.items() if kind == "missing"}
    different = {row["id"] for row in map(some_row, range(ROWS)) if row["id"] % 4 == 1}
    different |= {key for key, (kind, *_) in planted.expected.items() if kind == "different"}
    different -= planted.duplicate.keys()
    lost_here = {k for k in missing if "eu" in planted.expected[k][2]}
    both = {k for k in missing - lost_here if k % 4 == 1 and len(planted.expected[k][1][0]) == 2}
    assert changed > 600
    assert report["summary"]["different"] == len((different - missing) | both)
    assert report["findings_total"] == len(different | missing) + len(planted.duplicate)
    assert report["rounds"] == 3
    assert_cost(report, ROWS)


def test_a_bulk_loss_at_its_real_size(postgresql, tmp_path, pki_dir):
    """300,000 rows here and 1,000 there: a range with counts, a sample, and the keys in files of the regions."""
    rows = 300_000
    url = postgresql.create_database("bulk")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE public.orders AS SELECT g::bigint AS id, (g % 100)::numeric AS amount "
            f"FROM generate_series(0, {rows - 1}) g"
        )
        connection.execute("ALTER TABLE public.orders ADD PRIMARY KEY (id)")
        connection.execute("ANALYZE public.orders")
    with duckdb.connect(str(tmp_path / "left.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE orders AS SELECT range AS id, (range % 100)::DECIMAL(4,1) AS amount FROM range(1000)"
        )
    columns = '[dataset.orders.columns]\nid = "int"\namount = "decimal"\n'
    with Fleet(tmp_path, pki_dir) as made:
        text = datasets_file("ap", "eu")
        made.datasets(
            text[: text.index("[dataset.orders.columns]")] + columns + text[text.index("[dataset.orders.r") :]
        )
        made.start_coordinator()
        for region, at in (("eu", url), ("ap", f"duckdb:///{tmp_path}/left.duckdb")):
            made.start_agent(region, at, extra='policy = { disclosure = "keys" }')
        made.wait_connected(("ap", "eu"))
        report, code = made.sweep("orders", "--purpose", "bulk")
        name = report["findings"][0]["files"]["ap"]["name"]
        keys = paritree("agent", "keys", "orders", name, "--config", str(tmp_path / "agent-ap.toml"))
    assert (report["verdict"], code, report["findings_total"]) == ("different", 1, 1)
    (ranged,) = report["findings"]
    assert (ranged["kind"], ranged["prefix"], ranged["rows"]) == ("range", "", {"ap": 1000, "eu": rows})
    assert 0.9 * rows < ranged["differing"]["ap"] < 1.1 * rows
    sample = ranged["sample"]
    assert 500 < sample["keys"] == sample["confirmed"] == sample["missing"]["ap"] < 2000
    assert all(1000 <= example["key"]["id"] < rows for example in sample["examples"])
    assert {name: file["keys"] for name, file in ranged["files"].items()} == ranged["rows"]
    assert {json.loads(line)["key"]["id"] for line in keys.stdout.splitlines()} == set(range(1000))
    searched = sum(report["bytes"].values()) - report["bytes"]["details"] - report["bytes"]["revealed"]
    assert searched < 256 * 1024
    assert report["verdicts"][0]["reason"].startswith("most rows are gone in ap")
