"""How open sweeps, circuit breakers and the time that is left are shown."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.running import Running
from paritree.cli.progress import duration, line
from paritree.cli.standing import standing_lines, steered_line
from paritree.cli.watch import _lines, window_lines
from paritree.wire.control import SweepProgress

AGENT = {"name": "a1", "connected": True, "connected_since": "2024-01-02T03:04:05.000+00:00", "last_seen": None}
BREAKER = {
    "dataset": "orders",
    "state": "open",
    "failures": 3,
    "next_try_at": "2024-01-02T03:10:00+00:00",
    "reason": "x\x1b",
}


def sweep(state: str, **changes: Any) -> dict[str, Any]:
    values = {"sweep_id": "s1", "dataset": "orders", "state": state, "paused_by": None, "cancelled_by": None}
    return {**values, "progress": [], **changes}


def progress(
    region: str | None, stage: str, done: int = 0, total: int = 0, eta_s: float | None = None
) -> dict[str, Any]:
    return {"region": region, "stage": stage, "shards_done": done, "shards_total": total, "rows": 0, "eta_s": eta_s}


def test_open_sweeps_and_breakers_are_shown_below_the_rest() -> None:
    status = {
        "regions": [{"name": "eu", "agents": [AGENT], "breakers": [BREAKER]}, {"name": "us", "agents": []}],
        "datasets": [{"name": "orders", "regions": ["eu", "us"], "last_sweep": None}],
        "sweeps": [
            sweep("running", progress=[progress(None, "joining"), progress("eu", "scan", 3, 12, 130.0)]),
            sweep("queued", progress=[progress(None, "queued")]),
            sweep("paused", paused_by="ann"),
            sweep("running", cancelled_by="bob"),
        ],
    }
    text = "\n".join(standing_lines(status))
    assert "eu scan 3/12 shards, 2 min left" in text
    assert "joining" not in text
    assert "paused by ann" in text
    assert "running, cancelled by bob" in text
    assert "circuit" in text
    assert "open     3" in text
    assert "x\\x1b" in text  # what a terminal would obey is shown, not obeyed


def test_without_any_of_it_nothing_is_added() -> None:
    status = {"regions": [{"name": "eu", "agents": [AGENT], "breakers": []}], "datasets": [], "sweeps": []}
    text = "\n".join(standing_lines(status))
    assert "open sweep" not in text
    assert "circuit" not in text
    assert steered_line(sweep("paused")) == "sweep s1 of orders is paused"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min"), (3_570, "1 h 0 min"), (7_500, "2 h 5 min")],
)
def test_durations_are_as_exact_as_a_forecast(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_that_is_left_follows_from_the_stage_so_far() -> None:
    now = 100.0
    running = Running("s1", "job", clock=lambda: now)
    told = []
    for at, stage, done in ((110.0, "scan", 2), (120.0, "scan", 4), (140.0, "scan", 8), (150.0, "look", 1)):
        now = at
        running.note(SweepProgress("eu", stage, done, 12))
        (newest,) = running.newest
        told.append((newest.elapsed_s, newest.eta_s))
    assert told == [(10.0, None), (20.0, 40.0), (40.0, 20.0), (50.0, None)]
    assert (
        line(SweepProgress("eu", "scan", 3, 12, 750_000, eta_s=95.0))
        == "eu: scan 3/12 shards, 750,000 rows, 2 min left"
    )


WINDOW = {"through": "T", "verdict": "equal", "verified": True, "sweep_id": None, "events": 0, "reasons": {}}
NO_NEWS = {"new_total": 0, "ended_total": 0, "new": []}


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ["T  equal (by roots alone)"]),
        ({"sweep_id": "s1", "events": 1200}, ["T  equal, 1,200 changes told"]),
        (
            {"verdict": "unknown", "verified": False, "reasons": {"us": "it is away"}},
            ["T  not verified (unknown)", "  us: it is away"],
        ),
        ({"verdict": "different", "sweep_id": "s1", "ended_total": 3}, ["T  different, 0 new, 3 ended"]),
    ],
)
def test_a_window_says_how_it_was_checked(changes: dict[str, Any], lines: list[str]) -> None:
    assert list(window_lines({**WINDOW, **NO_NEWS, **changes})) == lines


def test_late_events_are_told_with_their_number_and_the_last_moment() -> None:
    document = {"dataset": "orders", "regions": [], "open_findings": 2, "late_events": 0, "late_last": None}
    assert list(_lines(document))[-1] == "2 findings are open"
    late = {**document, "late_events": 1_500, "late_last": "2026-01-31T12:00:00.000+00:00"}
    assert list(_lines(late))[-1] == "late events: 1,500, last at 2026-01-31T12:00:00.000+00:00"
