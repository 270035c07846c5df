"""The scan alone, source to finished runs: rows per second, agent CPU a row, peak memory, for each engine.

    python tests/bench/scans.py [--engine postgresql,cassandra] [--rows 1000000] [--cassandra-rows 100000]

The agent's own code runs in a process of its own (serial executor: one core), so its CPU seconds are the agent's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from cassandra_tables import load_orders
from measure import machine, median, run, table
from servers.cassandra import CassandraServer
from servers.postgresql import PostgresqlServer
from tables import load_postgresql


def child(url: str, name: str, digester: str, shard_rows: int) -> None:
    """Scan one table into runs and print the figures as JSON; runs in a process of its own."""
    import resource

    from edge_agent.build import Copy, build_index
    from edge_agent.connectors.contract import Source
    from edge_agent.connectors.registry import connect
    from edge_agent.digesters import open_digester
    from edge_agent.executors import SerialExecutor
    from paritree.core.derive import derive_profile
    from paritree.core.digest import DatasetKeys
    from paritree.core.profile import Binding, BoundColumn

    with connect(Source(url)) as connector:
        schema = connector.describe(name)
    profile = derive_profile("bench", {"a": schema}).profile
    columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
    binding = Binding("bench", name, profile.key, columns)
    keys = DatasetKeys.of(bytes(32), "bench")
    open_digester(digester, profile, keys)  # imports and compiled code are loaded before the clock starts
    copy = Copy(Source(url), profile, binding, keys, shard_rows, digester)
    with tempfile.TemporaryDirectory() as spool:
        for warm in (True, False):
            usage = resource.getrusage(resource.RUSAGE_SELF)
            cpu, began = usage.ru_utime + usage.ru_stime, time.perf_counter()
            built = build_index(copy, SerialExecutor(), Path(spool) / str(warm), lambda _: None)
            wall = time.perf_counter() - began
            usage = resource.getrusage(resource.RUSAGE_SELF)
            cpu = usage.ru_utime + usage.ru_stime - cpu
    root = built.index.sums.root
    print(json.dumps({"rows": root.count, "wall_s": wall, "cpu_s": cpu, "root": f"{root.r:016x}{root.r2:016x}"}))


def bench(engine: str, url: str, name: str, runs: int, digester: str, server: PostgresqlServer | None) -> list[str]:
    command = [sys.executable, __file__, "--child", url, "--table", name, "--digester", digester]
    walls, cpus, servers, pss = [], [], [], []
    rows = 0
    for _ in range(runs):
        before = server.cpu_s() if server else 0.0
        result = run(command)
        if result.exit_code:
            raise SystemExit(result.stderr)
        figures = json.loads(result.stdout)
        rows = figures["rows"]
        walls.append(figures["wall_s"])
        cpus.append(figures["cpu_s"])
        servers.append((server.cpu_s() - before) / 2 if server else 0.0)  # the child scans twice
        pss.append(result.pss_worker)
    return [
        engine,
        digester,
        f"{rows:,}",
        f"{rows / median(walls):,.0f}",
        f"{median(cpus) / rows * 1e6:.2f}",
        f"{median(servers) / rows * 1e6:.2f}" if server else "",
        f"{max(pss) / 2**20:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="postgresql,cassandra")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--cassandra-rows", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--digester", default="compiled,plain")
    parser.add_argument("--shard-rows", type=int, default=250_000)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--table", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.table, args.digester, args.shard_rows)
        return
    print(machine())
    rows: list[list[str]] = []
    engines = args.engine.split(",")
    if "postgresql" in engines:
        with PostgresqlServer({"shared_buffers": "1GB", "fsync": "off"}) as server:
            url = server.create_database("bench")
            load_postgresql(url, args.rows)
            rows += [bench("postgresql", url, "orders", args.runs, d, server) for d in args.digester.split(",")]
    if "cassandra" in engines:
        with CassandraServer() as node:
            with node.session() as session:
                load_orders(session, "bench", args.cassandra_rows)
            url = f"{node.url}/bench"
            rows += [bench("cassandra", url, "orders", args.runs, d, None) for d in args.digester.split(",")]
    header = [
        "engine",
        "digester",
        "rows",
        "rows/s on one core",
        "agent CPU µs a row",
        "server CPU µs a row",
        "PSS MiB",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
