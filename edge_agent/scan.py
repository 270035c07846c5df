"""One task: a shard from the source to a sorted run on the spool. Runs in any executor, in any process."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from edge_agent.connectors.contract import Shard, Source
from edge_agent.digesters import open_digester
from edge_agent.index.changes import dead_rows
from edge_agent.index.rest import RestKey
from edge_agent.index.run import RunRows, with_dead, write_run
from edge_agent.index.sorting import in_order
from edge_agent.letters.shardfile import ShardLetters
from edge_agent.pace import NOT_WAITED, UNLIMITED, Pacer, Throttle, Waited
from edge_agent.reading import scanned, scanned_placed
from edge_agent.sharing import borrowed
from edge_agent.sketching import probe_of
from edge_agent.wanted import demand_wanted
from paritree.core import limits
from paritree.core.digest import DatasetKeys
from paritree.core.digester import DeadRow, DigestBatch
from paritree.core.errors import SourceError
from paritree.core.leaves import LeafSums, key_words, leaf_sums, row_words
from paritree.core.profile import Binding, Profile
from paritree.core.sketch import Probe
from paritree.heap import reuse_freed_memory


@dataclass(frozen=True, slots=True)
class ScanTask:
    """Everything that scans one shard anywhere: picklable, so that a Dask worker can take it.

    ``digester`` is "compiled" or "plain"; both give the same bytes. ``tasks`` share the rate of ``throttle``.
    ``letters``: leave the dead letters beside the run, sealed; else they are counted only. ``lent`` names a connector
    of this process (see :mod:`edge_agent.sharing`). ``rest_key``: the run is encrypted at rest. ``contents``: say what
    the shard's rows are made from, so that they are found again.
    """

    source: Source
    binding: Binding
    profile: Profile
    keys: DatasetKeys = field(repr=False)
    shard: Shard
    run_path: Path
    digester: str = "compiled"
    throttle: Throttle = UNLIMITED
    tasks: int = 1
    letters: bool = False
    lent: str = ""
    rest_key: RestKey | None = None
    contents: bool = False


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What a task returns: small, whatever the shard's size. ``sums`` have depth limits.LEVEL_BITS_MAX."""

    shard: int
    rows: int
    run_path: Path
    sums: LeafSums
    probe: Probe
    dead_keyed: int = 0
    dead_keyless: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    waited: Waited = NOT_WAITED
    content: str = ""


def scan_shard(task: ScanTask) -> ShardResult:
    """Scan, canonicalise, digest, sort, write the run. Raises ConfigError, or SourceError, which names the shard."""
    try:
        return _scanned(task)
    except SourceError as error:
        error.shard = error.shard or task.shard.label
        raise


def _scanned(task: ScanTask) -> ShardResult:
    began = time.perf_counter()
    reuse_freed_memory()
    digester = open_digester(task.digester, task.profile, task.keys)
    batches: list[DigestBatch] = []
    dead: list[DeadRow] = []
    letters = ShardLetters(task.keys, task.shard.label)
    first_row = 0
    with borrowed(task.source, task.lent) as connector:
        pacer = Pacer(task.throttle, task.tasks)
        scan = scanned_placed if task.digester == "compiled" else scanned
        batches_in = scan(connector, task.binding, task.shard)
        if task.throttle.paces:
            batches_in = pacer.paced(batches_in, lambda: connector.waited_s)
        for batch in batches_in:
            demand_wanted()
            digested = digester.digest(batch)
            dead.extend(digested.dead)
            if digested.dead and task.letters:
                letters.add(batch, digested.dead, first_row)
            first_row += batch.num_rows
            batches.append(digested)
        content = connector.content(task.binding, task.shard) if task.contents else ""
    rows = sorted_rows(batches, task.digester)
    write_run(task.run_path, rows, task.rest_key)
    letters.write(task.run_path)
    k, (r, r2) = key_words(rows.key_digests), row_words(rows.row_digests)
    keyless = sum(d.locator is None for d in dead)
    return ShardResult(
        shard=task.shard.number,
        rows=len(rows.key_digests),
        run_path=task.run_path,
        sums=leaf_sums(k, r, r2, limits.LEVEL_BITS_MAX),
        probe=probe_of(k, r, task.digester),
        dead_keyed=len(dead) - keyless,
        dead_keyless=keyless,
        reasons=Counter(d.reason[: limits.REASON_CHARS_MAX] for d in dead),
        wall_s=time.perf_counter() - began,
        waited=pacer.waited,
        content=content,
    )


def sorted_rows(batches: list[DigestBatch], digester: str) -> RunRows:
    """The rows of all batches in the order of a run, dead letters marked; the compiled sort equals the plain one."""
    empty = np.zeros((0, 16), np.uint8)
    keys = np.concatenate([empty, *(b.key_digests for b in batches)])
    digests = np.concatenate([empty, *(b.row_digests for b in batches)])
    locators = pa.concat_arrays([pa.array([], pa.large_binary()), *(b.locators for b in batches)])
    return in_order(with_dead(RunRows(keys, digests, locators), dead_among(batches)), digester)


def dead_among(batches: list[DigestBatch]) -> dict[int, str]:
    """Which digests of all batches together are those of dead letters, and why."""
    dead: dict[int, str] = {}
    first = 0
    for batch in batches:
        dead.update((first + row, reason) for row, reason in dead_rows(batch).items())
        first += len(batch)
    return dead
