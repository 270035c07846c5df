"""What a machine has run out of is told from mistakes, with what to do about it."""

from __future__ import annotations

import errno

import pytest

from paritree.core.errors import exhausted


@pytest.mark.parametrize(
    ("error", "message", "step"),
    [
        (MemoryError(), "out of memory", "shard_rows"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory: Cannot allocate memory", "shard_rows"),
        (OSError(errno.EMFILE, "Too many open files"), "out of file handles: Too many open files", "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left"), "out of disk space: No space left", "free space"),
        (RuntimeError("can't start new thread"), "out of memory or threads: can't start new thread", "ulimit -u"),
    ],
)
def test_what_is_missing_is_said(error: BaseException, message: str, step: str) -> None:
    said = exhausted(error)
    assert said is not None
    assert said.message == message
    assert step in said.next_step
    assert said.retryable


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "no such file"), RuntimeError("a mistake"), ValueError(), OSError()]
)
def test_a_mistake_is_not_called_want(error: BaseException) -> None:
    assert exhausted(error) is None
