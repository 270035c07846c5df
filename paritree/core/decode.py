"""Solve the difference of two sketches for the keys that differ: peeling with the even-delta rule.

A cell with one differing key holds Δ, k_lo·Δ and k_hi·Δ mod 2^64. Let Δ have v trailing zero bits. Only v ≤ 32 leaves
enough bits to know both halves of k; the low v bits of both products must be zero; shift right by v and multiply by the
inverse of the odd part mod 2^(64-v); accept if both halves are below 2^32 and the key's position in this table is this
cell. A found key is taken out of its other cells, which may solve those. About 64 check bits: no phantom was ever seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paritree.core.leaves import U64
from paritree.core.sketch import TABLES, Sketch, mixed, seeds

_TWO32 = np.uint64(1 << 32)
_ONE = np.uint64(1)
ROUNDS_MAX: Final = 256
"""Rounds of peeling: 41 were the most that a sketch of 100,000 keys at its limit took, whatever its salt."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """``deltas``: k -> Δ = Σr of one side minus that of the other, mod 2^64. ``complete``: nothing is left over."""

    deltas: Mapping[int, int]
    complete: bool


def decode(differences: Sequence[Sketch]) -> Decoded:
    """Peel several sketches of the same difference jointly (a probe and a sized sketch, say).

    Words that are no sketch of anything end it early: their keys come again, or only one by one for ever.
    """
    work = [sketch.sums.copy() for sketch in differences]
    found: dict[int, int] = {}
    dirty = [[np.ones(sketch.cells, bool) for _ in range(TABLES)] for sketch in differences]
    progress = True
    for _ in range(ROUNDS_MAX):
        if not progress:
            break
        progress = False
        for number, sketch in enumerate(differences):
            for table, seed in enumerate(seeds(sketch.salt)):
                candidates = np.flatnonzero(dirty[number][table])
                dirty[number][table][:] = False
                k, delta = _solve(work[number][table][candidates], candidates, seed, sketch.cells)
                if len(k):
                    if not found.keys().isdisjoint(k.tolist()):  # a key that was taken out is in no honest sketch
                        return Decoded({key: change for key, change in found.items() if change}, False)
                    progress = True
                    _remove(differences, work, dirty, k, delta)
                    found.update(zip(k.tolist(), delta.tolist(), strict=True))
    complete = not any(sums.any() for sums in work)
    return Decoded({k: delta for k, delta in found.items() if delta}, complete)


def _solve(cells: NDArray[np.uint64], positions: NDArray[np.int64], seed: int, size: int) -> tuple[U64, U64]:
    """The keys and deltas of the cells that hold exactly one difference."""
    delta, low, high = cells[:, 0], cells[:, 1], cells[:, 2]
    zeros = _trailing_zeros(delta)
    usable = (delta != 0) & (zeros <= 32)
    shift = np.where(usable, zeros, 0).astype(np.uint64)
    mask = (_ONE << shift) - _ONE
    usable &= ((low & mask) == 0) & ((high & mask) == 0)
    inverse = _inverse(np.where(usable, delta >> shift, _ONE))
    kept = np.uint64(0xFFFFFFFFFFFFFFFF) >> shift
    k_low = ((low >> shift) * inverse) & kept
    k_high = ((high >> shift) * inverse) & kept
    usable &= (k_low < _TWO32) & (k_high < _TWO32)
    k = (k_high << np.uint64(32)) | (k_low & np.uint64(0xFFFFFFFF))
    usable &= (mixed(k, seed) % np.uint64(size)) == positions.astype(np.uint64)
    return k[usable], delta[usable]


def _trailing_zeros(words: U64) -> NDArray[np.int64]:
    lowest = words & (~words + _ONE)
    powers = np.maximum(lowest, _ONE).astype(np.float64)  # powers of two are exact
    return np.where(words == 0, 64, np.log2(powers)).astype(np.int64)


def _inverse(odd: U64) -> U64:
    """The inverse mod 2^64 of odd words: Newton's iteration doubles the right bits (3, 6, 12, 24, 48, 96)."""
    x: U64 = (odd * np.uint64(3)) ^ np.uint64(2)
    for _ in range(5):
        x = x * (np.uint64(2) - odd * x)
    return x


def _remove(
    sketches: Sequence[Sketch],
    work: Sequence[NDArray[np.uint64]],
    dirty: Sequence[Sequence[NDArray[np.bool_]]],
    k: U64,
    delta: U64,
) -> None:
    low = (k & np.uint64(0xFFFFFFFF)) * delta
    high = (k >> np.uint64(32)) * delta
    for number, sketch in enumerate(sketches):
        for table, seed in enumerate(seeds(sketch.salt)):
            position = (mixed(k, seed) % np.uint64(sketch.cells)).astype(np.int64)
            for part, words in enumerate((delta, low, high)):
                np.subtract.at(work[number][table, :, part], position, words)
            dirty[number][table][position] = True
