"""Kernels that put a run in order: one pass into buckets by leading bits, small sorts inside, one pass to gather.

Key digests are keyed hashes, so their leading bits spread rows evenly over buckets, whatever the table holds. Only rows
with the same key share a bucket beyond that; where there are many, the caller sorts another way.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast.compiler import inner, kernel
from paritree.core.fast.memory import load_64, store_64, swapped
from paritree.core.fast.texts import copy_span

_BUCKET_ROWS = 4
"""Rows a bucket has on average: few enough for insertion, enough to keep the table of buckets small."""
_BUCKET_ROWS_MAX = 48
"""With random digests no bucket comes near this (chance below 1e-30 a bucket); with equal keys it may."""
_BITS_MAX = 20
"""Eight MiB of bucket starts."""


@inner
def ordered_word(address: int) -> Any:
    """Eight bytes as a number whose order is that of the bytes."""
    return np.uint64(swapped(load_64(address)))


@inner
def is_before(keys: int, rows: int, a: int, b: int) -> bool:
    """Order of two rows with the same leading word: the rest of the key digest, then the row digest."""
    for base, start in ((keys, 8), (rows, 0), (rows, 8)):
        first, second = ordered_word(base + 16 * a + start), ordered_word(base + 16 * b + start)
        if first != second:
            return bool(first < second)
    return bool(a < b)


@inner
def sort_bucket(words: Any, order: Any, low: int, high: int, keys: int, rows: int) -> None:
    for i in range(low + 1, high):
        word, row = words[i], order[i]
        j = i
        while j > low and (words[j - 1] > word or (words[j - 1] == word and is_before(keys, rows, row, order[j - 1]))):
            words[j] = words[j - 1]
            order[j] = order[j - 1]
            j -= 1
        words[j] = word
        order[j] = row


@kernel("int64(int64, int64, int64[::1])")
def sorted_order(keys: int, rows: int, order: Any) -> Any:
    """Fill ``order`` with the permutation that sorts the n digests at the two addresses, 16 bytes each.

    Equal rows keep their order. Returns the rows of the largest bucket; above :data:`_BUCKET_ROWS_MAX`, as -rows, and
    ``order`` is not sorted.
    """
    n = len(order)
    bits = 0
    while bits < _BITS_MAX and n >> (bits + 1) >= _BUCKET_ROWS:
        bits += 1
    shift = np.uint64(63 - bits)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for i in range(n):
        starts[np.int64(ordered_word(keys + 16 * i) >> np.uint64(1) >> shift) + 1] += 1
    largest = 0
    for b in range(1 << bits):
        largest = max(largest, starts[b + 1])
        starts[b + 1] += starts[b]
    if largest > _BUCKET_ROWS_MAX:
        return -largest
    words = np.empty(n, np.uint64)
    for i in range(n):
        word = ordered_word(keys + 16 * i)
        bucket = np.int64(word >> np.uint64(1) >> shift)
        words[starts[bucket]] = word
        order[starts[bucket]] = i
        starts[bucket] += 1
    low = 0
    for b in range(1 << bits):
        sort_bucket(words, order, low, starts[b], keys, rows)
        low = starts[b]
    return largest


@kernel("int64(int64[::1], int64, int64, int64, int64, int64, int64, int64, int64[::1], int64)")
def gather(
    order: Any,
    keys: int,
    rows: int,
    offsets: int,
    data: int,
    data_bytes: int,
    keys_out: int,
    rows_out: int,
    offsets_out: Any,
    data_out: int,
) -> int:
    """Bring digests and locators into order. Addresses but for ``order`` and ``offsets_out`` (n + 1,).

    ``data_out`` has room for the locators and 32 bytes more. The caller has checked that the offsets never go back and
    stay inside the data. Returns the bytes of the locators.
    """
    end = 0
    limit = data + data_bytes
    for i in range(len(order)):
        row = order[i]
        for half in (0, 8):
            store_64(keys_out + 16 * i + half, load_64(keys + 16 * row + half))
            store_64(rows_out + 16 * i + half, load_64(rows + 16 * row + half))
        start = load_64(offsets + 8 * row)
        length = load_64(offsets + 8 * row + 8) - start
        copy_span(data_out + end, data + start, length, limit)
        end += length
        offsets_out[i + 1] = end
    return end
