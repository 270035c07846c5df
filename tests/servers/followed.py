"""Two PostgreSQL databases with the same table, agents that follow it by slots, and a coordinator, each a process."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import psycopg
from orders import orders
from servers.fleet import Fleet
from servers.postgresql import PostgresqlServer

REGIONS = ("eu", "us")
REFRESH = """
[refresh.orders]
changes = "slot"
interval_s = 0.5
"""


class Followed:
    """Use as a context manager. ``extra`` is of the coordinator's file; ``name`` tells databases apart."""

    def __init__(
        self,
        server: PostgresqlServer,
        folder: Path,
        pki: Path,
        *,
        rows: int,
        lag_max_s: float = 0,
        extra: str = "",
        name: str = "followed",
    ) -> None:
        self.server = server
        self.fleet = Fleet(folder, pki)
        self.extra = extra
        self.databases = {region: f"{name}_{region}" for region in REGIONS}
        self.tables: dict[str, psycopg.Connection] = {}
        for region, database in self.databases.items():
            server.create_database(database)
            self.tables[region] = table = server.connect(database)
            table.execute("CREATE TABLE orders (id bigint PRIMARY KEY, code text, amount numeric(12, 2))")
            table.execute(f"INSERT INTO orders SELECT i, 'c' || i, i / 4.0 FROM generate_series(1, {rows}) AS i")
        self.fleet.datasets(orders(lag_max_s, id="int", code="text", amount="decimal"))
        self.start_coordinator()

    def start_coordinator(self) -> None:
        self.fleet.start_coordinator(extra=self.extra)

    def start(self, *regions: str) -> None:
        """Start their agents."""
        for region in regions:
            url = self.server.url(self.databases[region])
            self.fleet.start_agent(region, url, edit=lambda text: text + REFRESH)

    def everywhere(self, statement: str) -> None:
        """The same change in both tables."""
        for table in self.tables.values():
            table.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.stop_all()
        for region, table in self.tables.items():
            table.close()
            self.server.drop_database(self.databases[region])
