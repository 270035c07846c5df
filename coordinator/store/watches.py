"""How far each watched dataset is verified. A window is decided once: its outcome, the findings that are new with it
and the watermarks are one transaction, so whoever restarts reports nothing twice and skips nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
import structlog

from coordinator.store.rows import finding_of
from coordinator.store.tables import (
    answers,
    findings,
    sweeps,
    traffic,
    watch_findings,
    watch_regions,
    watch_windows,
    watches,
)
from coordinator.store.transactions import Transactions
from paritree.core.watch import Before, Events, Judged, Watermark, Windows

WINDOWS_KEPT: Final = 1_000
"""Windows of a dataset of which the outcome is kept."""
LISTED: Final = 20
"""New findings that are listed with a window; all of them are those of its sweep."""
INSERT_ROWS: Final = 1_000
REASON_CHARS_MAX: Final = 500
SET_BACK: Final = "the coordinator's clock was ahead and has been set back: what it had verified of that time is not"
_log = structlog.get_logger("paritree.coordinator")
_TABLES: Final = (watch_regions, watch_windows, watch_findings)


@dataclass(frozen=True, slots=True)
class WindowRow:
    """The outcome of a window; ``since``: what was verified before, which it adds to."""

    ended: int
    since: int | None
    verdict: str
    verified: bool
    sweep_id: str | None
    decided_at: datetime
    outcome: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WatchRow:
    """A dataset's watch: by region ``(verified, position, reason)``, and the last windows, oldest first."""

    mark: Watermark
    regions: Mapping[str, tuple[int | None, str | None, str]]
    windows: Sequence[WindowRow]
    open_findings: int
    events: Events


class Watches(Transactions):
    """Watermarks of datasets."""

    def open_window(
        self, dataset: str, watch_id: str, windows: Windows, now_s: float, *, told: bool = False
    ) -> Watermark:
        """The watermark, with the next window opened where one is due and wanted. Another ``watch_id`` begins anew.

        ``told``: every region tells changes now, so a window of which nothing was told may be passed over. Where the
        clock was ahead and has been set back, what was decided of times to come is forgotten first.
        """
        with self._writing() as connection:
            before, events = self._begun(connection, dataset, watch_id)
            if before.ahead(now_s):
                before, events = self._set_back(connection, dataset, windows, now_s, events)
            mark = before.next(windows, now_s, events, told=told)
            if mark != before:
                self._keep(connection, dataset, mark)
            return mark

    def _set_back(
        self, connection: sa.Connection, dataset: str, windows: Windows, now_s: float, events: Events
    ) -> tuple[Watermark, Events]:
        """The watch as of the newest window that has ended by now. Of later ones only the sweeps stay, which are no
        checks any more: those windows will have others.
        """
        own = watch_windows.c.dataset == dataset
        later = sa.and_(own, watch_windows.c.ended > now_s)
        swept = sweeps.c.id.in_(sa.select(watch_windows.c.sweep_id).where(later))
        connection.execute(sa.update(sweeps).where(swept).values(job_id=sa.literal("not-yet-") + sweeps.c.id))
        connection.execute(sa.delete(watch_windows).where(later))
        newest = sa.select(sa.func.max(watch_windows.c.ended)).where(own)
        mark = Watermark(None, connection.scalar(newest), connection.scalar(newest.where(watch_windows.c.verified)))
        self._keep(connection, dataset, mark)
        events = events.until_now(windows, now_s)
        self._keep_events(connection, dataset, events)
        connection.execute(sa.update(watches).where(watches.c.dataset == dataset).values(verdict=None))
        values = {"verified": mark.verified, "position": None, "root": None, "reason": SET_BACK}
        connection.execute(sa.update(watch_regions).where(watch_regions.c.dataset == dataset).values(values))
        _log.error("watch: the clock was set back", dataset=dataset, verified=mark.verified)
        return mark, events

    def note_events(self, dataset: str, watch_id: str, events: Events) -> None:
        """Keep what was told of changes until a check has covered it."""
        with self._writing() as connection:
            _, before = self._begun(connection, dataset, watch_id)
            self._keep_events(connection, dataset, before.plus(events))

    def verified_before(self, dataset: str, watch_id: str) -> Before | None:
        """The roots that were verified last, where a check may find them again."""
        with self._reading() as connection:
            own = sa.select(watches.c.verdict).where(watches.c.dataset == dataset, watches.c.watch_id == watch_id)
            verdict = connection.scalar(own)
            if verdict is None:
                return None
            rows = connection.execute(sa.select(watch_regions).where(watch_regions.c.dataset == dataset))
            return Before(verdict, {row.region: row.root for row in rows})

    def settle_window(
        self, dataset: str, watch_id: str, end_s: int, outcome: Judged, regions: Sequence[str], sweep_id: str | None
    ) -> bool:
        """Keep what a window's check came to; False, with nothing changed, where that is kept already."""
        with self._writing() as connection:
            row = self._row(connection, dataset, watch_id)
            before = _mark(row) if row is not None else Watermark()
            mark = before.after(end_s, verified=outcome.verified)
            if row is None or mark == before:
                return False
            self._keep(connection, dataset, mark)
            events = _events(row)
            self._keep_events(connection, dataset, events.after(end_s))
            told: dict[str, Any] = {"reasons": dict(outcome.reasons), "events": events.until(end_s) or 0}
            if outcome.verified:
                verdict = outcome.verdict if outcome.kept else None
                connection.execute(sa.update(watches).where(watches.c.dataset == dataset).values(verdict=verdict))
                if not outcome.same:
                    told |= self._news(connection, dataset, end_s, sweep_id)
            self._regions(connection, dataset, end_s, outcome, regions)
            values = {"verdict": outcome.verdict, "verified": outcome.verified, "sweep_id": sweep_id, "outcome": told}
            values |= {"since": before.verified, "decided_at": self._clock()}
            connection.execute(sa.insert(watch_windows).values(dataset=dataset, ended=end_s, **values))
            own = watch_windows.c.dataset == dataset
            newest = sa.select(watch_windows.c.ended).where(own).order_by(watch_windows.c.ended.desc())
            oldest = connection.scalar(newest.offset(WINDOWS_KEPT - 1).limit(1))
            if oldest is not None:
                self._forget(connection, sa.and_(own, watch_windows.c.ended < oldest))
            return True

    def _forget(self, connection: sa.Connection, old: sa.ColumnElement[bool]) -> None:
        """Old windows with their sweeps: a watch that goes on for years does not fill the store."""
        ids = sa.select(watch_windows.c.sweep_id).where(old, watch_windows.c.sweep_id.is_not(None))
        for table in (findings, traffic, answers):
            connection.execute(sa.delete(table).where(table.c.sweep_id.in_(ids)))
        connection.execute(sa.delete(sweeps).where(sweeps.c.id.in_(ids)))
        connection.execute(sa.delete(watch_windows).where(old))

    def watch(self, dataset: str, *, last: int = LISTED) -> WatchRow | None:
        """The dataset's watch with its ``last`` windows; None where it was never watched."""
        with self._reading() as connection:
            row = connection.execute(sa.select(watches).where(watches.c.dataset == dataset)).first()
            if row is None:
                return None
            chosen = sa.select(watch_regions).where(watch_regions.c.dataset == dataset)
            regions = {r.region: (r.verified, r.position, r.reason) for r in connection.execute(chosen)}
            newest = sa.select(watch_windows).where(watch_windows.c.dataset == dataset)
            rows = connection.execute(newest.order_by(watch_windows.c.ended.desc()).limit(last)).all()
            windows = [WindowRow(**{name: getattr(r, name) for name in WindowRow.__slots__}) for r in reversed(rows)]
            total = sa.select(sa.func.coalesce(sa.func.sum(watch_findings.c.copies), 0))
            open_ones = connection.scalar(total.where(watch_findings.c.dataset == dataset))
            return WatchRow(_mark(row), regions, windows, int(open_ones or 0), _events(row))

    def _row(self, connection: sa.Connection, dataset: str, watch_id: str) -> sa.Row[Any] | None:
        own = sa.select(watches).where(watches.c.dataset == dataset, watches.c.watch_id == watch_id)
        return connection.execute(own).first()

    def _begun(self, connection: sa.Connection, dataset: str, watch_id: str) -> tuple[Watermark, Events]:
        """How the watch stands, begun anew where another one was there."""
        row = self._row(connection, dataset, watch_id)
        if row is not None:
            return _mark(row), _events(row)
        for table in (watches, *_TABLES):
            connection.execute(sa.delete(table).where(table.c.dataset == dataset))
        connection.execute(sa.insert(watches).values(dataset=dataset, watch_id=watch_id))
        return Watermark(), Events()

    def _keep_events(self, connection: sa.Connection, dataset: str, events: Events) -> None:
        waiting = {str(end_s): keys for end_s, keys in events.waiting.items()}
        values = {"waiting": waiting, "late": events.late, "late_at": events.late_at}
        connection.execute(sa.update(watches).where(watches.c.dataset == dataset).values(values))

    def _keep(self, connection: sa.Connection, dataset: str, mark: Watermark) -> None:
        values = {"opened": mark.opened, "decided": mark.decided, "verified": mark.verified}
        connection.execute(sa.update(watches).where(watches.c.dataset == dataset).values(values))

    def _regions(
        self, connection: sa.Connection, dataset: str, end_s: int, outcome: Judged, regions: Sequence[str]
    ) -> None:
        """Every region's watermark moves, or none does."""
        for name in regions:
            values: dict[str, Any] = {"verified": end_s, "position": outcome.positions.get(name), "reason": ""}
            values["root"] = outcome.roots.get(name)
            if not outcome.verified:
                others = ", ".join(one for one in outcome.reasons if one != name)
                reason = outcome.reasons.get(name) or f"not verified in {others}"
                values = {"reason": reason[:REASON_CHARS_MAX]}
            own = sa.and_(watch_regions.c.dataset == dataset, watch_regions.c.region == name)
            if not connection.execute(sa.update(watch_regions).where(own).values(values)).rowcount:
                connection.execute(sa.insert(watch_regions).values(dataset=dataset, region=name, **values))

    def _news(self, connection: sa.Connection, dataset: str, end_s: int, sweep_id: str | None) -> dict[str, Any]:
        """Which findings are new with this window, and how many have ended; those that stay are not told again.

        Without a sweep there are none: the regions were found equal.
        """
        own = watch_findings.c.dataset == dataset
        before = {row.fingerprint: row for row in connection.execute(sa.select(watch_findings).where(own))}
        now: Counter[str] = Counter()
        listed: list[dict[str, Any]] = []
        new = 0
        found = sa.select(findings).where(findings.c.sweep_id == sweep_id).order_by(findings.c.number)
        for row in connection.execute(found):
            finding = finding_of(row._asdict())
            fingerprint = _fingerprint(finding)
            now[fingerprint] += 1
            if fingerprint not in before or now[fingerprint] > before[fingerprint].copies:
                new += 1
                if len(listed) < LISTED:
                    listed.append(finding)
        ended = sum(max(0, row.copies - now[name]) for name, row in before.items())
        connection.execute(sa.delete(watch_findings).where(own))
        rows = [
            {
                "dataset": dataset,
                "fingerprint": name,
                "copies": count,
                "first": before[name].first if name in before else end_s,
            }
            for name, count in now.items()
            if count
        ]
        for first in range(0, len(rows), INSERT_ROWS):
            connection.execute(sa.insert(watch_findings), rows[first : first + INSERT_ROWS])
        return {"new": listed, "new_total": new, "ended_total": ended}


def _mark(row: sa.Row[Any]) -> Watermark:
    return Watermark(row.opened, row.decided, row.verified)


def _events(row: sa.Row[Any]) -> Events:
    return Events({int(end_s): keys for end_s, keys in (row.waiting or {}).items()}, row.late, row.late_at)


def _fingerprint(finding: Mapping[str, Any]) -> str:
    """Findings that look the same are the same; where a region shows no token, only their number tells them apart."""
    text = json.dumps(finding, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
