"""Durable indexes over rows that a test makes up, and a plain model of what they have to hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from edge_agent.connectors.contract import Position, Shard
from edge_agent.index.changes import Changes, Reached, Rescanned
from edge_agent.index.digests import as_digests, distinct
from edge_agent.index.durable import DurableIndex
from edge_agent.index.installing import Scan
from edge_agent.index.marks import Reasons, marks
from edge_agent.index.run import RunRows, write_run
from edge_agent.index.sorting import in_order
from edge_agent.index.state import Identity
from edge_agent.scan import ShardResult
from edge_agent.sketching import probe_of
from paritree.core.leaves import LeafSums, key_words, leaf_sums, row_words
from paritree.core.sketch import empty_probe

Row = tuple[bytes, bytes, bytes]
"""Key digest, row digest, locator."""
IDENTITY = Identity("orders", b"p" * 16, 1, b"b" * 16, b"k" * 8, b"s" * 16)


def key(number: int) -> bytes:
    """A key digest; neighbours of four share their first half, which real ones never do."""
    return (number // 4 * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big") + number.to_bytes(8, "big")


def row(number: int, version: int = 0) -> Row:
    return key(number), (number * 1_000_003 + version * 7).to_bytes(8, "little") * 2, b"k%d" % number


def run_rows(rows: Sequence[Row], dead: dict[int, str] | None = None) -> RunRows:
    reasons = Reasons()
    numbers = reasons.numbers(len(rows), dead or {})
    none = np.zeros(len(rows), np.int64)
    marked = marks(none, numbers, none > 0) if dead else None
    digests = [np.frombuffer(b"".join(r[i] for r in rows), np.uint8).reshape(-1, 16) for i in range(2)]
    locators = pa.array([r[2] for r in rows], pa.large_binary())
    return in_order(RunRows(digests[0], digests[1], locators, marked, reasons.texts), "plain")


def scanned(
    index: DurableIndex, name: str, rows: Sequence[Row], as_of: float = 1.0, dead: dict[int, str] | None = None
) -> Rescanned:
    """A shard as a scan leaves it."""
    path = index.run_path()
    sorted_rows = run_rows(rows, dead)
    write_run(path, sorted_rows, index.shelf.disk.key)
    k, (r, r2) = key_words(sorted_rows.key_digests), row_words(sorted_rows.row_digests)
    result = ShardResult(
        shard=0,
        rows=len(rows),
        run_path=path,
        sums=leaf_sums(k, r, r2, 12),
        probe=probe_of(k, r, "plain"),
        dead_keyed=len(dead or {}),
        reasons=Counter((dead or {}).values()),
    )
    return Rescanned(name, Shard(0, name, {"low": 1, "high": None}), result, as_of)


def changes(asked: Iterable[int], rows: Sequence[Row], dead: dict[int, str] | None = None) -> Changes:
    """Keys that were read again, and the rows that they have now."""
    keys = distinct(as_digests([key(number) for number in asked]))
    digests = [np.frombuffer(b"".join(r[i] for r in rows), np.uint8).reshape(-1, 16) for i in range(2)]
    return Changes(keys, digests[0], digests[1], pa.array([r[2] for r in rows], pa.large_binary()), dead or {})


def reached(text: str, cursor: bytes = b"", as_of: float | None = None) -> Reached:
    return Reached(Position(text, point=True), cursor, as_of)


def contents(index: DurableIndex) -> Counter[Row]:
    """Every row that an index holds, found by the way of a look-up."""
    view = index.view()
    below = view.index.rows_below(0, np.zeros(1, np.uint64))
    return Counter((e.key_digest, e.row_digest, e.locator) for e in view.index.find(below.k.tolist()))


def opened(folder: Path, **options: Any) -> DurableIndex:
    options.setdefault("digester", "plain")
    return DurableIndex.open(folder, options.pop("identity", IDENTITY), **options)


def install(index: DurableIndex, shards: Sequence[Rescanned], position: Reached) -> None:
    """Make scanned shards the whole index."""
    total = LeafSums.zero(12)
    probe = empty_probe()
    for one in shards:
        total, probe = total.plus(one.result.sums), probe.plus(one.result.probe)
    index.install(Scan([one.scanned for one in shards], total, probe), position, engine="memory")
