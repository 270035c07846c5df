"""The dead letters that an agent keeps: one SQLite file in its spool, payloads sealed, bounded for each dataset.

    letters    what was found, by id; ``sealed`` is null where a letter was discarded
    not_kept   how many more the newest sweep of a dataset counted than were kept
    schemas    each dataset's table as it was when it was compared last, to tell what has changed

Several processes may use the file at once: the agent and the commands that an operator runs beside it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.letters.found import Found
from paritree.core import limits
from paritree.core.deadletters import Letter, LetterKind, LetterState, letter_id
from paritree.core.errors import SourceError, exhausted

FILE: Final = "letters.db"
BUSY_TIMEOUT_S: Final = 30.0
SQLITE_HANDLES: Final = 3
"""The file, its log and the log's index."""
VERSION: Final = 1
_TABLES: Final = """
CREATE TABLE letters (
    id TEXT PRIMARY KEY, dataset TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
    columns TEXT NOT NULL, keyed INTEGER NOT NULL, first_seen_us INTEGER NOT NULL, last_seen_us INTEGER NOT NULL,
    sweep_id TEXT NOT NULL, count INTEGER NOT NULL, note TEXT NOT NULL,
    identity BLOB NOT NULL, key_id BLOB NOT NULL, sealed BLOB
) WITHOUT ROWID;
CREATE INDEX letters_dataset ON letters (dataset, last_seen_us);
CREATE TABLE not_kept (dataset TEXT PRIMARY KEY, sweep_id TEXT NOT NULL, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE schemas (dataset TEXT PRIMARY KEY, binding BLOB NOT NULL, described TEXT NOT NULL) WITHOUT ROWID;
"""
_LETTER: Final = (
    *("id", "dataset", "kind", "reason", "columns", "keyed", "state", "first_seen_us", "last_seen_us"),
    *("sweep_id", "count", "note"),
)
_SCANNED: Final = (LetterKind.ROW, LetterKind.ROWS)
"""What a scan of the whole table finds again if it is still so."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A letter with its payload, still sealed; None where it was discarded."""

    letter: Letter
    identity: bytes
    key_id: bytes
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class Listed:
    """The letters of a dataset's rows: the identities of ``keyed`` ones, and whether there are any without a key.

    ``full``: further ones would not be kept, so nothing follows from one that is not here.
    """

    keyed: frozenset[bytes] = frozenset()
    keyless: bool = False
    full: bool = False


class LetterStore:
    """The letters of one region's agent. For any number of threads and processes; every method raises SourceError."""

    def __init__(self, path: Path, region: str, *, clock: Callable[[], int] = lambda: time.time_ns() // 1_000) -> None:
        """``clock`` gives microseconds since 1970. The file is made when the first letter is kept."""
        self._path = path
        self._region = region
        self._clock = clock
        self._latest_us = 0
        self._begun = False
        self._telling = threading.Lock()

    def now_us(self) -> int:
        """The store's clock, which crawls while the system's is behind where it was: letters have an order."""
        if not self._begun and self._path.exists():  # by an earlier process, whose clock may have been ahead
            with self._transaction():
                pass
        with self._telling:
            self._latest_us = max(self._latest_us + 1, self._clock())
            return self._latest_us

    def take(self, dataset: str, sweep_id: str, letters: Iterable[Found], not_kept: int = 0) -> int:
        """Keep what was found; returns how many of it (with ``not_kept``) were counted only, for want of room."""
        with self._transaction() as db:
            room = _Room(db, dataset)
            for found in letters:
                not_kept += self._keep(db, room, dataset, sweep_id, found)
            if not_kept:
                _count_not_kept(db, dataset, sweep_id, not_kept)
        return not_kept

    def _keep(self, db: sqlite3.Connection, room: _Room, dataset: str, sweep_id: str, found: Found) -> int:
        own = letter_id(self._region, dataset, found.kind, found.identity)
        known = db.execute("SELECT state, reason, length(sealed) FROM letters WHERE id = ?", (own,)).fetchone()
        state, before = LetterState.OPEN, 0
        if known is not None:
            before = known[2] or 0
            state = LetterState(known[0]) if known[1] == found.reason else LetterState.OPEN
        sealed = found.sealed if state is LetterState.OPEN else None
        if not room.takes(len(sealed or b"") - before, new=known is None):
            return found.count
        now = self.now_us()
        values = (state, found.reason, json.dumps(found.columns), found.keyed, now, sweep_id, found.key_id, sealed)
        if known is None:
            db.execute(
                "INSERT INTO letters (state, reason, columns, keyed, last_seen_us, sweep_id, key_id, sealed, id, note,"
                f" dataset, kind, first_seen_us, count, identity) VALUES ({_marks(values)}, ?, '', ?, ?, ?, ?, ?)",
                (*values, own, dataset, found.kind, now, found.count, found.identity),
            )
        else:
            db.execute(
                "UPDATE letters SET state = ?, reason = ?, columns = ?, keyed = ?, last_seen_us = ?, sweep_id = ?,"
                " key_id = ?, sealed = ?, count = count + ? WHERE id = ?",
                (*values, found.count, own),
            )
        return 0

    def settle(self, dataset: str, sweep_id: str, before_us: int, *, complete: bool) -> list[str]:
        """A whole table was scanned since ``before_us``: the letters that it did not find again have ended.

        Not ``complete``: more were found than could be listed, so what somebody discarded may be among them, and stays.
        Returns the ids of the letters that ended.
        """
        if not self._path.exists():
            return []
        ended = (LetterState.OPEN, LetterState.DISCARDED) if complete else (LetterState.OPEN,)
        with self._transaction() as db:
            db.execute("DELETE FROM not_kept WHERE dataset = ? AND sweep_id != ?", (dataset, sweep_id))
            gone = db.execute(
                "SELECT id FROM letters WHERE dataset = ? AND last_seen_us < ?"
                f" AND kind IN ({_marks(_SCANNED)}) AND state IN ({_marks(ended)})",
                (dataset, before_us, *_SCANNED, *ended),
            ).fetchall()
            db.executemany("DELETE FROM letters WHERE id = ?", gone)
        return [row[0] for row in gone]

    def clear(self, ids: Iterable[str]) -> list[str]:
        """These letters have ended; returns the ids that were there."""
        with self._transaction() as db:
            return [one for one in ids if db.execute("DELETE FROM letters WHERE id = ?", (one,)).rowcount]

    def clear_kind(self, dataset: str, kind: LetterKind) -> None:
        """The dataset's letters of that kind have ended."""
        if self._path.exists():
            with self._transaction() as db:
                db.execute("DELETE FROM letters WHERE dataset = ? AND kind = ?", (dataset, kind))

    def discard(self, ids: Iterable[str], note: str) -> list[str]:
        """Mark letters as looked into, and forget their payload; returns the ids that were there."""
        with self._transaction() as db:
            change = "UPDATE letters SET state = ?, note = ?, sealed = NULL WHERE id = ?"
            return [one for one in ids if db.execute(change, (LetterState.DISCARDED, note, one)).rowcount]

    def letters(self, dataset: str | None = None, ids: Sequence[str] | None = None) -> list[Letter]:
        """The letters of a dataset (None: of all) among ``ids`` (None: all), those seen last first."""
        wanted = None if ids is None else set(ids)
        rows = self._rows(_LETTER, dataset)
        return [_letter(row) for row in rows if wanted is None or row[0] in wanted]

    def kept(self, dataset: str | None = None, ids: Sequence[str] | None = None) -> list[Kept]:
        """As :meth:`letters`, with their payloads."""
        wanted = None if ids is None else set(ids)
        rows = self._rows((*_LETTER, "identity", "key_id", "sealed"), dataset)
        return [Kept(_letter(row), *row[len(_LETTER) :]) for row in rows if wanted is None or row[0] in wanted]

    def keyed(self, dataset: str) -> dict[bytes, str]:
        """The ids of the dataset's letters of rows whose key is known, by their identity."""
        rows = self._rows(("identity", "id", "kind", "keyed"), dataset)
        return {row[0]: row[1] for row in rows if row[2] == LetterKind.ROW and row[3]}

    def listed(self, dataset: str) -> Listed:
        """The letters of the dataset's rows, discarded ones too. Rows that were only counted may be without a key."""
        keyed = frozenset(self.keyed(dataset))
        rows = self._rows(("kind", "keyed"), dataset)
        keyless = (LetterKind.ROW, 0) in rows or self.not_kept(dataset) > 0
        if not rows:
            return Listed(keyed, keyless)
        with self._transaction() as db:
            return Listed(keyed, keyless, full=not _Room(db, dataset).takes(limits.LETTER_BYTES_MAX, new=True))

    def _rows(self, columns: Sequence[str], dataset: str | None) -> list[tuple[Any, ...]]:
        if not self._path.exists():
            return []
        query = f"SELECT {', '.join(columns)} FROM letters WHERE dataset = coalesce(?, dataset)"
        with self._transaction() as db:
            return db.execute(f"{query} ORDER BY last_seen_us DESC, id", (dataset,)).fetchall()

    def not_kept(self, dataset: str | None = None) -> int:
        """How many dead letters the newest sweep of a dataset (None: of each) counted and did not keep."""
        if not self._path.exists():
            return 0
        with self._transaction() as db:
            query = "SELECT coalesce(sum(count), 0) FROM not_kept WHERE dataset = coalesce(?, dataset)"
            return int(db.execute(query, (dataset,)).fetchone()[0])

    def schema(self, dataset: str) -> tuple[bytes, Any] | None:
        """Which binding a dataset had when it was compared last, and its table as it was then (JSON)."""
        if not self._path.exists():
            return None
        with self._transaction() as db:
            row = db.execute("SELECT binding, described FROM schemas WHERE dataset = ?", (dataset,)).fetchone()
        return None if row is None else (row[0], json.loads(row[1]))

    def remember_schema(self, dataset: str, binding: bytes, described: Any) -> None:
        """The dataset's table as it is compared from now on."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO schemas (dataset, binding, described) VALUES (?, ?, ?) ON CONFLICT (dataset)"
                " DO UPDATE SET binding = excluded.binding, described = excluded.described",
                (dataset, binding, json.dumps(described)),
            )

    def _begin(self, db: sqlite3.Connection) -> None:
        """Go on from the newest time in the file."""
        if not self._begun:
            newest = int(db.execute("SELECT coalesce(max(last_seen_us), 0) FROM letters").fetchone()[0])
            with self._telling:
                self._latest_us, self._begun = max(self._latest_us, newest), True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as db:
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
                db.execute("BEGIN IMMEDIATE")
                _migrate(db)
                self._begin(db)
                yield db
                db.execute("COMMIT")  # closing without it rolls back
        except (sqlite3.Error, OSError) as error:
            if missing := exhausted(_handles_missing() or error):
                raise missing from error
            raise SourceError(
                f"the dead letters in {self._path} cannot be used: {error}",
                next_step="free space in the spool; move a damaged file away: the next sweep finds again what is in it",
            ) from error


def _handles_missing() -> OSError | None:
    """Why as many handles cannot be had as SQLite needs, which only says that it cannot open its file."""
    with ExitStack() as opened:
        try:
            for _ in range(SQLITE_HANDLES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            return error
    return None


class _Room:
    """What a dataset's letters may still take."""

    def __init__(self, db: sqlite3.Connection, dataset: str) -> None:
        query = "SELECT count(*), coalesce(sum(length(sealed)), 0) FROM letters WHERE dataset = ?"
        self._count, self._bytes = db.execute(query, (dataset,)).fetchone()

    def takes(self, size: int, *, new: bool) -> bool:
        """Whether there is room; then it is taken."""
        if (new and self._count >= limits.LETTERS_MAX) or (size > 0 and self._bytes + size > limits.LETTERS_BYTES_MAX):
            return False
        self._count += new
        self._bytes += size
        return True


def _migrate(db: sqlite3.Connection) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        for statement in filter(str.strip, _TABLES.split(";")):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
    elif version != VERSION:
        raise sqlite3.DatabaseError(f"it has version {version}, and this version of paritree knows {VERSION}")


def _count_not_kept(db: sqlite3.Connection, dataset: str, sweep_id: str, count: int) -> None:
    db.execute(
        "INSERT INTO not_kept (dataset, sweep_id, count) VALUES (?, ?, ?) ON CONFLICT (dataset) DO UPDATE SET"
        " count = excluded.count + CASE WHEN sweep_id = excluded.sweep_id THEN count ELSE 0 END,"
        " sweep_id = excluded.sweep_id",
        (dataset, sweep_id, count),
    )


def _letter(row: tuple[Any, ...]) -> Letter:
    values = dict(zip(_LETTER, row, strict=False))
    values |= {
        "kind": LetterKind(values["kind"]),
        "state": LetterState(values["state"]),
        "columns": tuple(json.loads(values["columns"])),
        "keyed": bool(values["keyed"]),
    }
    return Letter(**values)


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
