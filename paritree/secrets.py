"""Secrets come from a file, the environment or a command; never from the command line, never from a config file itself.

The written form says where the secret is: ``file:/etc/paritree/pg.password`` (relative paths from the folder of the
file that says so), ``env:PGPASSWORD``, ``command:pass show paritree/pg`` (split like a shell does, run without one).
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path
from typing import Final

from paritree.core.errors import ConfigError

FORMS: Final = "file:/path, env:NAME or command:program argument"
COMMAND_S_MAX: Final = 30.0
"""A command that asks a vault over the network needs seconds; one that waits for a terminal never ends."""
FILE_BYTES_MAX: Final = 1 << 20


def read_secret(spec: str, *, where: str, base: Path | None = None) -> str:
    """The secret that ``spec`` points to, without its final line break.

    ``where`` names the file and key, or the flag, that holds ``spec``; ``base`` is the folder of relative paths.
    Raises ConfigError, whose text never holds the secret.
    """
    form, separator, rest = spec.partition(":")
    if not separator or not rest or form not in ("file", "env", "command"):
        raise ConfigError(f"{where}: a secret is not written here but pointed to", next_step=f"write {FORMS}")
    if form == "env":
        secret = os.environ.get(rest, "")
        if not secret:
            raise ConfigError(f"{where}: the environment variable {rest} is not set", next_step=f"set {rest}")
    elif form == "command":
        secret = _command(rest, where)
    else:
        secret = _text(read_private_file((base or Path()) / rest, where=where), f"{where}: {rest}")
    secret = secret.removesuffix("\n").removesuffix("\r")
    if not secret:
        raise ConfigError(f"{where}: the secret is empty")
    return secret


def read_private_file(path: Path, *, where: str) -> bytes:
    """The content of a file that only its owner may read. Raises ConfigError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not make us wait
        try:
            _require_private(os.fstat(descriptor), path, where)  # of what was opened, not of what the path means now
            content = b"".join(iter(lambda: os.read(descriptor, FILE_BYTES_MAX), b""))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot read {path} ({error.strerror})", next_step="check the path and who may read it"
        ) from error
    return content


def _require_private(status: os.stat_result, path: Path, where: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{where}: {path} is not a file")
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(
            f"{where}: {path} can be read by others than its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            next_step=f"chmod 600 {shlex.quote(str(path))}",
        )
    if status.st_size > FILE_BYTES_MAX:
        raise ConfigError(f"{where}: {path} is larger than {FILE_BYTES_MAX} bytes")


def _command(command: str, where: str) -> str:
    try:
        arguments = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{where}: the command cannot be split ({error})") from error
    if not arguments:
        raise ConfigError(f"{where}: the command is empty")
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # may repeat the secret
            timeout=COMMAND_S_MAX,
            check=False,
        )
    except OSError as error:
        raise ConfigError(f"{where}: cannot run {arguments[0]} ({error.strerror})") from error
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{where}: {arguments[0]} did not end within {COMMAND_S_MAX:g} s") from None
    if done.returncode:
        raise ConfigError(
            f"{where}: {arguments[0]} ended with status {done.returncode}", next_step="run it by hand to see why"
        )
    return _text(done.stdout, f"{where}: {arguments[0]}")


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: the secret is not UTF-8 text") from None
