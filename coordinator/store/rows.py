"""What the store takes and gives, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final


class SweepState(StrEnum):
    """Where a sweep is::

        queued ⇄ running ──▶ finished    all was compared, or named as unknown; has a verdict
          ⇅      ⇅     └───▶ cancelled   ended early by an operator; has the verdict of what was found until then
          paused             failed      nothing can be said; the same request begins it anew

    A coordinator that stops leaves its sweeps queued or running, and the next one takes them up again. ``interrupted``
    is how versions before that left them. In the table, a paused sweep is a queued one with ``paused_by``, and a
    cancelled one a finished one with ``cancelled_by``.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


OPEN = (SweepState.QUEUED, SweepState.RUNNING)
"""States in the table of a sweep that has not ended."""
AGAIN = (SweepState.FAILED, SweepState.INTERRUPTED)
"""States from which the same job id starts the sweep anew."""


@dataclass(frozen=True, slots=True)
class NewSweep:
    """A sweep that somebody asks for. ``options`` is JSON: limit, lag_max_s, purpose, max_…; ``operator`` who asks."""

    id: str
    job_id: str
    dataset: str
    regions: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    operator: str = ""
    profile_id: str = ""


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A sweep as the store has it; ``report`` is that of ``core/manifest``, None until finished."""

    id: str
    job_id: str
    dataset: str
    regions: tuple[str, ...]
    options: Mapping[str, Any]
    operator: str
    state: SweepState
    attempts: int
    verdict: str | None
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    report: Mapping[str, Any] | None
    profile_id: str | None = None
    resumed: int = 0
    paused_by: str | None = None
    cancelled_by: str | None = None
    checkpoint: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one exchange of one region came to: the parts of its answer, or why the region was ``lost`` over it.

    ``number`` counts the region's exchanges of the sweep, ``request`` is the fingerprint of what was asked (16 bytes),
    ``at_s`` the seconds of work at which its round was complete. ``failed``: whether the breaker counts the loss.
    """

    region: str
    number: int
    request: bytes
    at_s: float
    parts: tuple[bytes, ...] = ()
    lost: str | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class AgentRow:
    """An agent that was seen; ``connected`` is False for all of them after a restart of the coordinator."""

    region: str
    agent: str
    instance: str
    connected: bool
    connected_since: datetime | None
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one class of one region in a whole sweep (``round`` is 0), counted from the region's side."""

    region: str
    round: int
    byte_class: str
    bytes_sent: int
    bytes_received: int


_REPORTED: Final = ("key", "token", "kind", "groups", "missing_in", "columns")
"""Fields of a finding that have a column of their own, in the order of the report; any other is in ``detail``."""


def sweep_of(row: Mapping[str, Any]) -> SweepRow:
    """A row of ``sweeps`` as a plain value."""
    state = SweepState(row["state"])
    if state is SweepState.QUEUED and row["paused_by"] is not None:
        state = SweepState.PAUSED
    if state is SweepState.FINISHED and row["cancelled_by"] is not None:
        state = SweepState.CANCELLED
    values = {**row, "regions": tuple(row["regions"]), "state": state}
    return SweepRow(**{name: values[name] for name in SweepRow.__slots__})


def finding_values(sweep_id: str, number: int, finding: Mapping[str, Any]) -> dict[str, Any]:
    """A finding of the report as a row of ``findings``; what it does not have (a token, a key) stays null."""
    detail = {name: value for name, value in finding.items() if name not in _REPORTED}
    own = {name: finding.get(name) for name in _REPORTED}
    return {"sweep_id": sweep_id, "number": number, **own, "detail": detail or None}


def finding_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The finding as it was in the report: key and token always, null or not, and the fields of its kind."""
    finding = {name: row[name] for name in _REPORTED if row[name] is not None or name in ("key", "token")}
    return {**finding, **(row["detail"] or {})}
