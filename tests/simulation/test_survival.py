"""A thousand trials by seed, in which processes die; ``python tests/simulation/seeds.py --trial SEED`` replays one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from simulation.check import compared
from simulation.replaying import demand_replay, planted
from simulation.seeds import play_trial, quiet
from simulation.trial import KINDS, trial_of

TRIALS = 1_000
A_TEST = 50
met: Counter[str] = Counter()
"""What the trials met, over all tests of this module."""
played: set[int] = set()


@pytest.fixture(autouse=True, scope="module")
def silence() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("first", range(0, TRIALS, A_TEST))
def test_every_trial(first: int) -> None:
    for seed in range(first, first + A_TEST):
        once(seed)


def once(seed: int) -> None:
    """Play a trial and note what it met."""
    if seed in played:
        return
    played.add(seed)
    trial, happened, reports = play_trial(seed)
    met.update(happened)
    met["liveness"] += trial.liveness
    met["written"] += bool(trial.writes)
    met["slow disks"] += trial.disk_s > 0
    whole = all(len(compared(report)) == len(trial.tables) for report in reports)
    met["whole"] += whole
    met["whole and written"] += whole and bool(trial.writes)
    met["equal"] += reports[-1]["verdict"] == "equal"


def test_the_trials_meet_what_they_are_for() -> None:
    """Every process ends in every way, sweeps go on over coordinators, and most of them come to a whole report."""
    for seed in range(TRIALS):
        once(seed)
    for who in ("agent", "coordinator"):
        for how in KINDS:
            assert met[f"{who}: {how}"] > TRIALS / 50, (who, how, met)
    assert met["fenced"] > TRIALS / 10
    assert met["resumed"] > TRIALS / 5
    assert met["liveness"] > TRIALS / 4
    assert met["slow disks"] > TRIALS / 3
    assert met["whole and written"] > TRIALS / 10
    assert met["equal"] > TRIALS / 20
    assert met["whole"] > TRIALS * 0.8


@pytest.mark.parametrize("seed", [7, 12, 20, 33])
def test_a_trial_is_the_same_each_time(seed: int) -> None:
    """Whether for liveness (7) or not, with writes (20), with a power cut (12): what happens when, and every report."""
    plays = []
    for _ in range(2):
        trace: list[str] = []
        _, happened, reports = play_trial(seed, trace.append)
        for region in (region for report in reports for region in report["regions"]):
            region["scan_s"] = 0  # by a real clock
        plays.append((happened, trace, reports))
    assert plays[0] == plays[1]
    assert all(plays[0])


def test_a_trial_that_fails_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.survival.check", planted)
    demand_replay(lambda: play_trial(12), "python tests/simulation/seeds.py --trial 12", trial_of(12))
