"""Look-ups by key without an index: the promising parts of every file through the exact filter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from edge_agent.connectors import paths
from edge_agent.connectors.files.format import Format
from edge_agent.connectors.files.scan import piece_rows
from edge_agent.connectors.filestate import FileState
from edge_agent.connectors.keyfilter import Key, KeyFilter
from paritree.core.profile import Binding


def find(form: Format, pattern: str, binding: Binding, keys: Sequence[Key]) -> Iterator[pa.RecordBatch]:
    """The rows of those keys as the files are now, each row once."""
    wanted = KeyFilter(binding, keys)
    for path in paths.matches(pattern):
        state = FileState.of(path)
        piece = form.promising(path, binding, keys)
        if piece is not None:
            yield from wanted.matching(piece_rows(form, binding, path, piece))
        state.unchanged(path)
