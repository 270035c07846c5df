"""Rows with marks put in the order of a run, by kernels or plainly: both give the same order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from edge_agent.index.marks import U32
from edge_agent.index.run import RunRows
from paritree.core.leaves import U8
from paritree.core.order import run_order


def in_order(rows: RunRows, digester: str) -> RunRows:
    """The rows by key digest, then row digest; equal ones as they came. ``digester`` is "compiled" or "plain"."""
    order = order_of(rows.key_digests, rows.row_digests, digester)
    marks: U32 | None = None if rows.marks is None else rows.marks[order]
    if digester == "compiled":
        from paritree.core.fast.sort import gathered

        keys, digests, locators = gathered(order, rows.key_digests, rows.row_digests, rows.locators)
        return RunRows(keys, digests, locators, marks, rows.reasons)
    locators = rows.locators.take(_indices(order))
    return RunRows(rows.key_digests[order], rows.row_digests[order], locators, marks, rows.reasons)


def order_of(key_digests: U8, row_digests: U8, digester: str) -> NDArray[np.int64]:
    """The permutation that sorts rows by key digest and then row digest; stable."""
    if digester == "compiled":
        from paritree.core.fast.sort import sorted_order

        return sorted_order(key_digests, row_digests)
    return run_order(key_digests, row_digests)


def _indices(order: NDArray[np.int64]) -> pa.Array:
    """For Arrow's take. ``pa.array`` would do, but loads numpy.ma (0.04 s) to ask whether some are masked."""
    return pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(np.ascontiguousarray(order))])
