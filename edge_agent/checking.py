"""The self-check of an index: a piece at a time, in the background, it is compared with its files and with its table.

    a run        its checksum: finds a flipped byte. The shard is scanned again and takes the place of the damaged run
    a shard      scanned anew: every row must be in the index, and the index may have no more of it than was found
    some keys    of the index, read again: finds a row that is gone from the table, wherever it was

Rows move while they are compared, so a key that differs is a suspect, not a fault. Suspects are read again after the
changes were taken over, proven: what still differs, and has not changed between two such looks, was lost or skipped.
Where the source cannot prove that, suspects wait until it is past them (``untold``). Then the index is in doubt, which
keeps its region from being called equal, until the rows are as in the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import structlog

from edge_agent.build import Copy, load_of
from edge_agent.connectors.contract import LOOKUP_KEYS, Connector, Plan, Shard
from edge_agent.connectors.registry import connect
from edge_agent.digesters import open_digester
from edge_agent.index.changes import Changes, Rescanned
from edge_agent.index.digests import distinct
from edge_agent.index.durable import DurableIndex
from edge_agent.index.entries import locators_of
from edge_agent.index.examining import differing, lacking, part_from, stale
from edge_agent.index.layers import Layer
from edge_agent.index.letters import dead_rows
from edge_agent.index.marks import LOOSE
from edge_agent.index.run import Run
from edge_agent.index.state import HeldShard
from edge_agent.index.view import View
from edge_agent.reading import looked_up
from edge_agent.scan import ScanTask, ShardResult, scan_shard
from edge_agent.untold import Locators, Suspicion, Untold
from paritree.core.digester import DigestBatch
from paritree.core.display import key_values
from paritree.core.errors import SourceError

KEYS_A_PIECE: Final = 5_000
"""Keys of the index that one piece reads again: some statements of look-ups."""
SUSPECTS_MAX: Final = 20_000
"""Suspects that are read one by one; more than that in one shard is not a lost change but a lost index."""
LOOKS: Final = 4
"""Looks at suspects; one that changes in each of them is left to a later piece."""
_log = structlog.get_logger("paritree.agent")


@dataclass(frozen=True, slots=True)
class Checked:
    """What one piece found: ``place`` that was looked at, and what was wrong there, "" for nothing."""

    place: str
    fault: str = ""
    repaired: bool = True


class SelfCheck:
    """The self-check of one index. One thread at a time; the index may be used and changed meanwhile.

    ``refresh`` takes over everything that was committed when it is called, and raises SourceError; None where nobody
    can say that. Then ``untold`` hears of what is told sooner or later; without it nobody tells changes: a shard that
    differs has just changed, and only files are checked.
    """

    def __init__(
        self,
        copy: Copy,
        index: DurableIndex,
        refresh: Callable[[], object] | None,
        *,
        untold: Untold | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._copy = copy
        self._index = index
        self._refresh = refresh
        self._untold = untold
        self._clock = clock
        self._pieces = 0
        self._runs: list[str] = []
        self._shard = 0
        self._next_k = 0
        self.compared = 0
        """Keys and rows that were compared with the source so far."""

    def piece(self) -> Checked:
        """Look at one thing after the other. Raises SourceError where the source or the disk does not work."""
        damaged = self._check_run()
        if damaged is not None or (self._refresh is None and self._untold is None):
            return damaged or Checked("runs")
        if self._untold is not None and (judged := self._judged(self._untold)) is not None:
            return judged
        self._pieces += 1
        return self._check_shard() if self._pieces % 2 else self._check_keys()

    # --- files ------------------------------------------------------------------------------------------------------

    def _check_run(self) -> Checked | None:
        """The checksum of one run, each in its turn."""
        view = self._index.view()
        self._runs = [file for file in self._runs if file in view.runs] or sorted(view.runs)
        return self._damaged(view, self._runs.pop()) if self._runs else None

    def _damaged(self, view: View, file: str) -> Checked | None:
        """What was done about a run, if it is not what it was."""
        try:
            view.runs[file].verify()
        except SourceError as error:
            held = next((s for s in view.state.scanned if s.run is not None and s.run.file == file), None)
            place = "changed rows" if held is None else held.name
            self._doubted(place, f"{file} is damaged: {error.message}")
            repaired = held is not None and self._replaced(held)
            return Checked(place, error.message, repaired)
        return None

    def _replaced(self, held: HeldShard) -> bool:
        """Scan the shard of a damaged run again, and put it in its place; False where it cannot be cut out again."""
        with connect(self._copy.source) as connector, self._plan(connector) as (plan, same):
            shard = next((s for s in plan.shards if s.label == held.name), None) if same else None
            if shard is None:
                return False  # the next sweep scans everything
            as_of, result = self._clock(), self._scanned(shard)
            now = self._index.view().state.named(held.name)
            if now is None or now.run != held.run:  # another index was installed meanwhile
                self._index.forget([result.run_path])
                return True
            outcome = self._index.replace([Rescanned(held.name, shard, result, as_of)])
            self._apply(connector, outcome.unsettled)
        self._told(held.name, "its run was damaged; the shard was scanned again and replaced")
        return True

    # --- the table --------------------------------------------------------------------------------------------------

    def _check_shard(self) -> Checked:
        """Every row of one shard is in the index."""
        with connect(self._copy.source) as connector, self._plan(connector) as (plan, same):
            if load_of(self._copy, connector):
                return Checked("nothing: the source is loaded")
            self._shard = (self._shard + 1) % len(plan.shards)
            shard = plan.shards[self._shard]
            result = self._scanned(shard)
            try:
                self._taken_over()
                suspects = self._suspects(Run(result.run_path, self._index.shelf.disk.key), shard, same)
                self.compared += result.rows
                return self._settled(connector, suspects, shard.label, f"rows of {shard.label}")
            finally:
                self._index.forget([result.run_path])

    def _suspects(self, run: Run, shard: Shard, same: bool) -> Locators:
        view = self._index.view()
        scanned = Layer(run)
        keys = [lacking(view, scanned)]
        held = view.state.named(shard.label) if same else None
        if held is not None:
            keys.append(stale(view, held.id, scanned))
        return locators_of([*view.layers, scanned], distinct(np.concatenate(keys)))

    def _check_keys(self) -> Checked:
        """Rows of the index are in the table: those that came with changes, or all where no shard can be cut again."""
        with connect(self._copy.source) as connector:
            with self._plan(connector) as (_, same):
                pass
            part = part_from(self._index.view(), self._next_k, KEYS_A_PIECE, LOOSE if same else None)
            self._next_k = part.next_k
            self.compared += len(part.keys)
            return self._settled(connector, part.locators, "", "rows that came with changes" if same else "rows")

    def _settled(self, connector: Connector, suspects: Locators, shard: str, place: str) -> Checked:
        """Look at suspects until they agree with the table, or are wrong. ``shard``: all of it was looked at."""
        if self._untold is not None:
            return self._suspected(self._untold, connector, suspects, shard, place)
        if len(suspects) > SUSPECTS_MAX:
            fault = f"{len(suspects):,} rows are not those of the table"
            self._doubted(place, fault)
            return Checked(place, fault, repaired=False)
        return self._said(connector, self._wrong(connector, suspects), shard, place)

    def _said(self, connector: Connector, wrong: Locators, shard: str, place: str, *, whole: bool = True) -> Checked:
        """Say what is wrong, and read it again; where that is not the ``whole`` of it, the index stays in doubt."""
        if not wrong:
            self._index.checked(shard)
            return Checked(place)
        view = self._index.view()
        for file in sorted(view.runs):  # rows that were read wrongly were not lost
            if (damaged := self._damaged(view, file)) is not None:
                return damaged
        fault = f"{len(wrong):,} keys are not as in the table: changes of them were lost, or their rows were damaged"
        self._doubted(place, fault)
        self._apply(connector, wrong)
        if whole:
            self._told(place, f"{fault}; they were read again")
        return Checked(place, fault, whole)

    def _wrong(self, connector: Connector, suspects: Locators) -> Locators:
        """Suspects that differ in two looks in a row without having changed, each after the changes were taken over."""
        before: dict[bytes, bytes] = {}
        wrong: dict[bytes, frozenset[bytes]] = {}
        for _ in range(LOOKS):
            if not suspects:
                break
            self._taken_over()
            read = self._read(connector, suspects)
            odd = _odd(self._index.view(), read)
            seen = _seen(read, odd)
            wrong |= {key: suspects[key] for key in odd if before.get(key) == seen[key]}
            suspects = {key: suspects[key] for key in odd if key not in wrong}
            before = seen
        return wrong

    # --- where the source may be late -------------------------------------------------------------------------------

    def _suspected(self, untold: Untold, connector: Connector, suspects: Locators, shard: str, place: str) -> Checked:
        """Remember which suspects differ, to be judged by a later piece."""
        some = dict(islice(suspects.items(), SUSPECTS_MAX))
        untold.listen(some)
        view = self._index.view()
        read = self._read(connector, some)
        if not (odd := _odd(view, read)):
            self._index.checked(shard)
            return Checked(place)
        keys, whole = {key: some[key] for key in odd}, len(some) == len(suspects)
        untold.suspicion = Suspicion(place, shard, keys, _seen(read, odd), self._clock(), view.state.built_at, whole)
        return Checked(place)

    def _judged(self, untold: Untold) -> Checked | None:
        """What became of suspects; None where there are none."""
        state = self._index.view().state
        ripe, held = untold.ripe(state.reached.as_of, state.built_at, self._clock()), untold.suspicion
        if held is None or not ripe:
            return None if held is None else Checked(f"{held.place}: what is told is waited for")
        heard = untold.heard
        suspects = {key: locators for key, locators in held.keys.items() if key not in heard}
        with connect(self._copy.source) as connector:
            read = self._read(connector, suspects)
            odd = _odd(self._index.view(), read)
            now, heard = _seen(read, odd), untold.heard
            lost = {key: suspects[key] for key in odd if key not in heard and now[key] == held.seen[key]}
            untold.suspicion = None
            return self._said(connector, lost, held.shard, held.place, whole=held.whole)

    def _apply(self, connector: Connector, keys: Locators) -> None:
        """Put the rows of those keys into the index; again where a refresh beside this has put in newer ones before."""
        for _ in range(LOOKS):
            if not keys:
                break
            self._index.apply(self._read(connector, keys))
            odd = _odd(self._index.view(), self._read(connector, keys))
            keys = {key: keys[key] for key in odd}

    def _read(self, connector: Connector, keys: Locators) -> Changes:
        """The rows that those keys have now."""
        return Changes.of(list(keys), self._rows(connector, sorted({one for some in keys.values() for one in some})))

    def _rows(self, connector: Connector, locators: list[bytes]) -> Iterator[DigestBatch]:
        digester = open_digester(self._copy.digester, self._copy.profile, self._copy.keys)
        for first in range(0, len(locators), LOOKUP_KEYS):
            values = [key_values(one, self._copy.profile) for one in locators[first : first + LOOKUP_KEYS]]
            for batch in looked_up(connector, self._copy.binding, values):
                yield digester.digest(batch)

    # --- what it stands on ------------------------------------------------------------------------------------------

    @contextmanager
    def _plan(self, connector: Connector) -> Iterator[tuple[Plan, bool]]:
        """A plan of the table as it is now, cut as the index's shards are where that can be: then True."""
        state = self._index.view().state
        shards = tuple(held.shard for held in state.scanned if held.name == held.shard.label)
        with connector.plan(self._copy.binding, self._copy.shard_rows) as plan:
            same = state.plan is not None and plan.take_up([state.plan], shards) is not None
            yield plan, same

    def _scanned(self, shard: Shard) -> ShardResult:
        copy, key = self._copy, self._index.shelf.disk.key
        task = ScanTask(
            copy.source, copy.binding, copy.profile, copy.keys, shard, self._index.run_path(), copy.digester,
            copy.throttle, rest_key=key,
        )  # fmt: skip
        try:
            return scan_shard(task)
        except BaseException:
            self._index.forget([task.run_path])
            raise

    def _taken_over(self) -> None:
        if self._refresh is not None:
            self._refresh()

    def _doubted(self, place: str, fault: str) -> None:
        _log.error("the index is in doubt", dataset=self._copy.profile.dataset, place=place, reason=fault)
        self._index.doubt(place, fault)

    def _told(self, place: str, sentence: str) -> None:
        """Repaired: it is trusted again, and said."""
        self._index.note(f"self-check of {place}: {sentence}")
        self._index.trust(place)
        _log.warning("the index is repaired", dataset=self._copy.profile.dataset, place=place, reason=sentence)


def _odd(view: View, read: Changes) -> set[bytes]:
    """The keys that have other rows in the index than were read. Dead rows have digests of chance: all are alike."""
    odd = {key.tobytes() for key in differing(view, read)}
    return odd - (_dead(read) & {row.key for row in dead_rows(view)} if read.dead else set())


def _dead(read: Changes) -> set[bytes]:
    return {read.key_digests[row].tobytes() for row in read.dead}


def _seen(read: Changes, keys: set[bytes]) -> dict[bytes, bytes]:
    """The rows of some of the keys that were read, as bytes that are equal for equal rows, and for dead ones."""
    rows: dict[bytes, list[bytes]] = {key: [] for key in keys}
    for place, (key, row) in enumerate(zip(read.key_digests, read.row_digests, strict=True)):
        if (digest := key.tobytes()) in rows:
            rows[digest].append(b"dead" if place in read.dead else row.tobytes())
    return {key: b"".join(sorted(digests)) for key, digests in rows.items()}
