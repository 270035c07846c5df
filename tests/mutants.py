"""Mistakes planted on purpose: each replaces one exact piece of the source, and named tests have to fail for it.

``python tests/mutants.py`` plants all, one by one, and says which test caught each; names plant those. The source on
disk stays as it is: a process of its own compiles the changed text.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any, Final

from mutants_durable import DURABLE
from mutants_indexes import INDEXES
from mutants_jobs import SPARING
from mutants_protocol import PROTOCOL
from mutants_survival import SURVIVAL

ROOT: Final = Path(__file__).parents[1]
SURVIVED, CAUGHT, UNUSABLE = 0, 1, 2
OPTIONS: Final = ("-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True, slots=True)
class Mutant:
    """``old`` stands exactly once in the file and becomes ``new``; ``tests`` are the narrow ones that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        return self.file.removesuffix(".py").replace("/", ".")

    @property
    def source(self) -> str:
        """The changed text. Raises AssertionError where the old one is not there exactly once."""
        text = (ROOT / self.file).read_text(encoding="utf-8")
        assert text.count(self.old) == 1, f"{self.name}: its text stands {text.count(self.old)} times in {self.file}"
        return text.replace(self.old, self.new)


SKETCH = "tests/core/test_sketch.py"
DESCENT = "tests/core/test_descent.py"
LOOKS = "tests/core/test_looks.py"
SAMPLING = "tests/core/test_sampling.py"
RANGES = "tests/e2e/test_sweep_ranges.py"
ANSWER = "tests/wire/test_answer.py"

MUTANTS: Final = (
    Mutant(
        "sketch: xor instead of add",
        "paritree/core/sketch.py",
        "np.add.at(sketch.sums[table, :, part], position, words[part])",
        "np.bitwise_xor.at(sketch.sums[table, :, part], position, words[part])",
        (f"{SKETCH}::test_a_sketch_is_linear",),
    ),
    Mutant(
        "sums: xor instead of add",
        "paritree/core/leaves.py",
        "self.r + other.r, self.r2 + other.r2",
        "self.r ^ other.r, self.r2 ^ other.r2",
        ("tests/core/test_leaves.py::test_any_sharding_gives_the_same_sums",),
    ),
    Mutant(
        "sketch: a table left out",
        "paritree/core/sketch.py",
        "for j in range(TABLES))",
        "for j in range(TABLES - 1))",
        (f"{DESCENT}::test_two_rounds_for_few_differences_three_for_more",),
    ),
    Mutant(
        "sketch: fold off by one",
        "paritree/core/sketch.py",
        "self.sums.reshape(TABLES, -1, cells, 3)",
        "np.roll(self.sums, 1, axis=1).reshape(TABLES, -1, cells, 3)",
        (f"{SKETCH}::test_folding_equals_building_small",),
    ),
    Mutant(
        "probe: pulls that do not count repeated cells",
        "paritree/core/sketch.py",
        "np.add.at(probe.pulls[table, :, part], position, pulls)",
        "probe.pulls[table, position, part] += pulls",
        (f"{SKETCH}::test_the_shards_of_any_sharding_add_up",),
    ),
    Mutant(
        "decoding: the residual check dropped",
        "paritree/core/decode.py",
        "complete = not any(sums.any() for sums in work)",
        "complete = True",
        (f"{SKETCH}::test_an_overloaded_sketch_does_not_come_clean_and_finds_no_phantom",),
    ),
    Mutant(
        "decoding: the even-delta rule left out",
        "paritree/core/decode.py",
        "zeros = _trailing_zeros(delta)",
        "zeros = np.where(delta == 0, 64, 0).astype(np.int64)",
        (f"{SKETCH}::test_even_deltas_are_solved_up_to_32_zero_bits",),
    ),
    Mutant(
        "decoding: the low bits of the products not checked",
        "paritree/core/decode.py",
        "    usable &= ((low & mask) == 0) & ((high & mask) == 0)\n",
        "",
        (f"{SKETCH}::test_a_cell_that_is_not_its_keys_is_not_believed",),
    ),
    Mutant(
        "decoding: any cell may claim a key",
        "paritree/core/decode.py",
        "    usable &= (mixed(k, seed) % np.uint64(size)) == positions.astype(np.uint64)\n",
        "",
        (f"{SKETCH}::test_a_cell_that_is_not_its_keys_is_not_believed",),
    ),
    Mutant(
        "index: a closed bound",
        "edge_agent/index/run.py",
        "int(self.cuts(np.array([end], np.uint64))[0])\n        return low, high",
        "int(self.cuts(np.array([end + 1], np.uint64))[0])\n        return low, high",
        ("tests/agent/test_index.py",),
    ),
    Mutant(
        "index: counts of nodes as if nothing was taken away",
        "edge_agent/index/index.py",
        "return sums_between(words.weights.astype(np.uint64), cuts)",
        "return np.diff(cuts).astype(np.uint64)",
        ("tests/agent/test_index.py",),
    ),
    Mutant(
        "descent: the completeness check dropped",
        "paritree/core/descent.py",
        "        wrong = self._incomplete(looks)\n",
        "        wrong: list[str] = []\n",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named",),
    ),
    Mutant(
        "completeness: the second half of digests ignored",
        "paritree/core/leaves.py",
        "(self.r - other.r) & mask, (self.r2 - other.r2) & mask)",
        "(self.r - other.r) & mask, 0)",
        (f"{DESCENT}::test_only_r2_differs_is_never_equal",),
    ),
    Mutant(
        "completeness: the count ignored",
        "paritree/core/leaves.py",
        "return NodeSum(self.count - other.count,",
        "return NodeSum(0,",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named",),
    ),
    Mutant(
        "descent: a sketch is believed without its root",
        "paritree/core/descent.py",
        "if not answer.adds_up_to(self._roots[name].r):",
        "if False:",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named",),
    ),
    Mutant(
        "descent: children are believed without their parent",
        "paritree/core/descent.py",
        "            if wrong.any():\n",
        "            if False:\n",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named",),
    ),
    Mutant(
        "descent: keys that were not asked for are taken",
        "paritree/core/descent.py",
        "if not asked.issuperset(ks_of(answer)):",
        "if False:",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named",),
    ),
    Mutant(
        "descent: the farthest region as reference",
        "paritree/core/pairs.py",
        "return min(names, key=lambda name: (distance[name], rows[name]))",
        "return max(names, key=lambda name: (distance[name], rows[name]))",
        (f"{DESCENT}::test_one_far_off_region_leaves_the_others_alone",),
    ),
    Mutant(
        "looks: a row known by half is another one",
        "paritree/core/suspects.py",
        "self.versions = {name: halved(each) for name, each in self.versions.items()}",
        "pass",
        ("tests/core/test_looks_halves.py",),
    ),
    Mutant(
        "lists: rows count once, however often they are there",
        "paritree/core/listing.py",
        "differs = (counts != counts[0]).any(axis=0)",
        "differs = ((counts > 0) != (counts[0] > 0)).any(axis=0)",
        (f"{DESCENT}::test_the_whole_curve_stays_below_the_bound",),
    ),
    Mutant(
        "lists: rows from anywhere",
        "paritree/core/listing.py",
        "elsewhere = nodes[position] != below\n",
        "elsewhere = np.zeros(len(below), bool)\n",
        (f"{DESCENT}::test_answers_that_do_not_add_up_are_named", SAMPLING),
    ),
    Mutant(
        "planner: sketches may cost as much as everything",
        "paritree/core/planner.py",
        "SKETCH_ROW_BYTES: Final = 18\n",
        "SKETCH_ROW_BYTES: Final = 96\n",
        (f"{DESCENT}::test_sketches_that_never_decode_still_stay_below_the_bound",),
    ),
    Mutant(
        "looks: one look confirms",
        "paritree/core/looks.py",
        "return still and (suspect.closing or apart_s >= self._lag_max_s)",
        "return True",
        (LOOKS,),
    ),
    Mutant(
        "looks: two looks at once confirm",
        "paritree/core/looks.py",
        " and (suspect.closing or apart_s >= self._lag_max_s)",
        "",
        (LOOKS,),
    ),
    Mutant(
        "looks: what is missed is not looked at once more",
        *("paritree/core/looks.py", "if suspect.missing_in and not suspect.closing:", "if False:", (LOOKS,)),
    ),
    Mutant(
        "looks: what was shown as gone is not asked for again",
        "paritree/core/looks.py",
        "region not in s.versions or any(s.versions.values())",
        "region not in s.versions",
        (LOOKS,),
    ),
    Mutant(
        "looks: regions that lack a key are a group",
        "paritree/core/suspects.py",
        "            if version:\n",
        "            if True:\n",
        (LOOKS,),
    ),
    Mutant(
        "headers: whatever they say, all are compared",
        "coordinator/exchanges.py",
        "    if len(groups) < 2:\n",
        "    if True:\n",
        ("tests/coordinator/test_alike.py",),
    ),
    Mutant(
        "headers: an answer about another state is taken",
        "coordinator/exchanges.py",
        "if header is not None and header != expected:",
        "if False:",
        ("tests/simulation/test_lies.py",),
    ),
    Mutant(
        "answers: gaps are passed over",
        "paritree/wire/answer.py",
        "if reply.part > self._next or self.complete:",
        "if self.complete:",
        (ANSWER,),
    ),
    Mutant(
        "answers: repeated parts are used again",
        "paritree/wire/answer.py",
        "        if reply.part < self._next:\n            return None\n",
        "",
        (ANSWER,),
    ),
    Mutant(
        "verdict: a region that was left out is forgotten",
        "paritree/core/manifest.py",
        "stated += [Stated(Verdict.UNKNOWN, (f.name,), f.excluded) for f in facts if f.excluded]",
        "stated += []",
        ("tests/e2e/test_sweep_regions.py",),
    ),
    Mutant(
        "ranges: counts alone confirm",
        "paritree/core/ranges.py",
        "return bool(self.judged.findings)",
        "return True",
        (f"{RANGES}::test_a_load_that_arrives_late_is_no_finding_and_not_equal",),
    ),
    Mutant(
        "ranges: the sample shows other rows than were listed",
        "paritree/core/sampling.py",
        "if shown_sum(answer) != self._lists[name].only(asked).total:",
        "if False:",
        (f"{SAMPLING}::test_a_region_whose_answers_do_not_add_up_is_named",),
    ),
    Mutant(
        "ranges: no region is ever apart",
        "paritree/core/ranges.py",
        "total + more > limits.SUSPECTS_MAX",
        "False",
        ("tests/core/test_ranges.py",),
    ),
    *(Mutant(*planted) for planted in (*PROTOCOL, *DURABLE, *INDEXES, *SPARING, *SURVIVAL)),
)


class _Changed(importlib.machinery.SourceFileLoader):
    """Compiles another text than the file's; never from or into a cache."""

    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec")


class _Planting(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._mutant.module:
            return None
        file = str(ROOT / self._mutant.file)
        return importlib.util.spec_from_loader(fullname, _Changed(fullname, file, self._mutant.source))


class _First:
    """The first test that failed."""

    failed = ""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid


def plant(mutant: Mutant) -> int:
    """Run its tests with the mutant in this process, which is of no other use afterwards. Prints what caught it."""
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate])  # no smaller example is needed
    settings.load_profile("mutants")
    assert mutant.module not in sys.modules, f"{mutant.module} is imported already"
    sys.meta_path.insert(0, _Planting(mutant))
    sys.path.insert(0, str(ROOT))
    os.chdir(ROOT)
    first = _First()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        code = pytest.main([*OPTIONS, *mutant.tests], plugins=[first])
    verdict = {0: SURVIVED, 1: CAUGHT}.get(int(code), UNUSABLE)
    how = {SURVIVED: "SURVIVED", CAUGHT: f"caught by {first.failed}", UNUSABLE: f"UNUSABLE: pytest ended with {code}"}
    sys.stdout.write(f"{mutant.name}: {how[verdict]}\n")
    sys.stdout.flush()
    return verdict


def plant_each(mutants: Sequence[Mutant]) -> dict[str, int]:
    """Plant them one after the other, each in a fork of this process."""
    import hypothesis  # noqa: F401 - what every fork needs is imported once
    import numpy  # noqa: F401
    import pytest  # noqa: F401

    verdicts: dict[str, int] = {}
    for mutant in mutants:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = UNUSABLE
            try:
                code = plant(mutant)
            except BaseException:  # noqa: BLE001 - a fork never returns to its parent's work
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        verdicts[mutant.name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return verdicts


def main(names: Sequence[str]) -> int:
    """0 when every mutant was caught."""
    mutants = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    if unknown := set(names) - {mutant.name for mutant in mutants}:
        sys.stdout.write(f"no such mutant: {', '.join(sorted(unknown))}\n")
        return 2
    began = time.monotonic()
    verdicts = plant_each(mutants)
    caught = sum(verdict == CAUGHT for verdict in verdicts.values())
    sys.stdout.write(f"{caught} of {len(verdicts)} caught in {time.monotonic() - began:.0f} s\n")
    return 0 if caught == len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
