"""One minute of the soak; ``poe soak`` and ``tests/soak/run.py --minutes 60`` run it for longer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from servers.postgresql import PostgresqlServer
from soak.run import FAULTS_MIN, Totals, soaked

pytestmark = pytest.mark.servers


def test_a_minute_of_sweeps_and_faults(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    """A minute is too short to tell growth of memory from warming up: that is for longer runs."""
    totals = Totals()
    asyncio.run(soaked(postgresql, tmp_path, totals, minutes=1.0, every_s=4.0, seed=7))
    assert totals.wrong == []
    assert [leak for leak in totals.leaks if "memory" not in leak] == []
    assert totals.sweeps >= 10
    assert sum(totals.faults.values()) >= FAULTS_MIN
    assert totals.verdicts["different"] > totals.verdicts["unknown"]
    assert totals.processes.keys() == {"coordinator", "eu", "us", "ap"}, "too few samples to see a leak"
