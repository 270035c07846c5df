"""The standard streams as a program may find them, closed, full or of somebody who has gone; and being told to end.

What cannot be said on stderr is lost and changes no exit code; what cannot be written to stdout is an error. Of closed
ones the numbers are taken first: a file that is opened later would get one of them, and all that is said there.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Final

STANDARD: Final = (0, 1, 2)
ENDINGS: Final = (signal.SIGTERM, signal.SIGHUP)
"""Like Ctrl-C for a command: files with keys and processes of its own are not left behind."""


class Lossy(io.TextIOWrapper):
    """Text for whoever still listens."""

    def write(self, text: str) -> int:
        """Say it, if it can be said."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what can be passed on."""
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """To be called first, once a process."""
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which this one is
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(_bytes_to(1), "utf-8")
    encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
    sys.stderr = Lossy(_bytes_to(2), encoding, "backslashreplace", line_buffering=True)
    for ending in ENDINGS:
        if signal.getsignal(ending) is signal.SIG_DFL:  # under nohup it is ignored, and stays so
            signal.signal(ending, _interrupt)


def _bytes_to(number: int) -> io.BufferedWriter:
    return io.BufferedWriter(io.FileIO(number, "w", closefd=False))


def _interrupt(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)  # a loop that runs has its own
    (handler if callable(handler) else signal.default_int_handler)(number, frame)


def drop_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
