"""The token book: which key a token stands for, kept in the region, for ``paritree agent reveal``.

One line a key that was looked at: key digest and locator in hex, the locator after a ``*`` and encrypted where the
agent has a key for that. The file is readable by its owner only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from edge_agent.index.rest import RestKey
from paritree.core.digest import token
from paritree.core.errors import ConfigError, SourceError

BOOK_BYTES_MAX: Final = 64 << 20
"""The book is started anew beyond this size (about half a million keys); the newest sweep is always whole."""

_TAIL_BYTES: Final = 4_096


class TokenBook:
    """Appends looked-at keys, and finds them again by token."""

    def __init__(self, path: Path, rest_key: RestKey | None = None) -> None:
        self._path = path
        self._rest_key = rest_key
        self._known: set[bytes] = set()
        self._adding = threading.Lock()

    def add(self, locators: Mapping[bytes, bytes]) -> None:
        """Remember key digest -> locator; threads may call it. Raises SourceError when the spool cannot take it."""
        with self._adding:
            self._add(locators)

    def _add(self, locators: Mapping[bytes, bytes]) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._path.exists() and self._path.stat().st_size > BOOK_BYTES_MAX:
                os.replace(self._path, self._path.with_suffix(".old"))
                self._known.clear()  # the next time the old book goes, and they would be in none
            new = {digest: locator for digest, locator in locators.items() if digest not in self._known}
            if not new:
                return
            with os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab+") as book:
                _cut_torn_line(book)
                book.writelines(f"{digest.hex()} {self._kept(digest, new[digest])}\n".encode() for digest in new)
        except OSError as error:
            step = "free space in the spool directory, and see who may write there"
            raise SourceError(
                f"the token book cannot be written: {error.strerror}", next_step=step, retryable=True
            ) from error
        self._known |= set(new)

    def find(self, tokens: Iterable[str]) -> dict[str, bytes]:
        """token -> locator, for the tokens that the book knows. Raises ConfigError where it lacks the key of a line."""
        wanted = {t.strip().upper() for t in tokens}
        found: dict[str, bytes] = {}
        for path in (self._path.with_suffix(".old"), self._path):
            if not path.exists():
                continue
            with path.open() as book:
                for line in book:
                    if not line.endswith("\n"):
                        break  # torn, and cut off when the next key is added
                    digest, _, locator = line.strip().partition(" ")
                    if len(digest) == 32 and (name := token(bytes.fromhex(digest))) in wanted:
                        found[name] = self._read(bytes.fromhex(digest), locator)
        return found

    def _kept(self, digest: bytes, locator: bytes) -> str:
        return locator.hex() if self._rest_key is None else f"*{self._rest_key.sealed(locator, digest).hex()}"

    def _read(self, digest: bytes, kept: str) -> bytes:
        if not kept.startswith("*"):
            return bytes.fromhex(kept)
        if self._rest_key is None:
            raise ConfigError(
                f"{self._path} is encrypted, and no key is named",
                next_step="name its at_rest_key in the agent's file",
            )
        return self._rest_key.opened(bytes.fromhex(kept[1:]), digest, str(self._path))


def _cut_torn_line(book: BinaryIO) -> None:
    """Remove a line that a full disk, or a crash, left unfinished: half a locator would be another key."""
    size = book.seek(0, os.SEEK_END)
    tail = bytearray()
    while len(tail) < size and b"\n" not in tail:
        book.seek(max(0, size - len(tail) - _TAIL_BYTES))
        tail[:0] = book.read(min(_TAIL_BYTES, size - len(tail)))
    whole = size - len(tail) + tail.rfind(b"\n") + 1
    if whole < size:
        book.truncate(whole)
