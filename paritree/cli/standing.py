"""How things stand, for people: sweeps that have not ended, and regions that are left alone for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paritree.cli.progress import duration
from paritree.cli.report import status_lines, table


def standing_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """The whole status document as lines of text."""
    yield from status_lines(status)
    if sweeps := status.get("sweeps"):
        yield ""
        yield from table([("open sweep", "dataset", "state", "how far"), *map(_sweep, sweeps)])
    rows = [
        (region["name"], one["dataset"], one["state"], str(one["failures"]), one["next_try_at"] or "-", one["reason"])
        for region in status["regions"]
        for one in region.get("breakers", ())
    ]
    if rows:
        yield ""
        yield from table([("region", "dataset", "circuit", "failures", "next try", "last reason"), *rows])
    if watches := status.get("watches"):
        yield ""
        yield from watch_lines(watches)


def watch_lines(watches: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """How far the regions of watched datasets are verified."""
    rows = [
        (one["dataset"], region["name"], region["verified_through"] or "never", region["reason"] or "-")
        for one in watches
        for region in one["regions"]
    ]
    yield from table([("watched", "region", "verified through", "why not further"), *rows])


def steered_line(sweep: Mapping[str, Any]) -> str:
    """A sweep after it was steered."""
    return f"sweep {sweep['sweep_id']} of {sweep['dataset']} is {sweep['state']}"


def _sweep(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    state = str(sweep["state"])
    if by := sweep["paused_by"] or sweep["cancelled_by"]:
        state = f"{state} by {by}" if sweep["paused_by"] else f"{state}, cancelled by {by}"
    far = "; ".join(_region(one) for one in sweep["progress"] if one["region"] or len(sweep["progress"]) == 1)
    return sweep["sweep_id"], sweep["dataset"], state, far or "-"


def _region(one: Mapping[str, Any]) -> str:
    said = f"{one['region']} {one['stage']}" if one["region"] else str(one["stage"])
    if one["shards_total"]:
        said += f" {one['shards_done']}/{one['shards_total']} shards"
    return said + (f", {duration(one['eta_s'])} left" if one["eta_s"] else "")
