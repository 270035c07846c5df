"""The files of an index, and the one way in which they change: new ones beside the old, then the manifest.

    write runs and sums ── sync each ── sync folder ── write manifest beside ── sync ── RENAME ── sync folder ── remove

A crash before the rename leaves the old index, after it the new one. What neither names is removed when it is opened.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Final

from edge_agent.index import manifest
from edge_agent.index.disk import Disk
from edge_agent.index.manifest import Unusable
from edge_agent.index.rest import is_sealed
from edge_agent.index.run import RunRows, put_run
from edge_agent.index.state import HeldRun, Identity, State
from edge_agent.index.view import View, open_runs, runs_of
from edge_agent.kept import NAME as PROGRESS
from paritree.core.errors import ConfigError, ParitreeError, SourceError

LOCK: Final = ".lock"


class Shelf:
    """``view`` is the index as it is, or None; then ``why_not`` says why. Steps are made under ``writing``."""

    def __init__(self, disk: Disk, digester: str) -> None:
        self.disk = disk
        self.digester = digester
        self.writing = RLock()
        self.view: View | None = None
        self.why_not = ""
        self.closed = False
        self._next_file = 1

    def load(self, identity: Identity) -> None:
        """Read what is there and remove garbage. Raises ConfigError where it is encrypted and no key is given.

        What may be encrypted under another key stays until another index is in its place: somebody may have the key.
        """
        try:
            self.view = read_view(self.disk, self.digester, identity)
            self._next_file = self.view.state.next_file
        except FileNotFoundError as error:
            self.why_not = f"its file {Path(str(error.filename or error)).name} is gone"
        except SourceError as error:
            self.why_not = error.message
        if self.view is not None or self.disk.key is None:
            manifest.collect_garbage(self.disk, None if self.view is None else self.view.state)
        if not (self.scan_folder / PROGRESS).exists():  # nobody could go on with it
            shutil.rmtree(self.scan_folder, ignore_errors=True)

    @property
    def scan_folder(self) -> Path:
        """Where a whole scan writes its runs before they are renamed into the folder."""
        return self.disk.folder / "scan"

    def new_file(self, ending: str) -> str:
        """A name that no file of the index has or had since it was opened."""
        with self.writing:
            self._next_file += 1
            return f"{self._next_file - 1:06d}.{ending}"

    def put(self, rows: RunRows) -> HeldRun:
        """Write a run that the next step names. Raises SourceError."""
        name = self.new_file("run")
        try:
            return HeldRun(name, len(rows), put_run(self.disk, name, rows))
        except BaseException:
            self.unwrite([name])
            raise

    def viewed(self, state: State, known: View) -> View:
        """A state as a view, whether it is the index already or not. Raises SourceError."""
        return View(state, open_runs(self.disk, runs_of(state), known.runs), self.digester)

    def commit(self, state: State, *, sums: bool = False, fresh: Sequence[HeldRun] = ()) -> None:
        """Make a state the index; ``sums`` when they changed. ``fresh`` are runs that were not synced yet.

        Raises SourceError: then the index is as it was, and what this call wrote is removed. Fresh runs stay.
        """
        with self.writing:
            if self.closed:
                raise SourceError("the index is closed: another process may have it open by now")
            first = self.view is None
            old = set() if self.view is None else self.view.state.files
            name = self.new_file("sums") if sums else ""
            try:
                for held in fresh:
                    self.disk.sync(held.file)
                if sums:
                    checksum = manifest.store_sums(self.disk, name, state.sums, state.probe)
                    state = replace(state, sums_file=name, sums_checksum=checksum)
                state = replace(state, generation=state.generation + 1, next_file=self._next_file)
                known = {} if self.view is None else self.view.runs
                view = View(state, open_runs(self.disk, runs_of(state), known), self.digester)
                manifest.store(self.disk, state)
            except FileNotFoundError as error:
                self.unwrite([name])
                raise SourceError(f"a run of the index has gone: {error}", next_step="rebuild the index") from error
            except BaseException:
                self.unwrite([name])
                raise
            self.view = view
            self.why_not = ""
            self.disk.sync_folder()  # only after this can no crash bring the old manifest back
            for left in sorted(old - state.files):
                self.disk.remove(left)
            if first:
                manifest.collect_garbage(self.disk, state)

    def unwrite(self, names: Iterable[str]) -> None:
        """Remove what a step that failed wrote; what cannot be removed now is garbage when the index is opened.

        A step that failed after its rename has not failed for the index: what that names stays.
        """
        needed = set() if self.view is None else self.view.state.files
        for name in sorted(set(names) - needed - {""}):
            with suppress(ParitreeError):
                self.disk.remove(name)


def read_view(disk: Disk, digester: str, identity: Identity | None = None) -> View:
    """The index in a folder, without locking it. ``identity``: what it has to be of.

    Raises Unusable; FileNotFoundError where a writer changed it meanwhile (try again) or a file was lost; ConfigError
    where it is encrypted and no key is given.
    """
    path = disk.folder / manifest.MANIFEST
    if path.exists() and disk.key is not None and not is_sealed(path):
        raise Unusable("it is not encrypted, and a key is named")
    state = manifest.load(disk)
    if identity is not None and (why := state.identity.changed(identity)):
        raise Unusable(why)
    return View(state, open_runs(disk, runs_of(state), {}), digester)


def is_locked(folder: Path) -> bool:
    """Whether a process has the index open for writing."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def locked(folder: Path) -> int:
    """A handle that locks the folder for writing, which is made if need be. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(
            f"index {folder}: cannot be used: {error.strerror}", next_step="name a folder that this user can write"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ConfigError(
            f"index {folder}: another process has it open", next_step="stop the agent that runs over it"
        ) from None
    return handle
