"""Sweeps over warm indexes, agents as processes of their own: what is scanned, what is found, what a restart keeps."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers.fleet import paritree
from servers.followed import REGIONS, Followed
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers

ROWS = 5_000
SCANNED, REFRESHED = "scanned, ", "nothing was scanned"


class Regions(Followed):
    """What sweeps over them say."""

    def start(self, *regions: str) -> None:
        super().start(*regions)
        self.fleet.wait_connected(REGIONS)

    def sweep(self) -> dict[str, Any]:
        report, _ = self.fleet.sweep("orders")
        return report

    def agent(self, command: str, *args: str) -> str:
        """A command over the eu agent's file."""
        answer = paritree(*command.split(), *args, "--config", str(self.fleet.folder / "agent-eu.toml"))
        return answer.stdout + answer.stderr


@pytest.fixture
def regions(postgresql: PostgresqlServer, pki_dir: Path, tmp_path: Path) -> Iterator[Regions]:
    with Regions(postgresql, tmp_path, pki_dir, rows=ROWS) as made:
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
