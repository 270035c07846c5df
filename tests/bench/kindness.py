"""What a sweep costs those who work on the database: throughput and latency of a pgbench load beside it.

    python tests/bench/kindness.py [--seconds 10] [--runs 2] [--rows 500000] [--max-rate 20000] [--chunk-target 0.5]
        [--load-rate TPS] [--same-table]

pgbench runs its usual transactions (TPC-B-like, scale 5, two clients, as many as it can or --load-rate) beside scans of
another table of the same database: none, scans that take what they get, with the back-off at --chunk-target, and with
--max-rate. A scan goes over the table again and again until pgbench ends. With --same-table it reads pgbench's own
accounts, which are updated meanwhile. Runs alternate; p99 is of all transactions in the logs of a kind of run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import numpy as np
from measure import machine, table
from servers.postgresql import PostgresqlServer, binaries
from tables import load_postgresql

CLIENTS = 2
SCALE = 5
SETTLE_S = 3
"""Seconds at the beginning of a run that do not count."""


@dataclass(slots=True)
class Kind:
    """The runs of one kind. ``flags`` are those of the scan, None: there is none; ``rows_s`` what it read."""

    what: str
    flags: list[str] | None
    latency_ms: list[np.ndarray] = field(default_factory=list)
    measured_s: float = 0.0
    rows_s: list[float] = field(default_factory=list)

    @property
    def tps(self) -> float:
        return sum(map(len, self.latency_ms)) / self.measured_s

    def percentile(self, percent: float) -> float:
        return float(np.percentile(np.concatenate(self.latency_ms), percent))


def child(url: str, name: str, max_rate: float | None, target_s: float | None) -> None:
    """Scan the table over and over until standard input ends, then print the figures as JSON."""
    import select

    from edge_agent.build import Copy, build_index
    from edge_agent.connectors.contract import Source
    from edge_agent.connectors.registry import connect
    from edge_agent.digesters import open_digester
    from edge_agent.executors import ThreadExecutor
    from edge_agent.pace import Throttle, Waited
    from paritree.core.derive import derive_profile
    from paritree.core.digest import DatasetKeys
    from paritree.core.messages import Progress
    from paritree.core.profile import Binding, BoundColumn

    class Enough(Exception):
        """pgbench has ended."""

    last = Progress(0, 0, 0)

    def note(progress: Progress) -> None:
        nonlocal last
        last = progress
        if select.select([sys.stdin], [], [], 0)[0]:
            raise Enough

    with connect(Source(url)) as connector:
        schema = connector.describe(name)
    profile = derive_profile("bench", {"a": schema}).profile
    columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
    keys = DatasetKeys.of(bytes(32), "bench")
    open_digester("compiled", profile, keys)
    throttle = Throttle(max_rate_rows_s=max_rate, chunk_target_s=target_s, snapshot_max_s=3600)
    shard_rows = (
        50_000 if max_rate is None else max(1_000, int(max_rate / 4))
    )  # only shards that have ended are counted
    binding = Binding("bench", name, profile.key, columns)
    copy = Copy(Source(url), profile, binding, keys, shard_rows, throttle=throttle)
    print("ready", flush=True)
    sys.stdin.readline()
    rows, waited, began = 0, Waited(), time.monotonic()
    with tempfile.TemporaryDirectory() as spool, ThreadExecutor(2) as executor:
        try:
            while True:
                waited += build_index(copy, executor, Path(spool), note).waited
                rows += last.rows
                last = Progress(0, 0, 0)
        except Enough:
            rows += last.rows
    print(json.dumps({"rows_s": rows / (time.monotonic() - began), "waited_s": waited.total_s}))


def pgbench(server: PostgresqlServer, seconds: int, load_rate: float | None) -> np.ndarray:
    """The latencies in ms of one run of pgbench against the database ``bench``."""
    rate = ["--rate", str(load_rate)] if load_rate else []
    with tempfile.TemporaryDirectory() as folder:
        command = [str(binaries() / "pgbench"), "-n", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres"]
        command += ["-c", str(CLIENTS), "-j", "1", "-T", str(seconds + SETTLE_S), "--log", *rate, "bench"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds + 120, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        lines = [line.split() for log in Path(folder).glob("pgbench_log.*") for line in log.read_text().splitlines()]
    # Of a line: client, transaction, latency in µs, script, epoch seconds, µs of it.
    ended = np.array([int(fields[4]) + int(fields[5]) / 1e6 for fields in lines])
    return np.array([int(fields[2]) for fields in lines])[ended >= ended.min() + SETTLE_S] / 1000


def measure(kind: Kind, server: PostgresqlServer, name: str, seconds: int, load_rate: float | None) -> None:
    """One more run of that kind."""
    kind.measured_s += seconds
    if kind.flags is None:
        kind.latency_ms.append(pgbench(server, seconds, load_rate))
        return
    command = [sys.executable, __file__, "--child", server.url("bench"), "--table", name, *kind.flags]
    scan = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert scan.stdin is not None and scan.stdout is not None  # noqa: PT018
    try:
        if scan.stdout.readline() != "ready\n":
            raise SystemExit("the scan did not start")
        scan.stdin.write("go\n")
        scan.stdin.flush()
        kind.latency_ms.append(pgbench(server, seconds, load_rate))
        out, _ = scan.communicate("enough\n", timeout=120)
    finally:
        scan.kill()
        scan.wait()
    kind.rows_s.append(json.loads(out)["rows_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--chunk-target", type=float, default=0.5)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--max-rate", type=float, default=20_000)
    parser.add_argument(
        "--load-rate", type=float, help="transactions a second that pgbench starts; default: all it can"
    )
    parser.add_argument("--same-table", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--target", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.table, args.rate, args.target)
        return
    print(machine())
    name = "pgbench_accounts" if args.same_table else "orders"
    with PostgresqlServer({"shared_buffers": "256MB", "autovacuum": "off"}) as server:
        load_postgresql(server.create_database("bench"), args.rows)
        init = [str(binaries() / "pgbench"), "-i", "-q", "-s", str(SCALE), "-h", "127.0.0.1", "-p", str(server.port)]
        subprocess.run([*init, "-U", "postgres", "bench"], check=True, capture_output=True)
        target, rate = ["--target", str(args.chunk_target)], ["--rate", str(args.max_rate)]
        kinds = [
            Kind("no sweep", None),
            Kind("sweep, not throttled", []),
            Kind(f"sweep, chunk target {args.chunk_target:g} s", target),
            Kind(f"sweep, --max-rate {args.max_rate:,.0f}", rate),
        ]
        for _ in range(args.runs):
            for kind in kinds:
                measure(kind, server, name, args.seconds, args.load_rate)
    print(table(["", "tps", "of alone", "p50 ms", "p99 ms", "of alone", "p99.9 ms", "scan rows/s"], lines(kinds)))


def lines(kinds: list[Kind]) -> list[list[str]]:
    """The rows of the table; the first kind is the one without a sweep."""
    alone = kinds[0]
    return [
        [
            kind.what,
            f"{kind.tps:,.0f}",
            f"{kind.tps / alone.tps:.0%}",
            f"{kind.percentile(50):.2f}",
            f"{kind.percentile(99):.2f}",
            f"{kind.percentile(99) / alone.percentile(99):.2f}x",
            f"{kind.percentile(99.9):.1f}",
            f"{np.mean(kind.rows_s):,.0f}" if kind.rows_s else "",
        ]
        for kind in kinds
    ]


if __name__ == "__main__":
    main()
