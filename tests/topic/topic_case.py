"""A SQLite table, a stream that a test feeds, and a warm index of the table that follows the stream."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from servers.nats import NatsServer

from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.connectors.registry import connect
from edge_agent.executors import SerialExecutor
from edge_agent.letters.store import LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.topic.changes import Topic
from edge_agent.topic.stream import Server
from edge_agent.warm import Following, WarmIndex
from paritree.core.digest import DatasetKeys
from paritree.core.messages import ANY_AGE, Freshness
from paritree.core.profile import Binding, BoundColumn, Profile

SUBJECT = "shop.main.orders"


class Topical:
    """The table ``orders (id, code)`` of 300 rows, and its index. ``settle_s`` is 0 unless ``said`` otherwise."""

    def __init__(self, nats: NatsServer, folder: Path, stream: str, **said: Any) -> None:
        self.nats, self.folder, self.stream = nats, folder, stream
        nats.make(stream, "shop.>")
        self.file = folder / "shop.db"
        self.run("CREATE TABLE orders (id INTEGER PRIMARY KEY, code TEXT)")
        self.run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
                 " INSERT INTO orders SELECT i, 'c' || i FROM n")  # fmt: skip
        self.prepare(Source(f"sqlite:///{self.file}"), "orders", **said)

    def prepare(self, source: Source, table: str, **said: Any) -> None:
        """Bind all columns of a table, and open its index."""
        with connect(source) as connector:
            schema = connector.describe(table)
        columns = tuple(BoundColumn(c.name, c.logical, source=c.name) for c in schema.columns if c.logical)
        profile = Profile("orders", schema.key, {column.name: column.type for column in columns})
        binding = Binding("orders", table, schema.key, columns)
        self.copy = Copy(source, profile, binding, DatasetKeys.of(bytes(32), "orders"), shard_rows=100)
        settled = {"settle_s": 0.0, **said}
        self.topic = Topic(Server(self.nats.url), self.stream, SUBJECT, **settled)
        self.store = LetterStore(self.folder / "letters.db", "eu")
        self.following = Following("eu/eu-1", letters=self.store, topic=self.topic)
        self.index = self.opened()
        self.scans = 0

    def opened(self) -> WarmIndex:
        return WarmIndex(self.copy, self.folder / "index", self.following)

    def restart(self, **said: Any) -> None:
        """A new agent on the same spool."""
        self.index.close()
        self.following = replace(self.following, topic=replace(self.topic, **said))
        self.index = self.opened()

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.file)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def tell(self, *messages: Any, subject: str = SUBJECT, **headers: str) -> None:
        self.nats.publish(subject, *messages, headers=headers)

    def mark(self, subject: str = SUBJECT, ago_s: float = 0.0) -> float:
        """Publish a marker; its moment."""
        moment = time.time() - ago_s
        self.tell({"paritree_marker": moment}, subject=subject)
        return moment

    def built(self, freshness: Freshness = ANY_AGE) -> Built:
        letters = SweepLetters(self.store, self.copy.profile, self.copy.keys, "s1")
        return self.index.built(SerialExecutor, self.folder / "sweep", lambda _: None, letters, freshness)

    def check(self) -> Built:
        """As :meth:`built`, and it is what a scan says of the same moment."""
        built, self.scans = self.built(), self.scans + 1
        cold = build_index(self.copy, SerialExecutor(), self.folder / f"cold-{self.scans}", lambda _: None)
        assert built.index.sums.root == cold.index.sums.root
        return built

    def end(self) -> int:
        """The last sequence."""
        return int(self.nats.asked(f"STREAM.INFO.{self.stream}")["state"]["last_seq"])

    def consumer(self) -> dict[str, Any]:
        """What the server says of the durable consumer."""
        names = self.nats.asked(f"CONSUMER.NAMES.{self.stream}")["consumers"]
        return self.nats.asked(f"CONSUMER.INFO.{self.stream}.{names[0]}") if names else {}

    def close(self) -> None:
        self.index.close()
        self.nats.asked(f"STREAM.DELETE.{self.stream}")


def change(op: str, before: Any = None, after: Any = None, **more: Any) -> dict[str, Any]:
    """A change event as Debezium writes it, without its schema."""
    return {"op": op, "before": before, "after": after, "source": {"table": "orders"}, "ts_ms": 1, **more}


def scanned(built: Built) -> bool:
    """Whether a sweep's index came from a scan."""
    assert sum("nothing was scanned" in note for note in built.notes) + sum("scanned," in n for n in built.notes) == 1
    return any(note.startswith("scanned,") for note in built.notes)


def document(data: Any) -> bytes:
    return json.dumps(data).encode()
