"""What the operating system counts of a region's connections is what the ledger says, TLS and HTTP/2 included."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from relay import Relay
from servers.fleet import Fleet

ROWS = 30_000
DATASETS = """
[dataset.orders]
key = ["id"]
lag_max_s = 0
[dataset.orders.columns]
id = "int"
name = "text"
amount = "int"
status = "text"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
"""
ALLOWANCE = 8 * 1024
SETTLED_S = 0.3
"""Time for the last acknowledgements of a sweep."""


class Site:
    """Two agent processes over SQLite, each behind a relay of its own, and a coordinator process."""

    def __init__(self, folder: Path, pki: Path) -> None:
        self.folder = folder
        self.fleet = Fleet(folder, pki)
        self.relays = {region: Relay(self.fleet.port) for region in ("eu", "us")}
        self.counted = dict.fromkeys(self.relays, 0)

    def database(self, region: str) -> str:
        return str(self.folder / f"{region}.db")

    def start(self) -> None:
        self.fleet.datasets(DATASETS)
        self.fleet.start_coordinator()
        for region, relay in self.relays.items():
            with closing(sqlite3.connect(self.database(region))) as database, database:
                database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount INT, status TEXT)")
                rows = ((i, f"order {i}", i % 977, "new") for i in range(ROWS))
                database.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", rows)
            through = f"localhost:{relay.port}"
            self.fleet.start_agent(
                region,
                f"sqlite://{self.database(region)}",
                edit=lambda text, through=through: text.replace(f"localhost:{self.fleet.port}", through),
            )
        self.fleet.wait_connected(list(self.relays))

    def drift(self, differences: int) -> None:
        """Of so many rows of us, 60 % are changed and the rest are gone."""
        chosen = random.Random(differences).sample(range(ROWS), differences)
        changed, gone = chosen[: differences * 6 // 10], chosen[differences * 6 // 10 :]
        with closing(sqlite3.connect(self.database("us"))) as database, database:
            database.executemany("UPDATE orders SET status = 'sent' WHERE id = ?", [(i,) for i in changed])
            database.executemany("DELETE FROM orders WHERE id = ?", [(i,) for i in gone])

    def sweep(self) -> tuple[dict[str, Any], dict[str, tuple[int, int]]]:
        """The report, and for each region the bytes of its ledger and of its stream since the last sweep."""
        report, _ = self.fleet.sweep("orders")
        time.sleep(SETTLED_S)
        out: dict[str, tuple[int, int]] = {}
        for region in report["regions"]:
            name = region["name"]
            # an agent dials once; before the coordinator listens, it has tried in vain
            (stream,) = (each for each in self.relays[name].connections if each.pumped)
            assert stream.bytes == stream.pumped
            out[name] = region["bytes_sent"] + region["bytes_received"], stream.bytes - self.counted[name]
            self.counted[name] = stream.bytes
        return report, out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pki_dir: Path) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("os_bytes"), pki_dir)
    with made.fleet, made.relays["eu"], made.relays["us"]:
        made.start()
        yield made


@pytest.mark.parametrize(("differences", "ledger_max"), [(0, 16_384), (100, 65_536), (10_000, 800_000)])
def test_the_operating_system_counts_little_more_than_the_ledger(site: Site, differences: int, ledger_max: int) -> None:
    """The first sweep pays for the handshake, hello and welcome as well."""
    site.drift(differences)
    report, counted = site.sweep()
    assert report["summary"]["unknown"] == 0
    assert report["findings_total"] >= differences
    for ledger, system in counted.values():
        assert ledger <= ledger_max
        assert ledger < system <= 1.1 * ledger + ALLOWANCE
