"""The circuit breaker as a table: every event in every state, by a clock that the test moves."""

from __future__ import annotations

import random

import pytest

from paritree.core.breaker import FAILURES_MAX, OPEN_S, OPEN_S_MAX, Breaker, Circuit

NOW = 1_700_000_000.0


def opened(times: int = 1, now: float = NOW, chance: float = 0.0) -> Breaker:
    """A breaker that has opened so often, each time as soon as it may."""
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker = breaker.failed("timeout", now, chance)
    for _ in range(times - 1):
        breaker, allowed = breaker.asked(breaker.retry_at)
        assert allowed
        breaker = breaker.failed("timeout", breaker.retry_at, chance)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(FAILURES_MAX - 1):
            breaker = breaker.failed("timeout", NOW, 0.0)
            assert breaker.asked(NOW) == (breaker, True)
        breaker = breaker.succeeded()
        assert breaker == Breaker()
    assert opened() == Breaker(Circuit.OPEN, FAILURES_MAX, 1, NOW + OPEN_S, "timeout")


def test_open_it_is_not_asked_until_its_time_is_over_and_then_by_one() -> None:
    breaker = opened()
    assert breaker.asked(NOW) == (breaker, False)
    assert breaker.asked(breaker.retry_at - 0.001) == (breaker, False)
    tried, allowed = breaker.asked(breaker.retry_at)
    assert (tried.circuit, allowed) == (Circuit.HALF_OPEN, True)
    assert tried.asked(breaker.retry_at) == (tried, False)
    assert tried.asked(breaker.retry_at + 1e6) == (tried, False)


def test_the_sweep_that_tried_it_closes_it_or_opens_it_for_twice_as_long() -> None:
    tried, _ = opened().asked(NOW + OPEN_S)
    assert tried.succeeded() == Breaker()
    pauses = []
    for times in range(1, 9):
        breaker = opened(times)
        start = opened(times - 1).retry_at if times > 1 else NOW
        pauses.append(breaker.retry_at - start)
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, OPEN_S_MAX, OPEN_S_MAX, OPEN_S_MAX]
    assert opened(chance=0.999).retry_at < NOW + OPEN_S * 1.5


def test_a_try_that_learned_nothing_leaves_the_next_one() -> None:
    tried, _ = opened().asked(NOW + OPEN_S)
    again, allowed = tried.given_up().asked(NOW + OPEN_S)
    assert (again.circuit, allowed) == (Circuit.HALF_OPEN, True)
    assert again.failures == FAILURES_MAX  # one more failure opens it at once
    assert again.failed("timeout", NOW, 0.0).circuit is Circuit.OPEN
    for other in (Breaker(), opened()):
        assert other.given_up() == other


def test_another_process_of_the_agent_is_tried_at_once() -> None:
    renewed = opened().renewed()
    assert renewed.asked(NOW)[1]
    tried, _ = opened().asked(NOW + OPEN_S)
    assert tried.renewed() == tried
    assert Breaker(failures=2).renewed() == Breaker(failures=2)


@pytest.mark.parametrize("back_s", [OPEN_S_MAX * 2, 86_400.0, 10 * 365 * 86_400.0])
def test_a_clock_that_is_set_back_does_not_keep_it_open(back_s: float) -> None:
    assert opened().asked(NOW - back_s)[1]


def test_every_walk_keeps_its_promises() -> None:
    """At most one try at a time, never asked while open, open only with a reason, and never for ever."""
    rng = random.Random(11)
    for _ in range(300):
        breaker, now, trying = Breaker(), NOW, False
        for _ in range(60):
            now += rng.choice((0.0, 1.0, 20.0, 400.0))
            match rng.randrange(5):
                case 0 | 1:
                    before = breaker
                    breaker, allowed = breaker.asked(now)
                    if before.circuit is Circuit.OPEN and now < before.retry_at:
                        assert not allowed
                    if before.circuit is Circuit.HALF_OPEN:
                        assert not allowed
                    trying = trying or (allowed and breaker.circuit is Circuit.HALF_OPEN)
                case 2:
                    breaker, trying = breaker.failed("timeout", now, rng.random()), False
                case 3 if trying or breaker.circuit is Circuit.CLOSED:
                    breaker, trying = breaker.succeeded(), False
                case _:
                    breaker = breaker.renewed()
            assert trying == (breaker.circuit is Circuit.HALF_OPEN)
            if breaker.circuit is Circuit.OPEN:
                assert breaker.reason
                assert breaker.retry_at <= now + OPEN_S_MAX * 1.5
