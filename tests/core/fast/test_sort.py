"""Runs sorted by kernels beside the plain order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core.errors import InvariantBroken
from paritree.core.fast.sort import sort_run, sorted_order
from paritree.core.order import run_order


def check(keys: Any, digests: Any, locators: pa.Array) -> None:
    order = run_order(keys, digests)
    got_keys, got_digests, got_locators = sort_run(keys, digests, locators)
    assert np.array_equal(sorted_order(keys, digests), order)
    assert np.array_equal(got_keys, keys[order])
    assert np.array_equal(got_digests, digests[order])
    got_locators.validate(full=True)
    assert got_locators.equals(locators.take(pa.array(order)))


def random_run(rows: int, distinct: int | None = None) -> tuple[Any, Any, pa.Array]:
    chance = np.random.default_rng(rows)
    keys = chance.integers(0, 256, (rows, 16), dtype=np.uint8)
    if distinct:
        keys = keys[chance.integers(0, distinct, rows)]
    digests = chance.integers(0, 3, (rows, 16), dtype=np.uint8)
    locators = pa.array([bytes([i % 256]) * (i * i % 75) for i in range(rows)], pa.large_binary())
    return keys, digests, locators


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 100, 4_097, 65_537])
def test_random_digests(rows: int) -> None:
    check(*random_run(rows))


@pytest.mark.parametrize("distinct", [1, 7, 1_000, 3_000])
def test_duplicate_keys(distinct: int) -> None:
    check(*random_run(5_000, distinct))


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from((0, 1, 127, 128, 255)), st.integers(0, 15), st.booleans()), max_size=70))
def test_digests_that_differ_in_one_byte(rows: list[tuple[int, int, bool]]) -> None:
    keys, digests = np.zeros((len(rows), 16), np.uint8), np.zeros((len(rows), 16), np.uint8)
    for i, (byte, place, in_key) in enumerate(rows):
        (keys if in_key else digests)[i, place] = byte
    check(keys, digests, pa.array([bytes([i]) * i for i in range(len(rows))], pa.large_binary()))


def test_read_only_views_and_slices() -> None:
    keys, digests, locators = random_run(300)
    frozen = np.frombuffer(keys.tobytes(), np.uint8).reshape(-1, 16)
    check(frozen[100:200], np.asfortranarray(digests)[100:200], locators.slice(100, 100))


def test_arrays_that_do_not_fit_each_other() -> None:
    keys, digests, locators = random_run(4)
    with pytest.raises(InvariantBroken, match="for 3 rows"):
        sort_run(keys, digests, locators.slice(1))
    with pytest.raises(InvariantBroken, match="large binaries"):
        sort_run(keys, digests, pa.array([b""] * 4, pa.binary()))
    with pytest.raises(InvariantBroken, match="large binaries"):
        sort_run(keys, digests, pa.array([b"", None, b"", b""], pa.large_binary()))


@pytest.mark.parametrize("offsets", [[0, 1, 3, 2, 5], [-1, 1, 2, 3, 4], [0, 1, 2, 3, 99]])
def test_locators_with_broken_offsets(offsets: list[int]) -> None:
    keys, digests, _ = random_run(4)
    numbers = np.zeros(5, np.int64)
    buffers = [None, pa.py_buffer(numbers), pa.py_buffer(b"12345")]
    locators = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 4, buffers)
    numbers[:] = offsets
    with pytest.raises(InvariantBroken, match="offsets"):
        sort_run(keys, digests, locators)
