"""Mistakes planted on purpose: each of them makes the suite's own checks fail."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from descending import Region, check, make_tables, run

from edge_agent.index.index import Index
from edge_agent.index.run import Run, RunRows, write_run
from paritree.core import decode, descent, pairs, sketch
from paritree.core.decode import Decoded
from paritree.core.leaves import LeafSums, key_words, row_words
from paritree.core.order import run_order
from paritree.core.sketch import TABLES, Sketch, empty_probe, mixed, seeds, sketch_of

Checks = dict[str, Callable[[Path], None]]


def check_descent(_: Path) -> None:
    for seed, (regions, rows, changes) in enumerate([(2, 400, 30), (3, 2000, 150), (2, 3000, 600), (5, 3000, 900)]):
        check(make_tables(random.Random(seed), regions, rows, changes), salt=seed)


def check_completeness(_: Path) -> None:
    """A region that hides one differing row from the detail round is found out."""
    tables = make_tables(random.Random(9), 2, 500, 20)
    regions = {name: Region(rows) for name, rows in tables.items()}
    outcome, _, _ = run(regions, lambda n, ask, a: a[1:] if n == "r1" and isinstance(a, tuple) else a)
    assert outcome.broken


def check_folding(_: Path) -> None:
    words = np.random.default_rng(1).integers(0, 1 << 64, (2, 500), np.uint64)
    assert (sketch_of(*words, 384, 3).fold(96).sums == sketch_of(*words, 96, 3).sums).all()


def check_index(folder: Path) -> None:
    """Every row lies below exactly one node of a depth, also a row whose k is a node's first."""
    chance = random.Random(4)
    edges = [(node << 60).to_bytes(8, "big") + bytes(8) for node in range(16)]
    keys = np.frombuffer(b"".join([*edges, *(chance.randbytes(16) for _ in range(300))]), np.uint8).reshape(-1, 16)
    rows = np.frombuffer(chance.randbytes(16 * len(keys)), np.uint8).reshape(-1, 16)
    order = run_order(keys, rows)
    locators = pa.array([b""] * len(keys), pa.large_binary())
    write_run(folder / "1.run", RunRows(keys[order], rows[order], locators))
    index = Index([Run(folder / "1.run")], LeafSums.zero(0), empty_probe(), "plain")
    nodes = np.arange(16, dtype=np.uint64)
    assert len(index.rows_below(4, nodes).k) == len(keys)
    whole = sketch.empty_sketch(96, 1)
    for node in nodes:
        list(index.add_to(whole, 4, np.array([node], np.uint64)))
    assert (whole.sums == sketch_of(key_words(keys), row_words(rows)[0], 96, 1).sums).all()


CHECKS: Checks = {
    "descent": check_descent,
    "completeness": check_completeness,
    "folding": check_folding,
    "index": check_index,
}


def xor_instead_of_add(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_rows(target: Sketch, k: np.ndarray, r: np.ndarray) -> None:
        words = (r, (k & np.uint64(0xFFFFFFFF)) * r, (k >> np.uint64(32)) * r)
        for table, seed in enumerate(seeds(target.salt)):
            position = (mixed(k, seed) % np.uint64(target.cells)).astype(np.int64)
            for part in range(3):
                np.bitwise_xor.at(target.sums[table, :, part], position, words[part])

    monkeypatch.setattr(sketch, "add_rows", add_rows)


def residual_check_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = decode.decode
    monkeypatch.setattr(pairs, "decode", lambda sketches: Decoded(honest(sketches).deltas, True))


def completeness_check_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent.Descent, "_incomplete", lambda self, looks: [])


def even_delta_rule_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only odd deltas have an inverse mod 2^64: without the shift every second difference is unsolvable."""
    monkeypatch.setattr(decode, "_trailing_zeros", lambda words: np.where(words == 0, 64, 0).astype(np.int64))


def fold_off_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(self: Sketch, cells: int) -> Sketch:
        shifted = np.roll(self.sums, 1, axis=1)
        return Sketch(self.salt, shifted.reshape(TABLES, -1, cells, 3).sum(axis=1, dtype=np.uint64))

    monkeypatch.setattr(Sketch, "fold", fold)


def closed_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    half_open = Run.window
    monkeypatch.setattr(Run, "window", lambda run, first, end: half_open(run, first, end + 1))


def a_table_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = sketch.seeds
    monkeypatch.setattr(sketch, "seeds", lambda salt: honest(salt)[:-1])


MUTANTS = {
    xor_instead_of_add: "descent",
    residual_check_dropped: "descent",
    completeness_check_dropped: "completeness",
    even_delta_rule_left_out: "descent",
    fold_off_by_one: "folding",
    closed_bound: "index",
    a_table_left_out: "descent",
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_pass_as_the_code_is(name, tmp_path):
    CHECKS[name](tmp_path)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_every_mutant_is_caught(mutant, monkeypatch, tmp_path):
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[MUTANTS[mutant]](tmp_path)
