"""Windows and watermarks: which window is next, what moves the mark, and any order of clocks, crashes and outcomes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.errors import InvariantBroken
from paritree.core.watch import Watermark, Windows, job_id, judged, watch_id

MINUTE = Windows(60, 5)
REGIONS = ("eu", "us")


@pytest.mark.parametrize(
    ("now_s", "due"), [(65.0, 60), (64.99, 0), (60.0, 0), (124.9, 60), (125.0, 120), (1_700_000_000.0, 1_699_999_980)]
)
def test_a_window_is_due_once_it_is_closed_and_its_late_changes_are_in(now_s: float, due: int) -> None:
    assert MINUTE.due(now_s) == due
    assert now_s + MINUTE.wait_s(due, now_s) >= due + 65


@pytest.mark.parametrize(
    ("before", "now_s", "after"),
    [
        (Watermark(), 70.0, Watermark(opened=60)),
        (Watermark(opened=60), 500.0, Watermark(opened=60)),
        (Watermark(None, 60, 60), 124.0, Watermark(None, 60, 60)),
        (Watermark(None, 60, None), 125.0, Watermark(120, 60, None)),
        (Watermark(None, 60, 60), 500.0, Watermark(480, 60, 60)),
        (Watermark(None, 600, 60), 500.0, Watermark(None, 600, 60)),
    ],
)
def test_what_is_opened_next(before: Watermark, now_s: float, after: Watermark) -> None:
    assert before.next(MINUTE, now_s) == after


def test_a_window_that_was_never_opened_has_no_outcome() -> None:
    with pytest.raises(InvariantBroken, match="was not opened"):
        Watermark(None, 60, 60).after(120, verified=True)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.integers(-200, 400)),
        st.tuples(st.just("open"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(0, 1)),
        st.tuples(st.just("settle again"), st.integers(0, 1)),
        st.tuples(st.just("width"), st.sampled_from([7, 60, 300])),
    ),
    max_size=60,
)


@given(STEPS)
def test_nothing_is_skipped_and_nothing_decided_twice(steps: list[tuple[str, int]]) -> None:
    """Whatever the clock, restarts and outcomes do. A restart is nothing but what is stored, which is ``mark``."""
    mark, windows, now_s = Watermark(), MINUTE, 10_000
    decided: list[int] = []
    spans: list[tuple[int | None, int]] = []
    for step, value in steps:
        before = mark
        if step == "clock":
            now_s += value
        elif step == "width":
            windows = Windows(value, 5)
        elif step == "open":
            mark = mark.next(windows, now_s)
            if mark != before:
                assert mark.opened is not None
                assert mark.opened % windows.window_s == 0
                assert mark.opened <= now_s - windows.late_s
        elif step == "settle" and mark.opened is not None:
            decided.append(mark.opened)
            mark = mark.after(mark.opened, verified=bool(value))
            if value:
                spans.append((before.verified, decided[-1]))
            else:
                assert mark.verified == before.verified
        elif step == "settle again" and decided:
            mark = mark.after(decided[-1], verified=bool(value))
            assert mark == before
    assert decided == sorted(set(decided))
    assert [since for since, _ in spans] == [None, *(end for _, end in spans)][: len(spans)]


def report(**changes: Any) -> dict[str, Any]:
    sides = [{"name": name, "compared": True, "position": f"at {name}"} for name in REGIONS]
    return {
        "verdict": "equal",
        "verdicts": [{"verdict": "equal", "regions": list(REGIONS), "reason": "so"}],
        "regions": sides,
        **changes,
    }


def test_different_is_verified_too() -> None:
    verdict = {"verdict": "different", "regions": ["eu", "us"], "reason": "two looks"}
    found = judged(report(verdict="different", verdicts=[verdict]), REGIONS)
    assert (found.verified, found.reasons, found.positions) == (True, {}, {"eu": "at eu", "us": "at us"})


UNKNOWN = {"verdict": "unknown", "regions": ["us"], "reason": "it is away"}
NOT_VERIFIED = {
    "a region is away": report(verdict="unknown", verdicts=[UNKNOWN]),
    "different, and a region away": report(
        verdict="different", verdicts=[{"verdict": "different", "regions": ["eu"], "reason": "x"}, UNKNOWN]
    ),
    "unsettled": report(verdict="unsettled", verdicts=[{"verdict": "unsettled", "regions": [], "reason": "moves"}]),
    "not compared": report(regions=[{"name": "eu", "compared": True, "position": "1"}, {"name": "us"}]),
    "no position": report(
        regions=[{"name": "eu", "compared": True, "position": "1"}, {"name": "us", "compared": True, "position": None}]
    ),
    "a region is not in it": report(regions=[{"name": "eu", "compared": True, "position": "1"}]),
    "ended early": report(ended_early="cancelled by ann"),
    "a verdict nobody knows": report(verdict="perfect", verdicts=[]),
}


@pytest.mark.parametrize("case", NOT_VERIFIED)
def test_what_was_not_compared_everywhere_to_an_end_is_not_verified(case: str) -> None:
    assert not judged(NOT_VERIFIED[case], REGIONS).verified


def test_the_same_window_is_the_same_job_and_another_comparison_is_not() -> None:
    one = watch_id("orders", b"p", REGIONS)
    assert job_id(one, MINUTE, 120) == job_id(watch_id("orders", b"p", REGIONS), MINUTE, 120)
    others = {watch_id("orders", b"q", REGIONS), watch_id("orders", b"p", ("eu",)), watch_id("users", b"p", REGIONS)}
    assert len({one, *others}) == 4
    assert job_id(one, MINUTE, 120) != job_id(one, Windows(120, 5), 120)
