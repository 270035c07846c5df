"""Three regions in three engines, what is really in them, and changes: the true difference is always known."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import duckdb
import psycopg
import pyarrow as pa

REGIONS: Final = ("eu", "us", "ap")
ROWS: Final = 3_000
MOVING: Final = range(40)
"""Keys that are written in PostgreSQL while sweeps run: of them nothing is known."""
DATASET: Final = (
    '[dataset.orders]\nkey = ["id"]\nlag_max_s = 0\n[dataset.orders.columns]\nid = "int"\nname = "text"\n'
    + ("\n".join(f'[dataset.orders.regions.{r}]\nconnection = "main"\ntable = "orders"' for r in REGIONS))
)
Rows = dict[int, str]


class Region(Protocol):
    """A copy: ``put`` makes it hold these rows, of which those of ``keys`` have changed (None: deleted)."""

    url: str

    def put(self, rows: Rows, keys: Mapping[int, str | None]) -> None: ...


class PostgresqlRegion:
    def __init__(self, connection: psycopg.Connection, url: str) -> None:
        self.url = url
        self._connection = connection
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, name text)")

    def put(self, rows: Rows, keys: Mapping[int, str | None]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            gone = [key for key, name in keys.items() if name is None]
            cursor.execute("DELETE FROM orders WHERE id = ANY(%s)", [gone])
            cursor.executemany(
                "INSERT INTO orders VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                [(key, name) for key, name in keys.items() if name is not None],
            )

    def touch(self, chance: random.Random) -> None:
        """Write a moving row."""
        self._connection.execute(
            "UPDATE orders SET name = %s WHERE id = %s", [f"moved {chance.random()}", chance.choice(MOVING)]
        )


class SqliteRegion:
    def __init__(self, file: Path) -> None:
        self.url = f"sqlite://{file}"
        self._file = file
        with sqlite3.connect(file) as database:
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
        database.close()

    def put(self, rows: Rows, keys: Mapping[int, str | None]) -> None:
        with sqlite3.connect(self._file, timeout=30.0) as database:
            database.executemany("DELETE FROM orders WHERE id = ?", [(k,) for k, name in keys.items() if name is None])
            kept = [(key, name) for key, name in keys.items() if name is not None]
            database.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?)", kept)
        database.close()


class DuckdbRegion:
    """The file is replaced whole, as DuckDB lets nobody write to one that others read."""

    def __init__(self, file: Path) -> None:
        self.url = f"duckdb://{file}"
        self._file = file

    def put(self, rows: Rows, keys: Mapping[int, str | None]) -> None:
        new = self._file.with_suffix(".new")
        new.unlink(missing_ok=True)
        table = pa.table({"id": pa.array(rows.keys(), pa.int32()), "name": pa.array(rows.values(), pa.string())})
        with duckdb.connect(str(new)) as database:
            database.register("given", table)
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name VARCHAR)")
            database.execute("INSERT INTO orders SELECT * FROM given")
        os.replace(new, self._file)


@dataclass
class World:
    """What each region holds. ``chance`` decides how it changes."""

    regions: Mapping[str, Region]
    chance: random.Random
    held: dict[str, Rows] = field(default_factory=lambda: {name: {} for name in REGIONS})

    def begin(self) -> None:
        """The same rows everywhere."""
        rows: dict[int, str | None] = {n: f"row {n}" for n in range(ROWS)}
        for name in REGIONS:
            self._change(name, rows)

    def change(self) -> None:
        """Something happens: a region drifts by a few rows or by many, or all are made equal again."""
        chance = self.chance
        if chance.random() < 0.25:
            self._change("eu", {key: self.held["eu"].get(key, "back") for key in MOVING})  # where they were moved
            for name in REGIONS[1:]:
                self._change(name, self._towards(self.held["eu"], self.held[name]))
            return
        name, amount = chance.choice(REGIONS), chance.choice((0, 1, 5, 400))
        keys = chance.sample(range(len(MOVING), ROWS + 200), amount)
        self._change(
            name, {key: None if chance.random() < 0.3 else f"changed {chance.randrange(10**9)}" for key in keys}
        )

    @staticmethod
    def _towards(wanted: Rows, held: Rows) -> dict[int, str | None]:
        return {key: wanted.get(key) for key in wanted.keys() | held.keys() if wanted.get(key) != held.get(key)}

    def _change(self, name: str, keys: Mapping[int, str | None]) -> None:
        rows = dict(self.held[name])
        for key, value in keys.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        if keys:
            self.regions[name].put(rows, keys)
        self.held[name] = rows

    def differing(self, names: Iterable[str]) -> dict[int, str]:
        """The keys that differ between these regions, and how: "different" or "missing"."""
        copies = [self.held[name] for name in names]
        found: dict[int, str] = {}
        for key in set().union(*copies) - set(MOVING):
            values = {copy[key] for copy in copies if key in copy}
            if len(values) > 1:
                found[key] = "different"
            elif any(key not in copy for copy in copies):
                found[key] = "missing"
        return found

    def judge(self, report: Mapping[str, Any]) -> str:
        """What is wrong with a report; "" when it is right, or a clean ``unknown``."""
        unknown = [stated for stated in report["verdicts"] if stated["verdict"] == "unknown"]
        if any(not stated["reason"] or not stated["regions"] for stated in unknown):
            return f"an unknown without a reason: {unknown}"
        left_out = {name for stated in unknown for name in stated["regions"]}
        compared = [name for name in REGIONS if name not in left_out]
        if len(compared) < 2:
            return "" if report["verdict"] == "unknown" else f"{report['verdict']} of {compared} alone"
        truth = self.differing(compared)
        if report["verdict"] == "equal" and (truth or left_out):
            return f"equal, and {len(truth)} keys differ; left out: {left_out}"
        found = [f for f in report["findings"] if f["key"] is None or f["key"]["id"] not in MOVING]
        named = {f["key"]["id"]: f["kind"] for f in found if f["key"] is not None}
        if any(truth.get(key) != kind for key, kind in named.items()):
            return f"reported and not so: { {key: kind for key, kind in named.items() if truth.get(key) != kind} }"
        loose = len(MOVING) if len(named) < len(found) else 0  # without its key, a moving row cannot be told apart
        if not len(truth) <= len(found) <= len(truth) + loose:
            return f"{len(truth)} keys differ between {compared}, {len(found)} were found: {report['verdicts']}"
        return ""
