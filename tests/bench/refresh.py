"""Warm against cold: a backlog of changes taken into a durable index, keeping up, and warm sweeps of three regions.

    python tests/bench/refresh.py [--rows 2000000] [--changes 250000] [--transaction-rows 1000] [--runs 3]
                                  [--only backlog|little|keeping-up|warm] [--rate 1000] [--seconds 20]
                                  [--sweep-rows 3000000]

At its end it prints the table of what is to be reached, and what was.
PostgreSQL's own time: the slot's changes (a peek) and the rows of those keys (in statements of 50,000 keys), by COPY
into a buffer that nobody looks at, over the same slot, publication and columns. The agent's: everything from the first
question to the slot that has moved on, the index on disk and the proof that nothing was left out included.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import psutil
from measure import machine, median, table
from servers.postgresql import PostgresqlServer
from tables import load_postgresql
from warm import warm_sweeps

INTERVAL_S = 2.0
"""Between two background refreshes."""


def child(url: str, folder: Path) -> None:
    """The agent: builds the index, then obeys lines of its standard input."""
    from edge_agent.build import Copy, build_index
    from edge_agent.connectors.contract import Source
    from edge_agent.connectors.registry import connect
    from edge_agent.executors import SerialExecutor
    from edge_agent.index.compaction import compact
    from edge_agent.index.durable import DurableIndex
    from edge_agent.index.state import Identity
    from edge_agent.refresh import Refresher, reached_of
    from paritree.core.derive import derive_profile
    from paritree.core.digest import DatasetKeys
    from paritree.core.profile import Binding, BoundColumn

    source = Source(url)
    with connect(source) as connector:
        schema = connector.describe("orders")
        profile = derive_profile("bench", {"a": schema}).profile
        columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
        binding = Binding("bench", "orders", profile.key, columns)
        keys = DatasetKeys.of(bytes(32), "bench")
        copy = Copy(source, profile, binding, keys)
        identity = Identity("bench", profile.profile_id, 1, binding.binding_id, keys.key_id, b"source")
        with (
            connector.changes(binding, "eu/bench") as changes,
            DurableIndex.open(folder, identity) as index,
        ):
            mark = changes.start()
            built = build_index(copy, SerialExecutor(), index.scan_folder, lambda _: None)
            assert built.scan is not None
            index.install(built.scan, reached_of(mark, point=False, as_of=None), engine="postgresql")
            refresher = Refresher(copy, connector, changes, index)
            refresher.refresh(proven=True)
            say({"ready": changes.slot})
            for line in sys.stdin:
                said = line.split()
                if said[0] == "refresh":
                    done = timed(lambda: refresher.refresh(proven=True))
                    while compact(index):  # an agent does it between two refreshes
                        pass
                    say(done)
                elif said[0] == "follow":
                    say(followed(refresher, float(said[1])))
                else:
                    break
            changes.stop()


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(refresh: Any) -> dict[str, Any]:
    """One refresh and what it cost this process; the peak counts mapped files of the index too."""
    process = psutil.Process()
    peak = [process.memory_info().rss]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(0.1):
            peak.append(process.memory_info().rss)

    before = peak[0]
    sampler = threading.Thread(target=sample)
    sampler.start()
    began, cpu = time.perf_counter(), cpu_s()
    done = refresh()
    wall, cpu = time.perf_counter() - began, cpu_s() - cpu
    ended.set()
    sampler.join()
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "changes": done.changes,
        "keys": done.keys,
        "grown": max(peak) - before,
        "rss": max(peak),
    }


def followed(refresher: Any, for_s: float) -> dict[str, Any]:
    """Background refreshes at an interval, for a while."""
    began, cpu = time.perf_counter(), cpu_s()
    changes = refreshes = 0
    while time.perf_counter() - began < for_s:
        time.sleep(INTERVAL_S)
        changes += refresher.refresh(proven=False).changes
        refreshes += 1
    wall = time.perf_counter() - began
    return {"cpu_share": (cpu_s() - cpu) / wall, "changes": changes, "refreshes": refreshes, "wall_s": wall}


def drained(url: str, query: str) -> float:
    """Seconds until all of a COPY has come, into a buffer that nobody looks at."""
    from edge_agent.connectors.contract import Source
    from edge_agent.connectors.postgresql.copy import SocketStream
    from edge_agent.connectors.postgresql.session import connect

    session = connect(Source(url))
    buffer = memoryview(bytearray(2 << 20))
    began = time.perf_counter()
    stream = SocketStream(session, query.encode(), "measuring")
    tail = b""
    while tail[-6:-1] != b"Z\0\0\0\x05":
        got = stream.fill(buffer)
        tail = (tail + bytes(buffer[max(0, got - 6) : got]))[-6:]
    wall = time.perf_counter() - began
    stream.close()
    session.close()
    return wall


def own_time(url: str, slot: str, ids: list[int]) -> tuple[float, float]:
    """What PostgreSQL itself takes: for the slot's changes, and for the rows of those keys."""
    peek = drained(
        url,
        f"COPY (SELECT data FROM pg_logical_slot_peek_binary_changes('{slot}', NULL, 1000000, 'proto_version', '1',"
        f" 'publication_names', '{slot}', 'binary', 'true', 'messages', 'true')) TO STDOUT (FORMAT BINARY)",
    )
    rows = 0.0
    for first in range(0, len(ids), 50_000):
        some = ",".join(map(str, ids[first : first + 50_000]))
        rows += drained(
            url, f"COPY (SELECT * FROM orders WHERE id = ANY ('{{{some}}}'::int8[])) TO STDOUT (FORMAT BINARY)"
        )
    return peek, rows


def change(server: PostgresqlServer, rows: int, changes: int, each: int, turn: int) -> list[int]:
    """Update scattered rows in transactions of ``each``; returns their ids in the order of the changes."""
    step = rows // changes
    ids = [1 + turn % step + step * ((n * 7919) % changes) for n in range(changes)]
    with server.connect("bench") as connection:
        connection.execute("CREATE TEMP TABLE chosen (n int, id bigint)")
        with connection.cursor().copy("COPY chosen FROM STDIN") as copy:
            for number, id_ in enumerate(ids):
                copy.write_row((number // each, id_))
        connection.execute("CREATE INDEX ON chosen (n)")
        connection.execute("ANALYZE chosen")
        connection.execute(
            "CREATE OR REPLACE PROCEDURE work(groups int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 0..groups - 1 LOOP"
            " UPDATE orders o SET amount = amount + 1 FROM chosen c WHERE c.n = i AND o.id = c.id; COMMIT; END LOOP;"
            " END $$"
        )
        connection.execute("SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off")
        connection.execute(f"CALL work({-(-changes // each)})")
        connection.execute("SELECT pg_switch_wal()")
    return ids


def write_steadily(server: PostgresqlServer, rows: int, a_second: int, for_s: float) -> None:
    """Single-row transactions at a rate, from another process."""
    statement = (
        "DO $$ DECLARE began timestamptz := clock_timestamp(); n int := 0;"
        f" BEGIN WHILE n < {int(a_second * for_s)} LOOP"
        f" UPDATE orders SET qty = qty + 1 WHERE id = 1 + ((n::bigint * 7919) % {rows}); COMMIT; n := n + 1;"
        f" IF n % 10 = 0 THEN PERFORM pg_sleep(greatest(0, n / {a_second}.0"
        " - extract(epoch FROM clock_timestamp() - began))); END IF; END LOOP; END $$"
    )
    with server.connect("bench") as connection:
        connection.execute(statement)


class Agent:
    """The child process."""

    def __init__(self, url: str, folder: str) -> None:
        command = [sys.executable, __file__, "--child", url, "--folder", folder]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.slot = str(self.heard()["ready"])

    def heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the agent's process ended")
        said: dict[str, Any] = json.loads(line)
        return said

    def ask(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> None:
        self.ask("end")
        self._process.wait(60)


def backlog(server: PostgresqlServer, agent: Agent, args: argparse.Namespace) -> list[list[str]]:
    """A quarter of the backlog first: memory must not grow with it."""
    lines, ratios, grown = [], [], []
    for turn, changes in enumerate([args.changes // 4, *[args.changes] * args.runs]):
        ids = change(server, args.rows, changes, args.transaction_rows, turn)
        peek, rows = own_time(server.url("bench"), agent.slot, ids)
        agent.ask("refresh")
        said = agent.heard()
        assert said["keys"] == changes, said
        ratios.append(said["wall_s"] / (peek + rows))
        grown.append(said["grown"] / 2**20)
        lines.append(
            [
                f"{changes:,} / {args.transaction_rows}",
                f"{peek:.2f}",
                f"{rows:.2f}",
                f"{said['wall_s']:.2f}",
                f"{said['cpu_s']:.2f}",
                f"{grown[-1]:.0f}",
                f"{said['rss'] / 2**20:.0f}",
                f"{ratios[-1]:.2f}",
            ]
        )
    header = [
        "changes / a transaction",
        "slot s",
        "rows s",
        "refresh s",
        "agent CPU s",
        "grown MiB",
        "RSS MiB",
        "ratio",
    ]
    print(table(header, lines), end="\n\n")
    memory = f"memory +{median(grown[1:]):.0f} MiB, of a quarter +{grown[0]:.0f} MiB"
    what = f"backlog of {args.changes:,} changes on {args.rows:,} rows"
    return [[what, "≤ 1.3 × PostgreSQL's own time, flat memory", f"{median(ratios[1:]):.2f} ×; {memory}"]]


def little(server: PostgresqlServer, agent: Agent, args: argparse.Namespace) -> list[list[str]]:
    """What a sweep waits for that begins after nothing, or next to nothing, has changed."""
    lines = []
    for changes in (0, 300):
        said = []
        for turn in range(5):
            if changes:
                change(server, args.rows, changes, 10, turn)
            agent.ask("refresh")
            said.append(agent.heard())
        lines.append([str(changes), *(f"{1000 * median([one[n] for one in said]):.0f}" for n in ("wall_s", "cpu_s"))])
    print(table(["changed rows", "refresh ms", "agent CPU ms"], lines), end="\n\n")
    return []


def keeping_up(server: PostgresqlServer, agent: Agent, args: argparse.Namespace) -> list[list[str]]:
    writing = threading.Thread(target=write_steadily, args=(server, args.rows, args.rate, args.seconds))
    writing.start()
    agent.ask(f"follow {args.seconds}")
    said = agent.heard()
    writing.join()
    rate = said["changes"] / said["wall_s"]
    did = f"{100 * said['cpu_share']:.1f} % at {rate:,.0f} changes/s, refreshed every {INTERVAL_S:g} s"
    return [[f"keeping up with {args.rate:,} writes a second", "≤ 10 % of a core", did]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--changes", type=int, default=250_000)
    parser.add_argument("--transaction-rows", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--sweep-rows", type=int, default=3_000_000)
    parser.add_argument("--only", choices=("backlog", "little", "keeping-up", "warm"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.folder)
        return
    print(machine(), end="\n\n")
    reached: list[list[str]] = []
    with PostgresqlServer({"shared_buffers": "1GB", "max_wal_size": "4GB"}) as server:
        if args.only in (None, "warm"):
            reached += warm_sweeps(server, args.sweep_rows).rows(args.sweep_rows)
        if args.only != "warm":
            url = server.create_database("bench")
            load_postgresql(url, args.rows)
            with tempfile.TemporaryDirectory() as folder:
                agent = Agent(url, folder)
                for name, work in {"backlog": backlog, "little": little, "keeping-up": keeping_up}.items():
                    if args.only in (None, name):
                        reached += work(server, agent, args)
                agent.end()
    print(table(["reach", "at most", "measured"], reached))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
