"""What stands before the command of a server that a test starts: whose it is, and that it ends with the test.

Both are for the server's own process to arrange, by a command that then becomes the server. What subprocess offers for
that (``preexec_fn``, ``user``) runs between fork and exec in a copy of a process with threads of gRPC and DuckDB: of
1,500 such starts 113 ended before a word was said.
"""

from __future__ import annotations

import os
import shutil
import signal

_USER = "postgres"


def with_parent(how: signal.Signals) -> tuple[str, ...]:
    """The kernel sends the server this signal when the thread that started it has ended."""
    return ("setpriv", "--pdeathsig", how.name.removeprefix("SIG"), "--")


def as_owner() -> tuple[str, ...]:
    """Runs as a user that PostgreSQL accepts: the caller, or ``postgres`` for root."""
    return ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", "--") if os.geteuid() == 0 else ()


def give(path: str | os.PathLike[str]) -> None:
    """Make that user the owner of a file or folder."""
    if os.geteuid() == 0:
        shutil.chown(path, _USER, _USER)
