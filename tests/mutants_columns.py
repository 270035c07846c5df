"""Mistakes planted in how sums of column digests are taken apart.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_durable import Planted

LOCATING: Final = "tests/core/test_locating.py"

COLUMNS: Final[tuple[Planted, ...]] = (
    (
        "columns: places counted from 0",
        "paritree/core/locating.py",
        "(place + 1) * first % modulus == second",
        "place * first % modulus == second",
        (f"{LOCATING}::test_regions_that_differ_in_one_column_each_are_told_apart",),
    ),
    (
        "columns: the first of several places that fit is taken",
        "paritree/core/locating.py",
        "return hits if first and len(hits) == 1 and",
        "return hits[:1] if hits and",
        (f"{LOCATING}::test_a_difference_that_fits_several_places_is_asked_about",),
    ),
)
