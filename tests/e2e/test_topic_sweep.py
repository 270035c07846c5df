"""Cassandra and PostgreSQL followed by topics, agents as processes of their own: changed rows reach the indexes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, keyspace
from servers.fleet import Fleet, paritree
from servers.nats import NatsServer
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers

DATASETS = """
[dataset.orders]
key = ["tenant", "id"]
lag_max_s = 0
[dataset.orders.columns]
tenant = "text"
id = "int"
code = "text"
[dataset.orders.regions.eu]
connection = "main"
table = "orders"
[dataset.orders.regions.us]
connection = "main"
table = "orders"
[dataset.orders.regions.us.columns]
id = "order_id"
"""
TOPIC = """
[refresh.orders]
changes = "topic"
interval_s = 0.5
[refresh.orders.topic]
url = "{url}"
stream = "COPIES"
subject = "{region}.orders"
format = "{format}"
settle_s = 0.2
"""
FORMATS = {"eu": "debezium", "us": "keys"}
ROWS = 400


class Regions:
    """The same table in Cassandra (eu) and PostgreSQL (us), whose changes a test tells in one stream."""

    def __init__(self, ks: Keyspace, postgresql: PostgresqlServer, nats: NatsServer, folder: Path, pki: Path) -> None:
        self.ks, self.nats = ks, nats
        self.fleet = Fleet(folder, pki)
        nats.make("COPIES", "*.orders")
        self.urls = {"eu": f"{ks.server.url}/{ks.name}", "us": postgresql.create_database("topical")}
        self.table: psycopg.Connection = postgresql.connect("topical")
        self.table.execute("CREATE TABLE orders (tenant text, order_id int, code text, PRIMARY KEY (tenant, order_id))")
        self.ks.create("orders", "tenant text, id int, code text, PRIMARY KEY (tenant, id)")
        for number in range(ROWS):
            self.write(number, f"c{number}")
        self.fleet.datasets(DATASETS)
        self.fleet.start_coordinator()

    def write(self, number: int, code: str, *regions: str, tell: bool = False) -> None:
        """Write one row in the regions (none named: in both), and tell it."""
        tenant = f"t{number % 7}"
        if not regions or "eu" in regions:
            self.ks.run("INSERT INTO {ks}.orders (tenant, id, code) VALUES (%s, %s, %s)", (tenant, number, code))
            values = {"tenant": tenant, "id": number, "code": code}
            row = {name: {"value": value, "deletion_ts": None, "set": True} for name, value in values.items()}
            if tell:
                self.nats.publish("eu.orders", {"op": "u", "after": row})
        if not regions or "us" in regions:
            upsert = "INSERT INTO orders VALUES (%s, %s, %s) ON CONFLICT (tenant, order_id) DO UPDATE SET code = %s"
            self.table.execute(upsert, (tenant, number, code, code))
            if tell:
                self.nats.publish("us.orders", {"tenant": tenant, "id": number})

    def start(self, *regions: str) -> None:
        for region in regions:
            text = TOPIC.format(url=self.nats.url, region=region, format=FORMATS[region])
            self.fleet.start_agent(region, self.urls[region], edit=lambda file, text=text: file + text)
        self.fleet.wait_connected(("eu", "us"))

    def sweep(self, *flags: str) -> tuple[str, dict[str, bool], dict[str, Any]]:
        """The verdict, which regions scanned, and the report."""
        report, _ = self.fleet.sweep("orders", *flags)
        told = {name: " ".join(n for n in report["notes"] if n.startswith(f"{name}: ")) for name in ("eu", "us")}
        return report["verdict"], {name: "scanned, " in said for name, said in told.items()}, report

    def close(self) -> None:
        self.fleet.stop_all()
        self.table.close()
        self.nats.asked("STREAM.DELETE.COPIES")


@pytest.fixture
def regions(
    cassandra: CassandraServer, postgresql: PostgresqlServer, nats: NatsServer, pki_dir: Path, tmp_path: Path
) -> Iterator[Regions]:
    with ExitStack() as closing:
        ks = closing.enter_context(keyspace(cassandra, "topical"))
        made = Regions(ks, postgresql, nats, tmp_path, pki_dir)
        closing.callback(made.close)
        yield made


def test_changed_rows_reach_the_indexes_by_topics(regions: Regions) -> None:
    nobody = {"eu": False, "us": False}
    regions.start("eu", "us")
    verdict, scanned, _ = regions.sweep()
    assert (verdict, scanned) == ("equal", {"eu": True, "us": True})
    for number in range(5):
        regions.write(number, "both", tell=True)
    regions.write(9, "here", "eu", tell=True)
    regions.write(1_000, "new", "us", tell=True)
    verdict, scanned, report = regions.sweep()
    assert (verdict, scanned) == ("different", nobody)
    assert sorted(found["kind"] for found in report["findings"]) == ["different", "missing"]
    assert "topic:COPIES seq=" in report["regions"][0]["position"]

    assert regions.fleet.stop("agent-eu", signal.SIGKILL) == -signal.SIGKILL
    regions.write(9, "c9", "eu", tell=True)
    regions.write(1_000, "new", "eu", tell=True)
    regions.start("eu")
    verdict, scanned, report = regions.sweep()
    assert (verdict, scanned) == ("equal", nobody), "a killed agent goes on where its index is"

    verdict, _, report = regions.sweep("--max-age", "0.5")
    assert verdict == "unknown", "silence is no proof"
    for subject in ("eu.orders", "us.orders"):
        regions.nats.publish(subject, {"paritree_marker": time.time()})
    time.sleep(0.3)
    verdict, scanned, report = regions.sweep("--max-age", "60")
    assert (verdict, scanned) == ("equal", nobody)

    regions.ks.run("TRUNCATE {ks}.orders")
    regions.nats.publish("eu.orders", {"op": "t"})
    verdict, scanned, report = regions.sweep()
    assert (verdict, scanned) == ("different", {"eu": True, "us": False})
    assert report["summary"]["missing"] == {"eu": ROWS + 1}
    _follow_ends(regions)


def _follow_ends(regions: Regions) -> None:
    """What doctor says, and what is left behind when nobody follows any more."""
    file = str(regions.fleet.folder / "agent-eu.toml")
    advice = paritree("doctor", "--config", file)
    assert "they can be followed" in advice.stdout
    assert "publish a marker regularly" in advice.stdout
    regions.fleet.stop("agent-eu")
    until = time.monotonic() + 10.0
    while len(before := regions.nats.asked("CONSUMER.NAMES.COPIES")["consumers"]) < 2 and time.monotonic() < until:
        time.sleep(0.05)  # the other region's agent makes its one anew whenever it begins to read
    dropped = paritree("agent", "unfollow", "orders", "--config", file)
    after = regions.nats.asked("CONSUMER.NAMES.COPIES")["consumers"]
    assert len(before) == 2, json.dumps(before)
    assert [name for name in before if name not in after and name in dropped.stdout + dropped.stderr]
