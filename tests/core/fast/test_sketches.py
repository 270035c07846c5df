"""Compiled sketches and probes have the words of the plain ones."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core import sketch as plain
from paritree.core.errors import InvariantBroken
from paritree.core.fast import sketches

WORD = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([0, 1, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]))
ROWS = st.lists(st.tuples(WORD, WORD), max_size=60)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([k for k, _ in rows], np.uint64), np.array([r for _, r in rows], np.uint64)


@settings(deadline=None)
@given(ROWS, ROWS, st.sampled_from([1, 2, 96, 192, 1000]), WORD)
def test_a_compiled_sketch_is_the_plain_one(rows, more, cells, salt):
    sketch = plain.empty_sketch(cells, salt)
    sketches.add_rows(sketch, *arrays(rows))
    sketches.add_rows(sketch, *arrays(more))
    assert (sketch.sums == plain.sketch_of(*arrays(rows + more), cells, salt).sums).all()


@settings(deadline=None)
@given(ROWS, st.sampled_from([1, 12, 96]), WORD)
def test_a_compiled_probe_is_the_plain_one(rows, cells, salt):
    one, other = sketches.probe_of(*arrays(rows), cells, salt), plain.probe_of(*arrays(rows), cells, salt)
    assert (one.sketch.sums == other.sketch.sums).all()
    assert (one.pulls == other.pulls).all()


def test_pulls_wrap_alike():
    k, r = np.full(70_000, 7, np.uint64), np.full(70_000, 9, np.uint64)
    one, other = sketches.probe_of(k, r), plain.probe_of(k, r)
    assert (one.pulls == other.pulls).all()
    assert (np.abs(one.pulls.astype(int)) == 70_000 - 65_536).any()


def test_slices_and_steps_are_read_as_they_are():
    k, r = (np.random.default_rng(n).integers(0, 1 << 64, 100, np.uint64) for n in (1, 2))
    one, other = sketches.probe_of(k[3:90:2], r[3:90:2]), plain.probe_of(k[3:90:2], r[3:90:2])
    assert (one.sketch.sums == other.sketch.sums).all()


def test_misuse_is_refused():
    k = np.zeros(3, np.uint64)
    for wrong in (k[:2], k.astype(np.int64), k.reshape(3, 1)):
        with pytest.raises(InvariantBroken):
            sketches.probe_of(k, wrong)


def test_a_probe_costs_little_beside_the_digests():
    """0.15 µs a row; measured 0.04 on one core."""
    k, r = (np.random.default_rng(n).integers(0, 1 << 64, 200_000, np.uint64) for n in (1, 2))
    sketches.probe_of(k[:1], r[:1])
    walls = []
    for _ in range(5):
        began = time.process_time()
        sketches.probe_of(k, r)
        walls.append(time.process_time() - began)
    assert min(walls) / len(k) < 0.15e-6
