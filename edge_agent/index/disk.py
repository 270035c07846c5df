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
from typing import Final, Self

from edge_agent.index.rest import Blob, RestKey, Sealer, open_blob
from paritree.core.errors import SourceError

PARTIAL: Final = ".partial"
"""The ending of a file that is not whole yet; one that is found at the start was left by a crash."""
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
Step = Callable[[str], None]


def unwatched(step: str) -> None:
    """Nobody counts the steps."""
    del step


class Disk:
    """The files of one folder, encrypted where a key is given. Raises SourceError; a full disk is told apart."""

    def __init__(self, folder: Path, key: RestKey | None = None, at: Step = unwatched) -> None:
        self.folder = folder
        self.key = key
        self.steps = 0
        self._at = at

    def step(self, what: str) -> None:
        """Count one step and tell of it."""
        self.steps += 1
        self._at(what)

    def create(self, name: str) -> Output:
        """A new file under another name until :meth:`Output.publish` gives it its own."""
        return Output(self, name)

    def open(self, name: str) -> Blob:
        """The content of a file. Raises FileNotFoundError, SourceError."""
        try:
            return open_blob(self.folder / name, self.key)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise SourceError(f"{name} cannot be read: {error.strerror}", next_step="rebuild the index") from error

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
        with failing("sync its folder"):
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

    def link(self, old: str, new: str) -> None:
        """Give a file another name; where the file system lets it have one only, that one."""
        self.step(f"link {new}")
        with failing(f"link {new}"):
            try:
                os.link(self.folder / old, self.folder / new)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
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
        self._partial = Path(name).stem + PARTIAL
        self._published = False
        disk.step(f"create {self._partial}")
        with failing(f"create {name}"):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._handle = os.open(disk.folder / self._partial, flags, 0o600)
        self._sealer = Sealer(disk.key) if disk.key is not None else None
        if self._sealer is not None:
            self._put(self._sealer.header)

    def write(self, content: bytes | memoryview) -> None:
        """Append."""
        self._put(content if self._sealer is None else self._sealer.add(content))

    def publish(self, *, sync: bool = True) -> None:
        """Give the file its name; with ``sync`` once its content is on the disk."""
        if self._sealer is not None:
            self._put(self._sealer.end())
        if sync:
            self._disk.step(f"sync {self._partial}")
            with failing(f"sync {self._name}"):
                os.fsync(self._handle)
        self._disk.rename(self._partial, self._name)
        self._published = True

    def _put(self, content: bytes | memoryview) -> None:
        if not len(content):
            return
        self._disk.step(f"write {self._partial}")
        with failing(f"write {self._name}"):
            rest = memoryview(content).cast("B")
            while rest:
                rest = rest[os.write(self._handle, rest) :]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)
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
