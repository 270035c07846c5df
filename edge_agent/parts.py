"""Answers cut into parts, each small enough for one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edge_agent.index.index import Index
from paritree.core import limits
from paritree.core.messages import (
    AskChildren,
    AskLists,
    AskSketch,
    Children,
    Details,
    Header,
    Lists,
    Look,
    Progress,
    ReplyBody,
    Sketched,
)
from paritree.core.sketch import empty_sketch

_ROW_BYTES = 24
_NODE_BYTES = 4
_RUNS_A_PROGRESS = 64
"""Runs between two signs of life: about 16 million rows, some seconds."""


def node_parts(header: Header, index: Index, ask: AskChildren) -> Iterator[ReplyBody]:
    """Σr of the descendants of the asked nodes, in order."""
    fan_out = 1 << (ask.to_bits - ask.bits)
    step = max(1, limits.PART_BYTES_MAX // (8 * fan_out))
    for first in range(0, max(1, len(ask.prefixes)), step):
        sums = index.children(ask.bits, ask.to_bits, ask.prefixes[first : first + step])
        for low in range(0, max(1, len(sums)), limits.PART_BYTES_MAX // 8):
            yield Children(header, sums[low : low + limits.PART_BYTES_MAX // 8])


def sketch_parts(header: Header, index: Index, ask: AskSketch) -> Iterator[ReplyBody]:
    """The sketch of the asked nodes; a sign of life while it is made."""
    sketch = empty_sketch(ask.cells, ask.salt)
    for done in index.add_to(sketch, ask.bits, ask.prefixes):
        if done % _RUNS_A_PROGRESS == 0:
            yield Progress(done, len(index.runs), 0)
    words = sketch.sums.reshape(-1)
    for low in range(0, len(words), limits.PART_BYTES_MAX // 8):
        yield Sketched(header, words[low : low + limits.PART_BYTES_MAX // 8])


def list_parts(header: Header, index: Index, ask: AskLists) -> Iterator[ReplyBody]:
    """The rows below the asked nodes; a node with more rows than a part takes is spread over several."""
    step = 256
    for first in range(0, max(1, len(ask.prefixes)), step):
        rows = index.rows_below(ask.bits, ask.prefixes[first : first + step])
        node = np.repeat(np.arange(len(rows.counts)), rows.counts)
        rows_max = (limits.PART_BYTES_MAX - _NODE_BYTES * step) // _ROW_BYTES
        for low in range(0, max(1, len(rows.k)), rows_max):
            window = slice(low, low + rows_max)
            counts = np.bincount(node[window], minlength=len(rows.counts)).astype(np.uint32)
            yield Lists(header, counts, rows.k[window], rows.r[window], rows.r2[window])


def detail_parts(header: Header, looks: Sequence[Look]) -> Iterator[ReplyBody]:
    """The looks, as many a part as fit."""
    part: list[Look] = []
    size = 0
    for look in looks:
        look_bytes = 64 + 16 * (len(look.indexed) + len(look.fresh)) + 8 * len(look.columns)
        look_bytes += len(look.sealed) + 4 * len(look.dead)
        if part and size + look_bytes > limits.PART_BYTES_MAX:
            yield Details(header, tuple(part))
            part, size = [], 0
        part.append(look)
        size += look_bytes
    yield Details(header, tuple(part))
