"""Some mistakes planted on purpose, each of which has to be caught; ``poe mutants`` plants all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from mutants import MUTANTS, ROOT

PLANTED = (
    "sketch: xor instead of add",
    "sketch: fold off by one",
    "sums: xor instead of add",
    "sums: a fold off by one",
    "decoding: the residual check dropped",
    "decoding: the even-delta rule left out",
    "index: a closed bound",
    "descent: the completeness check dropped",
    "descent: the farthest region as reference",
    "headers: whatever they say, all are compared",
    "checkpoint: answers to other questions are believed",
    "fence: agents answer everybody",
    "idempotency: the same request is another sweep",
    "breaker: it never opens",
)


def test_these_are_caught() -> None:
    done = subprocess.run(
        [sys.executable, "tests/mutants.py", *PLANTED], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught by tests/") == len(PLANTED)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_can_be_planted(mutant) -> None:
    """Its text stands where it says, exactly once; a change of that line brings its mutant along."""
    compile(mutant.source, mutant.file, "exec")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text(encoding="utf-8")


def test_a_mutant_that_changes_nothing_survives_and_is_told() -> None:
    """The harness itself: what no test notices is not called caught."""
    script = (
        "import sys; sys.path.insert(0, 'tests'); from mutants import *\n"
        "same = Mutant('none', 'paritree/core/sketch.py', 'TABLES: Final = 4', 'TABLES: Final = 2 + 2',"
        " ('tests/core/test_sketch.py::test_sizes_and_misuse',))\n"
        "sys.exit(plant_each([same])['none'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "none: SURVIVED\n"), done.stderr
