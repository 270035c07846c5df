"""A thousand small worlds by seed; ``python tests/descending.py SEED`` replays one."""

from __future__ import annotations

import pytest
from descending import check_seed

SEEDS = 1_000
A_TEST = 100


@pytest.mark.parametrize("first", range(0, SEEDS, A_TEST))
def test_found_is_planted_for_every_seed(first):
    for seed in range(first, first + A_TEST):
        try:
            check_seed(seed)
        except AssertionError as error:
            raise AssertionError(f"replay with: python tests/descending.py {seed}") from error
