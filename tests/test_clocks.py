"""Who reads the wall clock, and what for. What waits, expires or measures takes a monotonic one, which nobody sets."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("paritree", "edge_agent", "coordinator")
WALL = {
    "coordinator/breakers.py": "survives a restart; a clock set back does not keep a breaker open (core/breaker)",
    "coordinator/store/transactions.py": "when something happened, for people; leases go by the server",
    "coordinator/watching.py": "which window is due; set back, no window that has ended is checked again (core/watch)",
    "edge_agent/build.py": "as of when a shard was read",
    "edge_agent/checking.py": "as of when a shard was scanned anew",
    "edge_agent/connectors/cassandra/connector.py": "the position of a scan, for people",
    "edge_agent/connectors/sqlite/shards.py": "the position of a scan, for people",
    "edge_agent/connectors/fileversion.py": "whether a file was written just now; its time is of the same clock",
    "edge_agent/index/durable.py": "the age of an index; without end where the clock was set back",
    "edge_agent/inspection.py": "the age of an index, for people",
    "edge_agent/journal.py": "when keys were revealed",
    "edge_agent/kept.py": "how long runs of an earlier process are kept: too long or too short costs work only",
    "edge_agent/letters/beside.py": "as of when letters were listed, for people",
    "edge_agent/letters/store.py": "which letters a scan has seen; set back, it stands still (letters/store)",
    "edge_agent/refresh.py": "as of when an index is proven",
    "edge_agent/rescan.py": "which shards are old; set back, those in doubt count as old",
    "edge_agent/topic/changes.py": "as of when a marker was published",
    "paritree/tls.py": "whether certificates are valid",
    "paritree/wire/handshake.py": "whether certificates are valid",
}
"""Files beside the command line that read it, with the reason why that is right."""


OF_TIME = ("time", "time_ns", "clock_gettime", "clock_gettime_ns")


def reads_wall_clock(source: str) -> bool:
    """Whether it does, or imports what does under a name of its own."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(ast.Name("time"), attr) if attr in OF_TIME:
                return True
            case ast.Attribute(value, "now" | "utcnow" | "today") if "date" in ast.unparse(value):
                return True
            case ast.ImportFrom("time", names) if any(name.name in OF_TIME for name in names):
                return True
    return False


@pytest.mark.parametrize(
    ("source", "does"),
    [
        ("time.time()", True),
        ("clock=time.time", True),
        ("time.time_ns() // 1_000", True),
        ("time.clock_gettime(0)", True),
        ("from time import time_ns", True),
        ("datetime.now(UTC)", True),
        ("dt.datetime.utcnow()", True),
        ("date.today()", True),
        ("time.monotonic()", False),
        ("time.monotonic_ns(); time.perf_counter(); time.process_time()", False),
        ("stat.st_mtime_ns", False),
        ("from time import monotonic", False),
    ],
)
def test_every_way_to_read_it_is_seen(source: str, does: bool) -> None:
    assert reads_wall_clock(source) is does


def test_only_these_files_read_the_wall_clock() -> None:
    found = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if "paritree/cli" not in str(file) and reads_wall_clock(file.read_text())
    }
    assert found == set(WALL)
