"""Bytes and rounds of whole sweeps as counted on the stream, beside what else could be done.

    python tests/bench/protocol.py [--rows 1000000] [--columns 10] [--changed one|three|each|several] [--lost 40]
                                   [--peer-rows 100000]

Two regions whose indexes are made of random digests (no source, no scan); answers, codec, ledger, descent, both looks
and column digests are the real ones, and what is found is checked against what was planted: 60 % of the differing rows
are changed, 40 % (``--lost``) are missing in one region. ``search`` is everything up to the differing keys, ``details``
what is said of them (both looks and columns included), all of it requests and answers of the region with most bytes.

Ends with 1 where 0, 100 or 10,000 differing keys of a million rows or more cost more than they may.

Beside it, in the same run: a plain binary Merkle descent to leaves of 16 rows over the same messages, which finds the
keys and no more; what a list of all digests would take, 24 bytes a row; and reladiff over PostgreSQL with
``--peer-rows`` rows of ten columns, what each of its two connections carries, as the operating system counts it, on
average.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from cold import SETTINGS, change, reladiff_command
from measure import machine, table
from merkle import descend
from relay import Relay
from servers.postgresql import PostgresqlServer
from synthetic import SWEEP, U8, Columns, Planted, SyntheticAgent, digests, index_of, planted, profile_of
from tables import load_postgresql

from coordinator.sweep import Sweep, SweepOptions
from edge_agent.index.index import Index
from paritree.core.ledger import Tally
from paritree.core.messages import Begin, ByteClass
from paritree.core.profile import CANONICAL_VERSION
from paritree.wire.loopback import LoopbackLink

HEAD = ["d", "rounds", "form", "search", "details", "together", "binary tree", "rounds", "24 bytes a row", "reladiff"]
LIMITS = {0: 16_384, 100: 65_536, 10_000: 800_000}
"""Bytes of the region with most by differing keys, from a million rows on, as PROTOCOL promises them."""


def moved(tally: Tally) -> int:
    return tally.bytes_sent + tally.bytes_received


def worst(links: Mapping[str, LoopbackLink]) -> Tally:
    """The ledger of the region with most bytes."""
    return max((link.ledger.of(SWEEP) for link in links.values()), key=moved)


def check(report: Mapping[str, Any], sweep: Sweep, made: Planted, columns: Columns) -> None:
    """Found = planted, with the columns that differ."""
    assert sweep.conclusion is not None
    found = {finding.key_digest: finding for finding in sweep.conclusion.findings}
    assert found.keys() == made.changed | made.missing, "found is not planted"
    names = profile_of(columns.count).row_columns
    for key in made.changed:
        assert set(found[key].columns) == {names[i] for i in columns.differing(key)}, "other columns than planted"
    assert report["summary"]["unknown"] == 0


def sweep_bytes(agents: Mapping[str, SyntheticAgent], made: Planted, columns: Columns) -> tuple[Tally, int, str]:
    """The worst region's bytes, the rounds and what found the keys."""
    links = {name: LoopbackLink(agent) for name, agent in agents.items()}
    sweep = Sweep(profile_of(columns.count), list(links), links, SWEEP, SweepOptions(lag_max_s=0))
    report = asyncio.run(sweep.run())
    check(report, sweep, made, columns)
    tally = worst(links)
    forms = [kind for kind in (ByteClass.SKETCHES, ByteClass.LISTS) if tally.by_class[kind] > 11_000]
    return tally, report["rounds"], ", ".join(forms) or "probe"


def tree_bytes(agents: Mapping[str, SyntheticAgent], made: Planted, columns: Columns) -> tuple[int, int]:
    """The same search by a binary Merkle tree: the worst region's bytes, and the rounds."""
    links = {name: LoopbackLink(agent) for name, agent in agents.items()}
    begin = Begin(SWEEP, profile_of(columns.count).profile_id, CANONICAL_VERSION)
    found, rounds = asyncio.run(descend(links, begin, SWEEP))
    ks = {int.from_bytes(key[:8], "big") for key in made.changed | made.missing}
    assert {k for k, _ in found} == ks, "the tree did not find what was planted"
    tally = worst(links)
    return moved(tally) - tally.by_class[ByteClass.SKETCHES], rounds  # it needs no probe


def bench(whole: Index, base: tuple[U8, U8], made: Planted, columns: Columns) -> list[str]:
    with tempfile.TemporaryDirectory() as spool:
        indexes = {"whole": whole, "other": index_of(made.keys, made.rows, Path(spool) / "other")}
        agents = {name: SyntheticAgent(name, index, columns, made.changed) for name, index in indexes.items()}
        tally, rounds, form = sweep_bytes(agents, made, columns)
        in_tree, tree_rounds = tree_bytes(agents, made, columns)
    details = tally.by_class[ByteClass.DETAILS]
    return [
        f"{len(made.changed) + len(made.missing):,}",
        str(rounds),
        form,
        f"{moved(tally) - details:,}",
        f"{details:,}",
        f"{moved(tally):,}",
        f"{in_tree:,}",
        str(tree_rounds),
        f"{24 * len(base[0]):,}",
    ]


def reladiff(rows: int, differences: list[int]) -> list[str]:
    """Bytes a region for each number of changed rows."""
    out: list[str] = []
    with PostgresqlServer(SETTINGS) as eu, PostgresqlServer(SETTINGS) as us:
        servers = {"eu": eu, "us": us}
        for server in servers.values():
            load_postgresql(server.create_database("bench"), rows)
        for number in differences:
            change(us.url("bench"), rows, number)
            with Relay(eu.port) as to_eu, Relay(us.port) as to_us:
                relays = {"eu": to_eu, "us": to_us}
                urls = {
                    name: server.url("bench").replace(f":{server.port}/", f":{relays[name].port}/")
                    for name, server in servers.items()
                }
                done = subprocess.run(reladiff_command(urls), capture_output=True, text=True, timeout=600, check=False)
                assert "Traceback" not in done.stderr, done.stderr
                out.append(f"{(to_eu.bytes + to_us.bytes) // 2:,}")
    return out


def numbers(text: str, rows: int) -> list[int]:
    """The differences to plant, at most so many; "1%" is of the rows."""
    found = [int(rows * float(word[:-1]) / 100) if word.endswith("%") else int(word) for word in text.split(",")]
    return [number for number in dict.fromkeys(found) if number <= rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--changed", choices=("one", "three", "each", "several"), default="one")
    parser.add_argument("--lost", type=int, default=40, help="percent of the differing rows that one region lacks")
    parser.add_argument("--differences", default="0,1,10,100,1000,10000,1%")
    parser.add_argument("--peer-rows", type=int, default=100_000, help="0: without reladiff")
    arguments = parser.parse_args()
    columns = Columns(arguments.columns, arguments.changed)
    print(
        f"{arguments.rows:,} rows of {columns.count} columns, two regions, bytes of the region with most; "
        f"{columns.changed} of a changed row's columns differ, "
        f"{arguments.lost} % of the differing rows are missing in one region. {machine()}",
        f"reladiff: {arguments.peer_rows:,} rows in PostgreSQL, changed rows only.\n",
        sep="\n",
        flush=True,
    )
    chosen = numbers(arguments.differences, arguments.rows)
    peers = dict.fromkeys(chosen, "")
    if arguments.peer_rows:
        fitting = [number for number in chosen if number <= arguments.peer_rows // 10]
        peers |= dict(zip(fitting, reladiff(arguments.peer_rows, fitting), strict=True))
    base = digests(arguments.rows)
    costs: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as spool:
        whole = index_of(*base, Path(spool) / "whole")
        print(table(HEAD, []), flush=True)
        for number in chosen:  # a line as soon as it is known: of many rows each takes a minute
            row = [*bench(whole, base, planted(*base, number, arguments.lost), columns), peers[number]]
            print(table(HEAD, [row]).splitlines()[-1], flush=True)
            costs[number] = int(row[HEAD.index("together")].replace(",", ""))
    over = {n: cost for n, cost in costs.items() if arguments.rows >= 1_000_000 and cost > LIMITS.get(n, cost)}
    for number, cost in over.items():
        print(f"{number:,} differing keys: {cost:,} bytes, at most {LIMITS[number]:,}", flush=True)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
