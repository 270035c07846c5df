"""The whole product on real stores: PostgreSQL, Cassandra and SQLite, three agents as separate processes, real TLS."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.fleet import Fleet
from servers.flights import (
    COLUMNS,
    DATASET_COLUMNS,
    KEY,
    Row,
    flights,
    key_of,
    load_cassandra,
    load_postgresql,
    load_sqlite,
)

ROWS = 100_000
REGIONS = ("eu", "us", "ap")
SUFFIX = "\n".join(f"{name} = {declared}" for name, declared in DATASET_COLUMNS.items())


def datasets_file(**tables: str) -> str:
    regions = "\n".join(
        f'[dataset.flights.regions.{region}]\nconnection = "main"\ntable = "{table}"'
        for region, table in tables.items()
    )
    key = ", ".join(f'"{name}"' for name in KEY)
    return f"[dataset.flights]\nkey = [{key}]\nlag_max_s = 0.2\n[dataset.flights.columns]\n{SUFFIX}\n{regions}\n"


class Planted:
    """Copies of the rows for each region with 60 updates, 20 deletes and 20 inserts on different sides."""

    def __init__(self, rows: list[Row]) -> None:
        rng = random.Random(20131)
        self.tables: dict[str, dict[tuple[Any, ...], Row]] = {r: {key_of(row): row for row in rows} for r in REGIONS}
        self.expected: dict[tuple[Any, ...], tuple[str, list[list[str]], list[str], list[str]]] = {}
        keys = rng.sample(sorted(self.tables["eu"]), 80)
        columns = ("tailnum", "dep_delay", "distance")
        for number, key in enumerate(keys[:60]):
            region, column = REGIONS[number % 3], columns[number % 3]
            at = COLUMNS.index(column)
            row = list(self.tables[region][key])
            row[at] = "N0DRFT" if column == "tailnum" else (row[at] or 0) + 7
            self.tables[region][key] = tuple(row)
            others = sorted(set(REGIONS) - {region})
            self.expected[key] = ("different", [others, [region]], [], [column])
        for number, key in enumerate(keys[60:80]):
            region = REGIONS[number % 3]
            del self.tables[region][key]
            self.expected[key] = ("missing", [sorted(set(REGIONS) - {region})], [region], [])
        for number in range(20):
            region = REGIONS[number % 3]
            row = ("ZZ", 90_000 + number, *rows[number][2:])
            self.tables[region][key_of(row)] = row
            self.expected[key_of(row)] = ("missing", [[region]], sorted(set(REGIONS) - {region}), [])


@pytest.fixture(scope="module")
def planted() -> Planted:
    rows = flights(ROWS)
    assert len(rows) == ROWS
    return Planted(rows)


@pytest.fixture(scope="module")
def stores(planted, postgresql, cassandra, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The URL of each region's store, loaded."""
    folder = tmp_path_factory.mktemp("stores")
    url = postgresql.create_database("parity")
    load_postgresql(url, planted.tables["eu"].values())
    load_sqlite(folder / "ap.db", planted.tables["ap"].values())
    with cassandra.session() as session:
        session.execute(
            "CREATE KEYSPACE parity WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
        )
        load_cassandra(session, "parity", planted.tables["us"].values())
        yield {"eu": url, "us": f"{cassandra.url}/parity", "ap": f"sqlite:///{folder}/ap.db"}
        session.execute("DROP KEYSPACE parity")


@pytest.fixture
def fleet(tmp_path: Path, pki_dir: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, pki_dir) as made:
        made.datasets(datasets_file(eu="public.flights", us="flights", ap="flights"))
        yield made


def start(fleet: Fleet, stores: dict[str, str], extra: dict[str, str]) -> None:
    fleet.start_coordinator()
    for region, url in stores.items():
        fleet.start_agent(region, url, extra=extra.get(region, ""))
    fleet.wait_connected(REGIONS)


def found(report: dict[str, Any]) -> dict[tuple[Any, ...], tuple[str, list[list[str]], list[str], list[str]]]:
    return {
        tuple(f["key"][name] for name in KEY): (f["kind"], f["groups"], f["missing_in"], f["columns"])
        for f in report["findings"]
    }


def test_planted_drift_is_found_exactly_in_clear(fleet, stores, planted):
    clear = 'policy = { disclosure = "keys" }'
    start(fleet, stores, dict.fromkeys(REGIONS, clear))
    report, code = fleet.sweep("flights", "--purpose", "parity test")
    assert (report["verdict"], code) == ("different", 1)
    assert found(report) == planted.expected
    assert report["summary"]["different"] == 60
    assert report["summary"]["healed"] == report["summary"]["unknown"] == report["summary"]["unsettled"] == 0
    assert {r["name"]: (r["engine"], r["rows"], r["dead_letters"]) for r in report["regions"]} == {
        region: (engine, len(planted.tables[region]), 0)
        for region, engine in {"eu": "postgresql", "us": "cassandra", "ap": "sqlite"}.items()
    }
    moved = sum(r["bytes_sent"] + r["bytes_received"] for r in report["regions"])
    assert sum(report["bytes"].values()) == moved
    assert all(r["bytes_sent"] < 256 * 1024 for r in report["regions"])
    answer = fleet.command("findings", "--json", "flights")
    assert answer.returncode in (0, 1), answer.stderr


def test_tokens_are_all_that_leaves_by_default_and_their_region_resolves_them(fleet, stores, planted):
    start(fleet, stores, {})
    report, code = fleet.sweep("flights", "--purpose", "parity test")
    assert (report["verdict"], code) == ("different", 1)
    assert report["findings_total"] == len(planted.expected)
    assert all(f["key"] is None and len(f["token"]) == 16 for f in report["findings"])
    only_us = [f for f in report["findings"] if f["groups"] == [["us"]]]
    assert only_us
    from servers.fleet import paritree

    tokens = [f["token"] for f in only_us]
    answer = paritree("agent", "reveal", *tokens, "--config", str(fleet.folder / "agent-us.toml"), "--json")
    assert answer.returncode == 0, answer.stderr
    for finding in only_us:
        assert finding["token"] in answer.stdout
    assert answer.stdout.count('"ZZ"') == len(only_us)


def test_a_region_that_dies_in_the_middle_is_unknown_and_the_rest_is_reported(fleet, stores, planted):
    start(fleet, stores, dict.fromkeys(REGIONS, 'policy = { disclosure = "keys" }\nshard_rows = 2000'))
    killer = threading.Thread(target=_kill_when_scanning, args=(fleet,))
    killer.start()
    report, code = fleet.sweep("flights", "--purpose", "test")
    killer.join()
    assert code == 1
    assert {v["verdict"] for v in report["verdicts"]} == {"different", "unknown"}
    assert next(v["regions"] for v in report["verdicts"] if v["verdict"] == "unknown") == ["us"]
    expected = {
        key
        for key, (_, groups, missing, _) in planted.expected.items()
        if not any({"eu", "ap"} <= set(group) for group in groups) and not {"eu", "ap"} <= set(missing)
    }
    assert set(found(report)) == expected


def test_equal_tables_are_equal_across_engines_and_healing_is_noticed(fleet, stores, planted, tmp_path):
    rows = list(planted.tables["eu"].values())
    load_sqlite(tmp_path / "copy.db", rows)
    fleet.datasets(datasets_file(eu="public.flights", ap="flights"))
    fleet.start_coordinator()
    fleet.start_agent("eu", stores["eu"])
    fleet.start_agent("ap", f"sqlite:///{tmp_path}/copy.db")
    fleet.wait_connected(("eu", "ap"))
    began = time.monotonic()
    report, code = fleet.sweep("flights")
    assert (report["verdict"], code) == ("equal", 0)
    assert report["bytes"]["lists"] == report["bytes"]["details"] == 0
    assert time.monotonic() - began < 300
    with psycopg.connect(stores["eu"]) as connection:
        connection.execute("DELETE FROM flights WHERE ctid = (SELECT min(ctid) FROM flights)")
        connection.commit()
        report, code = fleet.sweep("flights")
        assert (report["verdict"], code, report["summary"]["missing"]) == ("different", 1, {"eu": 1})
    with psycopg.connect(stores["eu"]) as connection, connection.cursor() as cursor:
        row = next(row for row in rows if not _present(connection, row))
        marks = ", ".join(["%s"] * len(COLUMNS))
        cursor.execute(f"INSERT INTO flights ({', '.join(COLUMNS)}) VALUES ({marks})", row)
    report, code = fleet.sweep("flights")
    assert (report["verdict"], code) == ("equal", 0)


def _kill_when_scanning(fleet: Fleet) -> None:
    deadline = time.monotonic() + 300
    while not any((fleet.folder / "spool-us").glob("flights/*/*.run")):
        assert time.monotonic() < deadline, "the scan never began"
        time.sleep(0.01)
    fleet.stop("agent-us", signal.SIGKILL)


def _present(connection: psycopg.Connection[Any], row: Row) -> bool:
    where = " AND ".join(f"{name} = %s" for name in KEY)
    return connection.execute(f"SELECT 1 FROM flights WHERE {where}", row[: len(KEY)]).fetchone() is not None
