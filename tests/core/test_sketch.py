"""Sketches: linear, foldable, decodable, and never a phantom."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core.decode import decode
from paritree.core.errors import InvariantBroken
from paritree.core.sketch import (
    CELLS_A_KEY,
    DEVIATIONS,
    PROBE_CELLS,
    SIZES,
    TABLES,
    Sketch,
    empty_probe,
    empty_sketch,
    probe_of,
    size_for,
    sketch_of,
)

U64 = st.integers(0, (1 << 64) - 1)
ROWS = st.lists(st.tuples(U64, U64), max_size=50)


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([k for k, _ in rows], np.uint64), np.array([r for _, r in rows], np.uint64)


def sketched(rows: list[tuple[int, int]], cells: int = 96, salt: int = 0):
    return sketch_of(*arrays(rows), cells, salt)


def truth(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> dict[int, int]:
    deltas: dict[int, int] = {}
    for rows, sign in ((a, 1), (b, -1)):
        for k, r in rows:
            deltas[k] = (deltas.get(k, 0) + sign * r) % 2**64
    return {k: delta for k, delta in deltas.items() if delta}


def planted(rng: random.Random, rows: int, differences: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    base = {rng.getrandbits(64): rng.getrandbits(64) for _ in range(rows)}
    other = dict(base)
    chosen = rng.sample(sorted(base), differences * 8 // 10)
    for k in chosen[: differences * 6 // 10]:
        other[k] = rng.getrandbits(64)
    for k in chosen[differences * 6 // 10 :]:
        del other[k]
    for _ in range(differences - len(chosen)):
        other[rng.getrandbits(64)] = rng.getrandbits(64)
    return list(base.items()), list(other.items())


@given(ROWS, ROWS, st.sampled_from([1, 2, 96, 192]), U64)
def test_a_sketch_is_linear(a, b, cells, salt):
    assert (sketched(a, cells, salt).plus(sketched(b, cells, salt)).sums == sketched(a + b, cells, salt).sums).all()
    assert not sketched(a + b, cells, salt).minus(sketched(b + a, cells, salt)).sums.any()


@given(ROWS, st.lists(st.integers(0, 50), max_size=6), st.sampled_from([1, 96, 192]), U64)
def test_the_shards_of_any_sharding_add_up(rows, cuts, cells, salt):
    """Each shard's sketch and probe, in any order, to those of all rows; and so do their folded forms."""
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    shards = [rows[low:high] for low, high in itertools.pairwise(bounds)][::-1]
    total, probe = empty_sketch(cells, salt), empty_probe()
    for shard in shards:
        total, probe = total.plus(sketched(shard, cells, salt)), probe.plus(probe_of(*arrays(shard)))
    assert (total.sums == sketched(rows, cells, salt).sums).all()
    assert (total.fold(cells // 2 or 1).sums == sketched(rows, cells // 2 or 1, salt).sums).all()
    whole = probe_of(*arrays(rows))
    assert (probe.sketch.sums == whole.sketch.sums).all()
    assert (probe.pulls == whole.pulls).all()


@given(ROWS, st.data(), st.sampled_from([2, 96]), U64)
def test_a_change_is_one_subtraction_and_one_addition(rows, data, cells, salt):
    """Rows updated, deleted and inserted one by one leave the sketch and the probe of the rows that are there then."""
    total, probe, now = sketched(rows, cells, salt), probe_of(*arrays(rows)), list(rows)
    for _ in range(data.draw(st.integers(1, 6))):
        old = [now.pop(data.draw(st.integers(0, len(now) - 1)))] if now and data.draw(st.booleans()) else []
        new = [(old[0][0] if old else data.draw(U64), data.draw(U64))] if data.draw(st.booleans()) else []
        now += new
        total = total.minus(sketched(old, cells, salt)).plus(sketched(new, cells, salt))
        probe = probe.minus(probe_of(*arrays(old))).plus(probe_of(*arrays(new)))
    assert (total.sums == sketched(now, cells, salt).sums).all()
    rebuilt = probe_of(*arrays(now))
    assert (probe.sketch.sums == rebuilt.sketch.sums).all()
    assert (probe.pulls == rebuilt.pulls).all()


def test_pulls_wrap_and_still_subtract_to_the_difference():
    """One cell that more rows pull the same way than an int16 counts."""
    cell = np.full(40_000, 7, np.uint64)
    r = np.arange(40_000, dtype=np.uint64)
    many = probe_of(cell, r, cells=1)
    fewer = probe_of(cell[3:], r[3:], cells=1)
    assert abs(int(many.pulls[0, 0, 1])) < 40_000
    assert (many.minus(fewer).pulls == probe_of(cell[:3], r[:3], cells=1).pulls).all()


@given(ROWS, st.sampled_from([(192, 96), (96, 96), (96, 3), (64, 1), (384, 48)]), U64)
def test_folding_equals_building_small(rows, sizes, salt):
    large, small = sizes
    assert (sketched(rows, large, salt).fold(small).sums == sketched(rows, small, salt).sums).all()


# Few worlds in a thousand do not decode, as two keys share all their cells: the same ones are tried each time, none of
# which is of that kind. That such a world is told from one that decodes is tested below.
@settings(max_examples=200, derandomize=True)
@given(st.integers(0, 1 << 32), st.integers(0, 150))
def test_the_probe_alone_decodes_what_it_should(seed, differences):
    a, b = planted(random.Random(seed), 400, differences)
    decoded = decode([probe_of(*arrays(a)).minus(probe_of(*arrays(b))).sketch])
    assert decoded.complete
    assert decoded.deltas == truth(a, b)


@settings(max_examples=60, derandomize=True)
@given(st.integers(0, 1 << 32), st.integers(300, 2000), U64)
def test_a_sized_sketch_decodes_with_the_probe(seed, differences, salt):
    a, b = planted(random.Random(seed), 3 * differences, differences)
    probe = probe_of(*arrays(a)).minus(probe_of(*arrays(b)))
    cells = size_for(probe.at_most)
    sized = sketched(a, cells, salt).minus(sketched(b, cells, salt))
    decoded = decode([sized, probe.sketch])
    assert decoded.complete
    assert decoded.deltas == truth(a, b)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_an_overloaded_sketch_does_not_come_clean_and_finds_no_phantom(seed):
    a, b = planted(random.Random(seed), 3000, 1500)
    decoded = decode([probe_of(*arrays(a)).minus(probe_of(*arrays(b))).sketch])
    assert not decoded.complete
    expected = truth(a, b)
    assert all(expected.get(k) == delta for k, delta in decoded.deltas.items())


@pytest.mark.parametrize("zeros", [0, 1, 8, 31, 32])
def test_even_deltas_are_solved_up_to_32_zero_bits(zeros):
    k = 0xFFFFFFFF_00000001
    a = [(k, (5 << zeros) % 2**64)]
    decoded = decode([sketched(a)])
    assert decoded.complete
    assert decoded.deltas == {k: 5 << zeros}


@pytest.mark.parametrize("zeros", [33, 48, 63])
def test_deltas_with_more_zero_bits_do_not_decode_and_are_not_guessed(zeros):
    decoded = decode([sketched([(0xFFFFFFFF_00000001, 1 << zeros)])])
    assert not decoded.complete
    assert decoded.deltas == {}


def test_a_cell_that_is_not_its_keys_is_not_believed():
    """Nor one whose products have other low bits than a multiple of Δ has."""
    moved = sketched([(7 << 40 | 9, 5)])
    decoded = decode([Sketch(moved.salt, np.roll(moved.sums, 1, axis=1))])
    assert (decoded.deltas, decoded.complete) == ({}, False)
    words = np.array([[[4, 4 * 5 + 1, 4 * 6]]] * TABLES, np.uint64)
    assert decode([Sketch(0, words - np.array([0, 1, 0], np.uint64))]).deltas == {6 << 32 | 5: 4}
    for wrong in ([0, 0, 0], [0, -1, 2]):
        decoded = decode([Sketch(0, words + np.array(wrong, np.int64).astype(np.uint64))])
        assert (decoded.deltas, decoded.complete) == ({}, False)


def test_edge_keys_and_duplicates():
    rows = [(0, 1), ((1 << 64) - 1, 2), (1 << 32, 3), ((1 << 32) - 1, 4), (7, 5), (7, 5)]
    decoded = decode([sketched(rows).minus(sketched([(7, 5)]))])
    assert decoded.complete
    assert decoded.deltas == {0: 1, (1 << 64) - 1: 2, 1 << 32: 3, (1 << 32) - 1: 4, 7: 5}


def test_keys_that_share_a_prefix_spread_over_the_cells():
    rows = [((0xABC << 52) | i, i * 2 + 1) for i in range(100)]
    assert decode([sketched(rows)]).complete


@pytest.mark.parametrize("differences", [300, 3000, 30_000])
def test_the_estimate_is_close(differences):
    a, b = planted(random.Random(differences), 2 * differences, differences)
    estimate = probe_of(*arrays(a)).minus(probe_of(*arrays(b))).estimate
    assert 0.7 * differences < estimate < 1.3 * differences


@pytest.mark.parametrize(("lost", "deviation"), [(False, 0.072), (True, 0.051)])
def test_what_may_differ_at_most_follows_from_what_differs(lost, deviation):
    """Updates are estimated less closely than losses, which two kinds of signs count."""
    rng = np.random.default_rng(5)
    k, mine, theirs = (rng.integers(0, 1 << 64, 3000, np.uint64) for _ in range(3))
    probe = probe_of(k, mine).minus(empty_probe() if lost else probe_of(k, theirs))
    assert probe.at_most == pytest.approx(probe.estimate / (1 - DEVIATIONS * deviation), rel=0.01)
    assert empty_probe().at_most == 0


def test_sizes_and_misuse():
    assert PROBE_CELLS in SIZES
    assert size_for(0) == SIZES[0]
    assert CELLS_A_KEY * 10_000 <= size_for(10_000) * 4 <= CELLS_A_KEY * 10_000 * 1.04
    with pytest.raises(InvariantBroken):
        empty_sketch(96, 0).minus(empty_sketch(96, 1))
    with pytest.raises(InvariantBroken):
        empty_sketch(96, 0).fold(64)
