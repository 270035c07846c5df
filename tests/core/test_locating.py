"""Two sums of column digests say which column differs, or that they do not say it; never another one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.columnplan import ColumnPlan
from paritree.core.looktable import Picked, cut, marked, packed
from paritree.core.shown import SUM_BYTES, Row
from paritree.core.suspects import Suspect

COLUMNS = 10
ROW = Row(COLUMNS)
NAMED = Picked(packed([False] * COLUMNS), packed(i > 0 for i in range(COLUMNS)), 4, located=True)
"""All but the key, which is the first."""


def told(digests: list[bytes], picked: Picked = NAMED) -> tuple[bytes, ...]:
    """As they arrive from a region."""
    sent = cut(digests, picked)
    assert sent is not None
    return ROW.spread(sent, picked)[0]


def suspect(rows: dict[str, list[bytes]]) -> Suspect:
    """A key whose rows have these column digests."""
    versions = {region: (b"".join(digests),) for region, digests in rows.items()}
    found = Suspect(b"k" * 16, versions=versions, columns={region: told(digests) for region, digests in rows.items()})
    found.locate()
    return found


def differing(found: Suspect) -> list[int]:
    return [i for i, digests in enumerate(zip(*found.columns.values(), strict=True)) if len(set(digests)) > 1]


@given(st.integers(0, 1 << 32), st.lists(st.integers(1, COLUMNS - 1), min_size=1, max_size=4))
def test_regions_that_differ_in_one_column_each_are_told_apart(seed: int, changed: list[int]) -> None:
    """Each region beside the first one has changed one column; two may have changed the same one, or alike."""
    chance = random.Random(seed)
    first = [chance.randbytes(8) for _ in range(COLUMNS)]
    values = [chance.randbytes(8) for _ in range(2)]
    rows = {"r0": first}
    for number, place in enumerate(changed, 1):
        rows[f"r{number}"] = [*first[:place], chance.choice(values), *first[place + 1 :]]
    found = suspect(rows)
    assert not found.lacks_columns
    assert differing(found) == sorted(set(changed))
    for place in set(changed):  # equal where the true ones are equal, and only there
        seen = [found.columns[region][place] for region in rows]
        real = [digests[place] for digests in rows.values()]
        assert [seen.index(one) for one in seen] == [real.index(one) for one in real]


@given(st.integers(0, 1 << 32), st.sets(st.integers(1, COLUMNS - 1), min_size=2))
def test_rows_that_differ_in_several_columns_are_asked_about(seed: int, changed: set[int]) -> None:
    chance = random.Random(seed)
    one = [chance.randbytes(8) for _ in range(COLUMNS)]
    two = [chance.randbytes(8) if i in changed else digest for i, digest in enumerate(one)]
    assert suspect({"eu": one, "us": two}).lacks_columns


def test_equal_rows_differ_in_no_column() -> None:
    digests = [bytes([i]) * 8 for i in range(COLUMNS)]
    assert differing(suspect({"eu": digests, "us": digests})) == []


@pytest.mark.parametrize("delta", [0, 1 << 31])
def test_a_difference_that_fits_several_places_is_asked_about(delta: int) -> None:
    """Times 2^31, all odd places look alike mod 2^32; and sums that seem equal must be equal both."""
    one = [bytes(8) for _ in range(COLUMNS)]
    two = [bytes(8), (delta or 1).to_bytes(8, "little"), *one[2:]]
    if not delta:
        two[2] = (2**32 - 1).to_bytes(8, "little")  # the first sum stays the same
    assert suspect({"eu": one, "us": two}).lacks_columns


def test_sums_and_digests_side_by_side_are_asked_about() -> None:
    digests = [bytes([i]) * 8 for i in range(COLUMNS)]
    found = Suspect(b"k" * 16, versions={"eu": (b"a",), "us": (b"b",)}, columns={"eu": told(digests)})
    found.columns["us"] = tuple(digests)
    found.locate()
    assert found.lacks_columns
    assert min(map(len, told(digests)[1:])) > SUM_BYTES


PLAN = ColumnPlan(COLUMNS, frozenset([0]))


@pytest.mark.parametrize(
    ("differing", "several", "located"),
    [
        (set(range(1, 10)), 0.0, True),
        (set(range(1, 10)), 0.1, True),
        (set(range(1, 10)), 0.9, False),  # most would be asked about again
        ({1}, 0.0, False),  # one column and the sum of the others take no more
        ({1, 2, 3}, 1.0, False),
        (set(), 0.0, False),
    ],
)
def test_two_sums_are_asked_for_where_they_take_least(differing: set[int], several: float, located: bool) -> None:
    picked = PLAN.of_many(6_000, differing, several)
    assert picked is not None
    assert picked.located is located
    if located:
        assert marked(picked.together, COLUMNS).tolist() == [i > 0 for i in range(COLUMNS)]
        assert not any(picked.alone)
        assert picked.width >= 4


def test_few_keys_and_shifted_grids_are_asked_for_everything() -> None:
    for plan, keys in ((PLAN, 1_000), (ColumnPlan(COLUMNS, frozenset([0]), 1), 6_000)):
        picked = plan.of_many(keys, set(range(1, 10)), 0.0)
        assert picked is not None
        assert not picked.located
