"""One piece of one file as the binding's record batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from edge_agent.connectors.columns import items
from edge_agent.connectors.contract import BATCH_ROWS, Shard
from edge_agent.connectors.files.format import Format, Piece
from edge_agent.connectors.filestate import FileState
from paritree.core.profile import Binding


def shard_rows(form: Format, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The rows of a shard. Raises SourceError where its file is no longer the one that was planned."""
    path, state = shard.range["path"], FileState(*shard.range["state"])
    state.unchanged(path)
    yield from piece_rows(form, binding, path, form.narrowed(path, shard.range["piece"], binding))
    state.unchanged(path)


def piece_rows(form: Format, binding: Binding, path: str, piece: Piece) -> Iterator[pa.RecordBatch]:
    """The rows of a piece, at most BATCH_ROWS a batch."""
    names = list(dict.fromkeys(item.source for item in items(binding.columns) if item.source is not None))
    for batch in form.read(path, piece, names):
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield form.bound(batch.slice(start, BATCH_ROWS), binding)
