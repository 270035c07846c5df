"""Mistakes planted in the sizes of sketches, and in how sums of column digests are taken apart.

(name, file, old text, new text, tests): see ``mutants.Mutant``.
"""

from __future__ import annotations

from typing import Final

from mutants_durable import Planted

LOCATING: Final = "tests/core/test_locating.py"

HALVES: Final = "tests/core/test_looks_halves.py"
ROUNDS: Final = "tests/core/test_rounds.py"
DESCENT: Final = "tests/core/test_descent.py"

PROTOCOL: Final[tuple[Planted, ...]] = (
    (
        "sketch: sized as if estimates were never too low",
        "paritree/core/sketch.py",
        "DEVIATIONS: Final = 3.1\n",
        "DEVIATIONS: Final = 0.0\n",
        (ROUNDS,),
    ),
    (
        "sketch: fewer cells than keys need",
        "paritree/core/sketch.py",
        "CELLS_A_KEY: Final = 1.34\n",
        "CELLS_A_KEY: Final = 1.0\n",
        (ROUNDS,),
    ),
    (
        "descent: no second sketch where one does not come clean",
        "paritree/core/descent.py",
        "SKETCHES_MAX: Final = 2\n",
        "SKETCHES_MAX: Final = 1\n",
        (f"{DESCENT}::test_a_sketch_that_is_a_little_too_small_is_completed_by_half_of_one",),
    ),
    (
        "descent: sketches without end",
        "paritree/core/descent.py",
        "SKETCHES_MAX: Final = 2\n",
        "SKETCHES_MAX: Final = 9\n",
        (f"{DESCENT}::test_sketches_that_do_not_decode_are_followed_by_lists",),
    ),
    (
        "descent: the second sketch has the salt of the first",
        "paritree/core/descent.py",
        "                self._salt = mix(self._salt)\n",
        "",
        (f"{DESCENT}::test_every_sketch_has_a_salt_of_its_own",),
    ),
    (
        "descent: completeness without the first half of digests",
        "paritree/core/descent.py",
        "(replace(told, r=needed.r) if self._solved else told) != needed",
        "replace(told, r=needed.r) != needed",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named[other first half]",),
    ),
    (
        "sums: a fold off by one",
        "paritree/core/leaves.py",
        "a.reshape(shape).sum(axis=1, dtype=np.uint64)",
        "np.roll(a, 1).reshape(shape).sum(axis=1, dtype=np.uint64)",
        ("tests/core/test_leaves.py::test_folding_equals_summing_at_that_depth",),
    ),
    (
        "sweep: a region that is excluded has the others asked anew",
        "coordinator/answered.py",
        "if (region, question) not in self._answers:",
        "if True:",
        ("tests/e2e/test_sweep_liars.py",),
    ),
    (
        "ledger: nothing of it in the store",
        "coordinator/runner.py",
        "if tally.sent.get(kind) or tally.received.get(kind)",
        "if False",
        ("tests/simulation/test_survival.py::test_every_trial[0]",),
    ),
    (
        "descent: halves where nothing was solved",
        "paritree/core/descent.py",
        "return not self._in_lists and all(pair.decoded.complete for pair in self._pairs.values())",
        "return True",
        (DESCENT,),
    ),
    (
        "looks: a row told whole after it was told by half has changed",
        "paritree/core/looks.py",
        "all(alike(version, now.versions[region]) for",
        "all(version == now.versions[region] for",
        (HALVES,),
    ),
    (
        "columns: sums once more of rows that sums did not tell apart",
        "paritree/core/looks.py",
        "picked=self._plan.one_by_one(len(lacking)), read=False",
        "read=False",
        ("tests/e2e/test_sweep_columns.py",),
    ),
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
