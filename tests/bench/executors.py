"""From one core to two: a scan by each executor, and what Dask itself costs at its start and for each shard.

    python tests/bench/executors.py [--rows 2000000] [--runs 3]

The table is in Parquet files, so that no server takes part of the two cores. Every build runs in a process of its own;
CPU seconds count its workers. Start-up and cost a shard are measured with tasks that do nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from measure import machine, median, run, table
from tables import write_parquet

EMPTY_TASKS = 200


def nothing(task: int) -> int:
    """The task that shows what an executor costs."""
    return task


def child(url: str, kind: str, workers: int, shard_rows: int) -> None:
    """Start the executor, run empty tasks, build an index twice; print the second build's figures as JSON."""
    from edge_agent.build import Copy, build_index
    from edge_agent.connectors.contract import Source
    from edge_agent.connectors.registry import connect
    from edge_agent.executors import DaskExecutor, DaskOptions, Executor, SerialExecutor, ThreadExecutor
    from paritree.core.derive import derive_profile
    from paritree.core.digest import DatasetKeys
    from paritree.core.profile import Binding, BoundColumn

    with connect(Source(url)) as connector:
        name = connector.tables()[0]
        schema = connector.describe(name)
    profile = derive_profile("bench", {"a": schema}, key=["id"]).profile
    columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
    copy = Copy(
        Source(url),
        profile,
        Binding("bench", name, profile.key, columns),
        DatasetKeys.of(bytes(32), "bench"),
        shard_rows,
    )
    began = time.perf_counter()
    executor: Executor
    match kind:
        case "serial":
            executor = SerialExecutor()
        case "threads":
            executor = ThreadExecutor(workers)
        case _:
            executor = DaskExecutor(DaskOptions(workers))
    with executor, tempfile.TemporaryDirectory() as spool:
        list(executor.map(nothing, range(workers)))
        start_s = time.perf_counter() - began
        began = time.perf_counter()
        assert len(list(executor.map(nothing, range(EMPTY_TASKS)))) == EMPTY_TASKS
        task_s = (time.perf_counter() - began) / EMPTY_TASKS
        for attempt in ("warm", "measured"):
            began = time.perf_counter()
            built = build_index(copy, executor, Path(spool) / attempt, lambda _: None)
            build_s = time.perf_counter() - began
    figures = {"start_s": start_s, "task_ms": task_s * 1e3, "build_s": build_s, "shards": built.shards}
    print(json.dumps({**figures, "root": f"{built.index.sums.root.r:016x}"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=250_000)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        url, kind, workers = args.child
        child(url, kind, int(workers), args.shard_rows)
        return
    print(machine(), f"; {args.rows:,} rows, {args.runs} runs, medians", sep="")
    lines: list[list[str]] = []
    roots: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        write_parquet(Path(folder), args.rows)
        for kind, workers in (("serial", 1), ("threads", 1), ("threads", 2), ("dask", 1), ("dask", 2)):
            done = []
            for _ in range(args.runs):
                command = [sys.executable, __file__, "--shard-rows", str(args.shard_rows)]
                result = run([*command, "--child", f"parquet:///{folder}/*.parquet", kind, str(workers)])
                if result.exit_code:
                    raise SystemExit(result.stderr)
                done.append(json.loads(result.stdout) | {"cpu_s": result.cpu_s, "pss": result.pss_worker})
            roots |= {figures["root"] for figures in done}
            wall = median([figures["build_s"] for figures in done])
            lines.append(
                [
                    f"{kind}, {workers}",
                    f"{args.rows / wall:,.0f}",
                    f"{wall:.2f}",
                    f"{median([f['start_s'] for f in done]):.2f}",
                    f"{median([f['task_ms'] for f in done]):.2f}",
                    f"{median([f['cpu_s'] for f in done]):.1f}",
                    f"{max(f['pss'] for f in done) / 2**20:.0f}",
                ]
            )
    if len(roots) != 1:
        raise SystemExit(f"the executors gave different roots: {roots}")
    header = ["executor", "rows/s", "build s", "start s", "ms an empty task", "CPU s of it all", "PSS MiB of a process"]
    print(table(header, lines))


if __name__ == "__main__":
    main()
