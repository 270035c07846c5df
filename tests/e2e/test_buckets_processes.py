"""Buckets and whole rows over real processes: PostgreSQL, Cassandra and DuckDB behind agents, ids from their files.

What the coordinator gets is recorded: no label, key or value is in it.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from servers.cassandra_keyspace import keyspace
from servers.fleet import Fleet
from typer.testing import CliRunner

from paritree.cli.main import app

pytestmark = pytest.mark.servers
REGIONS = ("eu", "us", "ap")
DATASETS = """
[dataset.orders]
key = ["tenant", "id"]
lag_max_s = 0
[dataset.orders.columns]
tenant = "text"
id = "int"
at = { type = "timestamp", precision = "ms" }
amount = "int"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
[dataset.orders.regions.ap]
connection = "main"
table = "orders"
[dataset.log]
key = "*"
lag_max_s = 0
[dataset.log.columns]
what = "text"
who = "int"
[dataset.log.regions.eu]
connection = "main"
table = "log"
[dataset.log.regions.ap]
connection = "main"
table = "log"
"""
SCOPES = """
[scopes.orders.month]
column = "at"
kind = "month"
[scopes.orders.tenant]
column = "tenant"
kind = "value"
"""
START = dt.datetime(2024, 4, 29, 23, 59, 59, 999_000, tzinfo=dt.UTC)
ROWS = [(f"secrettenant{n % 4}", n, START + dt.timedelta(hours=n), n) for n in range(600)]
Row = tuple[str, int, dt.datetime, int]


def changed(row: Row, amount: int) -> Row:
    return *row[:3], amount


def load(folder: Path, url: str, space: Any) -> None:
    us = [changed(row, -1) if row[1] in (5, 400) else row for row in ROWS if row[1] != 42]
    with psycopg.connect(url) as pg:
        pg.execute("CREATE TABLE orders (tenant text, id int, at timestamptz, amount bigint, PRIMARY KEY (tenant, id))")
        pg.execute("CREATE TABLE log (what text, who int)")
        with pg.cursor().copy("COPY orders FROM STDIN") as copy:
            for row in ROWS:
                copy.write_row(row)
        pg.execute("INSERT INTO log VALUES ('in', 1), ('in', 1), (NULL, 2)")
    space.create("orders", "tenant text, id int, at timestamp, amount bigint, PRIMARY KEY (tenant, id)")
    insert = space.session.prepare(f"INSERT INTO {space.name}.orders (tenant, id, at, amount) VALUES (?, ?, ?, ?)")
    for row in us:
        space.session.execute(insert, row)
    with closing(duckdb.connect(str(folder / "ap.duckdb"))) as duck:
        duck.execute("SET TimeZone = 'UTC'")
        duck.execute('CREATE TABLE orders (tenant VARCHAR, id INTEGER, "at" TIMESTAMPTZ, amount INTEGER)')
        duck.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", ROWS)
        duck.execute("CREATE TABLE log (who BIGINT, what VARCHAR)")
        duck.execute("INSERT INTO log VALUES (1, 'in'), (2, NULL)")


@pytest.fixture(scope="module")
def fleet(postgresql: Any, cassandra: Any, pki_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("buckets")
    url = postgresql.create_database("buckets")
    with keyspace(cassandra, "buckets") as space, Fleet(folder, pki_dir) as made:
        load(folder, url, space)
        urls = {"eu": url, "us": f"{cassandra.url}/buckets", "ap": f"duckdb:///{folder}/ap.duckdb"}
        made.datasets(DATASETS)
        made.start_coordinator(record=folder / "capture")
        for region in REGIONS:
            scopes = SCOPES if region != "ap" else SCOPES.replace('kind = "value"', 'kind = "hash"\nbuckets = 4')
            made.start_agent(region, urls[region], edit=lambda text, scopes=scopes: text + scopes)
        made.wait_connected(REGIONS)
        yield made


def buckets(fleet: Fleet, region: str, *arguments: str) -> dict[str, Any]:
    """label -> (id, rows) of a scope in a region."""
    file = str(fleet.folder / f"agent-{region}.toml")
    done = CliRunner().invoke(app, ["agent", "buckets", "orders", *arguments, "--config", file, "--json"])
    assert done.exit_code == 0, done.stderr
    return {entry["label"]: (entry["id"], entry["rows"]) for entry in json.loads(done.stdout)["buckets"]}


def test_regions_name_their_buckets_alike_and_one_is_swept_alone(fleet):
    months = {region: buckets(fleet, region, "month") for region in REGIONS}
    assert months["eu"] == months["ap"]
    assert {label: rows for label, (_, rows) in months["eu"].items()} == {"2024-04": 25, "2024-05": 575}
    assert {name: found[0] for name, found in months["us"].items()} == {n: f[0] for n, f in months["eu"].items()}
    april, _ = months["eu"]["2024-04"]
    report, code = fleet.sweep("orders", "--scope", "month", "--bucket", april)
    assert (code, report["verdict"], report["findings_total"]) == (1, "different", 1)
    assert [region["rows"] for region in report["regions"]] == [25, 25, 25]
    assert report["scope"] == {"name": "month", "bucket": april}
    assert next(note for note in report["notes"] if "other buckets" in note).startswith("us: ")
    file = str(fleet.folder / "agent-ap.toml")
    report, code = fleet.sweep("orders", "--scope", "month", "--bucket", "2024-05", "--agent", file)
    assert (report["findings_total"], report["summary"]["missing"]) == (2, {"us": 1})


def test_a_tenant_that_is_a_partition_is_read_by_its_token_and_another_declaration_is_unknown(fleet):
    name = "secrettenant2"
    assert buckets(fleet, "us", "tenant", name, "--count")[name][1] == 149
    tenant, nothing = buckets(fleet, "eu", "tenant", name)[name]
    assert nothing is None
    report, code = fleet.sweep("orders", "--scope", "tenant", "--bucket", tenant)
    assert (code, report["verdict"]) == (1, "different")
    assert {v["verdict"]: v["regions"] for v in report["verdicts"]} == {"different": ["eu", "us"], "unknown": ["ap"]}
    assert [region["rows"] for region in report["regions"]] == [150, 149, None]
    assert not any("other buckets" in note for note in report["notes"])
    report, code = fleet.sweep("orders", "--scope", "tenant", "--bucket", tenant, "--region", "eu", "--region", "ap")
    assert (code, report["verdict"]) == (3, "unknown")


def test_what_holds_for_a_bucket_is_not_said_of_the_dataset(fleet):
    month, _ = buckets(fleet, "eu", "month", "2023-01")["2023-01"]
    report, code = fleet.sweep("orders", "--scope", "month", "--bucket", month, "--job-id", "january")
    assert (code, report["verdict"]) == (0, "equal")
    assert "no region has a row of this bucket" in report["verdicts"][0]["reason"]
    people = fleet.command("status", "orders").stdout
    assert "equal (one month only)" in people
    page = json.loads(fleet.command("findings", "--sweep", report["sweep_id"], "--json").stdout)
    assert page["scope"] == report["scope"]
    other, _ = buckets(fleet, "eu", "month", "2023-02")["2023-02"]
    again = fleet.command("sweep", "orders", "--scope", "month", "--bucket", other, "--job-id", "january")
    assert again.returncode == 2
    assert "another bucket" in again.stderr


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--scope", "month"], 2, "--scope and --bucket go together"),
        (["--bucket", "AAAAAAAA"], 2, "--scope and --bucket go together"),
        (["--scope", "month", "--bucket", "2024-05"], 2, "is no bucket id"),
        (["--scope", "month", "--bucket", "MFRGGZDFMZTWQ2LK"], 3, "no bucket of scope month has that id here"),
        (["--scope", "week", "--bucket", "MFRGGZDFMZTWQ2LK"], 3, "declares no scope 'week' of orders; it has month"),
    ],
)
def test_orders_that_name_no_bucket(fleet, flags, code, words):
    done = fleet.command("sweep", "orders", *flags)
    assert done.returncode == code
    assert words in " ".join((done.stdout + done.stderr).split())
    assert "equal" not in done.stdout


def test_mistakes_of_those_who_ask_for_buckets(fleet):
    file = str(fleet.folder / "agent-eu.toml")
    for arguments, words in (
        (["order", "month"], "no dataset 'order'"),
        (["orders", "months"], "declares no scope 'months'"),
        (["orders", "month", "May"], "is no bucket of scope month"),
    ):
        done = CliRunner().invoke(app, ["agent", "buckets", *arguments, "--config", file])
        assert done.exit_code == 2
        assert words in done.stderr


def test_a_dataset_without_a_key(fleet):
    report, code = fleet.sweep("log")
    [finding] = report["findings"]
    assert (code, finding["kind"], finding["counts"]) == (1, "duplicate", {"eu": 2, "ap": 1})
    assert finding["key"] is None
    assert report["summary"]["duplicate"] == {"eu": 1}


def test_the_coordinator_has_learnt_no_label(fleet):
    seen = (fleet.folder / "capture").read_bytes() + b"".join(
        p.read_bytes() for p in fleet.folder.glob("coordinator.db*")
    )
    seen += fleet.log("coordinator").encode()
    assert b"month" in seen
    for secret in (b"secrettenant", b"2024-05", b"2024-04"):
        assert secret not in seen
