"""Regions that lie are excluded one after the other, and the others descend again: within the bytes of one descent."""

from __future__ import annotations

import random
from typing import Any

import pytest
from simulation.hostile import Liar

from paritree.core.messages import ByteClass
from paritree.wire.loopback import LoopbackLink

ROWS = 3_000


def drifted(number: int, percent: int) -> list[tuple[int, str, str]]:
    """The rows of a region: those that are its own come from its number."""
    chance = random.Random(number)
    own = set(chance.sample(range(ROWS), ROWS * percent // 100)) if number else set()
    return [(i, f"of {number}" if i in own else f"name {i}", "1.50") for i in range(ROWS)]


@pytest.mark.parametrize(("regions", "liars"), [(3, 1), (5, 3)])
@pytest.mark.parametrize("percent", [10, 25, 30])
def test_whoever_is_excluded_the_others_are_not_asked_twice(
    memory_regions: Any, regions: int, liars: int, percent: int
) -> None:
    made = memory_regions()
    names = "abcde"[:regions]
    honest, lying = names[: regions - liars], names[regions - liars :]
    tables = {name: drifted(number, percent) for number, name in enumerate(names)}
    for name, rows in tables.items():
        made.add(name, rows, digester="compiled", shard_rows=ROWS)
    for name in lying:
        liar = Liar(made.links[name]._service, random.Random(name))
        liar.lies, liar.often = ["other digests"], 1.0
        made.links[name] = LoopbackLink(liar)
    report = made.sweep(limit=ROWS)
    assert sorted(region["name"] for region in report["regions"] if not region["compared"]) == list(lying)
    reasons = [stated["reason"] for stated in report["verdicts"] if stated["verdict"] == "unknown"]
    assert reasons
    assert all(": the keys below " in reason or reason.endswith(": all keys") for reason in reasons), reasons
    differing = [i for i in range(ROWS) if len({tables[name][i] for name in honest}) > 1]
    assert report["findings_total"] == len(differing)
    for name in honest:
        tally = made.links[name].ledger.of("s0")
        search = tally.bytes_sent + tally.bytes_received - tally.by_class[ByteClass.DETAILS]
        assert search <= 2 * 24 * ROWS + 16_384, name
