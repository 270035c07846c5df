"""Kernels that add rows to sketches and probes: the plain form is :mod:`paritree.core.sketch`."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast.compiler import inner, kernel
from paritree.core.fast.memory import load_64
from paritree.core.sketch import SIGN_KEY, SIGN_ROW

_TABLES = 4
_SIGN_ROW = np.uint64(SIGN_ROW)
_SIGN_KEY = np.uint64(SIGN_KEY)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


@inner
def mixed_word(word: Any, seed: Any) -> Any:
    """The finaliser of splitmix64 on a word xor a seed."""
    x = word ^ seed
    x = (x ^ (x >> np.uint64(30))) * _M1
    x = (x ^ (x >> np.uint64(27))) * _M2
    return x ^ (x >> np.uint64(31))


@inner
def add_words(cell: Any, k: Any, r: Any) -> None:
    """S1, S2 and S3 of one row."""
    cell[0] += r
    cell[1] += (k & _LOW) * r
    cell[2] += (k >> np.uint64(32)) * r


@kernel("void(int64, int64, int64, uint64[::1], uint64[:, :, ::1])")
def sketch_rows(k: int, r: int, rows: int, seeds: Any, sums: Any) -> None:
    """Add rows, words of 8 bytes each at the two addresses, to ``sums`` of shape (4, cells, 3)."""
    cells = np.uint64(sums.shape[1])
    for i in range(rows):
        key, row = np.uint64(load_64(k + 8 * i)), np.uint64(load_64(r + 8 * i))
        for table in range(_TABLES):
            add_words(sums[table, np.int64(mixed_word(key, seeds[table]) % cells)], key, row)


@kernel("void(int64, int64, int64, uint64[::1], uint64[:, :, ::1], int16[:, :, ::1])")
def probe_rows(k: int, r: int, rows: int, seeds: Any, sums: Any, pulls: Any) -> None:
    """As :func:`sketch_rows`, with the pulls of shape (4, cells, 2)."""
    cells = np.uint64(sums.shape[1])
    for i in range(rows):
        key, row = np.uint64(load_64(k + 8 * i)), np.uint64(load_64(r + 8 * i))
        by_row = mixed_word(mixed_word(key, _SIGN_ROW) ^ row, _SIGN_ROW)
        by_key = mixed_word(key, _SIGN_KEY)
        for table in range(_TABLES):
            position = np.int64(mixed_word(key, seeds[table]) % cells)
            add_words(sums[table, position], key, row)
            shift = np.uint64(8 * table)
            pulls[table, position, 0] += np.int16(((by_row >> shift) & _ONE) << _ONE) - np.int16(1)
            pulls[table, position, 1] += np.int16(((by_key >> shift) & _ONE) << _ONE) - np.int16(1)
