"""Ranges: where regions differ in more keys than can be looked at one by one, a range is reported instead.

Such a region is set apart before the descent, by the counts and the probes of the roots; the others are compared key
by key. What is claimed of the range is shown by a sample: all keys that differ below one of its nodes
(``paritree.core.sampling``), looked at like any other suspects. Keys are spread over the nodes by a keyed hash, so one
node is a fair sample of them. Where no key of the sample is confirmed, the range is not reported as different.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from paritree.core import limits
from paritree.core.findings import Finding, Judged, Kind
from paritree.core.messages import Ready
from paritree.core.node import Node
from paritree.core.pairs import Pair, closest

EXAMPLES_MAX: Final = 20
"""Findings of the sample that the report shows in full."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Regions too far from ``reference`` to be compared with it key by key: about how many keys differ in each."""

    reference: str
    differing: Mapping[str, int]

    @property
    def regions(self) -> tuple[str, ...]:
        """The reference, and those that are apart from it."""
        return (self.reference, *self.differing)

    @property
    def most(self) -> int:
        """About how many keys differ in the farthest region."""
        return max(self.differing.values())


def far_apart(ready: Mapping[str, Ready], crowded: Collection[str] = ()) -> Apart | None:
    """The regions that are to be set apart, or None where every key that differs can be looked at.

    Together the others differ from the reference in at most limits.SUSPECTS_MAX keys. ``crowded`` are regions that a
    descent found to be too far whatever their probes said.
    """
    probes = {name: r.probe for name, r in ready.items()}
    if len(probes) < limits.REGIONS_MIN:
        return None
    choice = {name: probe for name, probe in probes.items() if name not in crowded} or probes
    reference = closest(choice, {name: -r.rows for name, r in ready.items()})  # of equals the fullest
    distance = {name: _distance(r, ready[reference]) for name, r in ready.items() if name != reference}
    apart: dict[str, int] = {}
    roots: set[tuple[int, int, int]] = set()
    total = 0
    for name in sorted(distance, key=distance.__getitem__):
        root = (ready[name].rows, ready[name].root_r, ready[name].root_r2)
        more = 0 if root in roots else distance[name]
        if name in crowded or total + more > limits.SUSPECTS_MAX:
            apart[name] = distance[name]
        else:
            total += more
            roots.add(root)
    return Apart(reference, apart) if apart else None


def held(ready: Ready) -> int:
    """Rows that a region holds, those without a readable key included."""
    return ready.rows + ready.dead.keyless


def _distance(ready: Ready, reference: Ready) -> int:
    """About how many keys differ: by the probes' estimate, and at least by the counts; or as the probes solve it."""
    if (ready.rows, ready.root_r, ready.root_r2) == (reference.rows, reference.root_r, reference.root_r2):
        return 0
    estimate = ready.probe.minus(reference.probe).estimate
    at_least = max(abs(held(ready) - held(reference)), 1)
    distance = min(max(round(estimate), at_least), held(ready) + held(reference))
    if distance > limits.SUSPECTS_MAX:  # or a few keys, each of which is there very often
        solved = Pair(ready.probe, reference.probe)
        distance = len(solved.ks) if solved.decoded.complete else distance
    return distance


@dataclass(frozen=True, slots=True)
class Kept:
    """The file in which a region wrote the keys that it holds, by name, or why it did not (``problem``)."""

    name: str = ""
    keys: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RangeFinding:
    """``rows`` of the regions ``apart`` below ``node``; ``judged``: what the ``sampled`` keys below ``sample`` were."""

    apart: Apart
    node: Node
    rows: Mapping[str, int]
    sample: Node
    sampled: int
    judged: Judged
    kept: Mapping[str, Kept] = field(default_factory=dict)

    @property
    def confirmed(self) -> bool:
        """Whether some key of the sample was confirmed: only then the range is a finding."""
        return bool(self.judged.findings)

    def with_files(self, kept: Mapping[str, Kept]) -> RangeFinding:
        return replace(self, kept=kept)

    def report(self, clear: Mapping[bytes, Mapping[str, Any]]) -> dict[str, Any]:
        """The entry of the JSON report; ``clear`` are granted keys by key digest."""
        findings = self.judged.findings
        return {
            "kind": "range",
            "prefix": self.node.text,
            "bits": self.node.bits,
            "rows": dict(self.rows),
            "reference": self.apart.reference,
            "differing": dict(self.apart.differing),
            "sample": {
                "prefix": self.sample.text,
                "bits": self.sample.bits,
                "keys": self.sampled,
                "confirmed": len(findings),
                "healed": self.judged.healed,
                "within_tolerance": self.judged.within_tolerance,
                "unsettled": len(self.judged.unsettled),
                "unknown": len(self.judged.unknown),
                "kinds": _counted(str(f.kind) for f in findings),
                "missing": _counted(r for f in findings if f.kind is not Kind.DUPLICATE for r in f.missing_in),
                "columns": _counted(c for f in findings for c in f.columns),
                "examples": [f.report(clear.get(f.key_digest)) for f in self.examples],
            },
            "files": {name: _file(kept) for name, kept in self.kept.items()},
        }

    @property
    def examples(self) -> tuple[Finding, ...]:
        return self.judged.findings[:EXAMPLES_MAX]

    @property
    def claim(self) -> str:
        """What the roots said, for people."""
        rows = ", ".join(f"{count:,} rows in {name}" for name, count in self.rows.items())
        far = ", ".join(f"about {count:,} in {name}" for name, count in self.apart.differing.items())
        most = max(self.rows.values(), default=0)
        gone = [name for name, count in self.rows.items() if 2 * count < most]
        what = f"most rows are gone in {', '.join(gone)}" if gone else "too many keys to look at one by one"
        return f"{what}: of {self.node.said} ({rows}), {far} differ from {self.apart.reference}"

    @property
    def evidence(self) -> str:
        """What the sample said, for people."""
        said = [f"{len(self.judged.findings):,} are confirmed by two looks"]
        said += [f"{self.judged.healed:,} were equal in one look"] if self.judged.healed else []
        said += [f"{self.judged.within_tolerance:,} agree within a tolerance"] if self.judged.within_tolerance else []
        said += [f"{len(self.judged.unsettled):,} kept changing"] if self.judged.unsettled else []
        said += [f"{len(self.judged.unknown):,} could not be judged"] if self.judged.unknown else []
        return f"of a sample of {self.sampled:,} keys ({self.sample.said}) {', '.join(said)}"


def _counted(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _file(kept: Kept) -> dict[str, Any]:
    return {"problem": kept.problem} if kept.problem else {"name": kept.name, "keys": kept.keys}
