"""SIGTERM, SIGINT and SIGHUP of a process that serves: the first one asks it to stop, the second one ends it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def signals(stopped: asyncio.Future[signal.Signals]) -> Iterator[None]:
    """Resolve ``stopped`` with the first signal, inside a running loop; then the default effects are back."""
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if not stopped.done():
            stopped.set_result(number)
        _restore(loop)

    for number in SIGNALS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            loop.add_signal_handler(number, stop, number)
    try:
        yield
    finally:
        _restore(loop)


def _restore(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        loop.remove_signal_handler(number)


def exit_code(number: signal.Signals) -> int:
    """0 for being told to stop, 130 for Ctrl-C."""
    return 130 if number is signal.SIGINT else 0
