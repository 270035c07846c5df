"""Key digests as pairs of words: order, distinct ones, membership; exact also where two keys share their first half."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from paritree.core.errors import InvariantBroken
from paritree.core.leaves import U8, U64

NO_DIGESTS: U8 = np.zeros((0, 16), np.uint8)


def digest_words(digests: U8) -> tuple[U64, U64]:
    """Both halves of digests of shape (n, 16), read big-endian: their order is that of the bytes."""
    words = np.ascontiguousarray(digests).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def as_digests(keys: Iterable[bytes] | U8) -> U8:
    """Digests as an array of shape (n, 16), uint8. Raises InvariantBroken for what are none."""
    array = keys if isinstance(keys, np.ndarray) else np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
    if array.ndim != 2 or array.shape[1] != 16 or array.dtype != np.uint8:
        raise InvariantBroken(f"key digests of shape {array.shape}, {array.dtype}")
    return array


def distinct(digests: U8) -> U8:
    """Each digest once, ascending."""
    return np.ascontiguousarray(digests)[firsts(digests)]


def firsts(digests: U8) -> NDArray[np.int64]:
    """One place of each distinct digest, in the order of the digests.

    Sorting by the first half alone is several times as fast, and the second half hardly ever matters.
    """
    high, low = digest_words(digests)
    order = np.argsort(high)
    sorted_high, sorted_low = high[order], low[order]
    same = sorted_high[1:] == sorted_high[:-1]
    if (same & (sorted_low[1:] != sorted_low[:-1])).any():
        order = np.lexsort((low, high))
        sorted_high, sorted_low = high[order], low[order]
        same = (sorted_high[1:] == sorted_high[:-1]) & (sorted_low[1:] == sorted_low[:-1])
    first = np.ones(len(order), bool)
    first[1:] = ~same
    found: NDArray[np.int64] = order[first]
    return found


def places(known: U8, asked: U8) -> NDArray[np.int64]:
    """Where each asked digest stands among the known ones, which are distinct and ascending; -1 where it does not."""
    high, low = digest_words(known)
    wanted_high, wanted_low = digest_words(asked)
    at = np.searchsorted(high, wanted_high).astype(np.int64)
    found = np.full(len(asked), -1, np.int64)
    open_ = np.arange(len(asked))
    while len(open_):
        open_ = open_[at[open_] < len(high)]
        open_ = open_[high[at[open_]] == wanted_high[open_]]
        same = low[at[open_]] == wanted_low[open_]
        found[open_[same]] = at[open_[same]]
        open_ = open_[~same]
        at[open_] += 1
    return found
