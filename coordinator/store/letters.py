"""Dead letters as the coordinator knows them: opaque ids, reasons and counts of the regions', and its own in full."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from coordinator.store.tables import dead_letters, letter_acts, letter_lists
from coordinator.store.transactions import Transactions
from paritree.core import limits
from paritree.core.deadletters import Letter, LetterKind, LetterState, letter_id

OWN: Final = ""
"""The region of the coordinator's own letters: messages that it could not read, sweeps that came to no report."""
OWN_MAX: Final = 1_000
"""Own letters of one kind; further ones are counted only."""
REASON_CHARS_MAX: Final = 2_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_INSERT_ROWS: Final = 500
_COUNT_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A dead letter of a region, or of the coordinator (``region`` ""); ``detail`` only has what is its own."""

    region: str
    letter: Letter
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LetterList:
    """When a region's letters of a dataset were asked for last, and how many more it had counted only."""

    region: str
    dataset: str
    not_kept: int
    as_of: datetime


class DeadLetterTable(Transactions):
    """The regions' dead letters as they were told last, the coordinator's own, and what operators did with them."""

    def replace_letters(self, region: str, dataset: str, letters: Sequence[Letter], not_kept: int) -> None:
        """A region's letters of a dataset are these now."""
        rows = [_values(region, letter) for letter in letters[: limits.LETTERS_MAX]]
        of = sa.and_(dead_letters.c.region == region, dead_letters.c.dataset == dataset)
        with self._writing() as connection:
            connection.execute(sa.delete(dead_letters).where(of))
            for first in range(0, len(rows), _INSERT_ROWS):
                connection.execute(sa.insert(dead_letters), rows[first : first + _INSERT_ROWS])
            self._note_list(connection, region, dataset, not_kept)

    def note_own_letter(self, kind: LetterKind, dataset: str, identity: bytes, reason: str, **detail: Any) -> str:
        """Keep one of the coordinator's own, or count it once more; returns its id.

        A discarded message stays discarded when it comes again; a job that fails again is open again.
        """
        now = self._clock()
        own = letter_id(OWN, dataset, kind, identity)
        this = sa.and_(dead_letters.c.region == OWN, dead_letters.c.id == own)
        seen: dict[str, Any] = {"last_seen": now, "reason": reason[:REASON_CHARS_MAX], "detail": detail}
        if kind is LetterKind.JOB:
            seen["state"] = LetterState.OPEN
        with self._writing() as connection:
            again = sa.update(dead_letters).where(this)
            if connection.execute(again.values(**seen, count=dead_letters.c.count + 1)).rowcount:
                return own
            kept = sa.select(sa.func.count()).where(dead_letters.c.region == OWN, dead_letters.c.kind == kind)
            if (connection.scalar(kept) or 0) >= OWN_MAX:
                self._note_list(connection, OWN, "", 1, more=True)
                return own
            letter = Letter(own, dataset, kind, "", sweep_id=str(detail.get("sweep_id", "")))
            values = {**_values(OWN, letter), **seen, "first_seen": now}
            connection.execute(sa.insert(dead_letters).values(values))
        return own

    def end_own_letters(self, ids: Iterable[str]) -> list[str]:
        """These letters of the coordinator's own have ended; returns those that were there."""
        with self._writing() as connection:
            return [
                one
                for one in ids
                if connection.execute(
                    sa.delete(dead_letters).where(dead_letters.c.region == OWN, dead_letters.c.id == one)
                ).rowcount
            ]

    def discard_own_letters(self, ids: Iterable[str], note: str) -> None:
        """Mark letters of the coordinator's own as looked into."""
        values = {"state": LetterState.DISCARDED, "note": note[:REASON_CHARS_MAX]}
        with self._writing() as connection:
            for one in ids:
                this = sa.and_(dead_letters.c.region == OWN, dead_letters.c.id == one)
                connection.execute(sa.update(dead_letters).where(this).values(values))

    def letters(
        self, *, dataset: str = "", region: str | None = None, ids: Sequence[str] = (), discarded: bool = True
    ) -> list[LetterRow]:
        """The letters that are all of this, those seen last first. ``dataset`` "": of every one."""
        which = sa.select(dead_letters)
        if dataset:
            which = which.where(dead_letters.c.dataset == dataset)
        if region is not None:
            which = which.where(dead_letters.c.region == region)
        if not discarded:
            which = which.where(dead_letters.c.state != LetterState.DISCARDED)
        with self._reading() as connection:
            rows = connection.execute(which.order_by(dead_letters.c.last_seen.desc(), dead_letters.c.id)).mappings()
            wanted = set(ids)
            return [_row(dict(row)) for row in rows if not wanted or row["id"] in wanted]

    def letter_lists(self) -> list[LetterList]:
        """When each region was asked last."""
        named = [letter_lists.c[name] for name in LetterList.__slots__]
        with self._reading() as connection:
            return [LetterList(*row) for row in connection.execute(sa.select(*named).order_by(*named[:2]))]

    def log_letter_act(
        self, *, operator: str, action: str, region: str, dataset: str, reason: str, ids: Sequence[str]
    ) -> None:
        """Log what an operator does with letters, before it is done."""
        values = {"operator": operator, "action": action, "region": region, "dataset": dataset, "reason": reason}
        with self._writing() as connection:
            connection.execute(sa.insert(letter_acts).values(**values, at=self._clock(), ids=list(ids)))

    def letter_acts(self) -> list[dict[str, Any]]:
        """What operators did, oldest first."""
        with self._reading() as connection:
            rows = connection.execute(sa.select(letter_acts).order_by(letter_acts.c.number)).mappings()
            return [dict(row) for row in rows]

    def _note_list(
        self, connection: sa.Connection, region: str, dataset: str, not_kept: int, *, more: bool = False
    ) -> None:
        this = sa.and_(letter_lists.c.region == region, letter_lists.c.dataset == dataset)
        not_kept = min(not_kept, _COUNT_MAX)
        values = {"not_kept": letter_lists.c.not_kept + not_kept if more else not_kept, "as_of": self._clock()}
        if not connection.execute(sa.update(letter_lists).where(this).values(values)).rowcount:
            values["not_kept"] = not_kept
            connection.execute(sa.insert(letter_lists).values(region=region, dataset=dataset, **values))


_SAME: Final = ("id", "dataset", "kind", "reason", "keyed", "state", "sweep_id", "count", "note")


def _values(region: str, letter: Letter) -> dict[str, Any]:
    return {
        **{name: getattr(letter, name) for name in _SAME},
        "region": region,
        "columns": list(letter.columns),
        "count": min(letter.count, _COUNT_MAX),
        "first_seen": _EPOCH + timedelta(microseconds=letter.first_seen_us),
        "last_seen": _EPOCH + timedelta(microseconds=letter.last_seen_us),
        "detail": None,
    }


def _row(row: Mapping[str, Any]) -> LetterRow:
    values = {name: row[name] for name in _SAME}
    values |= {"kind": LetterKind(row["kind"]), "state": LetterState(row["state"])}
    letter = Letter(
        **values,
        columns=tuple(row["columns"]),
        first_seen_us=(row["first_seen"] - _EPOCH) // timedelta(microseconds=1),
        last_seen_us=(row["last_seen"] - _EPOCH) // timedelta(microseconds=1),
    )
    return LetterRow(row["region"], letter, row["detail"] or {})
