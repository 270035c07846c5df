"""Build the index of one sweep: plan, scan all shards, add up their sums and probes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.connections import connections_of
from edge_agent.connectors.contract import Connector, Plan, Position, Shard, Source
from edge_agent.connectors.registry import connect
from edge_agent.executors import Executor
from edge_agent.index.changes import ScannedShard
from edge_agent.index.index import Index
from edge_agent.index.installing import Scan
from edge_agent.index.rest import RestKey
from edge_agent.index.run import Run
from edge_agent.kept import Kept
from edge_agent.letters.sweep import SweepLetters
from edge_agent.pace import NOT_WAITED, UNLIMITED, LoadWatch, Throttle, Waited
from edge_agent.resumption import Lasts, Resumption, result_of
from edge_agent.scan import ScanTask, ShardResult, scan_shard
from edge_agent.sharing import lent
from edge_agent.snapshots import Past, Snapshots
from edge_agent.wanted import asking
from paritree.core import limits
from paritree.core.digest import DatasetKeys
from paritree.core.errors import InvariantBroken
from paritree.core.leaves import LeafSums
from paritree.core.messages import DeadLetters, Progress
from paritree.core.profile import Binding, Profile
from paritree.core.schema import TableSchema
from paritree.core.sketch import Probe, empty_probe

OTHER_REASONS = "other reasons"


@dataclass(frozen=True, slots=True)
class Copy:
    """One dataset as this region holds it: everything a scan needs. ``version`` names the declared version column.

    ``rest_key``: its runs and its index are encrypted at rest.
    """

    source: Source
    profile: Profile
    binding: Binding
    keys: DatasetKeys
    shard_rows: int = limits.SHARD_ROWS
    digester: str = "compiled"
    throttle: Throttle = UNLIMITED
    version: str = ""
    rest_key: RestKey | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The index of one sweep and what is to be said of it."""

    index: Index
    position: Position
    dead: DeadLetters
    engine: str
    scan_s: float
    shards: int
    notes: tuple[str, ...] = ()
    waited: Waited = NOT_WAITED
    scan: Scan | None = None
    """What a durable index is made from; None where the index is one already."""
    age_s: float = 0.0
    """How long before it was asked for it was proven to be the table."""
    faults: tuple[str, ...] = ()
    """What was found wrong in it and is not repaired."""
    resumed: bool = False
    """Some of it was read before an interruption."""


def build_index(
    copy: Copy,
    executor: Executor,
    spool: Path,
    progress: Callable[[Progress], None],
    letters: SweepLetters | None = None,
    kept: Kept | None = None,
    lasts: Lasts = Lasts.SWEEP,
) -> Built:
    """Scan every shard into runs below ``spool``; ``letters`` keeps the dead letters (None: they are counted only).

    ``kept`` remembers what was read: after an interruption the rest is read, for a sweep with the rows that changed.
    Raises ConfigError before any scan, SourceError during it; SchemaDrift, RescanNeeded where ``lasts`` cannot go on.
    """
    began = time.monotonic()
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    gathered = Gathered(copy.rest_key)
    letters = letters or SweepLetters(None, copy.profile, copy.keys, "")
    resumption = Resumption(kept, letters, copy.digester, copy.rest_key, lasts)
    with connect(copy.source) as connector:
        schema = letters.described(connector, copy.binding)
        with (
            letters.unreadable(),
            letters.steady(connector, copy.binding, schema) as demand_same_schema,
            open_snapshots(copy, connector, executor, resumption.past) as snapshots,
            lent_to(copy, connector) as name,
        ):

            def tell() -> None:  # and be told, by an exception, that nobody wants the rest
                progress(Progress(len(gathered.runs), snapshots.total, gathered.rows))

            resumption.begun(snapshots, gathered, tell)
            watch = LoadWatch(copy.throttle, lambda: load_of(copy, connector), alive=tell)
            results = snapshots.results(
                *(executor, scan_shard),
                lambda shard: gathered.begun(_task(copy, executor, shard, spool, letters.kept, name, lasts)),
                connections=connections_of(copy.source.url, copy.throttle.connections_max),
                before=watch.wait,
            )
            _take(results, gathered, letters, resumption, snapshots, tell)
            position = snapshots.position()
            demand_same_schema()
        if copy.binding.bucket is None:  # a letter outside of the bucket was not read again
            letters.scanned()
        waited = gathered.waited + Waited(load_s=watch.waited_s)
        notes = (unheld(schema), snapshots.note(), waited.note(), unasked(connector, copy.binding))
        built = Built(
            index=gathered.index(copy.digester),
            position=position,
            dead=gathered.dead,
            engine=connector.engine,
            scan_s=time.monotonic() - began,
            shards=len(gathered.runs),
            notes=tuple(filter(None, notes)),
            waited=waited,
            scan=gathered.scan(snapshots.plans[0]) if resumption.lasting(snapshots) else None,
        )
        return resumption.built(built)


def unheld(schema: TableSchema) -> str:
    """What to say of a source that has no snapshot of all its shards."""
    return "" if schema.consistent else "shards were read one after the other, not from one snapshot"


def _take(
    results: Generator[ShardResult, None, None],
    gathered: Gathered,
    letters: SweepLetters,
    resumption: Resumption,
    snapshots: Snapshots[Any],
    tell: Callable[[], None],
) -> None:
    """Add every shard's result to what is gathered, and tell how far that is."""
    # Closed here and not as garbage, by whatever thread finds it: closing waits for what is under way.
    with closing(results), asking(tell):
        for result in results:
            letters.take(result.run_path)
            gathered.add(result)
            resumption.scanned(snapshots, result, gathered.runs[result.shard], gathered.scanned[-1].as_of)
            tell()
    if len(gathered.runs) != snapshots.given + resumption.runs:
        raise InvariantBroken(f"{snapshots.given} shards were scanned into {len(gathered.runs)} runs")


def built_before(copy: Copy, kept: Kept) -> Built | None:
    """The index that an earlier process had built, from its runs; None where it had not, or they are not whole."""
    if kept.built is None:
        return None
    gathered = Gathered(copy.rest_key)
    for done in kept.done:
        result = result_of(done, kept.folder, copy.digester, copy.rest_key)
        if result is None:
            return None
        gathered.under_way[done.number] = kept.shards[done.base], done.as_of
        gathered.add(result)
    said = kept.built
    return Built(
        index=gathered.index(copy.digester),
        position=Position(said["position"], said["point"]),
        dead=gathered.dead,
        engine=said["engine"],
        scan_s=said["scan_s"],
        shards=len(gathered.runs),
        notes=tuple(said["notes"]),
    )


@dataclass(slots=True)
class Gathered:
    """The results of the shards, added up."""

    rest_key: RestKey | None = None
    sums: LeafSums = field(default_factory=lambda: LeafSums.zero(limits.LEVEL_BITS_MAX))
    probe: Probe = field(default_factory=empty_probe)
    runs: dict[int, Run] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    keyed: int = 0
    keyless: int = 0
    rows: int = 0
    waited: Waited = NOT_WAITED
    scanned: list[ScannedShard] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    under_way: dict[int, tuple[Shard, float]] = field(default_factory=dict)

    def begun(self, task: ScanTask) -> ScanTask:
        """Note when the scan of a shard begins; the task as it was."""
        self.under_way[task.shard.number] = (task.shard, time.time())
        return task

    def add(self, result: ShardResult) -> None:
        """Add a shard's."""
        shard, as_of = self.under_way.pop(result.shard)
        # a later pass reads shards of the same label again, for what had changed meanwhile
        name = f"{shard.label} ({shard.number})" if shard.label in self.names else shard.label
        self.names.add(name)
        self.scanned.append(ScannedShard.of(name, shard, result, as_of))
        self.sums, self.probe = self.sums.plus(result.sums), self.probe.plus(result.probe)
        self.reasons += result.reasons
        self.keyed += result.dead_keyed
        self.keyless += result.dead_keyless
        self.rows += result.rows
        self.waited += result.waited
        self.runs[result.shard] = Run(result.run_path, self.rest_key)

    @property
    def dead(self) -> DeadLetters:
        """The dead letters of all shards."""
        listed = dict(self.reasons.most_common(limits.REASONS_LISTED))
        rest = sum(self.reasons.values()) - sum(listed.values())
        return DeadLetters(self.keyed, self.keyless, {**listed, OTHER_REASONS: rest} if rest else listed)

    def scan(self, plan: Plan) -> Scan:
        """What a durable index is made from; ``plan`` cut the shards."""
        return Scan(self.scanned, self.sums, self.probe, plan.memento())

    def index(self, digester: str) -> Index:
        """The index over all runs, in the order of the shards."""
        return Index([self.runs[number] for number in sorted(self.runs)], self.sums, self.probe, digester)


def unasked(connector: Connector, binding: Binding) -> str:
    """A sentence for the report where all rows had to be read to find those of a bucket, else ""."""
    if binding.bucket is None or connector.asks(binding):
        return ""
    return "rows of other buckets were read too, and left out at the agent: the source cannot be asked for this bucket"


def open_snapshots(
    copy: Copy, connector: Connector, executor: Executor, past: Callable[[Plan], Past | None] = lambda _: None
) -> Snapshots[Any]:
    """A plan of the copy, with shards that its rate allows, in snapshots no older than its limit.

    ``past`` says what of the plan's shards was read before.
    """
    shard_rows = copy.throttle.shard_rows(copy.shard_rows, executor.workers)
    plan = connector.plan(copy.binding, shard_rows)
    try:
        return Snapshots(plan, copy.throttle.snapshot_max_s, past=past(plan))
    except BaseException:
        plan.close()
        raise


def lent_to(copy: Copy, connector: Connector) -> AbstractContextManager[str]:
    """The connector for the tasks of this process, unless each must know how long the source took for it."""
    return contextlib.nullcontext("") if copy.throttle.paces else lent(connector)


def load_of(copy: Copy, connector: Connector) -> str:
    """Why the copy's source is to be left alone now, or ""."""
    return connector.load(copy.throttle.replica_lag_max_s, copy.throttle.backends_active_max)


def _task(copy: Copy, executor: Executor, shard: Shard, spool: Path, keep: bool, lent: str, lasts: Lasts) -> ScanTask:
    return ScanTask(
        copy.source,
        copy.binding,
        copy.profile,
        copy.keys,
        shard,
        spool / f"{shard.number:06d}.run",
        copy.digester,
        copy.throttle,
        executor.workers,
        letters=keep,
        lent=lent,
        rest_key=copy.rest_key,
        contents=lasts is Lasts.VERSIONED,
    )
