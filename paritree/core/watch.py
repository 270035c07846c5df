"""Continuous validation: which window of time is checked next, and how far a dataset is verified. Pure.

    closed, and late_s over          its check begins            outcome
    ───────────────────────► due ───────────────────────► open ───────────► decided ─► (verified: the watermark moves)

Windows lie between multiples of ``window_s`` since 1970 in UTC, so that their ends do not depend on who counts. A check
compares whole indexes, each brought up to what was committed after the window had closed: whatever order changes came
in, nothing of the window is left out. Changes that reach a region later than ``late_s`` are seen by the next check.
Only the newest due window is checked: it covers all before it that were not verified, or not looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from paritree.core.errors import InvariantBroken

SETTLED: Final = frozenset({"equal", "different"})
"""Verdicts after which nothing is left to be compared."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of ``window_s`` seconds, each checked ``late_s`` seconds after it has closed, at the earliest."""

    window_s: int
    late_s: int

    def due(self, now_s: float) -> int:
        """The end (seconds since 1970) of the newest window that may be checked at ``now_s``."""
        return int((now_s - self.late_s) // self.window_s) * self.window_s

    def wait_s(self, end_s: int, now_s: float) -> float:
        """Seconds until a window later than the one that ended at ``end_s`` is due."""
        return max(0.0, (end_s // self.window_s + 1) * self.window_s + self.late_s - now_s)


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the watch of a dataset is; all are ends of windows, in seconds since 1970.

    ``opened``: the window whose check has begun; ``decided``: the newest whose check has ended, however; ``verified``:
    the newest that was verified in all regions.
    """

    opened: int | None = None
    decided: int | None = None
    verified: int | None = None

    def next(self, windows: Windows, now_s: float) -> Watermark:
        """With a window opened where one is due and none is open. A clock that was set back opens nothing again."""
        due = windows.due(now_s)
        if self.opened is not None or (self.decided is not None and due <= self.decided):
            return self
        return replace(self, opened=due)

    def after(self, end_s: int, *, verified: bool) -> Watermark:
        """After the outcome of a window; as it is, where that outcome is known already. Raises InvariantBroken."""
        if self.opened != end_s:
            if self.decided is not None and end_s <= self.decided:
                return self
            raise InvariantBroken(f"watch: window {end_s} was not opened")
        return Watermark(None, end_s, end_s if verified else self.verified)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a check came to: ``reasons`` say by region why it was not verified; ``positions`` what was compared."""

    verdict: str
    verified: bool
    reasons: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)


def judged(report: Mapping[str, Any], regions: Sequence[str]) -> Judged:
    """Verified is what was compared in every region, at a position that the report states, to an end."""
    reasons: dict[str, str] = {}
    for one in report["verdicts"]:
        if one["verdict"] not in SETTLED:
            for name in one["regions"] or regions:
                reasons.setdefault(name, f"{one['verdict']}: {one['reason']}")
    facts = {one["name"]: one for one in report["regions"]}
    positions = {}
    for name in regions:
        one = facts.get(name)
        if one is not None and one.get("compared") and one.get("position"):
            positions[name] = str(one["position"])
        else:
            reasons.setdefault(name, "it was not compared at a proven position")
    if report.get("ended_early"):
        reasons = {**dict.fromkeys(regions, f"the check ended early: {report['ended_early']}"), **reasons}
    verified = not reasons and report["verdict"] in SETTLED
    return Judged(str(report["verdict"]), verified, reasons, positions)


def held(reason: str, regions: Sequence[str]) -> Judged:
    """A check that came to no report."""
    return Judged("unknown", False, dict.fromkeys(regions, reason))


def watch_id(dataset: str, profile_id: bytes, regions: Sequence[str]) -> str:
    """What is verified, as hex: another profile or other regions are another watch, which begins anew."""
    parts = (dataset, profile_id.hex(), *regions)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def job_id(watch: str, windows: Windows, end_s: int) -> str:
    """The job of a window's check: the same one, whoever begins it, and however often."""
    return f"watch-{watch}-{windows.window_s}-{end_s}"
