"""Continuous validation: which window of time is checked next, and how far a dataset is verified. Pure.

    closed, and late_s over              its check begins            outcome
    ───────────────────────► due, wanted ───────────────► open ───────────► decided ─► (verified: the watermark moves)

Windows lie between multiples of ``window_s`` since 1970 in UTC, so that their ends do not depend on who counts. A check
compares whole indexes, each proven up to the end of the window at least: whatever order changes came in, nothing of
the window is left out, and nothing here depends on what was told of changes. That only says when to look: a due window
is wanted where something was told to have changed, the last one was not verified, somebody does not tell, or nobody
has looked for ``idle_s``. Only the newest due window is checked: it covers all before it that were not verified, or
not looked at. Silence moves nothing: a watermark moves with a check, over idle windows too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from paritree.core.errors import InvariantBroken

SETTLED: Final = frozenset({"equal", "different"})
"""Verdicts after which nothing is left to be compared."""
WAITING_MAX: Final = 1_000
"""Windows whose told changes are counted apart; beyond, the oldest is counted with the one after it."""
KEYS_MAX: Final = 1 << 53
"""Told changes are counted up to here, which JSON numbers hold; nobody has so many, but anybody can say so."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of ``window_s`` seconds, each checked ``late_s`` seconds after it has closed, at the earliest.

    ``idle_s``: so long after the last checked window one is checked, whatever was told; 0: every window is.
    """

    window_s: int
    late_s: int
    idle_s: int = 0

    def due(self, now_s: float) -> int:
        """The end (seconds since 1970) of the newest window that may be checked at ``now_s``."""
        return int((now_s - self.late_s) // self.window_s) * self.window_s

    def wait_s(self, end_s: int, now_s: float) -> float:
        """Seconds until a window later than the one that ended at ``end_s`` is due."""
        return max(0.0, (end_s // self.window_s + 1) * self.window_s + self.late_s - now_s)

    def of(self, at_s: float) -> int:
        """The end of the window that a moment is in."""
        return int(at_s // self.window_s + 1) * self.window_s


@dataclass(frozen=True, slots=True)
class Events:
    """Changes that were told and not checked yet: ``waiting`` counts keys by the end of their window.

    A change belongs to the window in which it was committed; one that is told ``late_s`` after that window's end, or
    later, reopens nothing: it counts in the window in which it was told, which is checked next. ``late`` counts the
    keys of such changes, ``late_at`` is when the newest of them was committed, in seconds since 1970.
    """

    waiting: Mapping[int, int] = field(default_factory=dict)
    late: int = 0
    late_at: float | None = None

    def told(self, windows: Windows, keys: int, span_s: tuple[float, float] | None, now_s: float) -> Events:
        """With a change of ``keys`` that was committed within ``span_s``, or just now; never later than now."""
        first_s, last_s = (min(at_s, now_s) for at_s in span_s or (now_s, now_s))
        if now_s < windows.of(first_s) + windows.late_s:
            return self.plus(Events({windows.of(last_s): keys}))
        return self.plus(Events({windows.of(now_s): keys}, keys, last_s))

    def plus(self, other: Events) -> Events:
        """Both together."""
        waiting = dict(self.waiting)
        for end_s, keys in other.waiting.items():
            waiting[end_s] = min(KEYS_MAX, waiting.get(end_s, 0) + keys)
        while len(waiting) > WAITING_MAX:
            oldest, following = sorted(waiting)[:2]
            waiting[following] = min(KEYS_MAX, waiting[following] + waiting.pop(oldest))
        times = [at_s for at_s in (self.late_at, other.late_at) if at_s is not None]
        return Events(waiting, min(KEYS_MAX, self.late + other.late), max(times, default=None))

    def until(self, end_s: int) -> int | None:
        """The keys that were told of windows up to that one; None where nothing was told."""
        keys = [keys for end, keys in self.waiting.items() if end <= end_s]
        return min(KEYS_MAX, sum(keys)) if keys else None

    def after(self, end_s: int) -> Events:
        """Without those that a check of that window covers."""
        return replace(self, waiting={end: keys for end, keys in self.waiting.items() if end > end_s})

    def until_now(self, windows: Windows, now_s: float) -> Events:
        """With those of windows that have not begun, by a clock that was ahead, in the window of now."""
        now = Events(late=self.late, late_at=self.late_at)
        for end_s, keys in self.waiting.items():
            now = now.plus(Events({min(end_s, windows.of(now_s)): keys}))
        return now


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far the watch of a dataset is; all are ends of windows, in seconds since 1970.

    ``opened``: the window whose check has begun; ``decided``: the newest whose check has ended, however; ``verified``:
    the newest that was verified in all regions.
    """

    opened: int | None = None
    decided: int | None = None
    verified: int | None = None

    def next(self, windows: Windows, now_s: float, events: Events | None = None, *, told: bool = False) -> Watermark:
        """With a window opened where one is due and wanted, and none is open. ``told``: every region tells changes.

        A clock that was set back opens nothing again; what was decided of times to come is put right before this.
        """
        due = windows.due(now_s)
        if self.opened is not None or (self.decided is not None and due <= self.decided):
            return self
        changed = events is not None and events.until(due) is not None
        idle = told and self.verified is not None and self.verified == self.decided and not changed
        if idle and due - self.verified < windows.idle_s:  # type: ignore[operator]
            return self
        return replace(self, opened=due)

    def ahead(self, now_s: float) -> bool:
        """Whether it claims what has not been yet: it was decided by a clock that was ahead and has been set back."""
        return self.opened is None and self.decided is not None and self.decided > now_s

    def after(self, end_s: int, *, verified: bool) -> Watermark:
        """After the outcome of a window; as it is, where that outcome is known already. Raises InvariantBroken."""
        if self.opened != end_s:
            if self.decided is not None and end_s <= self.decided:
                return self
            raise InvariantBroken(f"watch: window {end_s} was not opened")
        return Watermark(None, end_s, end_s if verified else self.verified)


@dataclass(frozen=True, slots=True)
class Judged:
    """What a check came to: ``reasons`` say by region why it was not verified; ``positions`` what was compared.

    ``roots`` are what was compared there, and a later check that finds the same may say ``same``: what was found then
    is found again. ``kept``: whether that can be said of this one.
    """

    verdict: str
    verified: bool
    reasons: Mapping[str, str] = field(default_factory=dict)
    positions: Mapping[str, str] = field(default_factory=dict)
    roots: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False
    same: bool = False


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
    roots = {name: str(facts[name]["root"]) for name in regions if facts.get(name, {}).get("root")}
    # what healed differed in the indexes and no more in the tables: the same roots would differ again
    kept = verified and len(roots) == len(regions) and not report["summary"]["healed"]
    return Judged(str(report["verdict"]), verified, reasons, positions, roots, kept)


def held(reason: str, regions: Sequence[str]) -> Judged:
    """A check that came to no report."""
    return Judged("unknown", False, dict.fromkeys(regions, reason))


@dataclass(frozen=True, slots=True)
class Before:
    """What was compared by the last verified check, by region, and what it came to."""

    verdict: str
    roots: Mapping[str, str]


def judged_by_roots(roots: Mapping[str, str], positions: Mapping[str, str], before: Before | None) -> Judged | None:
    """What roots alone say, each at a proven position: equal ones compare all there is; None where it takes a sweep."""
    if len(set(roots.values())) == 1:
        return Judged("equal", True, {}, positions, roots, kept=True)
    if before is not None and before.roots == roots:
        return Judged(before.verdict, True, {}, positions, roots, kept=True, same=True)
    return None


def watch_id(dataset: str, profile_id: bytes, regions: Sequence[str]) -> str:
    """What is verified, as hex: another profile or other regions are another watch, which begins anew."""
    parts = (dataset, profile_id.hex(), *regions)
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def job_id(watch: str, windows: Windows, end_s: int) -> str:
    """The job of a window's check: the same one, whoever begins it, and however often."""
    return f"watch-{watch}-{windows.window_s}-{windows.late_s}-{end_s}"
