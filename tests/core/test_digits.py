"""Digits of long integers: those of Decimal, and not in quadratic time."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.connectors.cassandra.cells import Unfit, varint
from paritree.core.digits import int_digits


@given(st.integers() | st.integers(0, 9_000).flatmap(lambda bytes_: st.binary(min_size=bytes_, max_size=bytes_ + 5).map(
    lambda data: int.from_bytes(data, "big", signed=True)
)))  # fmt: skip
def test_the_digits_are_those_of_decimal(value: int) -> None:
    assert int_digits(value) == format(Decimal(value), "f")


@pytest.mark.parametrize("bits", [2_047, 2_048, 2_049, 13_999, 14_000, 14_001, 16_384, 16_385])
def test_powers_of_two_and_their_neighbours(bits: int) -> None:
    for value in ((1 << bits) - 1, 1 << bits, (1 << bits) + 1, -(1 << bits)):
        assert int_digits(value) == format(Decimal(value), "f")


def test_a_wild_number_costs_no_minutes() -> None:
    """A cell of a megabyte took ninety seconds."""
    began = time.process_time()
    assert len(int_digits(1 << 8 * 61_232)) > 131_072 + 16_383
    with pytest.raises(Unfit, match="more digits"):
        varint(b"\x7f" * (1 << 20))
    assert time.process_time() - began < 1.0
