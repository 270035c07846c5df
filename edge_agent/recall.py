"""What an agent remembers of the looks that it told in a sweep, so that a later look need only say what has changed.

An answer is remembered under a random token as a whole and never changed, so a request that comes again, late or in
another order speaks of the very looks that the coordinator was told. What is forgotten is asked for in full.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from paritree.core.messages import Look
from paritree.core.shown import entries_of

TOKEN_BYTES: Final = 16
ENTRIES_KEPT_MAX: Final = 1 << 17
"""Entries that a sweep's answers may have together: about 80 MB; an answer that goes beyond forgets the oldest ones."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """One look: what must be the same for the key to be the same, and its column digests."""

    fresh: tuple[bytes, ...]
    dead: str
    version: int | None
    whole: bool
    shifted: bytes
    columns: bytes

    @classmethod
    def of(cls, look: Look) -> Remembered:
        return cls(look.fresh, look.dead, look.version, look.whole, b"".join(look.shifted), b"".join(look.columns))

    def holds(self, look: Look) -> bool:
        """Whether a key looks as it did; a write that left its digests alone is a change."""
        now = Remembered.of(look)
        return (now.fresh, now.dead, now.version, now.shifted) == (self.fresh, self.dead, self.version, self.shifted)

    def look(self, key_digest: bytes) -> Look:
        """As it was told."""
        columns, shifted = (
            tuple(digests[at : at + 8] for at in range(0, len(digests), 8)) for digests in (self.columns, self.shifted)
        )
        return Look(key_digest, (), self.fresh, self.dead, columns, self.version, shifted=shifted, whole=self.whole)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its entries, ascending, and the looks of those that are key digests."""

    entries: tuple[bytes, ...]
    looks: Mapping[bytes, Remembered]


class Recall:
    """The answers of one sweep, the newest last."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()

    def remember(self, names: Iterable[bytes], looks: Iterable[Look], before: Answer | None = None) -> bytes:
        """Keep an answer about those names, and what else ``before`` has; returns its token."""
        told = {look.key_digest: look for look in looks}
        known = dict(before.looks) if before else {}
        known.update({key_digest: Remembered.of(look) for key_digest, look in told.items()})
        answer = Answer(entries_of([*names, *(before.entries if before else ())], told.values()), known)
        token = os.urandom(TOKEN_BYTES)
        self._answers[token] = answer
        while sum(len(one.entries) for one in self._answers.values()) > ENTRIES_KEPT_MAX and self._answers:
            self._answers.popitem(last=False)
        return token

    def answer(self, token: bytes) -> Answer | None:
        """The answer of that token; None where it was forgotten."""
        return self._answers.get(token)
