"""Who reads the wall clock, and what for. What waits, expires or measures takes a monotonic one, which nobody sets."""

from __future__ import annotations

import ast
from pathlib import Path

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


def reads_wall_clock(file: Path) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and (
            (node.attr == "time" and isinstance(node.value, ast.Name) and node.value.id == "time")
            or (node.attr in ("now", "utcnow", "today") and "datetime" in ast.unparse(node.value))
        )
        for node in ast.walk(ast.parse(file.read_text()))
    )


def test_only_these_files_read_the_wall_clock() -> None:
    found = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if "paritree/cli" not in str(file) and reads_wall_clock(file)
    }
    assert found <= set(WALL)
