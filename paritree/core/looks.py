"""Look twice before saying "different": what becomes of the suspects of a descent. A state machine without I/O.

                    equal digests in one look
    suspect ──────────────────────────────────────▶ healed
       │  differing digests in one look, and all regions agree within the columns' tolerance
       ├──────────────────────────────────────────▶ within tolerance
       │  the same differing digests in two looks
       ├──────────────────────────────────────────▶ confirmed   (two looks at least lag_max apart)
       │  still changing after LOOKS_MAX looks
       ├──────────────────────────────────────────▶ unsettled
       │  a row that cannot be canonicalised, an answer that is missing
       └──────────────────────────────────────────▶ unknown

The looks are fresh reads by key in every region (the idea of asking twice and intersecting is Riak's, see
``aae_exchange.erl`` of kv_index_tictactree). Time comes in as an argument, in seconds of any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from paritree.core import limits
from paritree.core.agreement import Agreement
from paritree.core.errors import InvariantBroken
from paritree.core.messages import AskDetail, Look
from paritree.core.suspects import Fate, Suspect, Version


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again not before this time."""

    until: float


@dataclass(frozen=True, slots=True)
class _Seen:
    """What must be the same in two looks."""

    versions: Mapping[str, Version]
    shifted: Mapping[str, tuple[bytes, ...]]


Asks = Mapping[str, AskDetail]


def first_asks(ks: Sequence[int], regions: Sequence[str], sealing: Sequence[str]) -> Asks:
    """The first look: every region shows the keys that it holds under the suspect ks (ascending)."""
    words = np.array(ks, np.uint64)
    return {r: AskDetail(words, columns=True, seal=r in sealing and len(regions) > 1) for r in regions}


class Looks:
    """All suspects of a sweep. ``again`` says what to ask of whom now; ``receive_…`` takes every region's looks.

    One look has two parts: every region is asked for the keys it holds; a region that lacks keys which another holds
    is then asked for those by digest (``sealed`` where the holder's policy lets keys travel). Without an ``agreement``
    no column has a tolerance.
    """

    def __init__(
        self, regions: Sequence[str], ks: Sequence[int], lag_max_s: float, agreement: Agreement | None = None
    ) -> None:
        self._agreement = agreement or Agreement()
        self.regions = tuple(regions)
        self.suspects: dict[bytes, Suspect] = {}
        self.unexplained: set[int] = set(ks)
        self._lag_max_s = lag_max_s
        self._sealed: dict[bytes, bytes] = {}

    def receive_first(self, answers: Mapping[str, Sequence[Look]]) -> Asks:
        """Every region's answer to ``first_asks``; returns what to ask of the regions that lack keys."""
        self._require(answers)
        for region, looks in answers.items():
            for look in looks:
                self._note(region, look)
        lacking = {
            region: [digest for digest, s in self.suspects.items() if region not in s.versions and region not in s.dead]
            for region in self.regions
        }
        return {region: self._ask(digests, columns=True) for region, digests in lacking.items() if digests}

    def receive_lacking(self, answers: Mapping[str, Sequence[Look]], now: float) -> None:
        """The answers to ``receive_first``'s requests: the first look is complete, judge it."""
        for region, looks in answers.items():
            for look in looks:
                self._note(region, look)
        self._judge(list(self.suspects.values()), {}, now)

    def again(self, now: float) -> Asks | Wait:
        """The next look at the open suspects: what to ask, when to ask, or {} when no suspect is open."""
        still_open = [s for s in self.suspects.values() if s.fate is Fate.OPEN]
        if not still_open:
            return {}
        due = max(s.seen_at for s in still_open) + self._lag_max_s
        if now < due:
            return Wait(due)
        # they weigh more than all else: asked once where rows rest, and always where equal rows may differ in a cell
        columns = bool(self._agreement.tolerant) or any(s.lacks_columns for s in still_open)
        ask = self._ask([s.key_digest for s in still_open], columns=columns)
        return dict.fromkeys(self.regions, ask)

    def receive_again(self, answers: Mapping[str, Sequence[Look]], now: float) -> None:
        """Every region's answer to ``again``: judge the looked-at suspects."""
        self._require(answers)
        still_open = [s for s in self.suspects.values() if s.fate is Fate.OPEN]
        before = {s.key_digest: _Seen(s.versions, s.shifted) for s in still_open}
        for suspect in still_open:
            suspect.versions, suspect.shifted, suspect.dead = {}, {}, {}
        for region, looks in answers.items():
            for look in looks:
                if look.key_digest in before:
                    if before[look.key_digest].versions.get(region) != look.fresh:
                        self.suspects[look.key_digest].columns.pop(region, None)
                    self._note(region, look)
        self._judge(still_open, before, now)

    def _ask(self, key_digests: Sequence[bytes], *, columns: bool) -> AskDetail:
        sealed = {digest: self._sealed[digest] for digest in key_digests if digest in self._sealed}
        ks = sorted({int.from_bytes(digest[:8], "big") for digest in key_digests})
        return AskDetail(np.array(ks, np.uint64), tuple(key_digests), sealed, columns=columns)

    def _require(self, answers: Mapping[str, Sequence[Look]]) -> None:
        if missing := sorted(set(self.regions) - set(answers)):
            raise InvariantBroken(f"no look from region {missing[0]}")

    def _note(self, region: str, look: Look) -> None:
        suspect = self.suspects.setdefault(look.key_digest, Suspect(look.key_digest))
        self.unexplained.discard(int.from_bytes(look.key_digest[:8], "big"))
        suspect.versions[region] = look.fresh
        if look.columns:
            suspect.columns[region] = look.columns
        if look.shifted:
            suspect.shifted[region] = look.shifted
        if look.dead:
            suspect.dead[region] = look.dead
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
            elif (
                before.get(suspect.key_digest) == _Seen(suspect.versions, suspect.shifted)
                and now - last_seen >= self._lag_max_s
            ):
                suspect.fate = Fate.CONFIRMED
            elif suspect.looks >= limits.LOOKS_MAX:
                suspect.fate = Fate.UNSETTLED
