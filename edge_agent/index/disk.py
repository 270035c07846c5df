"""Everything that the index does to its folder, one numbered step after the other.

Each call below is one or more steps; ``Disk.steps`` counts them and ``Disk.at`` is told before each, so that a test can
end the process at every one of them. What is not there after a crash was not synced, so the order is always: write,
sync the file, rename, sync the folder; and only then is what it replaces removed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from paritree.core.errors import SourceError

PARTIAL: Final = ".partial"
"""The ending of a file that is not whole yet; one that is found at the start was left by a crash."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Step = Callable[[str], None]


def unwatched(step: str) -> None:
    """Nobody counts the steps."""
    del step


class Disk:
    """The files of one folder. Raises SourceError, which says so where the disk is full."""

    def __init__(self, folder: Path, at: Step = unwatched) -> None:
        self.folder = folder
        self.steps = 0
        self._at = at

    def step(self, what: str) -> None:
        """Count one step and tell of it."""
        self.steps += 1
        self._at(what)

    def create(self, name: str) -> Output:
        """A new file under another name until :meth:`Output.publish` gives it its own."""
        return Output(self, name)

    def write(self, name: str, content: bytes) -> None:
        """A whole small file: written, synced, renamed. The folder is not synced yet."""
        with self.create(name) as output:
            output.write(content)
            output.publish()

    def sync(self, name: str) -> None:
        """Wait until the content of a file that somebody else wrote is on the disk."""
        self.step(f"sync {name}")
        with failing(f"sync {name}"):
            handle = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def sync_folder(self) -> None:
        """Wait until the names in the folder are on the disk."""
        self.step("sync folder")
        with failing("sync the folder"):
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Give a file its name, in place of one that has it."""
        self.step(f"rename {new}")
        with failing(f"rename {new}"):
            os.replace(self.folder / old, self.folder / new)

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone is fine."""
        self.step(f"remove {name}")
        with failing(f"remove {name}"):
            (self.folder / name).unlink(missing_ok=True)


class Output:
    """A file that is being written; it vanishes unless it is published. Use it as a context."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._partial = f"{Path(name).stem}{PARTIAL}" if name.endswith(".run") else f"{name}{PARTIAL}"
        self._published = False
        disk.step(f"create {self._partial}")
        with failing(f"create {name}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.fdopen(os.open(disk.folder / self._partial, flags, 0o600), "wb", buffering=0)

    def write(self, content: bytes | memoryview) -> None:
        """Append."""
        self._disk.step(f"write {self._partial}")
        with failing(f"write {self._name}"):
            rest = memoryview(content).cast("B") if len(content) else memoryview(b"")
            while rest:
                rest = rest[self._file.write(rest) :]

    def publish(self) -> None:
        """Sync the content and give the file its name."""
        self._disk.step(f"sync {self._partial}")
        with failing(f"sync {self._name}"):
            os.fsync(self._file.fileno())
            self._file.close()
        self._disk.rename(self._partial, self._name)
        self._published = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._file.close()
        if not self._published:
            (self._disk.folder / self._partial).unlink(missing_ok=True)


@contextmanager
def failing(doing: str) -> Iterator[None]:
    """Translate the system's errors into SourceError; ``doing`` completes "cannot …"."""
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise SourceError(
            f"the index cannot {doing}: {error.strerror or error}",
            next_step="free space on that disk: the index is as it was before" if full else "see who may write there",
            retryable=full,
        ) from error
