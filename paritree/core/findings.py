"""Findings: what was confirmed of single keys, and what became of all others that differed in one look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from paritree.core.agreement import Agreement
from paritree.core.digest import token
from paritree.core.messages import Ready
from paritree.core.suspects import Fate, Suspect


class Kind(StrEnum):
    MISSING = "missing"
    DIFFERENT = "different"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Finding:
    """A confirmed difference (or duplicate) of one key. ``token`` is "" where a region's policy discloses nothing.

    ``groups`` are the regions that hold the key, by equal version, the largest group first. ``merged`` names, by
    region, the rules that made one key of several.
    """

    key_digest: bytes
    token: str
    kind: Kind
    groups: tuple[tuple[str, ...], ...]
    missing_in: tuple[str, ...]
    columns: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    looks: int = 2
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def majority(self) -> tuple[str, ...]:
        """More than half of the regions, where so many agree: on a version, or on having none. The rest dissent."""
        regions = sum(map(len, self.groups)) + len(self.missing_in)
        return next((agreed for agreed in (*self.groups, self.missing_in) if 2 * len(agreed) > regions), ())

    def report(self, clear: Mapping[str, Any] | None) -> dict[str, Any]:
        """The entry of the JSON report; ``clear`` is the key in clear where it was granted."""
        entry: dict[str, Any] = {"key": clear, "token": self.token or None, "kind": str(self.kind)}
        if self.kind is Kind.DUPLICATE:
            merged = {region: list(rules) for region, rules in sorted(self.merged.items())}
            return {**entry, "counts": dict(self.counts), **({"merged": merged} if merged else {})}
        return {
            **entry,
            "groups": [list(group) for group in self.groups],
            "missing_in": list(self.missing_in),
            "majority": list(self.majority),
            "columns": list(self.columns),
        }


@dataclass(frozen=True, slots=True)
class Judged:
    """Suspects by their fate, each in the order of their key digests."""

    findings: tuple[Finding, ...]
    unknown: tuple[Suspect, ...]
    unsettled: tuple[Suspect, ...]
    healed: int
    within_tolerance: int


def judge(suspects: Iterable[Suspect], compared: Mapping[str, Ready], agreement: Agreement) -> Judged:
    """What is known of each suspect of the ``compared`` regions.

    A key that is absent where rows have no readable key is unknown, not missing.
    """
    silent = any(ready.disclosure == "nothing" for ready in compared.values())
    keyless = {name for name, ready in compared.items() if ready.dead.keyless}
    findings: list[Finding] = []
    unknown: list[Suspect] = []
    unsettled: list[Suspect] = []
    healed = within = 0
    for suspect in sorted(suspects, key=lambda s: s.key_digest):
        if suspect.fate is Fate.HEALED:
            healed += 1
        elif suspect.fate is Fate.WITHIN_TOLERANCE:
            within += 1
        elif suspect.fate is Fate.CONFIRMED and (hidden := keyless & set(suspect.missing_in)):
            suspect.reason = f"absent in {', '.join(sorted(hidden))}, which has dead letters without a readable key"
            unknown.append(suspect)
        elif suspect.fate is Fate.CONFIRMED:
            findings.append(_finding(suspect, agreement, silent))
        elif suspect.fate is Fate.UNSETTLED:
            unsettled.append(suspect)
        else:
            unknown.append(suspect)
    return Judged(tuple(findings), tuple(unknown), tuple(unsettled), healed, within)


def _finding(suspect: Suspect, agreement: Agreement, silent: bool) -> Finding:
    groups = agreement.groups(suspect)
    versions = Kind.DIFFERENT if len(groups) > 1 else Kind.MISSING
    kind = Kind.DUPLICATE if suspect.duplicated else versions
    return Finding(
        key_digest=suspect.key_digest,
        token="" if silent else token(suspect.key_digest),
        kind=kind,
        groups=tuple(map(tuple, groups)),
        missing_in=tuple(suspect.missing_in),
        columns=tuple(agreement.differing_columns(suspect)) if kind is Kind.DIFFERENT else (),
        counts=suspect.counts if kind is Kind.DUPLICATE else {},
        merged=suspect.merged if kind is Kind.DUPLICATE else {},
        looks=suspect.looks,
    )
