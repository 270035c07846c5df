"""Rows that a look tells by r′ alone, beside looks that tell them whole."""

from __future__ import annotations

import pytest

from paritree.core.looks import Looks, Wait
from paritree.core.messages import Look
from paritree.core.suspects import Fate, Suspect

KEY = b"key-digest-bytes"
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
HALF_A, HALF_B = A[8:], B[8:]


def look(*fresh: bytes) -> Look:
    return Look(KEY, fresh, fresh)


def looked(*seen: dict[str, Look], lag_max_s: float = 2.0) -> Suspect:
    """The suspect after those looks, which are as far apart as they have to be."""
    looks = Looks(list(seen[0]), [int.from_bytes(KEY[:8], "big")], lag_max_s)
    assert looks.receive_first({region: [shown] for region, shown in seen[0].items()}) == {}
    looks.receive_lacking({}, 10.0)
    for number, shown in enumerate(seen[1:], 1):
        now = 10.0 + number * lag_max_s
        asks = looks.again(now)
        assert set(asks) == set(looks.regions)
        assert not isinstance(asks, Wait)
        looks.receive_again({region: [one] for region, one in shown.items()}, now)
    [only] = looks.suspects.values()
    return only


def test_a_row_known_by_half_is_the_row_that_another_region_tells_whole():
    assert looked({"eu": look(HALF_A), "us": look(A)}).fate is Fate.HEALED
    assert looked({"eu": look(A), "us": look(HALF_A)}).fate is Fate.HEALED


def test_a_row_that_becomes_the_half_known_one_heals():
    halves = {"eu": look(HALF_A), "us": look(HALF_B)}
    assert looked(halves, {"eu": Look(KEY, same=True), "us": look(A)}).fate is Fate.HEALED


@pytest.mark.parametrize("half", ["first", "second"])
def test_a_row_that_is_told_whole_in_one_look_and_by_half_in_another_has_not_changed(half):
    """As where an agent was restarted and does not know any more what it told."""
    halves, whole = {"eu": look(HALF_A), "us": look(HALF_B)}, {"eu": look(A), "us": look(B)}
    suspect = looked(*([halves, whole] if half == "first" else [whole, halves]))
    assert suspect.fate is Fate.CONFIRMED
    assert suspect.groups == [["eu"], ["us"]]


def test_a_row_that_changed_is_not_taken_for_the_half_known_one():
    assert looked({"eu": look(HALF_A), "us": look(HALF_B)}, {"eu": look(HALF_A), "us": look(C)}).fate is Fate.OPEN


def test_duplicates_are_no_row_that_is_known_by_half():
    seen = {"eu": look(HALF_A), "us": look(A, A)}
    suspect = looked(seen, seen)
    assert suspect.fate is Fate.CONFIRMED
    assert suspect.counts == {"eu": 1, "us": 2}
