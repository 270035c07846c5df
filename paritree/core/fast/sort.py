"""A run in its order, by kernels where they can: the order is that of :func:`paritree.core.order.run_order`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core.digest import DIGEST_BYTES
from paritree.core.errors import InvariantBroken
from paritree.core.fast.layout import WIDE
from paritree.core.fast.plan import check_offsets
from paritree.core.fast.warming import SORTING
from paritree.core.order import run_order

U8 = NDArray[np.uint8]


def sort_run(key_digests: U8, row_digests: U8, locators: pa.Array) -> tuple[U8, U8, pa.LargeBinaryArray]:
    """Key digests, row digests (both (n, 16), uint8) and locators (n large binaries) by key digest, then row digest.

    Raises InvariantBroken for arrays that do not fit each other, ConfigError where kernels cannot be.
    """
    return gathered(sorted_order(key_digests, row_digests), key_digests, row_digests, locators)


def gathered(
    order: NDArray[np.int64], key_digests: U8, row_digests: U8, locators: pa.Array
) -> tuple[U8, U8, pa.LargeBinaryArray]:
    """The same three in another order: ``order`` (n,) is a permutation of their rows. Raises as :func:`sort_run`."""
    rows = len(locators)
    keys, digests = _checked(key_digests, rows), _checked(row_digests, rows)
    offsets, data = _spans(locators)
    if len(order) != rows or (rows and (int(order.min()) < 0 or int(order.max()) >= rows)):
        raise InvariantBroken(f"an order of {len(order)} rows for {rows}")
    sorted_keys, sorted_digests = np.empty_like(keys), np.empty_like(digests)
    offsets_out = np.zeros(rows + 1, np.int64)
    data_out = np.empty(int(offsets[-1] - offsets[0]) + WIDE, np.uint8)
    written = SORTING.gather(
        np.ascontiguousarray(order),
        keys.ctypes.data,
        digests.ctypes.data,
        offsets.ctypes.data,
        data.ctypes.data,
        len(data),
        sorted_keys.ctypes.data,
        sorted_digests.ctypes.data,
        offsets_out,
        data_out.ctypes.data,
    )
    buffers = [None, pa.py_buffer(offsets_out), pa.py_buffer(data_out[:written])]
    return sorted_keys, sorted_digests, pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers)


def sorted_order(key_digests: U8, row_digests: U8) -> NDArray[np.int64]:
    """The permutation that :func:`run_order` gives; equal rows keep their order."""
    keys, digests = _checked(key_digests, len(key_digests)), _checked(row_digests, len(key_digests))
    order = np.empty(len(keys), np.int64)
    if SORTING.sorted_order(keys.ctypes.data, digests.ctypes.data, order) < 0:  # many rows of one key
        return run_order(keys, digests)
    return order


def _checked(digests: U8, rows: int) -> U8:
    if digests.shape != (rows, DIGEST_BYTES) or digests.dtype != np.uint8:
        raise InvariantBroken(f"digests of shape {digests.shape}, {digests.dtype} for {rows} rows")
    return np.ascontiguousarray(digests)


def _spans(locators: pa.Array) -> tuple[NDArray[np.int64], U8]:
    if locators.type != pa.large_binary() or locators.null_count:
        raise InvariantBroken("locators are large binaries without null")
    check_offsets(locators, "locators")
    _, offsets_buffer, data_buffer = locators.buffers()
    data = np.zeros(0, np.uint8) if data_buffer is None else np.frombuffer(data_buffer, np.uint8)
    if not len(locators):
        return np.zeros(1, np.int64), data
    return np.frombuffer(offsets_buffer, np.int64)[locators.offset : locators.offset + len(locators) + 1], data
