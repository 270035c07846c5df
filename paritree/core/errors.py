"""The three families of errors: ours, the other side's, the operator's.

Driver and gRPC exceptions are translated into these at the border, once per connector or transport.
Whether a retry can help is a field, decided where it is known.
"""

from __future__ import annotations

import errno
from typing import Final


class ParitreeError(Exception):
    """Base of every error that paritree raises on purpose.

    ``next_step`` is a sentence for the person who reads the message: what to do now.
    """

    def __init__(self, message: str, *, next_step: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.retryable = retryable

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.next_step, self.retryable, self.__dict__)


def _rebuild(
    kind: type[ParitreeError], message: str, next_step: str, retryable: bool, state: dict[str, object]
) -> ParitreeError:
    error = kind.__new__(kind)
    ParitreeError.__init__(error, message, next_step=next_step, retryable=retryable)
    error.__dict__.update(state)
    return error


class InvariantBroken(ParitreeError):
    """Our own mistake: stop, do not continue with a wrong state."""


class ConfigError(ParitreeError):
    """The operator's mistake, found before scanning (exit code 2): names the file, key or flag and how to fix it."""


class SourceError(ParitreeError):
    """A database or file failed, refused or went away. ``shard`` is the part of the table that was read, or ""."""

    shard: str = ""


class PeerError(ParitreeError):
    """The other process (agent or coordinator) failed, refused or sent something that cannot be used."""


class Unreadable(PeerError):
    """Bytes of the other process that are no message: kept as a dead letter."""


_MISSING: Final[dict[int, tuple[str, str]]] = {
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), ("file handles", "raise the limit: ulimit -n, LimitNOFILE= of a unit")
    ),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), ("disk space", "free space on that disk")),
    errno.ENOMEM: ("memory", "give it more memory, or lower shard_rows or executor.workers"),
}
"""What has run out, by the system's error, and what to do."""


def exhausted(error: BaseException) -> SourceError | None:
    """The retryable error that says what this machine has run out of, where that is why something failed."""
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":  # Python's own words, without errno
        _, step = _MISSING[errno.ENOMEM]
        step += "; or allow it more threads: ulimit -u, TasksMax= of a unit"
        return SourceError(f"out of memory or threads: {error}", next_step=step, retryable=True)
    code = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
    if not isinstance(error, OSError | MemoryError) or code not in _MISSING:
        return None
    what, step = _MISSING[code]
    reason = error.strerror if isinstance(error, OSError) else ""
    return SourceError(f"out of {what}" + (f": {reason}" if reason else ""), next_step=step, retryable=True)


class DeadLetter(ParitreeError):
    """A value that does not fit its logical type: the row is kept in its region, counted, never taken as equal."""
