"""A Parquet file of which one row group was written anew: what brings its index up to date, beside a scan of all.

python tests/bench/rowgroups.py [ROWS]    3,000,000 rows of ten columns unless told otherwise, in twelve row groups
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from xxhash import xxh3_128

from edge_agent.build import Built, Copy
from edge_agent.connectors.contract import Source
from edge_agent.connectors.fileversion import SETTLED_NS
from edge_agent.connectors.registry import connect
from edge_agent.executors import SerialExecutor
from edge_agent.letters.sweep import SweepLetters
from edge_agent.warm import Following, WarmIndex
from paritree.core.derive import derive_profile
from paritree.core.digest import DatasetKeys
from paritree.core.fast.warming import warm
from paritree.core.profile import Binding, BoundColumn

GROUPS: Final = 12
CHANGED: Final = 5
TURNS: Final = 3
SHARE_MAX: Final = 0.35
"""Of the whole scan's CPU: one group in twelve, the hash of all, and the index that takes the group over."""


def group(number: int, rows: int, seed: int) -> pa.Table:
    """The rows of one group: distinct keys, values by the seed."""
    draw = np.random.default_rng([number, seed])
    at = 1_700_000_000_000_000 + draw.integers(0, 10**13, rows)
    words = pa.array([f"note {n:012x} of an order" for n in draw.integers(0, 1 << 48, rows).tolist()])
    return pa.table(
        {
            "id": pa.array(np.arange(number * rows, (number + 1) * rows)),
            "customer": pa.array(draw.integers(0, 1 << 62, rows)),
            "status": pa.array(["new", "paid", "sent", "done"]).take(pa.array(draw.integers(0, 4, rows))),
            "amount": pa.array(draw.integers(1, 10**8, rows)).cast(pa.decimal128(20, 0)),
            "qty": pa.array(draw.integers(1, 100, rows), pa.int32()),
            "paid": pa.array(draw.integers(0, 2, rows).astype(bool)),
            "weight": pa.array(draw.random(rows)),
            "note": words,
            "created_at": pa.array(at, pa.timestamp("us", "UTC")),
            "updated_at": pa.array(at + draw.integers(0, 10**9, rows), pa.timestamp("us", "UTC")),
        }
    )


def write(path: Path, rows: int, seed: int) -> None:
    """The file, of which the group :data:`CHANGED` has the values of a seed; then time, so that it has a version."""
    first = group(0, rows, 0)
    with pq.ParquetWriter(path, first.schema) as writer:
        for number in range(GROUPS):
            writer.write_table(group(number, rows, seed if number == CHANGED else 0), row_group_size=rows)
    time.sleep(SETTLED_NS / 1e9 + 0.1)


def timed(what: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    what()
    return time.perf_counter() - wall, time.process_time() - cpu


def say(what: str, took: list[tuple[float, float]]) -> float:
    """The median run; its CPU seconds."""
    wall, cpu = sorted(took, key=lambda one: one[1])[len(took) // 2]
    print(f"{what:<44} {wall:8.3f} s wall {cpu:8.3f} s CPU")
    return cpu


def main(rows: int) -> int:
    warm(lambda _: None)
    with tempfile.TemporaryDirectory(prefix="paritree-bench-") as made:
        folder = Path(made)
        path = folder / "orders.parquet"
        write(path, rows // GROUPS, 0)
        source = Source(f"parquet:///{path}")
        with connect(source) as connector:
            profile = derive_profile("orders", {"a": connector.describe("orders")}, key=("id",)).profile
        columns = tuple(BoundColumn(n, t, source=n) for n, t in profile.columns.items())
        copy = Copy(source, profile, Binding("orders", "orders", ("id",), columns), DatasetKeys.of(bytes(32), "orders"))
        print(f"{rows:,} rows, {GROUPS} row groups, {path.stat().st_size / 1e6:.0f} MB, {len(columns)} columns")
        return measure(copy, path, folder, rows // GROUPS)


def measure(copy: Copy, path: Path, folder: Path, rows: int) -> int:
    """The scan of all, one group changed, nothing changed, all of it touched; and the hash alone. 1: not worth it."""
    notes: list[str] = []

    def swept(index: WarmIndex) -> Built:
        letters = SweepLetters(None, copy.profile, copy.keys, "")
        built = index.built(SerialExecutor, folder / "sweep", lambda _: None, letters)
        notes.append(built.notes[-1])
        return built

    with WarmIndex(copy, folder / "index", Following("", rescan_rows_s=1e6)) as index:
        letters = SweepLetters(None, copy.profile, copy.keys, "")
        swept(index)  # what is compiled once is
        whole = [timed(lambda: index.rebuilt(SerialExecutor, lambda _: None, letters)) for _ in range(TURNS)]
        quiet = [timed(lambda: swept(index)) for _ in range(TURNS)]
        changed = []
        for turn in range(TURNS):
            write(path, rows, 1 + turn)
            changed.append(timed(lambda: swept(index)))
        said = notes[-1]
        touched = []
        for _ in range(TURNS):
            path.touch()
            time.sleep(SETTLED_NS / 1e9 + 0.1)
            touched.append(timed(lambda: swept(index)))
    all_s = say("all of it scanned", whole)
    one_s = say(f"one of {GROUPS} groups written anew", changed)
    say("written, with the bytes of before", touched)
    say("not written", quiet)
    print(f"said of one group: {said}")
    data = path.read_bytes()
    say("the bytes alone: BLAKE2b", [timed(lambda: hashlib.blake2b(data, digest_size=16).digest())])
    say("the bytes alone: XXH3", [timed(lambda: xxh3_128(data).digest())])
    return int(one_s > SHARE_MAX * all_s)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000_000))
