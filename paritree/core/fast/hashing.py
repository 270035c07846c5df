"""Keyed BLAKE2b of a tile's rows, several at a time (compiled into ``rows``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast.compiler import inlined, inner
from paritree.core.fast.vectors import LANES, compress

_BLOCK = 128
_BINS = 63
"""Bins of rows with about the same number of blocks; the last takes all that are longer."""
_EXACT = 16
"""Blocks up to which a bin holds one number of blocks, from there on eight: short lanes wait for the longest."""


@inner
def bin_of(length: int) -> int:
    blocks = (length + _BLOCK - 1) // _BLOCK
    return blocks if blocks <= _EXACT else min(_EXACT - 2 + blocks // 8, _BINS)


@inlined
def ordered_by_blocks(lengths: Any, n: int, order: Any) -> None:
    """The rows with the most blocks first, so that lanes that run together end together."""
    bins = np.zeros(_BINS + 1, np.int64)
    for i in range(n):
        bins[bin_of(lengths[i])] += 1
    place = 0
    for b in range(_BINS, -1, -1):
        count = bins[b]
        bins[b] = place
        place += count
    for i in range(n):
        b = bin_of(lengths[i])
        order[bins[b]] = i
        bins[b] += 1


@inlined
def hash_tile(starts: Any, lengths: Any, n: int, key_state: Any, digests: Any) -> None:
    """Digests of n byte strings at ``starts``, none of them empty, each followed by zeros to the end of its block."""
    order = np.empty(n, np.int64)
    ordered_by_blocks(lengths, n, order)
    state = np.empty((8, LANES), np.uint64)
    block, left, counter = np.empty(LANES, np.int64), np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    final, active = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    for group in range(0, n, LANES):
        longest = 0
        for lane in range(LANES):
            row = order[min(group + lane, n - 1)]
            block[lane] = starts[row]
            left[lane] = lengths[row]
            longest = max(longest, lengths[row])
        for word in range(8):
            state[word, :] = key_state[word]
        for done in range(0, longest, _BLOCK):
            for lane in range(LANES):
                counter[lane] = _BLOCK + min(left[lane], done + _BLOCK)
                final[lane] = -1 if left[lane] <= done + _BLOCK else 0
                active[lane] = -1 if left[lane] > done else 0
            compress(state.ctypes.data, block.ctypes.data, counter.ctypes.data, final.ctypes.data, active.ctypes.data)
            for lane in range(LANES):
                block[lane] += _BLOCK if left[lane] > done + _BLOCK else 0
        for lane in range(min(LANES, n - group)):
            digests[order[group + lane], 0] = state[0, lane]
            digests[order[group + lane], 1] = state[1, lane]
