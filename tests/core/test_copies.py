"""Many copies of a row: equal multisets are equal tuples, told in one way, and counted as what they stand for."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.copies import FOLDED_BYTES, LISTED_MAX, counted, folded, problem, rows_in
from paritree.core.descent import shown_sum
from paritree.core.messages import Look
from paritree.core.suspects import Suspect

A, B = b"a" * 16, b"b" * 16
MULTISETS = st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(1, 10**9), max_size=4)


@given(MULTISETS, MULTISETS)
def test_equal_multisets_are_equal_tuples(one: dict[bytes, int], other: dict[bytes, int]) -> None:
    told = folded(one)
    assert (told == folded(other)) == (one == other)
    assert rows_in(told) == sum(one.values())
    assert problem(told) == ""
    total: Counter[bytes] = Counter()
    for digest, count in counted(told):
        total[digest] += count
    assert total == one
    assert (len(told) == 1) == (sum(one.values()) == 1), "one entry is one row"


@pytest.mark.parametrize("count", [1, 2, LISTED_MAX, LISTED_MAX + 1, 100])
def test_digests_and_counts_fold_alike_and_add_up_alike(count: int) -> None:
    digests = [A] * count + [B]
    told = folded(digests)
    assert told == folded({B: 1, A: count})
    assert max(map(len, told)) == (FOLDED_BYTES if count > LISTED_MAX else 16)
    assert shown_sum([Look(bytes(16), told)]) == shown_sum([Look(bytes(16), tuple(digests))])
    assert Suspect(bytes(16), {"eu": told}).counts == {"eu": count + 1}


@pytest.mark.parametrize(
    "told",
    [
        (B, A),
        (A[:8],),
        (A,) * (LISTED_MAX + 1),
        (A + bytes(8),),
        (A, A + (LISTED_MAX - 1).to_bytes(8, "little")),
        (A, A, A + (LISTED_MAX + 1).to_bytes(8, "little")),
        (A, A + (99).to_bytes(8, "little"), A + (98).to_bytes(8, "little")),
        (B, A + (99).to_bytes(8, "little")),
    ],
)
def test_what_is_told_otherwise_is_found(told: tuple[bytes, ...]) -> None:
    assert problem(told)
