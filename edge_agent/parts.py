"""Answers cut into parts, each small enough for one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edge_agent.index.index import Index
from paritree.core import limits
from paritree.core.messages import (
    AskChildren,
    AskLists,
    AskSketch,
    Children,
    Header,
    Lists,
    Progress,
    ReplyBody,
    Revealed,
    Sketched,
)
from paritree.core.sketch import empty_sketch

_ROW_BYTES = 24
_NODE_BYTES = 4
_KEY_BYTES = 48
"""A key digest with the tags and lengths around it and around its text."""
_RUNS_A_PROGRESS = 64
"""Runs between two signs of life: about 16 million rows, some seconds."""


def node_parts(header: Header, index: Index, ask: AskChildren) -> Iterator[ReplyBody]:
    """Σr of the descendants of the asked nodes, in order, and their rows where they are asked for."""
    fan_out = 1 << (ask.to_bits - ask.bits)
    most = limits.BULK_BYTES_MAX // (16 if ask.counts else 8)
    step = max(1, most // fan_out)
    for first in range(0, max(1, len(ask.prefixes)), step):
        sums = index.children(ask.bits, ask.to_bits, ask.prefixes[first : first + step])
        counts = index.counts(ask.bits, ask.to_bits, ask.prefixes[first : first + step]) if ask.counts else sums[:0]
        for low in range(0, max(1, len(sums)), most):
            yield Children(header, sums[low : low + most], counts[low : low + most])


def sketch_parts(header: Header, index: Index, ask: AskSketch) -> Iterator[ReplyBody]:
    """The sketch of the asked nodes; a sign of life while it is made."""
    sketch = empty_sketch(ask.cells, ask.salt)
    for done in index.add_to(sketch, ask.bits, ask.prefixes):
        if done % _RUNS_A_PROGRESS == 0:
            yield Progress(done, len(index.runs), 0)
    words = sketch.sums.reshape(-1)
    for low in range(0, len(words), limits.BULK_BYTES_MAX // 8):
        yield Sketched(header, words[low : low + limits.BULK_BYTES_MAX // 8])


def list_parts(header: Header, index: Index, ask: AskLists) -> Iterator[ReplyBody]:
    """The rows below the asked nodes; a node with more rows than a part takes is spread over several."""
    step = 256
    for first in range(0, max(1, len(ask.prefixes)), step):
        rows = index.rows_below(ask.bits, ask.prefixes[first : first + step])
        node = np.repeat(np.arange(len(rows.counts)), rows.counts)
        rows_max = (limits.BULK_BYTES_MAX - _NODE_BYTES * step) // _ROW_BYTES
        for low in range(0, max(1, len(rows.k)), rows_max):
            window = slice(low, low + rows_max)
            counts = np.bincount(node[window], minlength=len(rows.counts)).astype(np.uint32)
            yield Lists(header, counts, rows.k[window], rows.r[window], rows.r2[window])


def reveal_parts(header: Header, keys: Mapping[bytes, str]) -> Iterator[ReplyBody]:
    """Clear keys, as many a part as fit; one too long for any message stays in the region, and that is said."""
    part: dict[bytes, str] = {}
    size = withheld = 0
    for key_digest, text in keys.items():
        key_bytes = _KEY_BYTES + len(text.encode())
        if key_bytes > limits.PART_BYTES_MAX:
            withheld += 1
            continue
        if part and size + key_bytes > limits.PART_BYTES_MAX:
            yield Revealed(header, part)
            part, size = {}, 0
        part[key_digest] = text
        size += key_bytes
    yield Revealed(header, part, f"{withheld} keys are too long for a message" if withheld else "")
