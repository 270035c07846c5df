"""Leaf sums: any order, any sharding and any depth give the same sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.errors import InvariantBroken
from paritree.core.leaves import LeafSums, NodeSum, boundaries, key_words, leaf_bits, leaf_sums, row_words
from paritree.core.order import run_order

U64 = st.integers(0, (1 << 64) - 1)
ROWS = st.lists(st.tuples(st.one_of(U64, st.sampled_from([0, 1 << 63, (1 << 64) - 1])), U64, U64), max_size=60)


def sums_of(rows: list[tuple[int, int, int]], bits: int) -> LeafSums:
    ordered = sorted(rows)
    return leaf_sums(*(np.array([r[i] for r in ordered], np.uint64) for i in range(3)), bits)


def as_lists(sums: LeafSums) -> tuple[list[int], list[int], list[int]]:
    return sums.counts.tolist(), sums.r.tolist(), sums.r2.tolist()


@given(ROWS, st.integers(0, 12))
def test_sums_are_the_sums(rows, bits):
    expected = [[0, 0, 0] for _ in range(1 << bits)]
    for k, r, r2 in rows:
        leaf = expected[k >> (64 - bits)]
        leaf[0], leaf[1], leaf[2] = leaf[0] + 1, (leaf[1] + r) % 2**64, (leaf[2] + r2) % 2**64
    assert list(zip(*as_lists(sums_of(rows, bits)), strict=True)) == [tuple(leaf) for leaf in expected]


@given(ROWS, st.data())
def test_any_sharding_gives_the_same_sums(rows, data):
    shards = [[], [], []]
    for row in rows:
        shards[data.draw(st.integers(0, 2))].append(row)
    total = LeafSums.zero(5)
    for shard in shards:
        total = total.plus(sums_of(shard, 5))
    assert as_lists(total) == as_lists(sums_of(rows, 5))


@given(ROWS, st.integers(0, 9), st.integers(0, 9))
def test_folding_equals_summing_at_that_depth(rows, bits, deeper):
    whole = sums_of(rows, max(bits, deeper))
    assert as_lists(whole.fold(min(bits, deeper))) == as_lists(sums_of(rows, min(bits, deeper)))
    assert whole.root == sums_of(rows, 0).root


@given(ROWS)
def test_a_duplicate_row_does_not_cancel(rows):
    """With XOR two equal rows would vanish; the count and the sums tell them apart."""
    row = (7, 3, 5)
    assert sums_of([*rows, row, row], 4).root.minus(sums_of(rows, 4).root) == NodeSum(2, 6, 10)


def test_wrong_depths_are_refused():
    with pytest.raises(InvariantBroken):
        LeafSums.zero(3).plus(LeafSums.zero(4))
    with pytest.raises(InvariantBroken):
        LeafSums.zero(3).fold(4)


def test_words_and_boundaries():
    digest = np.frombuffer(bytes(range(16)), np.uint8).reshape(1, 16)
    assert key_words(digest).tolist() == [0x0001020304050607]
    r, r2 = row_words(digest)
    assert (r.tolist(), r2.tolist()) == ([0x0706050403020100], [0x0F0E0D0C0B0A0908])
    assert boundaries(0).tolist() == [0]
    assert boundaries(2).tolist() == [0, 1 << 62, 1 << 63, 3 << 62]


@pytest.mark.parametrize(
    ("rows", "bits"), [(0, 0), (1, 0), (16, 0), (17, 1), (32, 1), (33, 2), (10_000_000, 20), (1 << 60, 40)]
)
def test_leaf_bits(rows, bits):
    assert leaf_bits(rows, 16, 40) == bits


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16)), max_size=40))
def test_run_order_is_the_order_of_the_bytes(rows):
    keys = np.frombuffer(b"".join(k for k, _ in rows), np.uint8).reshape(-1, 16)
    digests = np.frombuffer(b"".join(d for _, d in rows), np.uint8).reshape(-1, 16)
    assert [rows[i] for i in run_order(keys, digests)] == sorted(rows)
