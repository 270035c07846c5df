"""The dead letters of one shard on their way from the task that scanned it to the store: a file beside the run."""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from edge_agent.letters.found import Found, merged, rows_found
from paritree.core import limits
from paritree.core.deadletters import LetterKind
from paritree.core.digest import DatasetKeys
from paritree.core.digester import DeadRow
from paritree.core.errors import SourceError
from paritree.core.placed import Placed

SHARD_BYTES_MAX: Final = 8 << 20
"""Sealed payloads of one shard, which are in memory until it ends, but for those of one batch."""


class ShardLetters:
    """Gathers the dead rows of one shard. Bounded: what is too many is counted in ``not_kept``."""

    def __init__(self, keys: DatasetKeys, shard: str) -> None:
        self._keys = keys
        self._shard = shard
        self._found: dict[bytes, Found] = {}
        self._bytes = 0
        self.not_kept = 0

    def add(self, batch: pa.RecordBatch | Placed, dead: Sequence[DeadRow], first_row: int) -> None:
        """Take the dead rows of a batch whose first row is row ``first_row`` of the shard."""
        room = max(0, limits.LETTERS_MAX - len(self._found)) if self._bytes < SHARD_BYTES_MAX else 0
        self.not_kept += len(dead[room:])
        for letter in rows_found(self._keys, batch, dead[:room], self._shard, first_row):
            before = self._found.get(letter.identity)
            self._found[letter.identity] = letter if before is None else merged(before, letter)
            self._bytes += len(letter.sealed) if before is None else 0

    def write(self, run_path: Path) -> None:
        """Leave them beside the run, in a file for its owner only; none where there is nothing. Raises SourceError."""
        if self._found or self.not_kept:
            write_letters(letters_path(run_path), self._found.values(), self.not_kept)


def letters_path(run_path: Path) -> Path:
    """Where the dead letters of a run's shard are left."""
    return run_path.with_suffix(".letters")


def write_letters(path: Path, letters: Iterable[Found], not_kept: int) -> None:
    """One JSON line a letter, after one with how many were not kept; whole or not there. Raises SourceError."""
    partial = path.with_suffix(".letters.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps({"not_kept": not_kept}) + "\n")
            file.writelines(json.dumps(_line(letter)) + "\n" for letter in letters)
        os.replace(partial, path)
    except OSError as error:
        raise SourceError(
            f"the spool cannot take the dead letters of a shard: {error.strerror}",
            next_step="free space in the spool directory",
        ) from error


def take_letters(path: Path) -> tuple[list[Found], int]:
    """The letters of a shard and how many were not kept; ([], 0) where it left none. Raises SourceError."""
    try:
        with path.open(encoding="utf-8") as file:
            not_kept = int(json.loads(next(file))["not_kept"])
            return list(_letters(file)), not_kept
    except FileNotFoundError:
        return [], 0
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise SourceError(f"the dead letters {path.name} cannot be read", next_step="start the sweep again") from error


def _line(letter: Found) -> dict[str, object]:
    return {
        "identity": letter.identity.hex(),
        "reason": letter.reason,
        "columns": letter.columns,
        "keyed": letter.keyed,
        "key_id": letter.key_id.hex(),
        "sealed": b64encode(letter.sealed).decode("ascii"),
        "count": letter.count,
    }


def _letters(lines: Iterable[str]) -> Iterator[Found]:
    for text in lines:
        line = json.loads(text)
        yield Found(
            kind=LetterKind.ROW,
            identity=bytes.fromhex(line["identity"]),
            reason=str(line["reason"]),
            columns=tuple(line["columns"]),
            keyed=bool(line["keyed"]),
            key_id=bytes.fromhex(line["key_id"]),
            sealed=b64decode(line["sealed"]),
            count=int(line["count"]),
        )
