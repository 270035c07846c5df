"""Windows and watermarks: which window is next, what moves the mark, and any order of clocks, crashes and outcomes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.errors import InvariantBroken
from paritree.core.watch import (
    KEYS_MAX,
    WAITING_MAX,
    Before,
    Events,
    Watermark,
    Windows,
    job_id,
    judged,
    judged_by_roots,
    watch_id,
)

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


# --- what was told ----------------------------------------------------------------------------------------------------

IDLE = Windows(60, 5, idle_s=300)
TOLD = Watermark(None, 60, 60)


def test_a_change_counts_in_the_window_in_which_it_was_committed() -> None:
    events = Events().told(MINUTE, 3, (61.0, 62.0), 63.0).told(MINUTE, 4, (59.0, 59.5), 64.9)
    assert (dict(events.waiting), events.late) == ({120: 3, 60: 4}, 0)
    assert [events.until(end_s) for end_s in (0, 60, 120)] == [None, 4, 7]
    assert dict(events.after(60).waiting) == {120: 3}


def test_a_change_that_comes_after_the_bound_is_late_and_has_the_next_window_checked() -> None:
    events = Events().told(MINUTE, 4, (59.0, 59.5), 65.0).told(MINUTE, 2, (10.0, 70.0), 130.0)
    assert (dict(events.waiting), events.late, events.late_at) == ({120: 4, 180: 2}, 6, 70.0)
    assert events.after(180) == Events({}, 6, 70.0), "what was late stays told"


def test_a_change_without_a_time_or_from_the_future_is_of_now() -> None:
    events = Events().told(MINUTE, 1, None, 61.0).told(MINUTE, 1, (9e11, 9e11), 62.0)
    assert (dict(events.waiting), events.late) == ({120: 2}, 0)


def test_what_waits_is_bounded_and_nothing_of_it_is_forgotten() -> None:
    many = Windows(1, 86_400)
    events = Events()
    for second in range(3_000):
        events = events.told(many, 1, (second, second), second)
    assert len(events.waiting) == WAITING_MAX
    assert sum(events.waiting.values()) == 3_000
    assert min(events.waiting) == 2_001
    assert events.told(MINUTE, 2**64 - 1, None, 3_000.0).until(9_999) == KEYS_MAX


@pytest.mark.parametrize(
    ("before", "now_s", "events", "told", "opened"),
    [
        (TOLD, 125.0, {}, False, 120),  # a region that does not tell: every window
        (TOLD, 125.0, {}, True, None),
        (TOLD, 125.0, {120: 1}, True, 120),
        (TOLD, 125.0, {60: 0}, True, 120),  # told after its window was decided; or an agent came back
        (TOLD, 125.0, {180: 1}, True, None),  # its window is not closed yet
        (TOLD, 364.9, {}, True, None),
        (TOLD, 365.0, {}, True, 360),  # long enough idle: one check covers all
        (Watermark(None, 120, 60), 185.0, {}, True, 180),  # the last one was not verified
        (Watermark(None, 60, None), 125.0, {}, True, 120),
        (Watermark(), 70.0, {}, True, 60),
        (Watermark(120, 60, 60), 185.0, {}, True, 120),
    ],
)
def test_an_idle_window_is_passed_over_until_something_is_told_or_it_is_long(
    before: Watermark, now_s: float, events: dict[int, int], told: bool, opened: int | None
) -> None:
    after = before.next(IDLE, now_s, Events(events), told=told)
    assert after.opened == opened
    assert after.verified == before.verified, "idle never moves a watermark"


def test_idle_windows_are_checked_each_where_that_is_said() -> None:
    assert TOLD.next(Windows(60, 5, idle_s=0), 125.0, Events(), told=True).opened == 120


NOTICES = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.integers(0, 200)),
        st.tuples(st.just("told"), st.integers(0, 400)),
        st.tuples(st.just("open"), st.just(0)),
        st.tuples(st.just("settle"), st.integers(0, 1)),
    ),
    max_size=60,
)


@given(NOTICES)
def test_whatever_is_told_is_covered_by_a_check_that_begins_afterwards(steps: list[tuple[str, int]]) -> None:
    """However old it is when it is told, and whatever checks run meanwhile."""
    mark, events, now_s, opened_s = Watermark(None, 60, 60), Events(), 1_000.0, 0.0
    uncovered: list[tuple[float, int]] = []
    for step, value in [*steps, ("settle", 1), ("clock", 65), ("open", 0), ("settle", 1)]:
        if step == "clock":
            now_s += value
        elif step == "told":
            span_s = (now_s - value, now_s - value)
            events = events.told(IDLE, 1, span_s, now_s)
            (end_s,) = Events().told(IDLE, 1, span_s, now_s).waiting
            uncovered.append((now_s, end_s))
        elif step == "open" and mark.opened is None:
            mark = mark.next(IDLE, now_s, events, told=True)
            opened_s = now_s
        elif step == "settle" and mark.opened is not None:
            covered = [told_s for told_s, end_s in uncovered if end_s <= mark.opened]
            assert all(told_s <= opened_s for told_s in covered), "it is in the index before the check begins"
            uncovered = [one for one in uncovered if one[1] > mark.opened]
            events, mark = events.after(mark.opened), mark.after(mark.opened, verified=bool(value))
            assert sum(events.waiting.values()) == len(uncovered)
    assert not events.waiting


# --- roots ------------------------------------------------------------------------------------------------------------

AT = {"eu": "lsn 1", "us": "lsn 2"}


def rooted_report(**changes: Any) -> dict[str, Any]:
    sides = [{"name": name, "compared": True, "position": AT[name], "root": f"root of {name}"} for name in REGIONS]
    return report(regions=sides, summary={"healed": 0}, **changes)


def test_equal_roots_compare_all_there_is_whatever_was_before() -> None:
    roots = dict.fromkeys(REGIONS, "3-00")
    for before in (None, Before("different", {"eu": "3-00", "us": "3-01"}), Before("equal", roots)):
        found = judged_by_roots(roots, AT, before)
        assert found is not None
        assert (found.verdict, found.verified, found.same, found.positions) == ("equal", True, False, AT)


def test_the_roots_that_were_verified_last_say_what_was_said_then() -> None:
    roots = {"eu": "3-00", "us": "3-01"}
    found = judged_by_roots(roots, AT, Before("different", roots))
    assert found is not None
    assert (found.verdict, found.verified, found.same, found.kept) == ("different", True, True, True)
    assert judged_by_roots(roots, AT, None) is None
    assert judged_by_roots(roots, AT, Before("different", {"eu": "3-00", "us": "3-02"})) is None
    assert judged_by_roots(roots, AT, Before("different", {"eu": "3-01", "us": "3-00"})) is None
    assert judged_by_roots({**roots, "ap": "3-01"}, AT, None) is None


def test_roots_are_found_again_only_where_nothing_healed() -> None:
    good = judged(rooted_report(), REGIONS)
    assert (good.kept, good.roots) == (True, {"eu": "root of eu", "us": "root of us"})
    assert not judged({**rooted_report(), "summary": {"healed": 1}}, REGIONS).kept
    assert not judged(rooted_report(verdict="unknown", verdicts=[UNKNOWN]), REGIONS).kept
    assert not judged(report(), REGIONS).kept, "an old report has no roots"
