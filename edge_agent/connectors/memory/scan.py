"""Rows of a table as record batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from edge_agent.connectors.columns import bound
from edge_agent.connectors.contract import BATCH_ROWS, Shard
from edge_agent.connectors.memory.errors import plan_is_closed
from edge_agent.connectors.memory.store import MemoryStore, Version
from paritree.core.profile import Binding


def shard_rows(store: MemoryStore, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The rows of one shard, of the plan's snapshot or of the table as it is now. Raises SourceError."""
    if store.before_shard is not None:
        store.before_shard(shard)
    if store.snapshots:
        version = store.snapshot_of_plan.get(shard.range["plan"])
        if version is None:
            raise plan_is_closed(store.url)
    else:
        version = store.table(binding.table)
    yield from rows(version, binding, shard.range["start"], shard.range["stop"])


def rows(version: Version, binding: Binding, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
    """The rows from ``start`` up to, not including, ``stop`` (None: all)."""
    span = version.data.slice(start, None if stop is None else stop - start)
    for batch in span.to_batches(max_chunksize=BATCH_ROWS):
        if batch.num_rows:
            yield bound(batch, binding)
