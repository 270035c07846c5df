"""One piece of one file as the binding's record batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from edge_agent.connectors.columns import items
from edge_agent.connectors.contract import BATCH_ROWS, Shard
from edge_agent.connectors.files.format import Format, Piece
from edge_agent.connectors.filestate import FileState
from edge_agent.connectors.fileversion import settled_version
from paritree.core.profile import Binding


def shard_rows(form: Format, binding: Binding, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The rows of a shard. Raises SourceError where its file is no longer the one that was planned."""
    path, state = shard.range["path"], FileState(*shard.range["state"])
    state.unchanged(path)
    yield from piece_rows(form, binding, path, form.narrowed(path, shard.range["piece"], binding))
    state.unchanged(path)


def piece_rows(form: Format, binding: Binding, path: str, piece: Piece) -> Iterator[pa.RecordBatch]:
    """The rows of a piece, at most BATCH_ROWS a batch."""
    for batch in form.read(path, piece, names_read(binding)):
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield form.bound(batch.slice(start, BATCH_ROWS), binding)


def names_read(binding: Binding) -> list[str]:
    """The columns of a file that the binding's rows come from."""
    return list(dict.fromkeys(item.source for item in items(binding.columns) if item.source is not None))


def content(form: Format, binding: Binding, shard: Shard) -> str:
    """The fingerprints of a shard that was scanned before this; "" unless it is proved that nobody wrote meanwhile."""
    if not shard.version:
        return ""
    path = shard.range["path"]
    found = [fingerprint for fingerprint, _ in form.fingerprints(path, names_read(binding), shard.range["piece"])]
    same = settled_version([path], form) == file_version(shard)
    return " ".join(found) if same and all(found) else ""


def file_version(shard: Shard) -> str:
    """The version of a shard's file, "" where it had none."""
    return shard.version.partition(" ")[0]
