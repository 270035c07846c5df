"""Coordinator and agents as processes of their own, each stopped by its id, whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from paritree.core.errors import PeerError

STOP_S_MAX: Final = 15.0
"""A server that was told to stop and has not after that is killed; stopping takes well below a second."""
COMPILE_S_MAX: Final = 300.0
"""Compiling takes some ten seconds of one core; a machine may be old and busy."""
LOG_TAIL_CHARS: Final = 1_500


def command_line(arguments: Sequence[str]) -> list[str]:
    """The command ``paritree`` with these arguments, of this very installation."""
    return [sys.executable, "-P", "-m", "paritree.cli.main", *arguments]


def environment() -> dict[str, str]:
    """The caller's environment without ``PARITREE_…``, which would override the demonstration's files."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("PARITREE_")}


def free_port(host: str) -> int:
    """A port of that address that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def compiling() -> Iterator[subprocess.Popen[bytes]]:
    """Compile the kernels beside other work, once rather than in three agents at the same time; see ``compiled``."""
    code = "from paritree.core.fast.warming import warm; warm()"
    process = subprocess.Popen([sys.executable, "-P", "-c", code], env=environment(), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def compiled(process: subprocess.Popen[bytes]) -> None:
    """Wait until the kernels are there. Raises PeerError when they could not be compiled."""
    try:
        code = process.wait(COMPILE_S_MAX)
    except subprocess.TimeoutExpired:
        raise PeerError(f"the kernels were not compiled after {COMPILE_S_MAX:.0f} s") from None
    if code:
        raise PeerError(f"compiling the kernels ended with exit code {code}; its message is above")


class Servers:
    """Processes by name, each with a log file; leaving the block stops them all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, Path] = {}

    def start(self, name: str, arguments: Sequence[str], log: Path) -> int:
        """Start ``paritree`` with these arguments; returns its process id."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                command_line(arguments),
                cwd=self._folder,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self._running[name], self._logs[name] = process, log
        return process.pid

    def check(self) -> None:
        """Raises PeerError, with the end of its log, when a process has ended by itself."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                tail = self._logs[name].read_text(errors="replace")[-LOG_TAIL_CHARS:].strip()
                raise PeerError(f"{name} ended with exit code {code}:\n{tail}")

    def stop(self) -> None:
        """Ask all to stop, wait, and kill what does not. Idempotent."""
        running, self._running = self._running, {}
        for process in reversed(running.values()):
            process.terminate()
        end = time.monotonic() + STOP_S_MAX
        for process in running.values():
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
