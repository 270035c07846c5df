"""Findings and verdicts: what a sweep concludes, and never more than it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from paritree.core.agreement import Agreement
from paritree.core.digest import token
from paritree.core.findings import Finding, Judged, Kind, judge
from paritree.core.messages import ByteClass, Ready
from paritree.core.ranges import RangeFinding
from paritree.core.scope_labels import id_text
from paritree.core.suspects import Suspect

REPORT_VERSION = 1


class Verdict(StrEnum):
    """From the worst to the best."""

    DIFFERENT = "different"
    UNKNOWN = "unknown"
    UNSETTLED = "unsettled"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Stated:
    """One verdict that holds, for which regions, and why."""

    verdict: Verdict
    regions: tuple[str, ...]
    reason: str


@dataclass(slots=True)
class RegionFacts:
    """What is known of one region at the end. ``ready`` is None where it never had an index.

    ``max_age_s``: an older index is no answer.
    """

    name: str
    ready: Ready | None = None
    excluded: str = ""
    bytes_sent: int = 0
    bytes_received: int = 0
    max_age_s: float | None = None

    @property
    def doubts(self) -> list[str]:
        """Why its index is not proven to be its table."""
        if self.ready is None or self.excluded:
            return []
        doubts = [f"its index is in doubt: {fault}" for fault in self.ready.faults]
        if self.max_age_s is not None and self.ready.age_s > self.max_age_s:
            age = f"its index is {self.ready.age_s:,.1f} s old"
            doubts.append(f"{age}, and one older than {self.max_age_s:g} s (max_age) is no answer")
        return doubts


@dataclass(frozen=True, slots=True)
class Conclusion:
    """All that a sweep found out, before it is put into words."""

    findings: tuple[Finding, ...]
    unknown_keys: tuple[Suspect, ...]
    unsettled_keys: tuple[Suspect, ...]
    healed: int
    stated: tuple[Stated, ...]
    ranged: RangeFinding | None = None
    within_tolerance: int = 0

    @property
    def verdict(self) -> Verdict:
        """The worst that holds."""
        order = list(Verdict)
        return min((s.verdict for s in self.stated), key=order.index)


def conclude(
    suspects: Iterable[Suspect],
    facts: Sequence[RegionFacts],
    agreement: Agreement,
    incomplete: Mapping[str, str],
    ranged: RangeFinding | None = None,
) -> Conclusion:
    """Judge a sweep. ``incomplete`` names what could not be compared (regions -> reason) beside excluded regions."""
    compared = {f.name: f.ready for f in facts if f.ready is not None and not f.excluded}
    judged = judge(suspects, compared, agreement)
    told = _told(ranged) if ranged else []
    stated = [*told, *_stated(judged, facts, compared, incomplete, ranged)]
    return Conclusion(
        judged.findings, judged.unknown, judged.unsettled, judged.healed, tuple(stated), ranged, judged.within_tolerance
    )


def _told(ranged: RangeFinding) -> list[Stated]:
    """What is said of a range: different only where keys of the sample were confirmed, and never equal."""
    regions = ranged.apart.regions
    said = f"{ranged.claim}; {ranged.evidence}"
    unknown = ranged.judged.unknown
    stated = []
    if ranged.confirmed:
        stated.append(Stated(Verdict.DIFFERENT, regions, said))
    elif not unknown and (ranged.judged.unsettled or ranged.judged.healed):
        stated.append(Stated(Verdict.UNSETTLED, regions, said))
    else:
        stated.append(Stated(Verdict.UNKNOWN, regions, said))
    if unknown:
        reasons = _reasons(Counter(s.reason for s in unknown))
        stated.append(Stated(Verdict.UNKNOWN, regions, f"{len(unknown)} keys of the sample are not judged: {reasons}"))
    return stated


def _stated(
    judged: Judged,
    facts: Sequence[RegionFacts],
    compared: Mapping[str, Ready],
    incomplete: Mapping[str, str],
    ranged: RangeFinding | None,
) -> list[Stated]:
    names = tuple(name for name in compared if ranged is None or name not in ranged.apart.differing)
    stated: list[Stated] = []
    kinds = Counter(f.kind for f in judged.findings)
    if kinds:
        what = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        if at_once := sum(f.looks == 1 for f in judged.findings):
            what += f"; {at_once} in one look, as the rows have one version"
        stated.append(Stated(Verdict.DIFFERENT, names, f"confirmed by two looks: {what}"))
    stated += [Stated(Verdict.UNKNOWN, (f.name,), f.excluded) for f in facts if f.excluded]
    stated += [Stated(Verdict.UNKNOWN, (name,), reason) for name, reason in sorted(incomplete.items())]
    stated += [Stated(Verdict.UNKNOWN, (f.name,), doubt) for f in facts for doubt in f.doubts]
    for name, ready in compared.items():
        if ready.dead.total:
            reason = f"{ready.dead.total} rows are dead letters: {_reasons(ready.dead.reasons)}"
            stated.append(Stated(Verdict.UNKNOWN, (name,), reason))
    if judged.unknown:
        reasons = _reasons(Counter(s.reason for s in judged.unknown))
        stated.append(Stated(Verdict.UNKNOWN, names, f"{len(judged.unknown)} keys could not be judged: {reasons}"))
    if judged.unsettled:
        moving = f"{len(judged.unsettled)} keys kept changing through all looks"
        stated.append(Stated(Verdict.UNSETTLED, names, moving))
    if stated:
        return stated
    if ranged and len(names) < 2:  # what is left has nothing to be equal to
        return []
    if len(compared) < 2:
        return [Stated(Verdict.UNKNOWN, tuple(f.name for f in facts), "fewer than two regions could be compared")]
    point = all(ready.point for ready in compared.values())
    reason = "nothing differs at the stated positions" if point else "nothing differed during the stated intervals"
    if all(ready.header.scope and not ready.rows for ready in compared.values()):
        reason += "; no region has a row of this bucket"
    if judged.within_tolerance:
        reason += f", beyond a tolerance: {judged.within_tolerance} keys are within theirs"
    return [Stated(Verdict.EQUAL, names, reason)]


def _reasons(counts: Mapping[str, int]) -> str:
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
    more = len(counts) - len(shown)
    return ", ".join(f"{reason} ({n})" for reason, n in shown) + (f" and {more} other reasons" if more else "")


@dataclass(frozen=True, slots=True)
class ReportContext:
    """What the report says beside the conclusion. ``clear`` are granted keys by key digest.

    ``tolerance`` is the text of each tolerant column's tolerance. ``scope`` and ``bucket``: only that was swept.
    ``spans`` are seconds: until all indexes were ready, and from then to the end of the detail round, looks left out.
    """

    dataset: str
    facts: Sequence[RegionFacts]
    compared_columns: Sequence[str]
    ignored_columns: Sequence[str]
    rounds: int
    bytes_by_class: Mapping[ByteClass, int]
    elapsed_s: float
    limit: int
    clear: Mapping[bytes, Mapping[str, Any]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    tolerance: Mapping[str, str] = field(default_factory=dict)
    scope: str = ""
    bucket: bytes = b""
    spans: Mapping[str, float] = field(default_factory=dict)


def report(conclusion: Conclusion, context: ReportContext) -> dict[str, Any]:
    """The JSON report: a stable contract of version REPORT_VERSION, to which fields may be added."""
    findings = conclusion.findings
    missing = Counter(region for f in findings if f.kind is not Kind.DUPLICATE for region in f.missing_in)
    duplicate = {f.name: f.ready.duplicate_keys for f in context.facts if f.ready and f.ready.duplicate_keys}
    silent = any(f.ready is not None and f.ready.disclosure == "nothing" for f in context.facts)
    ranges = _ranges(conclusion, context)

    def key_entry(suspect: Suspect) -> dict[str, Any]:
        name = None if silent else token(suspect.key_digest)
        return {"key": context.clear.get(suspect.key_digest), "token": name, "reason": suspect.reason}

    return {
        "report": REPORT_VERSION,
        "dataset": context.dataset,
        "scope": {"name": context.scope, "bucket": id_text(context.bucket)} if context.scope else None,
        "verdict": str(conclusion.verdict),
        "verdicts": [
            {"verdict": str(s.verdict), "regions": list(s.regions), "reason": s.reason} for s in conclusion.stated
        ],
        "regions": [_region(f) for f in context.facts],
        "rounds": context.rounds,
        "bytes": {str(kind): context.bytes_by_class.get(kind, 0) for kind in ByteClass},
        "columns": {
            "compared": list(context.compared_columns),
            "ignored": list(context.ignored_columns),
            "not_compared": [],  # what cannot be is refused before a sweep, or ignored because somebody said so
            "tolerance": dict(context.tolerance),
        },
        "summary": {
            "different": sum(f.kind is Kind.DIFFERENT for f in findings),
            "missing": dict(sorted(missing.items())),
            "duplicate": duplicate,
            "unsettled": len(conclusion.unsettled_keys),
            "healed": conclusion.healed,
            "within_tolerance": conclusion.within_tolerance,
            "unknown": len(conclusion.unknown_keys),
        },
        "findings_total": len(ranges) + len(findings),
        "findings": [
            *ranges,
            *sorted((f.report(context.clear.get(f.key_digest)) for f in findings[: context.limit]), key=_reading_order),
        ],
        "unknown_keys": [key_entry(s) for s in conclusion.unknown_keys[: context.limit]],
        "unsettled_keys": [key_entry(s) for s in conclusion.unsettled_keys[: context.limit]],
        "notes": list(context.notes),
        "elapsed_s": round(context.elapsed_s, 3),
        "spans": {name: round(seconds, 3) for name, seconds in context.spans.items()},
    }


def _ranges(conclusion: Conclusion, context: ReportContext) -> list[dict[str, Any]]:
    ranged = conclusion.ranged
    return [ranged.report(context.clear)] if ranged and ranged.confirmed else []


def _reading_order(entry: Mapping[str, Any]) -> list[tuple[bool, float, str]]:
    """By clear key, numbers as numbers; by token where a key is not shown."""
    parts = entry["key"].values() if entry["key"] else [entry["token"]]
    return [(isinstance(p, str), float(p) if isinstance(p, int | float) else 0.0, str(p)) for p in parts]


def _region(facts: RegionFacts) -> dict[str, Any]:
    ready = facts.ready
    return {
        "name": facts.name,
        "engine": ready.engine if ready else None,
        "rows": ready.rows + ready.dead.keyless if ready else None,
        "root": ready.root if ready else None,
        "position": ready.header.position if ready else None,
        "dead_letters": ready.dead.total if ready else None,
        "dead_letter_reasons": dict(ready.dead.reasons) if ready else {},
        "scan_s": ready.scan_s if ready else None,
        "age_s": round(ready.age_s, 3) if ready else None,
        "bytes_sent": facts.bytes_sent,
        "bytes_received": facts.bytes_received,
        "compared": ready is not None and not facts.excluded,
    }
