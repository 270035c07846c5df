"""Regions, datasets and sweeps as the status document shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from coordinator.running import Running
from coordinator.store import AgentRow, SweepRow
from coordinator.store.watches import WatchRow, WindowRow
from paritree.config.datasets import Dataset
from paritree.core.watch import Windows


def instant(at: datetime | None) -> str | None:
    """ISO 8601 with milliseconds."""
    return None if at is None else at.isoformat(timespec="milliseconds")


def part_of(row: SweepRow) -> dict[str, str] | None:
    """The scope and bucket that a sweep is of; None where it is of the whole dataset."""
    named = row.options.get("scope")
    return {"name": named, "bucket": row.options["bucket"]} if named else None


def described_agent(row: AgentRow, datasets: tuple[str, ...] | None) -> dict[str, Any]:
    """An agent that was seen; ``datasets`` that it serves, None where it is not connected now."""
    return {
        "name": row.agent,
        "connected": datasets is not None,
        "connected_since": instant(row.connected_since) if datasets is not None else None,
        "last_seen": None if datasets is not None else instant(row.last_seen),
        "datasets": sorted(datasets or ()),
    }


def described_dataset(dataset: Dataset, last: SweepRow | None) -> dict[str, Any]:
    """A dataset with its newest sweep."""
    return {
        "name": dataset.name,
        "owner": dataset.owner or None,
        "criticality": dataset.criticality,
        "regions": list(dataset.regions),
        "last_sweep": None
        if last is None
        else {
            "sweep_id": last.id,
            "job_id": last.job_id,
            "state": str(last.state),
            "scope": part_of(last),
            "attempts": last.attempts,
            "verdict": last.verdict,
            "started_at": instant(last.started_at),
            "finished_at": instant(last.finished_at),
            "error": last.error,
        },
    }


def described_sweep(row: SweepRow, running: Running | None) -> dict[str, Any]:
    """A sweep as a job, and how far its regions are where it runs here. ``work_s``: seconds of work that are kept."""
    return {
        "sweep_id": row.id,
        "job_id": row.job_id,
        "dataset": row.dataset,
        "scope": part_of(row),
        "regions": list(row.regions),
        "state": str(row.state),
        "operator": row.operator,
        "paused_by": row.paused_by,
        "cancelled_by": row.cancelled_by,
        "resumed": row.resumed,
        "started_at": instant(row.started_at),
        "work_s": round((row.checkpoint or {}).get("at_s", 0.0), 1),
        "progress": [] if running is None else [_progress(one) for one in running.newest],
    }


def _progress(one: Any) -> dict[str, Any]:
    return {
        "region": one.region or None,
        "stage": one.stage,
        "shards_done": one.shards_done,
        "shards_total": one.shards_total,
        "rows": one.rows,
        "elapsed_s": one.elapsed_s,
        "eta_s": one.eta_s,
    }


def described_watch(dataset: Dataset, windows: Windows, row: WatchRow | None) -> dict[str, Any]:
    """How far a watched dataset is verified, by region, and its last windows, oldest first."""
    known = row.regions if row is not None else {}
    regions = []
    for name in dataset.regions:
        verified, position, reason = known.get(name, (None, None, "no window has been checked yet"))
        regions.append(
            {"name": name, "verified_through": _end(verified), "position": position, "reason": reason or None}
        )
    return {
        "dataset": dataset.name,
        "window_s": windows.window_s,
        "late_s": windows.late_s,
        "idle_s": windows.idle_s,
        "verified_through": _end(row.mark.verified if row else None),
        "checking": _end(row.mark.opened if row else None),
        "open_findings": row.open_findings if row else 0,
        "events_waiting": sum(row.events.waiting.values()) if row else 0,
        "late_events": row.events.late if row else 0,
        "late_last": instant(_moment(row.events.late_at)) if row else None,
        "regions": regions,
        "windows": [_window(one) for one in row.windows] if row else [],
    }


def _window(row: WindowRow) -> dict[str, Any]:
    return {
        "through": _end(row.ended),
        "since": _end(row.since),
        "verdict": row.verdict,
        "verified": row.verified,
        "sweep_id": row.sweep_id,
        "decided_at": instant(row.decided_at),
        "events": row.outcome.get("events", 0),
        "reasons": row.outcome.get("reasons", {}),
        "new_total": row.outcome.get("new_total", 0),
        "ended_total": row.outcome.get("ended_total", 0),
        "new": row.outcome.get("new", []),
    }


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)


def _end(end_s: int | None) -> str | None:
    return None if end_s is None else datetime.fromtimestamp(end_s, UTC).isoformat()
