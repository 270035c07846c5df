"""Look twice before saying "different": what becomes of the suspects of a descent. A state machine without I/O.

                    equal digests in one look
    suspect ──────────────────────────────────────▶ healed
       │  differing digests in one look, and all regions agree within the columns' tolerance
       ├──────────────────────────────────────────▶ within tolerance
       │  the same differing digests in two looks
       ├──────────────────────────────────────────▶ confirmed   (two looks at least lag_max apart; where a region
       │                                                         lacks the key, and in one more at once)
       │  differing digests under one version
       ├──────────────────────────────────────────▶ confirmed   (no lag explains that)
       │  still changing after LOOKS_MAX looks
       ├──────────────────────────────────────────▶ unsettled
       │  a row that cannot be canonicalised, an answer that is missing
       └──────────────────────────────────────────▶ unknown

A row has a version, absence has none: a key that is made and deleted again looks the same before and after. As regions
are not read at one moment, that alone could look like a loss. So the key has to be seen where it is before it is missed
elsewhere in the first look, and again after it was missed in the last::

    held      x─────────────────── lag_max ──────────x─────────x      first look, second, closing
    missed         x────────────── lag_max ────────────x

The looks are fresh reads by key in every region (the idea of asking twice and intersecting is Riak's, see
``aae_exchange.erl`` of kv_index_tictactree). Time comes in as an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paritree.core import limits
from paritree.core.agreement import Agreement
from paritree.core.columnplan import FEW_KEYS, ColumnPlan
from paritree.core.errors import InvariantBroken
from paritree.core.messages import AskDetail, Look
from paritree.core.recollection import LookAsk
from paritree.core.suspects import Fate, Suspect, Version, alike


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again not before this time."""

    until: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What must be the same in two looks: a write that left the digests alone is a change as well."""

    versions: Mapping[str, Version]
    shifted: Mapping[str, tuple[bytes, ...]]
    written: Mapping[str, tuple[int, bool]]

    @classmethod
    def of(cls, suspect: Suspect) -> _Seen:
        return cls(suspect.versions, suspect.shifted, suspect.written)

    def still(self, now: _Seen) -> bool:
        """Whether another look saw the same."""
        return (
            self.versions.keys() == now.versions.keys()
            and all(alike(version, now.versions[region]) for region, version in self.versions.items())
            and (self.shifted, self.written) == (now.shifted, now.written)
        )


Asks = Mapping[str, LookAsk]


def first_asks(
    ks: Sequence[int],
    regions: Sequence[str],
    sealing: Sequence[str],
    plan: ColumnPlan | None = None,
    *,
    halves: bool = False,
) -> Mapping[str, AskDetail]:
    """The first look: every region shows the keys that it holds under the suspect ks (ascending).

    ``halves``: r may be left out of rows that are as they are indexed.
    """
    plan = plan or ColumnPlan()
    picked, sampled = plan.at_first(len(ks))
    ask = AskDetail(
        np.array(ks, np.uint64),
        columns=True,
        picked=picked,
        sampled=sampled,
        versions=len(ks) <= FEW_KEYS,
        halves=halves,
    )
    return {r: replace(ask, seal=r in sealing and len(regions) > 1) for r in regions}


class Looks:
    """All suspects of a sweep. ``again`` says what to ask of whom now; ``receive_…`` takes every region's looks.

    One look has two parts: every region is asked for the keys it holds; a region that lacks keys which another holds
    is then asked for those by digest (``sealed`` where the holder's policy lets keys travel). Without an ``agreement``
    no column has a tolerance; without a ``plan`` all column digests are asked for at once.
    """

    def __init__(
        self,
        regions: Sequence[str],
        ks: Sequence[int],
        lag_max_s: float,
        agreement: Agreement | None = None,
        plan: ColumnPlan | None = None,
    ) -> None:
        self._agreement = agreement or Agreement()
        self._plan = plan or ColumnPlan()
        self.regions = tuple(regions)
        self.suspects: dict[bytes, Suspect] = {}
        self.unexplained: set[int] = set(ks)
        self._lag_max_s = lag_max_s
        self._asked: list[Suspect] = []
        self._sealed: dict[bytes, bytes] = {}

    def receive_first(self, answers: Mapping[str, Sequence[Look]]) -> Asks:
        """Every region's answer to ``first_asks``; returns what to ask of the regions that lack keys."""
        self._require(answers)
        for region, looks in answers.items():
            for look in looks:
                self._note(region, look)
        lacking = {region: self._missed_by(region) for region in self.regions}
        return {region: self._ask(digests, digests) for region, digests in lacking.items() if digests}

    def receive_lacking(self, answers: Mapping[str, Sequence[Look]], now: float) -> None:
        """The answers to ``receive_first``'s requests: the first look is complete, judge it."""
        for region, looks in answers.items():
            for look in looks:
                self._note(region, look)
        self._judge(list(self.suspects.values()), {}, now)

    def again(self, now: float) -> Asks | Wait:
        """The next look at the open suspects: what to ask, when to ask, or {} when no suspect is open."""
        closing = [s for s in self._open if s.closing]
        still_open = self._asked = closing or self._open
        if not still_open:
            return {}
        due = max(s.seen_at for s in still_open) + self._lag_max_s
        if now < due and not closing:
            return Wait(due)
        digests = [s.key_digest for s in still_open]
        if self._agreement.tolerant:  # equal rows may differ in a cell
            return dict.fromkeys(self.regions, self._ask(digests, digests))
        return dict.fromkeys(self.regions, self._ask(digests, [s.key_digest for s in still_open if s.lacks_columns]))

    def receive_again(self, answers: Mapping[str, Sequence[Look]], now: float) -> None:
        """Every region's answer to ``again``: judge the looked-at suspects."""
        self._require(answers)
        still_open = self._asked or self._open
        before = {s.key_digest: _Seen.of(s) for s in still_open}
        for suspect in still_open:
            suspect.versions, suspect.shifted, suspect.written, suspect.dead = {}, {}, {}, {}
        for region, looks in answers.items():
            for look in looks:
                if look.key_digest in before:
                    self._note_again(region, look, before[look.key_digest])
        for suspect in still_open:
            suspect.locate()
        self._judge(still_open, before, now)

    def columns(self) -> Asks:
        """When no suspect is open: whose columns are still to be asked of whom, of the rows as they were last seen."""
        lacking = [s.key_digest for s in self.suspects.values() if s.fate is Fate.CONFIRMED and s.lacks_columns]
        ask = replace(self._ask(lacking, lacking), picked=self._plan.one_by_one(len(lacking)), read=False)
        return dict.fromkeys(self.regions, ask) if lacking else {}

    def receive_columns(self, answers: Mapping[str, Sequence[Look]]) -> None:
        """The answers to ``columns``. A row that is no longer the one that was confirmed stays without them."""
        for region, looks in answers.items():
            for look in looks:
                suspect = self.suspects.get(look.key_digest)
                if suspect is not None and (look.same or alike(look.fresh, suspect.versions.get(region, ()))):
                    suspect.columns[region] = look.columns

    @property
    def _open(self) -> list[Suspect]:
        return [s for s in self.suspects.values() if s.fate is Fate.OPEN]

    def _missed_by(self, region: str) -> list[bytes]:
        """The keys that a region did not show, and those that it showed as gone while others have them."""
        return [
            digest
            for digest, s in self.suspects.items()
            if region not in s.dead
            and not s.versions.get(region)
            and (region not in s.versions or any(s.versions.values()))
        ]

    def _ask(self, key_digests: Sequence[bytes], columns: Sequence[bytes]) -> LookAsk:
        sealed = {digest: self._sealed[digest] for digest in key_digests if digest in self._sealed}
        picked = self._plan.of_many(len(columns), *self._differing()) if columns else None
        return LookAsk(tuple(key_digests), sealed, frozenset(columns), picked)

    def _differing(self) -> tuple[set[int], float]:
        """The places of the columns that differ between the regions in any row, and which part differs in several."""
        seen: set[int] = set()
        rows = several = 0
        for suspect in self.suspects.values():
            if len(suspect.columns) > 1:
                here = [i for i, d in enumerate(zip(*suspect.columns.values(), strict=False)) if len(set(d)) > 1]
                seen.update(here)
                rows, several = rows + 1, several + (len(here) > 1)
        return seen, several / max(rows, 1)

    def _require(self, answers: Mapping[str, Sequence[Look]]) -> None:
        if missing := sorted(set(self.regions) - set(answers)):
            raise InvariantBroken(f"no look from region {missing[0]}")

    def _note_again(self, region: str, look: Look, before: _Seen) -> None:
        suspect = self.suspects[look.key_digest]
        if look.same:  # then only its columns are told
            version, whole = before.written.get(region, (None, False))
            look = replace(
                look,
                fresh=before.versions.get(region, ()),
                shifted=look.shifted or before.shifted.get(region, ()),
                version=version,
                whole=whole,
            )
        elif not alike(before.versions.get(region, ()), look.fresh):
            suspect.columns.pop(region, None)
        self._note(region, look)

    def _note(self, region: str, look: Look) -> None:
        suspect = self.suspects.setdefault(look.key_digest, Suspect(look.key_digest))
        self.unexplained.discard(int.from_bytes(look.key_digest[:8], "big"))
        suspect.seen(region, look.fresh)
        if look.columns:
            suspect.columns[region] = look.columns
        if look.shifted:
            suspect.shifted[region] = look.shifted
        if look.version is not None:
            suspect.written[region] = look.version, look.whole
        if look.dead:
            suspect.dead[region] = look.dead
        if look.merged:
            suspect.merged[region] = look.merged
        if look.sealed:
            self._sealed.setdefault(look.key_digest, look.sealed)

    def _judge(self, suspects: Sequence[Suspect], before: Mapping[bytes, _Seen], now: float) -> None:
        for suspect in suspects:
            suspect.looks += 1
            last_seen, suspect.seen_at = suspect.seen_at, now
            silent = sorted(set(self.regions) - set(suspect.versions))
            if silent:
                suspect.fate, suspect.reason = Fate.UNKNOWN, f"no answer about the key from {', '.join(silent)}"
            elif suspect.dead:
                region, reason = min(suspect.dead.items())
                suspect.fate, suspect.reason = Fate.UNKNOWN, f"dead letter in {region}: {reason}"
            elif len(set(suspect.versions.values())) == 1:  # equal multisets are equal, duplicates counted
                suspect.fate = Fate.HEALED
            elif self._agreement.holds(suspect):
                suspect.fate = Fate.WITHIN_TOLERANCE
            elif suspect.contradicts_itself or self._rested(suspect, before, now - last_seen):
                if suspect.missing_in and not suspect.closing:
                    suspect.closing = True
                else:
                    suspect.fate = Fate.CONFIRMED
            else:
                suspect.closing = False
                if suspect.looks >= limits.LOOKS_MAX:
                    suspect.fate = Fate.UNSETTLED

    def _rested(self, suspect: Suspect, before: Mapping[bytes, _Seen], apart_s: float) -> bool:
        """Whether it is as it was, for long enough."""
        last = before.get(suspect.key_digest)
        still = last is not None and last.still(_Seen.of(suspect))
        return still and (suspect.closing or apart_s >= self._lag_max_s)
