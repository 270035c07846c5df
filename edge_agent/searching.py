"""Search a table for keys that are known only by their digests: every row is digested, now, and compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.build import Copy, load_of, open_snapshots
from edge_agent.connections import connections_of
from edge_agent.connectors.contract import Shard
from edge_agent.connectors.registry import connect
from edge_agent.digesters import open_digester
from edge_agent.executors import Executor
from edge_agent.pace import LoadWatch, Pacer
from edge_agent.reading import scanned
from paritree.core.errors import SourceError
from paritree.core.shown import K_BYTES


@dataclass(frozen=True, slots=True)
class SearchTask:
    """Find keys by name in one shard; picklable."""

    copy: Copy
    shard: Shard
    names: frozenset[bytes]
    tasks: int = 1


@dataclass(frozen=True, slots=True)
class Match:
    """A row that was found, ``copies`` times in one shard."""

    key_digest: bytes
    row_digest: bytes
    locator: bytes
    copies: int = 1


def search(copy: Copy, executor: Executor, names: Sequence[bytes]) -> list[Match]:
    """Scan the table now for keys by digest, or by k (8 bytes): every row of theirs. Raises SourceError."""
    wanted = frozenset(names)
    with connect(copy.source) as connector, open_snapshots(copy, connector, executor) as snapshots:
        watch = LoadWatch(copy.throttle, lambda: load_of(copy, connector))
        parts = snapshots.results(
            executor,
            search_shard,
            lambda shard: SearchTask(copy, shard, wanted, executor.workers),
            connections=connections_of(copy.source.url, copy.throttle.connections_max),
            before=watch.wait,
        )
        found = [match for part in parts for match in part]
        if copy.profile.whole_row and (read_twice := snapshots.note()):
            raise SourceError(
                f"the copies of rows cannot be counted: {read_twice}",
                next_step="raise snapshot_max_s, or max_rate_rows_s, in [throttle], or give the table a key",
            )
        return found


def search_shard(task: SearchTask) -> list[Match]:
    """The wanted keys' rows of one shard."""
    copy = task.copy
    digester = open_digester(copy.digester, copy.profile, copy.keys)
    leading = np.array([int.from_bytes(name[:K_BYTES], "big") for name in task.names], np.uint64)
    found: Counter[tuple[bytes, bytes, bytes]] = Counter()
    with connect(copy.source) as connector:
        batches = scanned(connector, copy.binding, task.shard)
        if copy.throttle.paces:
            batches = Pacer(copy.throttle, task.tasks).paced(batches, lambda: connector.waited_s)
        for batch in batches:
            digested = digester.digest(batch)
            k = np.ascontiguousarray(digested.key_digests[:, :8]).view(">u8").reshape(-1)
            for row in np.flatnonzero(np.isin(k, leading)).tolist():
                key_digest = digested.key_digests[row].tobytes()
                if key_digest in task.names or key_digest[:K_BYTES] in task.names:
                    found[key_digest, digested.row_digests[row].tobytes(), digested.locators[row].as_py()] += 1
    return [Match(*row, copies) for row, copies in found.items()]
