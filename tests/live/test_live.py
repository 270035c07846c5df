"""Sweeps over live tables, a minute of writes copied up to half a minute late; ``poe live`` has ten of a busier one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from live.run import Plan, Totals, lived
from servers.cassandra import CassandraServer
from servers.postgresql import PostgresqlServer

pytestmark = pytest.mark.servers


def test_live_tables(postgresql: PostgresqlServer, cassandra: CassandraServer, tmp_path: Path) -> None:
    """Nothing that is only late is ever reported, and everything that was lost or edited by hand is."""
    for seed in (6, 7, 8):
        totals, folder = Totals(), tmp_path / str(seed)
        folder.mkdir()
        plan = Plan(60.0, rows=60_000, rate=300.0, lag_s=30.0, lag_max_s=33.0, losses=200, edits=50, seed=seed)
        asyncio.run(lived(folder, postgresql, cassandra, plan, totals))
        assert totals.false == []
        assert totals.missed == []
        if not totals.excuses_much:
            break  # else the machine stopped for longer than copies may be late, and the run shows nothing
    assert not totals.excuses_much, (
        f"{totals.excused} excused, {totals.late_copies} copies late: the machine is too busy"
    )
    assert totals.planted.total() == totals.found == 250
    assert set(totals.planted) == {
        *(f"lost {what}" for what in ("insert", "update", "delete")),
        *(f"edited in {where}" for where in ("PostgreSQL", "Cassandra")),
    }
    assert totals.sweeps >= 4
    assert totals.scans <= 2, "only the first sweep of each dataset scans PostgreSQL"
    assert totals.healed > 1_000, "copies were late while sweeps looked"
