"""Build the index of one sweep: plan, scan all shards, add up their sums and probes."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.connectors.contract import Position, Source
from edge_agent.connectors.registry import connect
from edge_agent.executors import Executor
from edge_agent.index.index import Index
from edge_agent.index.run import Run
from edge_agent.scan import ScanTask, scan_shard
from paritree.core import limits
from paritree.core.digest import DatasetKeys
from paritree.core.errors import SourceError
from paritree.core.fitting import check_binding
from paritree.core.leaves import LeafSums
from paritree.core.messages import DeadLetters, Progress
from paritree.core.profile import Binding, Profile
from paritree.core.sketch import empty_probe

OTHER_REASONS = "other reasons"


@dataclass(frozen=True, slots=True)
class Copy:
    """One dataset as this region holds it: everything a scan needs."""

    source: Source
    profile: Profile
    binding: Binding
    keys: DatasetKeys
    shard_rows: int = limits.SHARD_ROWS
    digester: str = "compiled"


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


def build_index(copy: Copy, executor: Executor, spool: Path, progress: Callable[[Progress], None]) -> Built:
    """Scan every shard into runs below ``spool``. Raises ConfigError before any scan, SourceError during it."""
    began = time.monotonic()
    spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    sums, probe = LeafSums.zero(limits.LEVEL_BITS_MAX), empty_probe()
    reasons: Counter[str] = Counter()
    runs: dict[int, Run] = {}
    keyed = keyless = rows = 0
    with connect(copy.source) as connector:
        schema = connector.describe(copy.binding.table)
        check_binding(copy.profile, copy.binding, schema)
        with connector.plan(copy.binding, copy.shard_rows) as plan:
            tasks = [
                ScanTask(
                    copy.source,
                    copy.binding,
                    copy.profile,
                    copy.keys,
                    shard,
                    spool / f"{shard.number:06d}.run",
                    copy.digester,
                )
                for shard in plan.shards
            ]
            progress(Progress(0, len(tasks), 0))
            for result in executor.map(scan_shard, tasks):
                sums, probe = sums.plus(result.sums), probe.plus(result.probe)
                reasons += result.reasons
                keyed += result.dead_keyed
                keyless += result.dead_keyless
                rows += result.rows
                runs[result.shard] = Run(result.run_path)
                progress(Progress(len(runs), len(tasks), rows))
            if len(runs) != len(tasks):
                raise SourceError(f"{len(tasks) - len(runs)} of {len(tasks)} shards gave no answer", retryable=True)
            position = plan.position()
        engine = connector.engine
    return Built(
        index=Index([runs[number] for number in sorted(runs)], sums, probe, copy.digester),
        position=position,
        dead=DeadLetters(keyed, keyless, _listed(reasons)),
        engine=engine,
        scan_s=time.monotonic() - began,
        shards=len(tasks),
        notes=() if schema.consistent else ("shards were read one after the other, not from one snapshot",),
    )


def _listed(reasons: Counter[str]) -> dict[str, int]:
    listed = dict(reasons.most_common(limits.REASONS_LISTED))
    rest = sum(reasons.values()) - sum(listed.values())
    return {**listed, OTHER_REASONS: rest} if rest else listed


def discard(spool: Path) -> None:
    """Delete the runs of a finished sweep; its dead letters stay until the next sweep of the dataset."""
    for left in (*spool.glob("*.run"), *spool.glob("*.partial")):
        left.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        spool.rmdir()  # stays while there are dead letters in it
