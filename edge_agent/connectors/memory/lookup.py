"""Look-ups by key: the whole table through the exact filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from edge_agent.connectors.keyfilter import Key, KeyFilter
from edge_agent.connectors.memory.scan import rows
from edge_agent.connectors.memory.store import MemoryStore
from paritree.core.profile import Binding


def find(store: MemoryStore, binding: Binding, keys: Sequence[Key]) -> Iterator[pa.RecordBatch]:
    """The rows of those keys as the table is now, each row once."""
    return KeyFilter(binding, keys).matching(rows(store.table(binding.table), binding))
