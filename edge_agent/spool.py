"""The spool folder: of one agent process at a time, and free of what an earlier one left half done."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from edge_agent.kept import NAME, of_use
from paritree.core.errors import ConfigError

LOCK: Final = ".lock"
RUN_NAME: Final = re.compile(r"(\d{6,}\.(run|partial|letters|letters\.partial)|progress)\Z")
"""The files that are removed: only what an agent writes, should somebody name a folder that has other things."""


@contextmanager
def held_spool(folder: Path) -> Iterator[None]:
    """Make the folder (readable by its owner only), lock it, and remove what no sweep will go on with.

    Layout: ``<dataset>/tokens`` is the token book and stays, so does ``<dataset>/index/durable/``, the index that
    outlives sweeps, and ``<dataset>/kept/``, the keys of ranges; ``<dataset>/<sweep>/`` are the runs of one sweep.
    Raises ConfigError when the folder cannot be used, or another agent uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"spool {folder}: cannot be used: {error.strerror}", next_step="name a folder that this user can write"
        ) from None
    try:
        _lock(handle, folder)
        clear_spool(folder, runs=True)
        yield
    finally:
        os.close(handle)


def clear_spool(folder: Path, *, runs: bool = False, busy: Collection[Path] = ()) -> None:
    """Remove the sweeps that nobody has gone on with for long, and ``runs`` of which no record was kept at all.

    ``busy`` places are left alone.
    """
    for place in folder.glob("*/*"):
        if place in busy or of_use(place) or not (runs or (place / NAME).exists()):
            continue
        for found in sorted(place.glob("*"), key=lambda path: path.name != NAME):
            if RUN_NAME.match(found.name):
                found.unlink(missing_ok=True)
                with suppress(OSError):  # not empty yet, or something in it is not ours
                    place.rmdir()


def dataset_folder(spool: Path, dataset: str) -> Path:
    """What the spool has of one dataset."""
    return spool / folder_name(dataset)


def index_folder(spool: Path, dataset: str) -> Path:
    """The dataset's durable index. One folder deeper than the runs of sweeps, which are removed at the start."""
    return dataset_folder(spool, dataset) / "index" / "durable"


def folder_name(name: str) -> str:
    """A file name for a dataset or sweep id: readable, and never a path."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return safe if safe == name else f"{safe}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(
            f"spool {folder}: another agent uses it", next_step="stop that agent, or give this one its own folder"
        ) from None
