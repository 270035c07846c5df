"""``paritree doctor --config`` about a PostgreSQL table that an index is to follow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from connectors.pg_case import PgCase
from orders import orders
from servers.fleet import Fleet, paritree
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers
REFRESH = '[refresh.orders]\nchanges = "slot"\n'


@pytest.fixture
def pg(postgresql: PostgresqlServer) -> Iterator[PgCase]:
    postgresql.create_database("doctored")
    case = PgCase(postgresql, "doctored")
    case.run(
        "CREATE TABLE orders (id bigint PRIMARY KEY, code text)", "INSERT INTO orders VALUES (1)", "ANALYZE orders"
    )
    yield case
    case.close()


def test_without_a_replica_identity_it_says_how_to_get_one(pg: PgCase, tmp_path: Path, pki_dir: Path) -> None:
    """What it says is done as it stands, and then nothing is in the way any more."""
    pg.run("ALTER TABLE orders REPLICA IDENTITY NOTHING")
    with Fleet(tmp_path, pki_dir) as fleet:
        fleet.datasets(orders(0, id="int", code="text"))
        fleet.start_coordinator()
        fleet.wait_connected([])
        file = fleet.agent_file("eu", pg.server.url(pg.database), edit=lambda text: text + REFRESH)
        told = paritree("doctor", "--config", str(file))
        assert told.returncode == 2, told.stdout + told.stderr
        [(refused, fix)] = [
            (line, after) for line, after in pairwise(told.stdout.splitlines()) if line.startswith("  FIX ")
        ]
        assert "changes: " in refused
        assert "public.orders" in refused
        assert fix.strip() == "ALTER TABLE public.orders REPLICA IDENTITY USING INDEX orders_pkey"
        pg.run(fix)
        told = paritree("doctor", "--config", str(file))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "they can be followed" in told.stdout
