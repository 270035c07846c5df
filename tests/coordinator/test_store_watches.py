"""Watermarks in the store, on both engines: a window is decided once, with the findings that are new with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.store import NewSweep, Store, watches
from paritree.core.watch import Before, Events, Judged, Watermark, Windows, held

Opened = Callable[..., Store]
WINDOWS = Windows(60, 5)
REGIONS = ("eu", "us")
VERIFIED = Judged("equal", True, {}, {"eu": "0/1", "us": "0/2"})
AWAY = Judged("unknown", False, {"us": "unknown: it is away"})


def finding(token: str | None, **changes: Any) -> dict[str, Any]:
    return {"key": None, "token": token, "kind": "missing", "groups": [["eu"]], "missing_in": ["us"], **changes}


def checked(store: Store, end_s: int, *found: dict[str, Any]) -> str:
    """A finished sweep for a window."""
    row, _ = store.begin(NewSweep(f"s{end_s}", f"job-{end_s}", "orders", REGIONS))
    store.start(row.id)
    store.finish(row.id, {"report": 1, "verdict": "different"}, found)
    return row.id


def window(store: Store, end_s: int, outcome: Judged, *found: dict[str, Any]) -> dict[str, Any]:
    mark = store.open_window("orders", "w", WINDOWS, end_s + 5.0)
    assert mark.opened == end_s
    sweep_id = checked(store, end_s, *found)
    assert store.settle_window("orders", "w", end_s, outcome, REGIONS, sweep_id)
    row = store.watch("orders")
    assert row is not None
    return dict(row.windows[-1].outcome)


def tokens(told: dict[str, Any]) -> tuple[list[Any], int, int]:
    return [one["token"] for one in told["new"]], told["new_total"], told["ended_total"]


def test_a_finding_is_told_with_one_window_until_it_ends(opened: Opened) -> None:
    store = opened()
    a, b = finding("A"), finding("B")
    assert tokens(window(store, 60, VERIFIED, a)) == (["A"], 1, 0)
    assert tokens(window(store, 120, VERIFIED, a, b)) == (["B"], 1, 0)
    assert "new" not in window(store, 180, AWAY, a, b, finding("C"))
    assert tokens(window(store, 240, VERIFIED, b)) == ([], 0, 1)
    assert tokens(window(store, 300, VERIFIED, a, b)) == (["A"], 1, 0)
    other = finding("B", missing_in=["eu"])
    assert tokens(window(store, 360, VERIFIED, a, other)) == (["B"], 1, 1)


def test_findings_without_a_token_are_told_apart_by_their_number(opened: Opened) -> None:
    store = opened()
    hidden = finding(None)
    assert tokens(window(store, 60, VERIFIED, hidden, hidden)) == ([None, None], 2, 0)
    assert tokens(window(store, 120, VERIFIED, hidden, hidden, hidden)) == ([None], 1, 0)
    assert tokens(window(store, 180, VERIFIED, hidden)) == ([], 0, 2)
    row = store.watch("orders")
    assert row is not None
    assert row.open_findings == 1


def test_the_mark_moves_in_all_regions_or_in_none_and_survives_a_restart(opened: Opened) -> None:
    store = opened()
    window(store, 60, VERIFIED)
    window(store, 120, AWAY)
    store.close()
    row = opened().watch("orders")
    assert row is not None
    assert row.mark == Watermark(None, 120, 60)
    assert row.regions == {
        "eu": (60, "0/1", "not verified in us"),
        "us": (60, "0/2", "unknown: it is away"),
    }
    assert [(one.ended, one.since, one.verified) for one in row.windows] == [(60, None, True), (120, 60, False)]


def test_an_open_window_stays_the_next_one_and_is_decided_once(opened: Opened) -> None:
    store = opened()
    assert store.open_window("orders", "w", WINDOWS, 70.0).opened == 60
    store.close()
    store = opened()
    assert store.open_window("orders", "w", WINDOWS, 700.0).opened == 60
    sweep_id = checked(store, 60, finding("A"))
    assert store.settle_window("orders", "w", 60, VERIFIED, REGIONS, sweep_id)
    before = store.watch("orders")
    assert not store.settle_window("orders", "w", 60, VERIFIED, REGIONS, sweep_id)  # its word was lost
    assert not store.settle_window("orders", "w", 60, held("x", REGIONS), REGIONS, None)
    assert store.watch("orders") == before
    assert store.open_window("orders", "w", WINDOWS, 700.0) == Watermark(660, 60, 60)


def test_another_comparison_begins_anew(opened: Opened) -> None:
    store = opened()
    window(store, 60, VERIFIED, finding("A"))
    assert store.open_window("orders", "another", WINDOWS, 70.0) == Watermark(60, None, None)
    row = store.watch("orders")
    assert row is not None
    assert (row.regions, list(row.windows), row.open_findings) == ({}, [], 0)
    assert store.watch("users") is None


def test_old_windows_are_forgotten_with_their_sweeps(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "WINDOWS_KEPT", 2)
    store = opened()
    for end_s in (60, 120, 180):
        window(store, end_s, VERIFIED, finding("A"))
    row = store.watch("orders")
    assert row is not None
    assert [one.ended for one in row.windows] == [120, 180]
    assert row.open_findings == 1
    assert store.sweep("s60") is None
    assert store.sweep("s120") is not None


def test_what_was_told_survives_a_restart_until_a_check_covers_it(opened: Opened) -> None:
    store = opened()
    told = Events().told(WINDOWS, 3, None, 30.0).told(WINDOWS, 2, (59.0, 61.0), 70.0)
    store.note_events("orders", "w", told)
    store.note_events("orders", "w", Events({120: 1}))
    store.close()
    store = opened()
    row = store.watch("orders")
    assert row is not None
    assert row.events == Events({60: 3, 120: 3}, 2, 61.0)
    assert window(store, 60, VERIFIED)["events"] == 3
    store.close()
    store = opened()
    row = store.watch("orders")
    assert row is not None
    assert row.events == Events({120: 3}, 2, 61.0)
    assert store.open_window("orders", "w", replace(WINDOWS, idle_s=600), 125.0, told=True).opened == 120


def test_roots_that_were_verified_are_known_until_other_ones_are(opened: Opened) -> None:
    store = opened()
    roots = {"eu": "3-00", "us": "3-01"}
    kept = replace(VERIFIED, verdict="different", roots=roots, kept=True)
    assert store.verified_before("orders", "w") is None
    assert tokens(window(store, 60, kept, finding("A"))) == (["A"], 1, 0)
    store.close()
    store = opened()
    assert store.verified_before("orders", "w") == Before("different", roots)
    assert store.verified_before("orders", "another") is None
    window(store, 120, AWAY)
    assert store.verified_before("orders", "w") == Before("different", roots)
    store.open_window("orders", "w", WINDOWS, 185.0)
    assert store.settle_window("orders", "w", 180, replace(kept, same=True), REGIONS, None)
    row = store.watch("orders")
    assert row is not None
    assert (row.open_findings, row.mark.verified, "new" in row.windows[-1].outcome) == (1, 180, False)
    window(store, 240, replace(kept, kept=False), finding("A"))
    assert store.verified_before("orders", "w") is None, "something healed"
    store.open_window("orders", "w", WINDOWS, 305.0)
    equal = replace(VERIFIED, roots=dict.fromkeys(REGIONS, "3-01"), kept=True)
    assert store.settle_window("orders", "w", 300, equal, REGIONS, None)
    row = store.watch("orders")
    assert row is not None
    assert (row.open_findings, tokens(dict(row.windows[-1].outcome))) == (0, ([], 0, 1))
