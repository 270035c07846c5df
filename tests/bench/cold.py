"""Cold comparison of two PostgreSQL databases: paritree beside reladiff, in turn, in one run.

    python tests/bench/cold.py [--rows 3000000] [--runs 3] [--differences 0,100]

Two clusters of their own on loopback, the ten-column bench table, changed rows at equal distances. Prints medians; the
ratio is that of paritree's wall time to reladiff's, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import psycopg
from measure import Run, machine, median, run, table
from servers.postgresql import PostgresqlServer
from tables import load_postgresql

SETTINGS = {"shared_buffers": "1GB", "fsync": "off", "max_wal_size": "4GB"}
COLUMNS = ("customer", "status", "amount", "qty", "paid", "weight", "note", "created_at", "updated_at")
BIN = Path(sys.executable).parent


def paritree_command(urls: dict[str, str], *extra: str) -> list[str]:
    targets = [f"{region}={url}#public.orders" for region, url in urls.items()]
    return [str(BIN / "paritree"), "diff", *targets, "--lag-max", "0", "--json", *extra]


def reladiff_command(urls: dict[str, str]) -> list[str]:
    eu, us = urls.values()
    columns = [part for name in COLUMNS for part in ("-c", name)]
    return [str(BIN / "reladiff"), eu, "orders", us, "orders", "-k", "id", *columns, "--stats", "--threads", "4"]


def measured(command: list[str], servers: dict[str, PostgresqlServer]) -> Run:
    before = {name: server.cpu_s() for name, server in servers.items()}
    result = run(command)
    result.server_cpu_s = {name: server.cpu_s() - before[name] for name, server in servers.items()}
    return result


def change(url: str, rows: int, differences: int) -> None:
    """Make exactly that many rows of one side differ, at equal distances. Each call starts from the loaded state."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE orders SET amount = amount - 1000000000 WHERE amount >= 1000000000")
        if differences:
            step = rows // differences
            connection.execute(
                "UPDATE orders SET amount = amount + 1000000000 WHERE id %% %s = 0 AND id <= %s",
                (step, step * differences),
            )
        connection.execute("VACUUM ANALYZE orders")


def check(report: dict[str, Any], differences: int) -> None:
    found = report["summary"]["different"]
    if found != differences:
        raise SystemExit(f"paritree found {found} differences instead of {differences}")


def lines(differences: int, rows: int, ours: list[Run], theirs: list[Run]) -> list[list[str]]:
    out = []
    for name, runs in (("paritree", ours), ("reladiff", theirs)):
        if not runs:
            continue
        report = json.loads(runs[-1].stdout) if name == "paritree" else {}
        sent = max((r["bytes_sent"] for r in report.get("regions", [])), default=0)
        out.append(
            [
                name,
                str(differences),
                f"{median([r.wall_s for r in runs]):.1f}",
                f"{median([r.cpu_s for r in runs]):.1f}",
                f"{median([r.cpu_s for r in runs]) / rows / 2 * 1e6:.2f}",
                " / ".join(f"{median([r.server_cpu_s[s] for r in runs]):.1f}" for s in runs[0].server_cpu_s),
                f"{max(r.pss_worker for r in runs) / 2**20:.0f} / {max(r.pss_total for r in runs) / 2**20:.0f}",
                f"{sent:,}" if sent else "",
                str(report.get("rounds", "")),
            ]
        )
    return out


HEADER = [
    "",
    "differences",
    "wall s",
    "client CPU s",
    "client CPU µs a row",
    "PostgreSQL CPU s eu / us",
    "peak PSS MiB largest process / all",
    "bytes a region",
    "rounds",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--differences", default="0,100")
    parser.add_argument("--no-reladiff", action="store_true")
    parser.add_argument("--paritree-args", default="", help="more flags for paritree diff")
    args = parser.parse_args()
    print(machine(), f"; {args.rows:,} rows, {args.runs} runs in turn, medians", sep="", flush=True)
    with PostgresqlServer(SETTINGS) as eu, PostgresqlServer(SETTINGS) as us:
        servers = {"eu": eu, "us": us}
        urls = {name: server.create_database("bench") for name, server in servers.items()}
        for url in urls.values():
            load_postgresql(url, args.rows)
        out: list[list[str]] = []
        ratios: list[str] = []
        extra = args.paritree_args.split()
        for differences in map(int, args.differences.split(",")):
            change(urls["us"], args.rows, differences)
            measured(paritree_command(urls, *extra), servers)  # warms the databases' caches and the compile cache
            ours, theirs = [], []
            for _ in range(args.runs):
                ours.append(measured(paritree_command(urls, *extra), servers))
                check(json.loads(ours[-1].stdout), differences)
                if not args.no_reladiff:
                    theirs.append(measured(reladiff_command(urls), servers))
            out += lines(differences, args.rows, ours, theirs)
            if theirs:
                pairs = [a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=True)]
                ratios.append(f"{differences} differences: {median(pairs):.2f} × reladiff's wall time")
            print(table(HEADER, out[-2:]), flush=True)
    print("\n" + table(HEADER, out))
    print("\n".join(ratios))


if __name__ == "__main__":
    main()
