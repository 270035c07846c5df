"""Sketches: small linear summaries of a node from which the differing keys of two regions can be solved.

Four tables of ``cells`` cells. A row (k, r) adds to cell h_j(k, salt) of table j three words, all mod 2^64:

    S1 += r        S2 += (k mod 2^32) · r        S3 += (k div 2^32) · r

Subtract two regions' sketches and equal rows vanish. A cell with one differing key has S1 = Δ, S2 = k_lo·Δ, S3 = k_hi·Δ
and solves for it (``paritree.core.decode``). An update, an insertion and a deletion are one unknown each. Sketches add
over shards and fold to half their size, and a change costs one subtraction and one addition.

Literature: invertible Bloom look-up tables (Goodrich and Mitzenmacher 2011); Eppstein, Goodrich, Uyeda and Varghese,
"What's the Difference?" (2011); sparse recovery. The tug-of-war estimate is that of Alon, Matias and Szegedy (1996).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paritree.core.errors import InvariantBroken
from paritree.core.leaves import U64

I16 = NDArray[np.int16]
TABLES: Final = 4
"""Three tables need 6 % fewer cells at many differences, but fail now and then at few; four never did in trials."""
PROBE_CELLS: Final = 96
"""Cells a table of the probe: 10.5 KiB that alone decode about 250 differences and fit the first TCP window."""
WORDS: Final = 3
"""Words of a cell: S1, S2, S3."""
CELL_BYTES: Final = 8 * WORDS
PROBE_CELL_BYTES: Final = CELL_BYTES + 4
SIZES: Final = tuple(sorted({base << i for base in range(32, 64) for i in range(1, 20)}))
"""Cells a table may have: 32 steps to each doubling, and any of them folds to its half."""
CELLS_A_KEY: Final = 1.34
"""Cells for each key to be solved for: 1.28 to 1.34 decode, with the probe, of 600 to 20,000 keys; 1.32 of more.

Measured where the number is known: of 1,000 keys, 1 sketch in 300 failed with 1.34, 9 in 10 with 1.26."""
DEVIATIONS: Final = 3.1
"""Standard deviations by which an estimate may be too low: as low were 5 of 10,000 estimates of updates."""
_LOW: Final = np.uint64(0xFFFFFFFF)
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def mix(value: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014) on one word."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def mixed(words: U64, seed: int) -> U64:
    """:func:`mix` of each word after xor with a seed: every bit of k reaches the position."""
    x = words ^ np.uint64(seed)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def seeds(salt: int) -> tuple[int, ...]:
    """One seed a table: a subtree's keys share a prefix, so positions must not follow it."""
    return tuple(mix((salt * _GOLDEN + (j + 1) * 0xD1B54A32D192ED03) & _MASK) for j in range(TABLES))


SIGN_ROW: Final = mix(0x5167)
SIGN_KEY: Final = mix(0x6B65)


@dataclass(frozen=True, slots=True)
class Sketch:
    """``sums`` has shape (TABLES, cells, 3), uint64: S1, S2, S3 of each cell."""

    salt: int
    sums: NDArray[np.uint64]

    @property
    def cells(self) -> int:
        return int(self.sums.shape[1])

    def plus(self, other: Sketch) -> Sketch:
        """The sketch of both sets together."""
        self._require_like(other)
        return Sketch(self.salt, self.sums + other.sums)

    def minus(self, other: Sketch) -> Sketch:
        """The sketch of the differences: equal rows vanish."""
        self._require_like(other)
        return Sketch(self.salt, self.sums - other.sums)

    def fold(self, cells: int) -> Sketch:
        """The sketch with fewer cells: positions are taken mod ``cells``, so halves add up."""
        if cells < 1 or self.cells % cells:
            raise InvariantBroken(f"a sketch of {self.cells} cells does not fold to {cells}")
        return Sketch(self.salt, self.sums.reshape(TABLES, -1, cells, 3).sum(axis=1, dtype=np.uint64))

    def adds_up_to(self, root_r: int) -> bool:
        """Whether every table holds each row once: its S1 add up to Σr of the sketched rows."""
        return bool((self.sums[:, :, 0].sum(axis=1, dtype=np.uint64) == np.uint64(root_r)).all())

    def _require_like(self, other: Sketch) -> None:
        if (self.salt, self.sums.shape) != (other.salt, other.sums.shape):
            raise InvariantBroken("sketches of another salt or size cannot be combined")


@dataclass(frozen=True, slots=True)
class Probe:
    """The sketch that comes with the root. ``pulls`` has shape (TABLES, cells, 2), int16, wrapping: tug-of-war sums."""

    sketch: Sketch
    pulls: I16

    def plus(self, other: Probe) -> Probe:
        return Probe(self.sketch.plus(other.sketch), self.pulls + other.pulls)

    def minus(self, other: Probe) -> Probe:
        return Probe(self.sketch.minus(other.sketch), self.pulls - other.pulls)

    @property
    def estimate(self) -> float:
        """About how many keys differ (for a difference of probes).

        Signs from (k, r) count an update twice and a lost row once, signs from k count an update not at all and a
        lost row once: half their sum is the number of differing keys.
        """
        return float(self._squares.sum() / TABLES / 2)

    @property
    def at_most(self) -> float:
        """More keys than differ, but for 5 probes of 10,000.

        A sum of squares of n pulls has a standard deviation of its √(2/n): 5 % of the estimate where rows are lost,
        7 % where they are updated, as the signs from k tell nothing then.
        """
        rows, keys = self._squares
        deviation = math.hypot(rows, keys) / TABLES / 2 * math.sqrt(2 / (self.pulls.size / 2))
        return self.estimate / (1 - DEVIATIONS * deviation / self.estimate) if self.estimate else 0.0

    @property
    def _squares(self) -> NDArray[np.float64]:
        squares: NDArray[np.float64] = (self.pulls.astype(np.float64) ** 2).sum(axis=(0, 1))
        return squares


def empty_sketch(cells: int, salt: int) -> Sketch:
    return Sketch(salt, np.zeros((TABLES, cells, 3), np.uint64))


def empty_probe(cells: int = PROBE_CELLS, salt: int = 0) -> Probe:
    return Probe(empty_sketch(cells, salt), np.zeros((TABLES, cells, 2), np.int16))


def sketch_of(k: U64, r: U64, cells: int, salt: int) -> Sketch:
    """The sketch of rows; k and r of shape (n,)."""
    sketch = empty_sketch(cells, salt)
    add_rows(sketch, k, r)
    return sketch


def add_rows(sketch: Sketch, k: U64, r: U64) -> None:
    """Add rows to a sketch in place; k and r of shape (n,)."""
    words = _words(k, r)
    for table, seed in enumerate(seeds(sketch.salt)):
        position = (mixed(k, seed) % np.uint64(sketch.cells)).astype(np.int64)
        for part in range(WORDS):
            np.add.at(sketch.sums[table, :, part], position, words[part])


def probe_of(k: U64, r: U64, cells: int = PROBE_CELLS, salt: int = 0) -> Probe:
    """The probe of rows; k and r of shape (n,)."""
    probe = Probe(sketch_of(k, r, cells, salt), np.zeros((TABLES, cells, 2), np.int16))
    signs = (_signs(mixed(mixed(k, SIGN_ROW) ^ r, SIGN_ROW)), _signs(mixed(k, SIGN_KEY)))
    for table, seed in enumerate(seeds(salt)):
        position = (mixed(k, seed) % np.uint64(cells)).astype(np.int64)
        for part in range(2):
            # one sign bit a table: the tables are independent estimates
            pulls = signs[part][table]
            np.add.at(probe.pulls[table, :, part], position, pulls)
    return probe


def _words(k: U64, r: U64) -> tuple[U64, U64, U64]:
    return r, (k & _LOW) * r, (k >> np.uint64(32)) * r


def _signs(words: U64) -> list[I16]:
    return [
        ((words >> np.uint64(8 * table)) & np.uint64(1)).astype(np.int16) * np.int16(2) - np.int16(1)
        for table in range(TABLES)
    ]


def size_for(keys: float) -> int:
    """Cells a table for a sketch that decodes so many keys, together with their probe."""
    wanted = keys * CELLS_A_KEY / TABLES
    return next((size for size in SIZES if size >= wanted), SIZES[-1])
