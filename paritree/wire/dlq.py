"""The JSON of ``paritree dlq``: the same from a coordinator and from an agent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from paritree.core.deadletters import Letter

VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def letter_json(region: str, letter: Letter, detail: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One letter; null where it belongs to no region or dataset. ``detail`` is what a coordinator's own letter has."""
    return {
        "id": letter.id,
        "region": region or None,
        "dataset": letter.dataset or None,
        "kind": str(letter.kind),
        "state": str(letter.state),
        "reason": letter.reason,
        "columns": list(letter.columns),
        "keyed": letter.keyed,
        "first_seen": _time(letter.first_seen_us),
        "last_seen": _time(letter.last_seen_us),
        "sweep_id": letter.sweep_id or None,
        "count": letter.count,
        "note": letter.note or None,
        "detail": dict(detail or {}),
    }


def list_json(letters: Sequence[Mapping[str, Any]], limit: int, regions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A list of letters (as :func:`letter_json` has them), at most ``limit`` of them, and all of them by reason."""
    counts = Counter((one["region"], one["dataset"], one["kind"], one["reason"]) for one in letters)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], *(str(part or "") for part in item[0])))
    return {
        "dlq": VERSION,
        "action": "list",
        "letters": list(letters[:limit]),
        "letters_total": len(letters),
        "reasons": [
            {"region": region, "dataset": dataset, "kind": kind, "reason": reason, "letters": count}
            for (region, dataset, kind, reason), count in ordered
        ],
        "regions": list(regions),
    }


def act_json(
    action: str,
    left: Sequence[Mapping[str, Any]],
    cleared: Sequence[str],
    unknown: Sequence[str],
    regions: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What came of trying again or discarding: ``left`` are the letters that are still there."""
    return {
        "dlq": VERSION,
        "action": action,
        "cleared": sorted(cleared),
        "letters": list(left),
        "unknown": sorted(unknown),
        "regions": list(regions),
    }


def region_json(
    name: str | None, *, connected: bool, as_of: datetime | None, not_kept: int, error: str | None
) -> dict[str, Any]:
    """Where letters are from: ``not_kept`` more were counted only, ``as_of`` is when they were asked for."""
    when = None if as_of is None else as_of.isoformat(timespec="milliseconds")
    return {"name": name, "connected": connected, "as_of": when, "not_kept": not_kept, "error": error}


def _time(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="milliseconds")
