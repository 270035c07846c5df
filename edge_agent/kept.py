"""How far a scan is, beside its runs, so that a restarted agent goes on and reads no finished shard again.

    <dataset>/<sweep>/progress    records, appended one by one: length (u32), BLAKE2b-64 of the content, the content:
                                  MessagePack, sealed where the spool is encrypted at rest
    <dataset>/<sweep>/NNNNNN.run  the runs that it names

The scan of an index that outlives sweeps has them in ``<dataset>/index/durable/scan/``.

    begun     what is scanned, and the request for it; anything else than that begins a new file
    shards    how the table was cut
    plan      one for each snapshot that shards were read in
    done      one for each shard that was read: its run is whole
    built     all of it was read, and what was to be said of it
    fence     the highest fencing token that the sweep has had
    revealed  how many keys were revealed in clear

A record that was not written to its end, or a run whose checksum is wrong, is as if it had never been there.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from msgpack import packb, unpackb

from edge_agent.connectors.contract import Shard
from edge_agent.index.rest import RestKey
from paritree.core.errors import ConfigError, SourceError

NAME: Final = "progress"
FORMAT: Final = 1
KEPT_S: Final = 86_400.0
"""A sweep that nobody went on with for a day is given up: its rows are too old to be worth comparing."""
_ABOUT: Final = b"progress"
_FRAME: Final = struct.Struct("<I8s")


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that was read: its number, the shard it re-reads (or itself), the number of the plan it was read in.

    ``as_of`` (seconds since 1970) is when its scan began. The rest is what the task returned and the run does not say.
    """

    number: int
    base: int
    plan: int
    as_of: float
    rows: int
    checksum: bytes
    keyed: int
    keyless: int
    reasons: Mapping[str, int]
    content: str = ""


@dataclass(slots=True)
class Kept:
    """The progress of one scan in ``folder``, sealed under ``rest_key``. Without ``identity`` it is only read."""

    folder: Path
    rest_key: RestKey | None = None
    identity: bytes = b""
    request: bytes = b""
    letters_since_us: int = 0
    shards: tuple[Shard, ...] = ()
    plans: list[Mapping[str, Any]] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    built: Mapping[str, Any] | None = None
    fence: int = 0
    revealed: int = 0

    @classmethod
    def read(cls, folder: Path, rest_key: RestKey | None = None) -> Kept | None:
        """What an earlier process left there; None where it is of no use: of another key or format."""
        kept = cls(folder, rest_key)
        try:
            data = (folder / NAME).read_bytes()
        except OSError:
            return None
        whole = 0
        for kind, values, end in _records(data, rest_key):
            if kind == "begun" and values["format"] != FORMAT:
                return None  # whatever its other records are
            kept._take(kind, values)
            whole = end
        if whole < len(data) and kept.identity:  # what follows a torn record could not be read
            with suppress(OSError):
                os.truncate(folder / NAME, whole)
        return kept if kept.identity else None

    @classmethod
    def open(
        cls, folder: Path, identity: bytes, request: bytes, letters_since_us: int, rest_key: RestKey | None = None
    ) -> Kept:
        """Go on with what is there, if it is of the same scan; else begin. Raises SourceError for a full spool."""
        found = cls.read(folder, rest_key)
        if found is not None and found.identity == identity:
            return found
        discard(folder)
        kept = cls(folder, rest_key)
        begun = {"format": FORMAT, "identity": identity, "request": request, "letters_since_us": letters_since_us}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept._add("begun", begun)
        return kept

    def note_shards(self, shards: Sequence[Shard]) -> None:
        """How the table was cut; what was done under another cut is forgotten."""
        self._add("shards", [asdict(shard) for shard in shards])

    def note_plan(self, memento: Mapping[str, Any]) -> None:
        """Shards are read in one more snapshot."""
        self._add("plan", dict(memento))

    def note_done(self, done: Done) -> None:
        """A shard's run is whole."""
        self._add("done", asdict(done))

    def note_built(self, built: Mapping[str, Any]) -> None:
        """Everything was read."""
        self._add("built", dict(built))

    def note_fence(self, fence: int) -> None:
        """A coordinator with that token drives the sweep."""
        self._add("fence", fence)

    def note_revealed(self, revealed: int) -> None:
        """So many keys were revealed until now."""
        self._add("revealed", revealed)

    def _add(self, kind: str, values: Any) -> None:
        self._take(kind, values)
        content = packb([kind, values])
        if self.rest_key is not None:
            content = self.rest_key.sealed(content, _ABOUT)
        frame = _FRAME.pack(len(content), hashlib.blake2b(content, digest_size=8).digest())
        path = self.folder / NAME
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "wb") as file:
                file.write(frame + content)
        except OSError as error:
            raise SourceError(
                f"the spool cannot take the progress of a scan: {error.strerror}",
                next_step="free space in the spool directory",
                retryable=True,
            ) from error

    def _take(self, kind: str, values: Any) -> None:
        match kind:
            case "begun":
                self.identity, self.request = values["identity"], values["request"]
                self.letters_since_us = values["letters_since_us"]
            case "shards":
                self.shards = tuple(Shard(**shard) for shard in values)
                self.plans, self.done, self.built = [], [], None
            case "plan":
                self.plans.append(values)
            case "done":
                self.done.append(Done(**values))
            case "built":
                self.built = values
            case "fence":
                self.fence = values
            case "revealed":
                self.revealed = values


def _records(data: bytes, rest_key: RestKey | None) -> Iterator[tuple[str, Any, int]]:
    """Each whole record and where it ends, up to the first that is torn or under another key."""
    at = 0
    while at + _FRAME.size <= len(data):
        length, digest = _FRAME.unpack_from(data, at)
        content = data[at + _FRAME.size : at + _FRAME.size + length]
        if len(content) != length or hashlib.blake2b(content, digest_size=8).digest() != digest:
            return
        try:
            opened = content if rest_key is None else rest_key.opened(content, _ABOUT, NAME)
            kind, values = unpackb(opened, strict_map_key=False)
        except (ConfigError, ValueError, TypeError):
            return
        at += _FRAME.size + length
        yield kind, values, at


def discard(folder: Path) -> None:
    """Delete the runs of a sweep, its progress, and dead letters that did not reach the store."""
    (folder / NAME).unlink(missing_ok=True)  # first: runs that nothing names are removed at the next start
    for ending in ("run", "partial", "letters"):
        for left in folder.glob(f"*.{ending}"):
            left.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


def of_use(folder: Path) -> bool:
    """Whether a sweep's folder is worth keeping over a restart."""
    try:
        age = time.time() - (folder / NAME).stat().st_mtime
    except OSError:
        return False
    return age < KEPT_S
