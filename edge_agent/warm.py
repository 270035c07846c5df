"""The index of one dataset that outlives sweeps: refreshed from its table's changes, scanned anew where they do not do.

    a sweep begins ──► refresh, proven ──► the index as it is then
                 ├──► where that cannot be: go on with the scan that was interrupted, install, refresh ──► the index
                 └──► where there is none: follow the changes from now on, scan, install ──► the index

Between sweeps the index keeps up, so that a sweep has little to catch up with and the source little to keep; then it is
compacted and checked, too. Whatever is wrong with following is never a wrong answer: it is a scan, with a note that
says why, or an error. A sweep may say that it takes an index of some age; where nobody tells changes, there is nothing
else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import structlog

from edge_agent.build import Built, Copy, build_index
from edge_agent.checking import SelfCheck
from edge_agent.connected import Connected
from edge_agent.connectors.changes import ChangeSource, Mark, RescanNeeded
from edge_agent.connectors.contract import Position
from edge_agent.connectors.registry import connector_class
from edge_agent.executors import Executor, SerialExecutor
from edge_agent.following import Following as Following
from edge_agent.index.changes import Reached
from edge_agent.index.compaction import compact
from edge_agent.index.durable import DurableIndex
from edge_agent.index.letters import dead_letters
from edge_agent.index.manifest import Unusable
from edge_agent.kept import Kept
from edge_agent.letters.ended import EndedLetters
from edge_agent.letters.refreshed import REFRESH
from edge_agent.letters.sweep import SweepLetters
from edge_agent.notices import EVERY_S, Notices
from edge_agent.refresh import Refreshed, reached_of
from edge_agent.rescan import ShardRescan
from edge_agent.resumption import Lasts
from edge_agent.untold import Untold
from edge_agent.wholescan import DOUBT, INTERRUPTED, WholeScan, identity_of, mark_of
from paritree.core.errors import ConfigError, InvariantBroken, ParitreeError, SourceError
from paritree.core.messages import ANY_AGE, Freshness, Progress

LENT_S_MAX: Final = 30.0
"""How long whoever asks for a root waits for what is done with the index meanwhile."""
DUTY_MAX: Final = 0.1
"""Share of the time that refreshing in the background may take: after a long one comes a long pause."""
Opening = Callable[[], AbstractContextManager[Executor]]
Telling = Callable[[Progress], None]
_log = structlog.get_logger("paritree.agent")


class WarmIndex:
    """One dataset's durable index and its change source. Thread-safe; close it after use."""

    def __init__(self, copy: Copy, folder: Path, following: Following, notices: Notices | None = None) -> None:
        """``notices`` tell of what has changed. Raises ConfigError where another process has the folder."""
        self.copy = copy
        self._following = following
        self._notices = notices or Notices()
        self._busy = threading.Lock()
        self._tending = threading.Lock()
        self._index = DurableIndex.open(folder, identity_of(copy), key=copy.rest_key, digester=copy.digester)
        self._whole = WholeScan(self._index.scan_folder, copy, self._index.identity, following.name)
        if not self._index.why_not:
            self._whole.settle(self._index.reached)
        self._connected: Connected | None = None
        self._told = ""
        self._untold = Untold() if following.topic else None
        refresh = self._catch_up if following.proves else None
        self._check = SelfCheck(copy, self._index, refresh, untold=self._untold)
        self._checked_at = time.monotonic()
        rate_rows_s = following.rescan_rows_s
        self._ended = EndedLetters(copy, self._index, by_shard=bool(rate_rows_s), told=self._note)
        self._rescan = ShardRescan(copy, self._index, rate_rows_s=rate_rows_s, told=self._note) if rate_rows_s else None

    @property
    def tells(self) -> bool:
        """Whether changes are noticed between sweeps, and noted as they are."""
        return bool(self._following.name)

    @property
    def interval_s(self) -> float:
        """Seconds between two refreshes in the background: few where the coordinator wants to know of changes."""
        said, watched = self._following.interval_s, self._notices.watches(self.copy.profile.dataset)
        return min(said, EVERY_S) if watched and self.tells else said

    def built(
        self, executor: Opening, spool: Path, progress: Telling, letters: SweepLetters, freshness: Freshness = ANY_AGE
    ) -> Built:
        """The index, young enough; unless told otherwise, with everything that was committed when this was called.

        Where changes cannot be followed, ``spool`` takes the runs of a scan that is good for this time only.
        Raises ConfigError or SourceError; an error of ``progress`` ends a scan and leaves the index as it was.
        """
        began = time.monotonic()
        with self._busy:
            try:
                return self._fresh(began, freshness, letters, executor, progress)
            except (RescanNeeded, Unusable) as why:
                if not freshness.rescan and not self._index.why_not:
                    return self._as_built(False, began, (f"used as it is, nothing was scanned: {why.message}",))
                reason = why.message
            try:
                if (unfinished := self._whole.unfinished()) is not None:
                    return self._gone_on(unfinished, executor, progress, letters, reason, freshness)
            except (RescanNeeded, ConfigError) as why:
                reason = why.message
            _log.info("index is built anew", dataset=self.copy.profile.dataset, reason=reason)
            return self._scanned(executor, spool, progress, letters, reason)

    def rebuilt(self, executor: Opening, progress: Telling, letters: SweepLetters) -> Built:
        """The index from a new scan. Raises ConfigError, also where its changes cannot be followed, or SourceError."""
        with self._busy:
            if self._following.name:
                self._source.check()
            before = "" if self._index.why_not else self._index.view().state.sums_file
            built = self._scanned(executor, self._index.scan_folder, progress, letters, "it was asked for")
            if self._index.why_not or self._index.view().state.sums_file == before:
                raise SourceError(f"the index stays as it was: {'; '.join(built.notes)}", retryable=True)
            return built

    def rooted(self, max_age_s: float) -> Built:
        """The index, no older than that, without a scan. Raises RescanNeeded, Unusable and what a refresh raises."""
        began = time.monotonic()
        if not self._busy.acquire(timeout=LENT_S_MAX):
            raise SourceError("the index is in use, which takes long", retryable=True)
        try:
            letters = SweepLetters(self._following.letters, self.copy.profile, self.copy.keys, REFRESH)
            return self._fresh(began, Freshness(max_age_s, rescan=False), letters, SerialExecutor, lambda _: None)
        finally:
            self._busy.release()

    def _fresh(
        self, began: float, freshness: Freshness, letters: SweepLetters, executor: Opening, progress: Telling
    ) -> Built:
        """The index without a scan, or after one of some shards. Raises RescanNeeded, Unusable; SchemaDrift."""
        state, age_s = self._index.view().state, self._index.age_s()
        unfinished = any(fault.place == INTERRUPTED for fault in state.faults)
        for fault in state.faults:
            if fault.place != INTERRUPTED or not self._following.proves:
                raise RescanNeeded(f"the index is in doubt: {fault.place}: {fault.reason}")
        due = self._ended.due(letters)
        followed = bool(self._following.name)
        stated_s = freshness.max_age_s
        seen = self._rescan is not None and self._rescan.by_version  # whether the source is as it was
        limit_s = stated_s if self._following.proves or seen or stated_s is not None else self._following.max_age_s
        as_it_is = not unfinished and not due
        if as_it_is and limit_s is not None and age_s <= limit_s and (stated_s is not None or not followed):
            note = f"as the index was {age_s:,.1f} s before, nothing was scanned"
            return self._as_built(self._index.reached.position.point, began, (note,))
        if self._rescan is not None:
            renewed = self._rescan.renew(executor, progress, letters, limit_s, freshness.rescan, due)
            return self._as_built(self._index.reached.position.point, began, (renewed.note,))
        if not followed:
            raise RescanNeeded(f"the index is {age_s:,.0f} s old, and nobody tells what has changed")
        done = self._refreshed(proven=True)
        if unfinished:
            self._index.trust(INTERRUPTED)
        if not self._following.proves and limit_s is not None and (age_s := self._index.age_s()) > limit_s:
            raise RescanNeeded(f"nothing proves changes to be told of the last {age_s:,.0f} s: no marker has come")
        letters.described(self._open().connector, self.copy.binding)
        note = f"refreshed from {done.changes} changes of {done.keys} keys, nothing was scanned"
        return self._as_built(done.point, began, (note,))

    def keep_up(self) -> float:
        """Refresh in the background, unless a sweep does; seconds until the next time. Raises nothing of the source's.

        An index that has to be built anew waits for the next sweep.
        """
        if not self._busy.acquire(blocking=False):
            return self.interval_s
        began = time.monotonic()
        try:
            if self._following.name:
                self._refreshed(proven=False)
                lag = self._source.lag() if self._connected else None
                self._tell(lag.worry if lag else "")
        except Unusable:
            self._give_up()
        except ParitreeError as error:
            self._tell(error.message)
        finally:
            self._busy.release()
        self._tend()
        pause_s = max(self.interval_s, (time.monotonic() - began) * (1 / DUTY_MAX - 1))
        return 0.0 if self._rescanned() else pause_s

    def _give_up(self) -> None:
        """There is no index yet; a scan of it that nobody goes on with must not keep the source from forgetting."""
        try:
            if self._whole.given_up:
                self._source.stop()
                self._whole.discard()
        except ParitreeError as error:
            self._tell(error.message)

    def _rescanned(self) -> bool:
        """Scan the oldest shard again, if it is time and so the engine's way, beside sweeps; whether it was."""
        store, copy = self._following.letters, self.copy
        with self._tending:
            if self._rescan is None or self._index.shelf.closed:
                return False
            try:
                letters = SweepLetters(store, copy.profile, copy.keys, REFRESH)
                return self._rescan.oldest(letters, self._following.max_age_s / 2)
            except ParitreeError as error:
                self._tell(error.message)
                return False

    def _tend(self) -> None:
        """One piece of compaction and, when it is time, of the self-check; sweeps go on beside it."""
        with self._tending:
            if self._index.why_not or self._index.shelf.closed:
                return
            try:
                compact(self._index)
                every_s = self._following.check_interval_s
                if every_s and time.monotonic() - self._checked_at >= every_s:
                    self._checked_at = time.monotonic()
                    self._check.piece()
            except ParitreeError as error:
                self._tell(error.message)

    def _catch_up(self) -> None:
        """Everything that was committed when this is called is in the index then."""
        with self._busy:
            self._refreshed(proven=True)

    def forget(self) -> None:
        """Leave nothing behind at the source. Raises ConfigError or SourceError."""
        with self._busy:
            self._open().source.stop()

    def close(self) -> None:
        """Close the index and the connection; the source goes on keeping what changes."""
        with self._tending, self._busy:  # a thread that tends it must not write once another process may
            self._disconnect()
            self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _source(self) -> ChangeSource:
        return self._open().source

    def _open(self) -> Connected:
        if self._connected is None:
            following = self._following
            self._connected = Connected.open(
                self.copy,
                following.name,
                self._index,
                topic=following.topic,
                letters=following.letters,
                untold=self._untold,
            )
        return self._connected

    def _disconnect(self) -> None:
        connected, self._connected = self._connected, None
        if connected is not None:
            connected.close()

    def _refreshed(self, *, proven: bool) -> Refreshed:
        """One refresh; where the connection of the last one is gone, again on a new one."""
        self._index.view()  # there is one, or Unusable
        fresh = self._connected is None
        try:
            return self._taken_over(proven=proven)
        except RescanNeeded:
            raise
        except SourceError as error:
            self._disconnect()
            if fresh or not error.retryable:
                raise
        return self._taken_over(proven=proven)

    def _taken_over(self, *, proven: bool) -> Refreshed:
        done = self._open().refresher.refresh(proven=proven)
        self._note(done.moved, done.span_s)
        return done

    def _note(self, keys: int, span_s: tuple[float, float] | None = None) -> None:
        """So many keys have other rows in the index than before."""
        self._notices.note(self.copy.profile.dataset, keys, span_s, self._index.reached.position.text)

    def _scanned(self, executor: Opening, spool: Path, progress: Telling, letters: SweepLetters, why: str) -> Built:
        """Follow from now on, scan, install."""
        mark, not_followed = self._started() if self._following.name else (None, ())
        if mark is None and self._following.name:
            with executor() as running:
                built = build_index(self.copy, running, spool, progress, letters)
        else:
            kept = self._whole.begin(mark, letters.since_us)
            built = self._whole_scan(kept, executor, progress, letters)
        notes = (*built.notes, f"scanned, as changes alone do not do: {why}", *not_followed)
        if built.scan is None or (mark is None and self._following.name):
            return replace(built, notes=notes)
        self._install(built, mark)
        return replace(built, index=self._index.view().index, notes=notes)

    def _gone_on(
        self, kept: Kept, executor: Opening, progress: Telling, letters: SweepLetters, why: str, freshness: Freshness
    ) -> Built:
        """Go on with a whole scan that was interrupted, install, and take over what changed since it began.

        Raises RescanNeeded, and ConfigError where changes cannot be followed any more.
        """
        began, mark = time.monotonic(), mark_of(kept)
        if mark is not None:
            self._source.demand_kept(mark)
        scanned = self._whole_scan(kept, executor, progress, letters)
        self._install(scanned, mark)
        built = self._fresh(began, freshness, letters, executor, progress)
        return replace(built, notes=(*scanned.notes, f"scanned, as changes alone do not do: {why}"))

    def _whole_scan(self, kept: Kept, executor: Opening, progress: Telling, letters: SweepLetters) -> Built:
        """Every shard that ``kept`` has not. Where it ends early, another may go on with it, or nothing is left."""
        if self._following.proves:
            lasts = Lasts.TOLD
        else:
            lasts = Lasts.VERSIONED if connector_class(self.copy.source.url).rescans == "version" else Lasts.STILL
        try:
            with executor() as running:
                return build_index(self.copy, running, self._whole.folder, progress, letters, kept, lasts)
        except BaseException as error:
            if not self._whole.left(error) and mark_of(kept) is not None:
                with suppress(ParitreeError):  # nothing would be read of what it keeps until the next sweep
                    self._source.stop()
            raise

    def _install(self, built: Built, mark: Mark | None) -> None:
        """Make a whole scan the index; where an interrupted one has to be made good by changes, in doubt until then."""
        if built.scan is None:
            raise InvariantBroken("a whole scan makes no index")
        reached = Reached(built.position) if mark is None else reached_of(mark, point=False, as_of=None)
        doubt = (INTERRUPTED, DOUBT) if built.resumed and self._following.proves else None
        before = None if self._index.why_not else self._index.view().index.sums.root
        self._index.install(
            built.scan, reached, engine=built.engine, scan_s=built.scan_s, notes=built.notes, doubt=doubt
        )
        self._whole.discard()
        if before is not None and before != (root := self._index.view().index.sums.root):
            self._note(max(1, abs(root.count - before.count)))  # as many at least

    def _started(self) -> tuple[Mark | None, tuple[str, ...]]:
        """Where the changes that are followed begin, or why they are not."""
        try:
            return self._open().source.start(), ()
        except ConfigError as error:
            return None, (f"changes are not followed: {error}",)
        except SourceError as error:
            if not error.retryable:
                raise
            self._disconnect()
            return None, (f"changes are not followed yet: {error}",)

    def _as_built(self, point: bool, began: float, notes: Sequence[str]) -> Built:
        """The index as it is; ``began`` (monotonic) is when it was asked for."""
        view, age_s = self._index.view(), self._index.age_s()
        state, took_s = view.state, time.monotonic() - began
        return Built(
            index=view.index,
            position=Position(state.reached.position.text, point),
            dead=dead_letters(state),
            engine=state.engine,
            scan_s=took_s,
            shards=len(state.shards),
            notes=(*state.notes, *notes),
            age_s=max(0.0, age_s - took_s),
            faults=tuple(f"{fault.place}: {fault.reason}" for fault in state.faults),
        )

    def _tell(self, worry: str) -> None:
        """Log what is new to worry about."""
        if worry and worry != self._told:
            _log.warning("changes are not followed as they should be", dataset=self.copy.profile.dataset, reason=worry)
        self._told = worry
