"""The index of one dataset that outlives sweeps: refreshed from its table's changes, scanned anew where they do not do.

    a sweep begins ──► refresh, proven ──► the index as it is then
                 └──► where that cannot be: follow the changes from now on, scan, install ──► the index

Between sweeps the index keeps up, so that a sweep has little to catch up with and the source little to keep; then it is
compacted and checked, too. Whatever is wrong with following is never a wrong answer: it is a scan, with a note that
says why, or an error. A sweep may say that it takes an index of some age; where nobody tells changes, there is nothing
else.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import structlog

from edge_agent.build import OTHER_REASONS, Built, Copy, build_index
from edge_agent.checking import SelfCheck
from edge_agent.connectors.changes import ChangeSource, Mark, RescanNeeded
from edge_agent.connectors.contract import Connector, Position
from edge_agent.connectors.registry import connect
from edge_agent.executors import Executor
from edge_agent.index.changes import Reached
from edge_agent.index.compaction import compact
from edge_agent.index.durable import DurableIndex
from edge_agent.index.manifest import Unusable
from edge_agent.index.state import Identity, State
from edge_agent.letters.refreshed import REFRESH, RefreshLetters
from edge_agent.letters.store import LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.refresh import Refreshed, Refresher, reached_of
from edge_agent.rescan import ShardRescan
from edge_agent.topic.changes import Topic
from edge_agent.topic.following import topic_changes
from paritree.core import limits
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.messages import ANY_AGE, DeadLetters, Freshness, Progress
from paritree.core.profile import CANONICAL_VERSION

INTERVAL_S: Final = 5.0
"""Between two refreshes in the background, unless told otherwise."""
DUTY_MAX: Final = 0.1
"""Share of the time that refreshing in the background may take: after a long one comes a long pause."""
_log = structlog.get_logger("paritree.agent")


@dataclass(frozen=True, slots=True)
class Following:
    """How a dataset's changes are followed: who does (region and agent), and how often in the background, in seconds.

    ``name`` "": nobody tells changes; then the index is used up to an age of ``max_age_s`` by sweeps that do not say.
    ``check_interval_s`` lies between two pieces of the self-check; 0: there is none. ``letters`` keeps the dead letters
    of changed rows. ``topic``: changes are told there; what it proves is as old as ``max_age_s`` at most, too.
    ``rescan_rows_s``: shards are scanned again by themselves, in the background so many rows a second.
    """

    name: str
    interval_s: float = INTERVAL_S
    letters: LetterStore | None = None
    max_age_s: float = 3_600.0
    check_interval_s: float = 60.0
    topic: Topic | None = None
    rescan_rows_s: float = 0.0

    @property
    def proves(self) -> bool:
        """Whether a refresh takes over everything that was committed by then, provably."""
        return bool(self.name) and self.topic is None


class WarmIndex:
    """One dataset's durable index and its change source. Thread-safe; close it after use."""

    def __init__(self, copy: Copy, folder: Path, following: Following) -> None:
        """Raises ConfigError where another process has the folder."""
        self.copy = copy
        self.interval_s = following.interval_s
        self._following = following
        self._busy = threading.Lock()
        self._tending = threading.Lock()
        self._index = DurableIndex.open(folder, identity_of(copy), key=copy.rest_key, digester=copy.digester)
        self._connected: Connected | None = None
        self._told = ""
        self._check = SelfCheck(copy, self._index, self._catch_up if following.proves else None)
        self._checked_at = time.monotonic()
        rate_rows_s = following.rescan_rows_s
        self._rescan = ShardRescan(copy, self._index, rate_rows_s=rate_rows_s) if rate_rows_s else None

    def built(
        self,
        executor: Callable[[], AbstractContextManager[Executor]],
        spool: Path,
        progress: Callable[[Progress], None],
        letters: SweepLetters,
        freshness: Freshness = ANY_AGE,
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
                _log.info("index is built anew", dataset=self.copy.profile.dataset, reason=why.message)
                return self._scanned(executor, spool, progress, letters, why.message)

    def rebuilt(
        self,
        executor: Callable[[], AbstractContextManager[Executor]],
        progress: Callable[[Progress], None],
        letters: SweepLetters,
    ) -> Built:
        """The index from a new scan. Raises ConfigError, also where its changes cannot be followed, or SourceError."""
        with self._busy:
            if self._following.name:
                self._source.check()
            before = "" if self._index.why_not else self._index.view().state.sums_file
            built = self._scanned(executor, self._index.scan_folder, progress, letters, "it was asked for")
            if self._index.why_not or self._index.view().state.sums_file == before:
                raise SourceError(f"the index stays as it was: {'; '.join(built.notes)}", retryable=True)
            return built

    def _fresh(
        self,
        began: float,
        freshness: Freshness,
        letters: SweepLetters,
        executor: Callable[[], AbstractContextManager[Executor]],
        progress: Callable[[Progress], None],
    ) -> Built:
        """The index without a scan, or after one of some shards. Raises RescanNeeded, Unusable; SchemaDrift."""
        state, age_s = self._index.view().state, self._index.age_s()
        if state.faults:
            raise RescanNeeded(f"the index is in doubt: {state.faults[0].place}: {state.faults[0].reason}")
        followed = bool(self._following.name)
        stated_s = freshness.max_age_s
        seen = self._rescan is not None and self._rescan.by_version  # whether the source is as it was
        limit_s = stated_s if self._following.proves or seen or stated_s is not None else self._following.max_age_s
        if limit_s is not None and age_s <= limit_s and (stated_s is not None or not followed):
            note = f"as the index was {age_s:,.1f} s before, nothing was scanned"
            return self._as_built(state.reached.position.point, began, (note,))
        if self._rescan is not None:
            renewed = self._rescan.renew(executor, progress, letters, limit_s, freshness.rescan)
            return self._as_built(self._index.reached.position.point, began, (renewed.note,))
        if not followed:
            raise RescanNeeded(f"the index is {age_s:,.0f} s old, and nobody tells what has changed")
        done = self._refreshed(proven=True)
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
            pass  # no index yet
        except ParitreeError as error:
            self._tell(error.message)
        finally:
            self._busy.release()
        self._tend()
        pause_s = max(self.interval_s, (time.monotonic() - began) * (1 / DUTY_MAX - 1))
        return 0.0 if self._rescanned() else pause_s

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
            self._connected = Connected.open(self.copy, self._following, self._index)
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
            return self._open().refresher.refresh(proven=proven)
        except RescanNeeded:
            raise
        except SourceError as error:
            self._disconnect()
            if fresh or not error.retryable:
                raise
        return self._open().refresher.refresh(proven=proven)

    def _scanned(
        self,
        executor: Callable[[], AbstractContextManager[Executor]],
        spool: Path,
        progress: Callable[[Progress], None],
        letters: SweepLetters,
        why: str,
    ) -> Built:
        """Follow from now on, scan, install."""
        mark, not_followed = self._started() if self._following.name else (None, ())
        stays = mark is not None or not self._following.name
        into = self._index.scan_folder if stays else spool
        try:
            with executor() as running:
                built = build_index(self.copy, running, into, progress, letters)
        except BaseException:
            if mark is not None:  # nothing would be read of what it keeps until the next sweep
                with suppress(ParitreeError):
                    self._open().source.stop()
            raise
        notes = (*built.notes, f"scanned, as changes alone do not do: {why}", *not_followed)
        if not stays or built.scan is None:
            return replace(built, notes=notes)
        reached = Reached(built.position) if mark is None else reached_of(mark, point=False, as_of=None)
        self._index.install(built.scan, reached, engine=built.engine, scan_s=built.scan_s, notes=built.notes)
        return replace(built, index=self._index.view().index, notes=notes)

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
            dead=dead_of(state),
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


@dataclass(frozen=True, slots=True)
class Connected:
    """What following has open at the source."""

    connector: Connector
    source: ChangeSource
    refresher: Refresher

    @classmethod
    def open(cls, copy: Copy, following: Following, index: DurableIndex) -> Connected:
        """Connect. Raises ConfigError or SourceError."""
        with ExitStack() as opened:
            connector = opened.enter_context(connect(copy.source))
            dataset, store = copy.profile.dataset, following.letters
            if following.topic is None:
                source = opened.enter_context(connector.changes(copy.binding, following.name))
            else:
                told = topic_changes(following.topic, copy.binding, following.name, copy.keys, store)
                source = opened.enter_context(told)
            letters = None if store is None else RefreshLetters(store, dataset, copy.keys)
            refresher = Refresher(copy, connector, source, index, letters=letters)
            opened.pop_all()
        return cls(connector, source, refresher)

    def close(self) -> None:
        """Close both."""
        self.source.close()
        self.connector.close()


def identity_of(copy: Copy) -> Identity:
    """What an index of this copy is of."""
    profile = copy.profile
    return Identity(
        dataset=profile.dataset,
        profile_id=profile.profile_id,
        canonical_version=CANONICAL_VERSION,
        binding_id=copy.binding.binding_id,
        key_id=copy.keys.key_id,
        source_id=hashlib.blake2b(copy.source.url.encode(), digest_size=16).digest(),
        ruled=any(profile.columns[name] != profile.columns[name].bare for name in profile.key),
    )


def dead_of(state: State) -> DeadLetters:
    """The dead letters of an index."""
    keyless: dict[str, int] = {}
    for shard in state.shards.values():
        for reason, count in shard.keyless.items():
            keyless[reason] = keyless.get(reason, 0) + count
    reasons = {reason: state.dead.get(reason, 0) + keyless.get(reason, 0) for reason in {**state.dead, **keyless}}
    listed = dict(sorted(reasons.items(), key=lambda item: -item[1])[: limits.REASONS_LISTED])
    rest = sum(reasons.values()) - sum(listed.values())
    if rest:
        listed[OTHER_REASONS] = listed.get(OTHER_REASONS, 0) + rest
    return DeadLetters(sum(state.dead.values()), sum(keyless.values()), listed)
