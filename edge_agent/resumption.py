"""A scan that goes on where an earlier process, or an interrupted one, was: what it has read is not read again.

Its shards were read in a snapshot that is gone. So they are followed by the rows that changed since, where rows can
move between shards, as when a scan takes longer than a snapshot may be held (``edge_agent.snapshots``); the position
is then the interval from the first snapshot to the last, and rows read in two versions are suspects that are looked at
again. Where an engine cannot tell what changed, finished shards count only while nothing was written at all.

The scan of an index that stays goes on as ``edge_agent.wholescan`` says: nothing is read again, and what cannot be gone
on with is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from edge_agent.connectors.changes import RescanNeeded
from edge_agent.connectors.contract import Plan
from edge_agent.index.rest import RestKey
from edge_agent.index.run import Run
from edge_agent.kept import Done, Kept
from edge_agent.letters.sweep import SweepLetters
from edge_agent.scan import ShardResult
from edge_agent.sketching import probe_of
from edge_agent.snapshots import Past, Snapshots
from paritree.core import limits
from paritree.core.errors import SourceError
from paritree.core.leaves import leaf_sums

if TYPE_CHECKING:
    from edge_agent.build import Built, Gathered

_log = structlog.get_logger("paritree.agent")


class Lasts(Enum):
    """What the index is for that is built: a sweep, or to stay; then, what becomes of rows that are written meanwhile.

    ``TOLD``: provably all of them are told and read again, from before the first shard was read. ``STILL``: nothing
    proves that, so a shard that was read counts only as what it is now. ``VERSIONED``: as that, by its version.
    """

    SWEEP = auto()
    TOLD = auto()
    STILL = auto()
    VERSIONED = auto()


class Resumption:
    """One build over ``kept``; without it nothing is remembered."""

    def __init__(
        self,
        kept: Kept | None,
        letters: SweepLetters,
        digester: str,
        rest_key: RestKey | None = None,
        lasts: Lasts = Lasts.SWEEP,
    ) -> None:
        self._lasts = lasts
        self._kept = kept
        self._letters = letters
        self._digester = digester
        self._rest_key = rest_key
        self._found: list[tuple[Done, ShardResult]] = []
        self._plans = 0

    @property
    def runs(self) -> int:
        """Runs of before that are used."""
        return len(self._found)

    def past(self, plan: Plan) -> Past | None:
        """What of the shards was read before; ``plan``, just made, goes on with those.

        Raises RescanNeeded where an index that stays cannot go on with any.
        """
        kept = self._kept
        if kept is None or not kept.done:
            return None
        whole = [(done, result_of(done, kept.folder, self._digester, self._rest_key)) for done in kept.done]
        damaged = {done.base for done, result in whole if result is None}
        usable = [(done, result) for done, result in whole if result is not None and done.base not in damaged]
        earlier = plan.take_up(kept.plans, kept.shards) if usable else None
        if self._lasts is not Lasts.SWEEP:
            return self._stays(plan, kept, usable, earlier)
        if earlier is None:
            _log.info("the scan begins anew: the table was written, or the runs are damaged", sweep=kept.folder.name)
            return None
        self._found = usable
        self._plans = len(kept.plans) if earlier else 0
        self._letters.goes_on(kept.letters_since_us)
        read_in: dict[int, int] = {}
        for done, _ in usable:
            read_in[done.base] = max(read_in.get(done.base, 0), done.plan if earlier else 0)
        _log.info("the scan goes on", shards=len(read_in), of=len(plan.shards), sweep=kept.folder.name)
        passes = 1 + max(done.number for done, _ in usable) // max(1, len(plan.shards))
        return Past(earlier, read_in, passes)

    def _stays(
        self, plan: Plan, kept: Kept, usable: list[tuple[Done, ShardResult]], earlier: Sequence[Plan] | None
    ) -> Past:
        """As :meth:`past`, for an index that stays: no shard is looked at twice."""
        if not usable:
            raise RescanNeeded("the runs of the scan that was interrupted are damaged")
        if earlier is None:
            raise RescanNeeded("the scan was interrupted, and the table is not in the same place any more")
        if earlier and self._lasts is not Lasts.TOLD:
            raise RescanNeeded("the scan was interrupted, and nothing proves which rows have moved since")
        usable = [(done, result) for done, result in usable if done.number == done.base]
        if self._lasts is Lasts.VERSIONED:
            now = {shard.number: shard.version for shard in plan.shards}
            usable = [(d, r) for d, r in usable if now.get(d.base) and now[d.base] == kept.shards[d.base].version]
        if not usable:
            raise RescanNeeded("the scan was interrupted, and nothing that it had read is proved to be as it was")
        self._found = usable
        self._letters.goes_on(kept.letters_since_us)
        _log.info("the scan of the index goes on", shards=len(usable), of=len(plan.shards))
        return Past((), {done.base: 0 for done, _ in usable}, 1, told=True)

    def begun(self, snapshots: Snapshots[Any], gathered: Gathered, tell: Callable[[], None]) -> None:
        """The plan is made: take the runs of before into the index, and remember how the table was cut."""
        shards = snapshots.plans[-1].shards
        for done, result in self._found:
            gathered.under_way[done.number] = shards[done.base], done.as_of
            gathered.add(result)
        if self._kept is not None and not self._found:
            for ending in ("run", "letters"):
                for left in self._kept.folder.glob(f"*.{ending}"):
                    left.unlink(missing_ok=True)
            self._kept.note_shards(shards)
        self._note_plans(snapshots.plans)
        tell()

    def scanned(self, snapshots: Snapshots[Any], result: ShardResult, run: Run, as_of: float) -> None:
        """A shard was read into ``run``; its scan began at ``as_of``."""
        self._note_plans(snapshots.plans)
        if self._kept is not None:
            number, of = result.shard, max(1, len(snapshots.plans[0].shards))
            rest = result.dead_keyed, result.dead_keyless, dict(result.reasons), result.content
            self._kept.note_done(Done(number, number % of, snapshots.read_by, as_of, run.rows, run.checksum, *rest))

    def lasting(self, snapshots: Snapshots[Any]) -> bool:
        """Whether an index that stays may be made from the scan.

        Not where an earlier process read rows in a version that was read again: both are in the runs.
        """
        return self._lasts is not Lasts.SWEEP or not self._found or len(snapshots.plans) == 1

    def built(self, built: Built) -> Built:
        """Everything was read, into this; remembered."""
        if self._kept is not None:
            said = {"position": built.position.text, "point": built.position.point}
            self._kept.note_built({**said, "engine": built.engine, "scan_s": built.scan_s, "notes": list(built.notes)})
        return replace(built, resumed=bool(self._found))

    def _note_plans(self, plans: Sequence[Plan]) -> None:
        while self._kept is not None and self._plans < len(plans):
            memento = plans[self._plans].memento()
            if memento is None:  # nobody could go on from here
                self._kept = None
                return
            self._kept.note_plan(memento)
            self._plans += 1


def result_of(done: Done, folder: Path, digester: str, rest_key: RestKey | None) -> ShardResult | None:
    """What the shard's task had returned, from its run; None where the run is not whole."""
    path = folder / f"{done.number:06d}.run"
    try:
        run = Run(path, rest_key)
        run.verify()
    except SourceError:
        return None
    if (run.rows, run.checksum) != (done.rows, done.checksum):  # a task that nobody waited for has written over it
        return None
    k, r, r2 = (words.slice(0, run.rows) for words in (run.k, run.r, run.r2))
    return ShardResult(
        shard=done.number,
        rows=done.rows,
        run_path=path,
        sums=leaf_sums(k, r, r2, limits.LEVEL_BITS_MAX),
        probe=probe_of(k, r, digester),
        dead_keyed=done.keyed,
        dead_keyless=done.keyless,
        reasons=Counter(done.reasons),
        content=done.content,
    )
