"""A version of files that two looks have in common only where nobody wrote them in between.

Size and time of the last write are not enough: a tool may set the time back, and two writes in one tick of the clock
have the same time. So the time of the last change of the inode counts too, which nobody can set, and a file that was
written just now has no version yet: it is read again the next time. What is on another machine is opened first, which
makes it say what it has. Its clock may be behind ours only where it counts finer than that. Only asked about, never
opened, is a file in which this process may have locks: closing any handle of it gives all of them up (POSIX), and
writers would come in while a scan holds them off.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Collection, Iterable
from typing import Final

from paritree.core.errors import SourceError

SETTLED_NS: Final = 2_000_000_000
"""The coarsest clock of a file system in use (FAT: 2 s); ext4 and XFS count in 1 to 10 ms."""


def settled_version(
    paths: Iterable[str],
    *about: object,
    touched: Collection[str] = (),
    locked: bool = False,
    now_ns: int | None = None,
) -> str:
    """The version of these files, read as ``about`` says; "" where one was written too short a time before.

    Of ``touched`` ones the inode changes without a write, so its time says nothing. ``locked`` ones are open in this
    process already, with locks. ``now_ns`` is the time since 1970, before anything is read of them. Raises SourceError
    where a file has gone.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    digest = hashlib.blake2b(digest_size=16)
    for each in about:
        digest.update(f"{each!r}\0".encode(errors="backslashreplace"))
    for path in sorted(paths):
        stat = _stat(path, locked)
        changed_ns = 0 if path in touched else stat.st_ctime_ns
        if max(stat.st_mtime_ns, changed_ns) > now_ns - SETTLED_NS:
            return ""
        state = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, changed_ns)
        digest.update(f"{path}\0{state}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _stat(path: str, locked: bool) -> os.stat_result:
    try:
        if locked:
            return os.stat(path)
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.fstat(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}", next_step="put the file back and sweep again") from None
