"""Sweeps over warm indexes, agents as processes of their own: what is scanned, what is found, what a restart keeps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.fleet import Fleet, paritree
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers

DATASETS = """
[dataset.orders]
key = ["id"]
lag_max_s = 0
[dataset.orders.columns]
id = "int"
code = "text"
amount = "decimal"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
"""
REFRESH = """
[refresh.orders]
changes = "slot"
interval_s = 0.5
"""
ROWS = 5_000
SCANNED, REFRESHED = "scanned, ", "nothing was scanned"


class Regions:
    """Two databases with the same table, their agents and a coordinator."""

    def __init__(self, server: PostgresqlServer, folder: Path, pki: Path) -> None:
        self.server = server
        self.fleet = Fleet(folder, pki)
        self.tables: dict[str, psycopg.Connection] = {}
        for region in ("eu", "us"):
            server.create_database(f"warm_{region}")
            self.tables[region] = table = server.connect(f"warm_{region}")
            table.execute("CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2))")
            table.execute(f"INSERT INTO orders SELECT i, 'c' || i, i / 4.0 FROM generate_series(1, {ROWS}) AS i")
        self.fleet.datasets(DATASETS)
        self.fleet.start_coordinator()

    def start(self, *regions: str) -> None:
        for region in regions:
            url = self.server.url(f"warm_{region}")
            self.fleet.start_agent(region, url, edit=lambda text: text + REFRESH)
        self.fleet.wait_connected(("eu", "us"))

    def sweep(self) -> dict[str, Any]:
        report, _ = self.fleet.sweep("orders")
        return report

    def agent(self, command: str, *args: str) -> str:
        """A command over the eu agent's file."""
        answer = paritree(*command.split(), *args, "--config", str(self.fleet.folder / "agent-eu.toml"))
        return answer.stdout + answer.stderr

    def close(self) -> None:
        self.fleet.stop_all()
        for region, table in self.tables.items():
            table.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )
            table.close()
            with self.server.connect() as connection:
                connection.execute(f"DROP DATABASE warm_{region} WITH (FORCE)")


@pytest.fixture
def regions(postgresql: PostgresqlServer, pki_dir: Path, tmp_path: Path) -> Iterator[Regions]:
    with ExitStack() as closing:
        made = Regions(postgresql, tmp_path, pki_dir)
        closing.callback(made.close)
        yield made


def how(report: dict[str, Any]) -> dict[str, bool]:
    """Region -> whether it scanned."""
    found = {}
    for region in (region["name"] for region in report["regions"]):
        said = " ".join(note for note in report["notes"] if note.startswith(f"{region}: "))
        found[region] = SCANNED in said
        assert found[region] != (REFRESHED in said), report["notes"]
    return found


def test_warm_sweeps_find_what_changed_and_scan_nothing(regions: Regions) -> None:
    regions.start("eu", "us")
    report = regions.sweep()
    assert (report["verdict"], how(report)) == ("equal", {"eu": True, "us": True})
    report = regions.sweep()
    assert (report["verdict"], how(report)) == ("equal", {"eu": False, "us": False})
    for table in regions.tables.values():  # the same change everywhere, committed asynchronously
        table.execute("SET synchronous_commit = off; UPDATE orders SET amount = amount + 1 WHERE id <= 300")
    regions.tables["us"].execute("UPDATE orders SET code = 'lost' WHERE id IN (7, 4000)")
    regions.tables["us"].execute("DELETE FROM orders WHERE id = 4500")
    regions.tables["eu"].execute("DELETE FROM orders WHERE id = 4600")
    report = regions.sweep()
    assert (report["verdict"], how(report)) == ("different", {"eu": False, "us": False})
    assert [found["columns"] for found in report["findings"] if found["kind"] == "different"] == [["code"], ["code"]]
    assert report["summary"]["missing"] == {"eu": 1, "us": 1}

    assert regions.fleet.stop("agent-eu", signal.SIGKILL) == -signal.SIGKILL
    regions.tables["eu"].execute("UPDATE orders SET code = 'lost' WHERE id IN (7, 4000)")
    regions.start("eu")
    report = regions.sweep()
    assert how(report) == {"eu": False, "us": False}, "a killed agent goes on where its index is"
    assert report["summary"]["different"] == 0

    regions.tables["eu"].execute("TRUNCATE orders")
    report = regions.sweep()
    assert (report["verdict"], how(report)) == ("different", {"eu": True, "us": False})
    assert report["summary"]["missing"]["eu"] == ROWS - 1

    advice = regions.agent("doctor")
    assert "they can be followed" in advice
    assert "max_slot_wal_keep_size is not set" in advice
    regions.fleet.stop("agent-eu")
    assert "dropped paritree_orders_eu_a1_" in regions.agent("agent unfollow", "orders")
    slots = "SELECT FROM pg_replication_slots WHERE database = current_database()"
    assert regions.tables["eu"].execute(slots).fetchall() == []
    assert regions.tables["eu"].execute("SELECT FROM pg_publication").fetchall() == []
