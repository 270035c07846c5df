"""Runs and the index over them, against a plain table of digests in memory."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from indexed import changes, install, opened, reached, row, scanned

from edge_agent.index.index import Index
from edge_agent.index.run import Run, RunRows, write_run
from paritree.core.errors import SourceError
from paritree.core.leaves import LeafSums, key_words, leaf_sums, row_words
from paritree.core.order import run_order
from paritree.core.sketch import empty_probe, empty_sketch, sketch_of

MASK = (1 << 64) - 1


def make_run(path: Path, rows: list[tuple[bytes, bytes, bytes]]) -> LeafSums:
    keys = np.frombuffer(b"".join(r[0] for r in rows), np.uint8).reshape(-1, 16)
    digests = np.frombuffer(b"".join(r[1] for r in rows), np.uint8).reshape(-1, 16)
    order = run_order(keys, digests)
    locators = pa.array([rows[i][2] for i in order], pa.large_binary())
    write_run(path, RunRows(keys[order], digests[order], locators))
    return leaf_sums(key_words(keys[order]), *row_words(digests[order]), 12)


def some_rows(rng: random.Random, count: int) -> list[tuple[bytes, bytes, bytes]]:
    edges = [b"\x00" * 16, b"\xff" * 16]
    return [
        (edges[i] if i < 2 else rng.randbytes(16), rng.randbytes(16), rng.randbytes(rng.randrange(9)))
        for i in range(count)
    ]


@pytest.fixture(params=[0, 1, 2, 5000])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Index, list[tuple[bytes, bytes, bytes]]]:
    rng = random.Random(request.param)
    rows = some_rows(rng, request.param)
    cuts = sorted(rng.randrange(len(rows) + 1) for _ in range(3))
    total = LeafSums.zero(12)
    runs = []
    for number, (low, high) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        path = tmp_path / f"{number}.run"
        total = total.plus(make_run(path, rows[low:high]))
        runs.append(Run(path))
        runs[-1].verify()
    return Index(runs, total, empty_probe(), "plain"), rows


def prefix(key_digest: bytes, bits: int) -> int:
    return int.from_bytes(key_digest[:8], "big") >> (64 - bits)


@pytest.mark.parametrize(("bits", "to_bits"), [(0, 0), (0, 5), (3, 3), (4, 9), (12, 16), (12, 12)])
def test_children_are_the_sums_of_their_rows(table, bits, to_bits):
    index, rows = table
    wanted = sorted({prefix(r[0], bits) for r in rows} | {0, (1 << bits) - 1})[-40:]
    got = index.children(bits, to_bits, np.array(wanted, np.uint64)).reshape(len(wanted), -1)
    expected = [[0] * got.shape[1] for _ in wanted]
    for key, digest, _ in rows:
        if (p := prefix(key, bits)) in wanted:
            child = prefix(key, to_bits) - (p << (to_bits - bits))
            sums = expected[wanted.index(p)]
            sums[child] = (sums[child] + int.from_bytes(digest[:8], "little")) & MASK
    assert got.tolist() == expected


@pytest.mark.parametrize("bits", [0, 4, 12])
def test_rows_below_lists_every_row_once(table, bits):
    index, rows = table
    wanted = sorted({prefix(r[0], bits) for r in rows} | {0})
    got = index.rows_below(bits, np.array(wanted, np.uint64))
    assert int(got.counts.sum()) == len(rows) == len(got.k)
    expected = sorted((int.from_bytes(k[:8], "big"), *np.frombuffer(d, "<u8").tolist()) for k, d, _ in rows)
    assert sorted(zip(got.k.tolist(), got.r.tolist(), got.r2.tolist(), strict=True)) == expected


@pytest.mark.parametrize(("bits", "to_bits"), [(0, 5), (4, 9), (12, 16)])
def test_counts_are_those_of_the_rows_below(table, bits, to_bits):
    index, rows = table
    wanted = sorted({prefix(r[0], bits) for r in rows} | {0, (1 << bits) - 1})[-40:]
    counts = Counter(prefix(r[0], to_bits) for r in rows)
    expected = [counts[child] for p in wanted for child in range(p << to_bits - bits, (p + 1) << to_bits - bits)]
    assert index.counts(bits, to_bits, np.array(wanted, np.uint64)).tolist() == expected


def test_every_row_lies_below_exactly_one_node_also_the_first_of_a_node(tmp_path):
    rng = random.Random(4)
    edges = [(node << 60).to_bytes(8, "big") + bytes(8) for node in range(16)]
    last = [((node + 1 << 60) - 1).to_bytes(8, "big") + bytes(8) for node in range(16)]
    rows = [(key, rng.randbytes(16), b"") for key in (*edges, *last)]
    sums = make_run(tmp_path / "a", rows)
    index = Index([Run(tmp_path / "a")], sums, empty_probe(), "plain")
    for node in range(16):
        asked = np.array([node], np.uint64)
        assert index.rows_below(4, asked).k.tolist() == [node << 60, (node + 1 << 60) - 1]
        assert index.counts(4, 16, asked).sum() == 2
        assert sorted(e.key_digest for e in index.below(4, node)) == [edges[node], last[node]]
        sketch = empty_sketch(96, 1)
        list(index.add_to(sketch, 4, asked))
        assert sketch.adds_up_to(int(index.rows_below(4, asked).r.sum(dtype=np.uint64)))


def test_counts_and_entries_below_a_node_follow_changes(tmp_path):
    with opened(tmp_path) as held:
        install(held, [scanned(held, "a", [row(n) for n in range(40)])], reached("0", b"0"))
        held.apply(changes([1, 2, 3], [row(1, 7), row(3), row(3)]), reached("1", b"1"))
        index = held.view().index
        expected = [*(row(n) for n in range(40) if n not in (1, 2)), row(1, 7), row(3)]
        for bits, to_bits in ((0, 3), (0, 14), (3, 14)):
            counts = Counter(prefix(r[0], to_bits) for r in expected)
            every = np.arange(1 << bits, dtype=np.uint64)
            assert index.counts(bits, to_bits, every).tolist() == [counts[node] for node in range(1 << to_bits)]
        for node in range(8):
            below = [(e.key_digest, e.row_digest, e.locator) for e in index.below(3, node)]
            assert Counter(below) == Counter(r for r in expected if prefix(r[0], 3) == node)


def test_sums_fold_to_the_root(table):
    index, rows = table
    root = index.sums.root
    assert root.count == len(rows)
    assert root.r == sum(int.from_bytes(d[:8], "little") for _, d, _ in rows) & MASK
    assert root.r2 == sum(int.from_bytes(d[8:], "little") for _, d, _ in rows) & MASK
    assert index.sums.fold(3).root == root


def test_find_gives_every_row_under_a_k(table):
    index, rows = table
    for key, digest, locator in rows[:50]:
        found = list(index.find([int.from_bytes(key[:8], "big")]))
        assert [(e.key_digest, e.row_digest, e.locator) for e in found] == [(key, digest, locator)]
    assert list(index.find([123])) == []


def test_duplicate_keys_are_counted_over_runs_and_within_one(tmp_path):
    rng = random.Random(7)
    rows = some_rows(rng, 3000)
    same_k = rows[9][0][:8] + b"another "  # equal k, another key: no duplicate
    first = [*rows, (rows[5][0], rng.randbytes(16), b""), (same_k, rng.randbytes(16), b"")]
    second = [(rows[6][0], rng.randbytes(16), b""), (rows[5][0], rng.randbytes(16), b"")]
    sums = make_run(tmp_path / "a", first).plus(make_run(tmp_path / "b", second))
    index = Index([Run(tmp_path / "a"), Run(tmp_path / "b")], sums, empty_probe(), "plain")
    assert index.duplicates() == 2


@pytest.mark.parametrize("bits", [0, 4])
@pytest.mark.parametrize("digester", ["plain", "compiled"])
def test_a_sketch_of_nodes_is_that_of_their_rows(table, bits, digester):
    index, rows = table
    index = Index(index.runs, index.sums, index.probe, digester)
    wanted = sorted({prefix(r[0], bits) for r in rows} | {0})[::2]
    sketch = empty_sketch(96, 5)
    assert list(index.add_to(sketch, bits, np.array(wanted, np.uint64))) == [1, 2, 3, 4]
    chosen = [r for r in rows if prefix(r[0], bits) in wanted]
    k = np.array([int.from_bytes(r[0][:8], "big") for r in chosen], np.uint64)
    r = np.array([int.from_bytes(r[1][:8], "little") for r in chosen], np.uint64)
    assert (sketch.sums == sketch_of(k, r, 96, 5).sums).all()


def test_a_damaged_run_is_refused(tmp_path):
    path = tmp_path / "a.run"
    make_run(path, some_rows(random.Random(1), 100))
    whole = path.read_bytes()
    for damaged in (b"", whole[:63], whole[:-1], whole + b"x", b"X" + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(SourceError):
            Run(path)
    for at in range(64, len(whole), 97):
        flipped = bytearray(whole)
        flipped[at] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(SourceError, match="checksum"):
            Run(path).verify()


def mapped_bytes() -> int:
    """Bytes of files that this process has mapped into its memory now."""
    fields = Path("/proc/self/status").read_text().split()
    return int(fields[fields.index("RssFile:") + 1]) << 10


@pytest.mark.parametrize("how", ["find", "rows_below", "children"])
def test_reading_a_little_of_many_runs_does_not_keep_them_in_memory(how: str, tmp_path: Path) -> None:
    """Each page that is read maps sixteen: without giving them back, memory grows with keys times runs."""
    rng = np.random.default_rng(1)
    rows = [tuple(map(bytes, rng.integers(0, 256, (3, 16), np.uint8))) for _ in range(20_000)]
    make_run(tmp_path / "0.run", rows)
    for number in range(1, 20):
        (tmp_path / f"{number}.run").write_bytes((tmp_path / "0.run").read_bytes())
    runs = [Run(path) for path in sorted(tmp_path.iterdir())]
    index = Index(runs, LeafSums.zero(4), empty_probe(), "plain")
    one = runs[0].bytes_on_disk
    before = mapped_bytes()
    if how == "find":
        wanted = [int.from_bytes(key[:8], "big") for key, _, _ in rows[::100]]
        assert len(list(index.find(wanted))) == len(wanted) * len(runs)
    elif how == "rows_below":
        nodes = np.arange(0, 4096, 64, np.uint64)
        below = sum(prefix(key, 12) % 64 == 0 for key, _, _ in rows)
        assert len(index.rows_below(12, nodes).k) == below * len(runs)
    else:
        index.children(5, 12, np.arange(32, dtype=np.uint64))
    assert mapped_bytes() - before < 2 * one < len(runs) * one / 4
