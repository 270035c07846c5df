"""Rounds of sweeps over ten million rows, by seed; ``tests/bench/rounds.py`` plays ten thousand of each band."""

from __future__ import annotations

import pytest
from planted import BANDS

SEEDS = 150


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_sweeps_take_one_round_or_two_or_three(band):
    took = {f"python tests/planted.py {seed} {band.fewest} {band.most}": band.sweep(seed)[1] for seed in range(SEEDS)}
    assert {replay: rounds for replay, rounds in took.items() if rounds > band.rounds} == {}
    assert max(took.values()) == band.rounds
