"""Reading a source for one sweep: what a connector gives, and of a bucket only its rows.

A connector may have been asked for the bucket and still give more: whether a row is in it is decided here, on canonical
values, so that a look-up finds what a scan found and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from edge_agent.connectors.contract import Connector, Shard
from paritree.core.placed import Placed
from paritree.core.profile import Binding
from paritree.core.sieve import sifted


def scanned(connector: Connector, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The rows of one shard."""
    rows = connector.scan(binding, shard)
    return rows if binding.bucket is None else sifted(binding.bucket, rows)


def scanned_placed(connector: Connector, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch | Placed]:
    """The same for a digester that reads values where the source has put them; a bucket's are looked at before."""
    return connector.scan_placed(binding, shard) if binding.bucket is None else scanned(connector, binding, shard)


def looked_up(connector: Connector, binding: Binding, keys: Sequence[tuple[Any, ...]]) -> Iterator[pa.RecordBatch]:
    """The present rows of those keys, with their versions where the source knows them."""
    rows = connector.lookup_versioned(binding, keys)
    return rows if binding.bucket is None else sifted(binding.bucket, rows)
