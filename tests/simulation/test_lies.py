"""Single lies, each told by one of three regions in every answer of its kind: what the report makes of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from simulation.check import check, compared, versions
from simulation.hostile import LIES, Liar
from simulation.network import FAIR
from simulation.seeds import quiet
from simulation.world import World, planted, simulate

from paritree.core.planner import Form

SKETCHED = {"wrong cell", "wrong product", "other salt", "other size", "empty sketch"}
LISTED = {"a row less", "a row twice", "out of order", "other rows", "rows elsewhere"}
SUMMED = {"wrong sums", "few sums"}
KEPT = {
    "other probe",  # a cell that is not its S1 costs a sketch more
    "wrong product",  # the sketch does not come clean, and lists follow
    "other pulls",  # the estimate is wrong, and nothing rests on it
    "dead letters",  # keys that it lacks are unknown
    "out of order",  # lists have no order
    "other rows",  # a key more is looked at, and is equal
    "other tails",  # a key of its own that nobody else has
    "other columns",  # columns are named that do not differ
    "other memory",  # what was told is asked for again
    "forgetful",
    "progress",
}
"""Lies that add up: the region stays in, and what is wrong is said of its own rows only. Others cost it its place."""


@pytest.fixture(autouse=True, scope="module")
def silence() -> Iterator[None]:
    with quiet():
        yield


def told(lie: str, form: Form | None, spool: Path, seed: int = 1) -> tuple[World, dict[str, Any]]:
    """One lie, always."""
    rng = random.Random(seed)
    world = World(seed, planted(rng, 3, 60, 40), FAIR, "r1", form, False, rng)

    def disguise(service: Any) -> Liar:
        liar = Liar(service, random.Random(f"{lie} {seed}"))
        liar.lies, liar.often = [lie], 1.0
        return liar

    report = simulate(world, spool, disguise)
    check(world, report)
    return world, report


def form_of(lie: str) -> Form | None:
    """The form of the descent in which there is something to lie about."""
    forms = {Form.SKETCH: SKETCHED, Form.LIST: LISTED, Form.TREE: SUMMED}
    return next((form for form, lies in forms.items() if lie in lies), None)


@pytest.mark.parametrize("lie", LIES)
def test_one_lie(lie: str, tmp_path: Path) -> None:
    """The two others are compared, whatever it is, and found to differ in just what they differ in."""
    world, report = told(lie, form_of(lie), tmp_path)
    assert {"r0", "r2"} == set(compared(report)) - {"r1"}
    assert ("r1" in compared(report)) == (lie in KEPT)
    assert versions(world.tables, ["r0", "r2"])
    assert "different" in {v["verdict"] for v in report["verdicts"]}
