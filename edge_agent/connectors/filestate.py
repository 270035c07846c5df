"""What a file was when it was looked at, to notice that it was replaced or written meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from paritree.core.errors import SourceError


@dataclass(frozen=True, slots=True)
class FileState:
    """Which file it is, and what changes when it is written. Sizes in bytes, times in ns."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """The state now. Raises SourceError where the file has gone."""
        try:
            stat = os.stat(path)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}", next_step="put the file back and sweep again") from None
        return cls(stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)

    @property
    def identity(self) -> tuple[int, int]:
        return self.device, self.inode

    def unchanged(self, path: str) -> None:
        """Raise SourceError unless the file at the path still is in this state."""
        if FileState.of(path) != self:
            raise SourceError(f"{path} changed while it was read", next_step="sweep again", retryable=True)


def version(states: Mapping[str, FileState]) -> str:
    """A short text that names the state of several files together."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(states):
        state = states[path]
        digest.update(f"{path}\0{state.size}\0{state.mtime_ns}\0".encode(errors="surrogateescape"))
    size = sum(state.size for state in states.values())
    return f"{len(states)} file{'s' if len(states) != 1 else ''}, {size} bytes, version {digest.hexdigest()}"
