"""The index of a dataset that outlives sweeps and processes: a folder with runs, sums and a manifest.

One process at a time may write. Every call that changes something is one step on the disk (see ``shelf``); views stay
as they are while they are read, whatever happens meanwhile.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from edge_agent.connectors.contract import Shard
from edge_agent.index.applying import moved_by, tally_of
from edge_agent.index.changes import Applied, Changes, Reached, Replaced, Rescanned, ShardState
from edge_agent.index.digests import as_digests, distinct
from edge_agent.index.disk import Disk, Step, unwatched
from edge_agent.index.entries import locators_of
from edge_agent.index.installing import Scan, installed
from edge_agent.index.manifest import Unusable
from edge_agent.index.marks import LOOSE
from edge_agent.index.recount import recount, recounted
from edge_agent.index.replacing import described_anew, replaced_by
from edge_agent.index.rest import RestKey
from edge_agent.index.run import RunRows
from edge_agent.index.shelf import Shelf, locked
from edge_agent.index.state import Fault, HeldChanges, HeldRun, Identity, State
from edge_agent.index.tally import Tally, counted, plus
from edge_agent.index.view import View, runs_of

CLOCK_SLACK_S: Final = 1.0
"""Clocks are slewed by so much without anybody having set them."""
NOTES_KEPT: Final = 16


class DurableIndex:
    """One dataset's index in one folder, open for writing. Thread-safe; close it after use.

    ``why_not`` says why there is nothing to read yet (no index, a damaged one, one of something else), "" when there
    is: then :meth:`view` gives it. Implements ``Refreshable``.
    """

    def __init__(self, shelf: Shelf, identity: Identity, clock: Callable[[], float], lock: int) -> None:
        """Use :meth:`open`."""
        self.shelf = shelf
        self.identity = identity
        self._clock = clock
        self._lock = lock

    @classmethod
    def open(
        cls,
        folder: Path,
        identity: Identity,
        *,
        key: RestKey | None = None,
        digester: str = "compiled",
        clock: Callable[[], float] = time.time,
        at: Step = unwatched,
    ) -> Self:
        """Lock the folder, which is made if need be, and read what is in it. ``clock`` gives seconds since 1970.

        Raises ConfigError where another process has it, where it cannot be used, or is encrypted and no key is given.
        """
        lock = locked(folder)
        try:
            shelf = Shelf(Disk(folder, key, at), digester)
            shelf.load(identity)
            return cls(shelf, identity, clock, lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Let go of the folder. Views stay readable. Idempotent."""
        with self.shelf.writing:
            self.shelf.closed = True
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def why_not(self) -> str:
        return self.shelf.why_not

    def view(self) -> View:
        """The index as it is now. Raises Unusable while there is none."""
        if self.shelf.view is None:
            raise Unusable(f"there is no index to read: {self.why_not}")
        return self.shelf.view

    @property
    def reached(self) -> Reached:
        """How far it came, as of the last step."""
        return self.view().state.reached

    @property
    def shards(self) -> Mapping[str, ShardState]:
        """The shards that were scanned, by name."""
        shards = self.view().state.scanned
        return {held.name: ShardState(held.name, held.shard, held.sum.count, held.as_of) for held in shards}

    def age_s(self) -> float:
        """Seconds since the moment for which all of it is proven; without end where the clock is behind that moment.

        A clock that was set back says nothing of the age: an old index must not pass for a new one.
        """
        state, now = self.view().state, self._clock()
        newest = max([state.as_of, *(shard.as_of for shard in state.scanned)])
        return math.inf if newest > now + CLOCK_SLACK_S else max(0.0, now - state.as_of)

    def locators(self, keys: Iterable[bytes]) -> Mapping[bytes, frozenset[bytes]]:
        """The locators that the index has for key digests."""
        return locators_of(self.view().layers, distinct(as_digests(keys)))

    # --- steps ------------------------------------------------------------------------------------------------------

    def run_path(self) -> Path:
        """Where the next run is to be written (``ScanTask.run_path``), on the disk of the index."""
        return self.shelf.disk.folder / self.shelf.new_file("run")

    def forget(self, runs: Iterable[Path]) -> None:
        """Remove runs that came to nothing."""
        for path in runs:
            path.unlink(missing_ok=True)
            path.with_suffix(".partial").unlink(missing_ok=True)

    @property
    def scan_folder(self) -> Path:
        """Where the runs of a whole scan are written before they are installed.

        Emptied when the index is opened, unless there is a record of how far it came.
        """
        return self.shelf.scan_folder

    def install(
        self,
        scan: Scan,
        reached: Reached,
        *,
        engine: str,
        scan_s: float = 0.0,
        notes: Sequence[str] = (),
        doubt: tuple[str, str] | None = None,
    ) -> None:
        """Make a whole scan the index, in place of whatever was there; with a ``doubt`` (place, reason) until trusted.

        Raises SourceError: then it is as it was.
        """
        with self.shelf.writing:
            state = installed(self.shelf, self.identity, scan)
            state = replace(
                state,
                engine=engine,
                reached=reached,
                scan_s=scan_s,
                notes=tuple(notes),
                faults=() if doubt is None else (Fault(*doubt, self._clock()),),
                built_at=self._clock(),
                generation=0 if self.shelf.view is None else self.shelf.view.state.generation,
            )
            self.shelf.commit(state, sums=True, fresh=runs_of(state))

    def apply(self, changes: Changes, reached: Reached | None = None) -> Applied:
        """Take over keys that were read again; ``reached`` where this batch completes what led up to it.

        Raises SourceError (disk full, damaged run): then the index is as it was.
        """
        with self.shelf.writing:
            view = self.view()
            moved = moved_by(view.layers, changes, self.shelf.digester, ruled=self.identity.ruled)
            state = replace(view.state, duplicates=view.state.duplicates + moved.duplicates)
            # from now on the index knows that changes are told, even where this one was no news
            state = replace(state, shards={LOOSE: state.loose, **state.shards})
            self._step([(moved.rows, moved.tally)], state, reached)
            return moved.applied

    def advance(self, reached: Reached) -> None:
        """Nothing (more) changed up to there. Raises SourceError."""
        self._step([], None, reached)

    def replace(
        self,
        shards: Sequence[Rescanned],
        *,
        dropped: Sequence[str] = (),
        reached: Reached | None = None,
        plan: Mapping[str, Any] | None = None,
        stays: Mapping[str, Shard] | None = None,
    ) -> Replaced:
        """Replace what shards of those names hold (or add new ones) and forget the dropped ones, all at once.

        ``stays``: how shards that keep their rows, by name, are described and called from now on. ``plan`` is the
        memento of the plan that cuts all of them now; None: of the one before. Faults of those shards are repaired by
        it. Raises SourceError: then the index is as it was.
        """
        with self.shelf.writing:
            old = self.view()
            made = _Replacing(self, old)
            gone = [name for name in dropped if old.state.named(name) is not None]
            try:
                for name in gone:
                    made.put(name, None)
                if stays:  # what is dropped has let go of its name
                    made.view = self.shelf.viewed(described_anew(made.view.state, stays), made.view)
                for one in shards:
                    made.put(one.name, one)
                names = {*(one.name for one in shards), *gone}
                state = self._repaired(made.view, names, made.damaged)
                state = replace(state, plan=state.plan if plan is None else plan)
                fresh = [run for run in runs_of(state) if run.file not in old.state.files]
                self._commit(state, reached, sums=True, fresh=fresh)
            except BaseException:
                self.shelf.unwrite(run.file for run in made.written)
                raise
            return made.outcome

    def exchange(self, how: Callable[[State], State | None], written: HeldRun | None) -> bool:
        """Put other files in the place of some, with the same rows: ``how`` makes it of the state as it is by then.

        ``written`` is the new run, synced; it is removed where ``how`` finds that it came too late (None), and then
        this is False. Raises SourceError.
        """
        with self.shelf.writing:
            try:
                state = how(self.view().state)
                if state is not None:
                    self.shelf.commit(state)
                    return True
            except BaseException:
                self.shelf.unwrite([written.file] if written else [])
                raise
            self.shelf.unwrite([written.file] if written else [])
            return False

    def doubt(self, place: str, reason: str) -> None:
        """Something is wrong there: the index is not called equal to anything until :meth:`trust` is."""
        with self.shelf.writing:
            state = self.view().state
            others = tuple(fault for fault in state.faults if fault.place != place)
            self._commit(replace(state, faults=(*others, Fault(place, reason, self._clock()))))

    def trust(self, place: str) -> None:
        """What was wrong there is repaired."""
        with self.shelf.writing:
            state = self.view().state
            others = tuple(fault for fault in state.faults if fault.place != place)
            if others != state.faults:
                self._commit(replace(state, faults=others))

    def checked(self, name: str) -> None:
        """The shard was compared with its source just now."""
        with self.shelf.writing:
            state = self.view().state
            held = state.named(name)
            if held is not None:
                shards = {**state.shards, held.id: replace(held, checked_at=self._clock())}
                self._commit(replace(state, shards=shards))

    def note(self, sentence: str) -> None:
        """Something for reports and status; the last few are kept until the index is built anew."""
        with self.shelf.writing:
            state = self.view().state
            self._commit(replace(state, notes=(*state.notes, sentence)[-NOTES_KEPT:]))

    # --- how a step is made -----------------------------------------------------------------------------------------

    def _step(self, moves: Sequence[tuple[RunRows, Tally]], state: State | None, reached: Reached | None) -> None:
        """Write runs of changes, if they have rows, and commit, if anything is new."""
        with self.shelf.writing:
            old = self.view().state
            state = old if state is None else state
            before = len(state.changes)
            for rows, tally in moves:
                state = self._with_changes(state, rows, tally)
            written = [held.run for held in state.changes[before:]]
            if written or state.shards.keys() != old.shards.keys() or (reached is not None and reached != old.reached):
                try:
                    self._commit(state, reached, sums=bool(written))
                except BaseException:
                    self.shelf.unwrite(run.file for run in written)
                    raise

    def _with_changes(self, state: State, rows: RunRows, tally: Tally) -> State:
        """The state with a run of changes, which is written, and all that it moves but duplicates."""
        if not len(rows):
            return state
        run = self.shelf.put(rows)
        shards = dict(state.shards)
        for id_, total in tally.shards.items():
            held = shards.get(id_, state.loose)
            shards[id_] = replace(held, sum=plus(held.sum, total))
        return replace(
            state,
            shards=shards,
            sums=state.sums.plus(tally.sums),
            probe=state.probe.plus(tally.probe),
            dead=counted(state.dead, tally.dead),
            changes=(*state.changes, HeldChanges(state.next_number, run)),
            next_number=state.next_number + 1,
        )

    def _repaired(self, view: View, names: set[str], damaged: bool) -> State:
        """The view's state after its shards of those names were replaced."""
        state = replace(view.state, faults=tuple(f for f in view.state.faults if f.place not in names))
        if not damaged:
            return state
        anew = recount(view.layers, self.shelf.digester, ruled=self.identity.ruled)
        return recounted(state, anew, self._clock(), replaced=names)

    def _commit(
        self, state: State, reached: Reached | None = None, *, sums: bool = False, fresh: Sequence[HeldRun] = ()
    ) -> None:
        if reached is not None:
            as_of = state.reached.as_of if reached.as_of is None else reached.as_of
            state = replace(state, reached=replace(reached, as_of=as_of))
        self.shelf.commit(state, sums=sums, fresh=fresh)


@dataclass(slots=True)
class _Replacing:
    """Shards of one index replaced, one after the other: the view that this makes, which is not the index yet."""

    index: DurableIndex
    view: View
    outcome: Replaced = field(default_factory=lambda: Replaced(0, 0, {}))
    damaged: bool = False
    written: list[HeldRun] = field(default_factory=list)

    def put(self, name: str, one: Rescanned | None) -> None:
        """A new scan in the place of the shard of that name, or nothing."""
        shelf = self.index.shelf
        work = replaced_by(self.view, shelf.disk, name, one, shelf.digester)
        state = self.index._with_changes(work.state, work.loose, tally_of(work.loose, shelf.digester))
        self.written += [held.run for held in state.changes[len(self.view.state.changes) :]]
        self.view = shelf.viewed(state, self.view)
        self.outcome, self.damaged = self.outcome.plus(work.outcome), self.damaged or work.damaged
