"""Tries of an exchange by a clock that the test moves: pauses, patience, busy regions, budgets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.bucket import SLOWEST_S, Backpressure, Bucket
from paritree.core.budget import Budget
from paritree.core.errors import PeerError
from paritree.core.retry import Busy, Retries, RetryPolicy

CUT = PeerError("cut", retryable=True)


def tried(policy: RetryPolicy, error: Exception, chance: float = 1.0, work_s: float = 0.0) -> list[float]:
    """The pauses of an exchange that always fails."""
    now = 100.0
    retries, pauses = Retries(policy, now), []
    while (pause := retries.after(error, now := now + work_s, chance)) is not None:  # type: ignore[arg-type]
        pauses.append(pause)
        now += pause
        assert len(pauses) < 10_000, "it never gives up"
    return pauses


def test_pauses_double_up_to_their_bound_and_are_drawn_below_it() -> None:
    policy = RetryPolicy(attempts_max=8, pause_s=1.0, pause_s_max=15.0)
    assert tried(policy, CUT) == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert tried(policy, CUT, 0.5) == [0.5, 1.0, 2.0, 4.0, 7.5, 7.5, 7.5]
    assert tried(policy, CUT, 0.0) == [0.0] * 7


def test_what_cannot_be_mended_is_not_tried_again() -> None:
    assert tried(RetryPolicy(patience_s=1e9), PeerError("refused")) == []


def test_it_is_tried_for_as_long_as_patience_lasts_and_at_least_so_often() -> None:
    pauses = tried(RetryPolicy(attempts_max=4, patience_s=60.0), CUT)
    assert sum(pauses) >= 60.0 > sum(pauses[:-1])
    assert len(tried(RetryPolicy(attempts_max=4, patience_s=60.0), CUT, work_s=600.0)) == 3


@given(st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1), st.floats(0.0, 100.0))
def test_no_pause_reaches_beyond_patience_once_there_were_tries_enough(chances: list[float], patience_s: float) -> None:
    policy = RetryPolicy(attempts_max=4, patience_s=patience_s, pause_s=0.3)
    began = now = 1e9  # where the steps of a float are 1e-7
    retries = Retries(policy, now)
    for chance in [*chances, *[0.5] * 1_000]:
        if (pause := retries.after(CUT, now, chance)) is None:
            break
        now += pause
    else:
        pytest.fail("it never gives up")
    assert patience_s - 2e-3 <= now - began <= max(patience_s, 0.3 + 0.6 + 1.2) + 1e-3


def test_progress_begins_the_count_anew() -> None:
    retries, now = Retries(RetryPolicy(attempts_max=2), 0.0), 0.0
    for shards in range(20):
        now += 5.0
        retries.reached((shards, 0))
        assert retries.after(CUT, now, 0.5) is not None
    retries.reached((19, 0))  # no further than before
    assert retries.after(CUT, now, 0.5) is None


def test_progress_does_not_go_on_for_ever() -> None:
    retries = Retries(RetryPolicy(total_s_max=100.0), 0.0)
    retries.reached((1,))
    assert retries.after(CUT, 99.0, 0.5) is not None
    assert retries.after(CUT, 100.0, 0.5) is None
    assert retries.after(Busy("busy", 1.0), 100.0, 0.5) is None


def test_a_busy_region_is_asked_when_it_says_and_has_a_patience_of_its_own() -> None:
    policy = RetryPolicy(attempts_max=2, pause_s=1.0, busy_s_max=60.0)
    pauses = tried(policy, Busy("busy", 5.0), 0.25)
    assert set(pauses) == {5.25}
    assert len(pauses) == 12
    retries = Retries(policy, 0.0)
    for now in (0.0, 50.0):
        assert retries.after(Busy("busy", 5.0), now, 0.0) == 5.0
    assert retries.after(CUT, 55.0, 0.5) is not None  # being busy was no failure
    assert retries.after(Busy("busy", 5.0), 60.0, 0.0) is None


def test_a_bucket_lets_through_its_burst_then_its_rate() -> None:
    bucket, now = Bucket(10.0, 5.0, 0.0), 0.0
    for _ in range(1_000):
        now += bucket.wait_s(now)
        bucket.take(1.0, now)
    assert now == pytest.approx((1_000 - 5 - 1) / 10.0, abs=0.2)
    bucket.take(100.0, now)  # an answer larger than expected is paid for afterwards
    assert bucket.wait_s(now) == pytest.approx(10.0, abs=0.3)
    assert bucket.wait_s(now + 3_600.0) == 0.0
    bucket.take(5.0, now + 3_600.0)
    assert bucket.wait_s(now + 3_600.0) == 0.0  # an idle hour is worth one burst, not an hour's rate
    bucket.take(1.0, now + 3_600.0)
    assert bucket.wait_s(now) == pytest.approx(0.1)  # a clock that goes back earns nothing


def test_backpressure_doubles_while_the_region_is_busy_and_fades_while_it_answers() -> None:
    pressure, seen = Backpressure(), []
    for _ in range(12):
        pressure.busy()
        seen.append(pressure.pause_s)
    assert seen[:3] == [0.1, 0.2, 0.4]
    assert max(seen) == SLOWEST_S
    for _ in range(40):
        pressure.answered()
    assert pressure.pause_s == 0.0


def test_a_budget_says_which_limit_is_used_up() -> None:
    budget = Budget(time_s=2.0, bytes=1_000, rows=50)
    assert budget.spent(time_s=1.9, bytes_moved=999, rows=50) == ""
    assert budget.spent(time_s=2.0) == "the budget of 2 s is used up"
    assert budget.spent(bytes_moved=1_000) == "the budget of 1,000 bytes is used up"
    assert budget.spent(rows=51) == "the budget of 50 rows is used up"
    assert Budget().spent(time_s=1e9, bytes_moved=1 << 60, rows=1 << 60) == ""
    assert Budget.of({"limit": 5, **budget.options()}) == budget
    assert Budget.of({}) == Budget()


def test_jitter_spreads_those_who_failed_together() -> None:
    rng = random.Random(7)
    pauses = [Retries(RetryPolicy(), 0.0).after(CUT, 0.0, rng.random()) or 0.0 for _ in range(2_000)]
    assert min(pauses) < 0.01
    assert max(pauses) > 0.99
    assert sum(pauses) / len(pauses) == pytest.approx(0.5, abs=0.03)
