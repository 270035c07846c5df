"""An index whose machine's clock is set: an old one never passes for a new one."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from indexed import install, opened, reached, scanned

PROVEN_AT = 1_800_000_000.0


@pytest.mark.parametrize(
    ("now", "age_s"),
    [
        (PROVEN_AT, 0.0),
        (PROVEN_AT + 90.0, 90.0),
        (PROVEN_AT + 400 * 86_400.0, 400 * 86_400.0),
        (PROVEN_AT - 0.5, 0.0),
        (PROVEN_AT - 60.0, math.inf),
        (0.0, math.inf),
    ],
)
def test_its_age_by_a_clock_that_was_set(tmp_path: Path, now: float, age_s: float) -> None:
    with opened(tmp_path / "index", clock=lambda: now) as index:
        install(index, [scanned(index, "all", [], PROVEN_AT)], reached("1", as_of=PROVEN_AT))
        assert index.age_s() == age_s
