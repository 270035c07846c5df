"""Durable indexes over rows that a test makes up, and a plain model of what they have to hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from msgpack import packb, unpackb

from edge_agent.connectors.contract import Position, Shard
from edge_agent.index import compaction, slices
from edge_agent.index.changes import Changes, Reached, Rescanned
from edge_agent.index.compaction import compact
from edge_agent.index.digests import as_digests, distinct
from edge_agent.index.durable import DurableIndex
from edge_agent.index.installing import Scan
from edge_agent.index.manifest import MAGIC, MANIFEST
from edge_agent.index.marks import Reasons, marks
from edge_agent.index.recount import recount
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


def reformatted(folder: Path, number: int) -> None:
    """Make the index in that folder one of another format, as its manifest says."""
    path = folder / MANIFEST
    values = unpackb(path.read_bytes()[len(MAGIC) + 16 :], strict_map_key=False)
    values["identity"]["format"] = number
    content = packb(values)
    path.write_bytes(MAGIC + hashlib.blake2b(content, digest_size=16).digest() + content)


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


# --- steps that crashes are tried in --------------------------------------------------------------------------------


def begin(folder: Path, **options: Any) -> None:
    """An index with three shards and some runs of changes, which every operation below finds."""
    with opened(folder, **options) as index:
        parts = {name: [row(n) for n in range(first, first + 12)] for name, first in (("a", 0), ("b", 12), ("c", 24))}
        parts["a"].append(row(3, 9))  # a key twice
        install(index, [scanned(index, name, rows) for name, rows in parts.items()], reached("0", b"0", 1.0))
        for n in range(4):
            index.apply(changes([n, n + 12], [row(n, 1)]), reached(str(n), b"%d" % n, 2.0 + n))


def applied(index: DurableIndex) -> None:
    index.apply(changes([1, 5, 50], [row(5, 2), row(50), row(50)], {1: "NUL in text"}), reached("9", b"9", 9.0))


def replaced(index: DurableIndex) -> None:
    rows = [*(row(n) for n in range(4, 12)), row(0, 1), row(60)]
    index.replace([scanned(index, "a", rows, 8.0)], dropped=["b"], reached=reached("8"))


def installed(index: DurableIndex) -> None:
    install(index, [scanned(index, "x", [row(n, 5) for n in range(7)])], reached("7", b"7", 7.0))


def compacted(index: DurableIndex) -> None:
    while compact(index):
        pass


def doubted(index: DurableIndex) -> None:
    index.doubt("a", "a flipped byte")
    index.trust("a")


OPERATIONS = {o.__name__: o for o in (applied, replaced, installed, compacted, doubted)}


def small_sizes() -> None:
    """So that a handful of rows is merged and folded, slice by slice."""
    compaction.SMALLEST_ROWS, compaction.FOLDED_ROWS_MIN, compaction.FAN_IN = 2, 6, 2
    slices.SLICE_ROWS = 25


def summary(index: DurableIndex) -> str:
    """Everything that an index says, as text that is equal where it says the same."""
    state = index.view().state
    shards = sorted((s.name, s.sum, s.as_of, sorted(s.keyless.items())) for s in state.shards.values() if s.name)
    sums = b"".join(words.tobytes() for words in (state.sums.counts, state.sums.r, state.sums.r2))
    probe = state.probe.sketch.sums.tobytes() + state.probe.pulls.tobytes()
    said = (state.reached, shards, sorted(state.dead.items()), state.duplicates, state.faults and "faults")
    rows = sorted(contents(index).elements())
    return repr((said, hashlib.blake2b(sums + probe).hexdigest(), rows))


def whole(index: DurableIndex) -> str:
    """The summary of an index whose rows, sums and files are what it says."""
    view = index.view()
    assert recount(view.layers, "plain", ruled=index.identity.ruled).differs(view.state) == ""
    for layer in view.layers:
        layer.run.verify()
    folder = index.shelf.disk.folder
    assert {path.name for path in folder.iterdir()} == view.state.files | {"manifest", ".lock"}
    return summary(index)
