"""A thousand worlds by seed; ``python tests/simulation/seeds.py SEED`` replays one.

What is found is what was planted, whatever the network does; whatever one region says, nothing wrong is said of others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from simulation.check import compared
from simulation.network import FAIR, ROUGH, STORM
from simulation.replaying import demand_replay, planted
from simulation.seeds import play, quiet
from simulation.world import world_of

from paritree.core.planner import Form

SEEDS = 1_000
A_TEST = 100
met: Counter[str] = Counter()
"""What the seeds met, over all tests of this module."""
played: set[int] = set()


@pytest.fixture(autouse=True, scope="module")
def silence() -> Iterator[None]:
    with quiet():
        yield


@pytest.mark.parametrize("first", range(0, SEEDS, A_TEST))
def test_every_seed(first: int) -> None:
    for seed in range(first, first + A_TEST):
        once(seed)


def once(seed: int) -> None:
    """Play a seed and note what it met."""
    if seed in played:
        return
    played.add(seed)
    world, report = play(seed)
    lost = set(world.tables) - set(compared(report))
    met["ranges"] += any(finding["kind"] == "range" for finding in report["findings"])
    met["liar found out"] += world.hostile in lost
    met["liar kept"] += bool(world.hostile) and not lost
    met["regions lost in rough weather"] += world.weather is ROUGH and not world.hostile and bool(lost)
    met["regions lost in a storm"] += world.weather is STORM and not world.hostile and bool(lost)
    met["honest lost to a liar"] += world.weather is FAIR and bool(lost - {world.hostile}) and len(world.tables) > 2


def test_the_seeds_meet_what_they_are_for() -> None:
    """Every kind of world, and luck in none of them: patience overcomes rough weather, liars are told from others."""
    worlds = [world_of(seed) for seed in range(SEEDS)]
    assert {len(world.tables) for world in worlds} == {2, 3, 5, 8}
    for form in (None, *Form):
        assert sum(world.form is form for world in worlds) > SEEDS / 8
    for seed in range(SEEDS):
        once(seed)
    assert met["ranges"] > 20
    assert met["liar found out"] > 100
    assert met["liar kept"] > 50
    assert met["regions lost in a storm"] > 5
    assert met["regions lost in rough weather"] <= 3
    assert met["honest lost to a liar"] <= 5


def test_a_seed_is_the_same_world_each_time() -> None:
    plays = []
    for _ in range(2):
        trace: list[str] = []
        _, report = play(104, trace.append)
        for region in report["regions"]:
            region["scan_s"] = region["position"] = 0
        plays.append((report, trace))
    assert plays[0] == plays[1]
    assert all(plays[0])


def test_a_seed_that_fails_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulation.seeds.check", planted)
    demand_replay(lambda: play(104), "python tests/simulation/seeds.py 104", world_of(104))
