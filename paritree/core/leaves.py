"""Leaf sums: keyed multiset hashing of a table by prefixes of the key digest.

MSet-Add-Hash of Clarke, Devadas, van Dijk, Gassend and Suh, "Incremental multiset hash functions and their
application to memory integrity checking" (2003): a node is (count, Σr, Σr′) mod 2^64 over the rows below it, so that
partial sums of any sharding merge by addition, in any order, and a duplicate does not cancel as it would with XOR.

    k  : first 8 bytes of the key digest, big-endian: the position in the tree
    r  : first half of the row digest, r′ : second half, both little-endian
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paritree.core.errors import InvariantBroken

U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NodeSum:
    """The sum of one node: rows, Σr and Σr′ mod 2^64."""

    count: int
    r: int
    r2: int

    def minus(self, other: NodeSum) -> NodeSum:
        """The difference in every part, r and r′ mod 2^64; the count may be negative."""
        mask = (1 << 64) - 1
        return NodeSum(self.count - other.count, (self.r - other.r) & mask, (self.r2 - other.r2) & mask)


@dataclass(frozen=True, slots=True)
class NodeSums:
    """Rows and Σr of adjacent nodes of one depth: uint64, shape (n,)."""

    counts: U64
    r: U64

    @property
    def total(self) -> NodeSum:
        """Of all of them together; Σr′ is not known and 0."""
        return self.sum_of(slice(None))

    def sum_of(self, nodes: slice) -> NodeSum:
        """Of some of them together; Σr′ is not known and 0."""
        return NodeSum(self.rows(nodes), int(self.r[nodes].sum(dtype=np.uint64)), 0)

    def rows(self, nodes: slice) -> int:
        """Rows of some of them together, mod 2^64."""
        return int(self.counts[nodes].sum(dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class LeafSums:
    """The sums of all 2^bits nodes of one depth: three uint64 arrays of shape (2^bits,)."""

    bits: int
    counts: U64
    r: U64
    r2: U64

    @classmethod
    def zero(cls, bits: int) -> LeafSums:
        return cls(bits, *(np.zeros(1 << bits, np.uint64) for _ in range(3)))

    def plus(self, other: LeafSums) -> LeafSums:
        """Merge two partial sums of the same depth."""
        if self.bits != other.bits:
            raise InvariantBroken(f"sums of depth {self.bits} and {other.bits} cannot be added")
        return LeafSums(self.bits, self.counts + other.counts, self.r + other.r, self.r2 + other.r2)

    def fold(self, bits: int) -> LeafSums:
        """The sums of a higher level: every node is the sum of its children."""
        if not 0 <= bits <= self.bits:
            raise InvariantBroken(f"cannot fold depth {self.bits} to {bits}")
        shape = (1 << bits, -1)
        return LeafSums(bits, *(a.reshape(shape).sum(axis=1, dtype=np.uint64) for a in (self.counts, self.r, self.r2)))

    @property
    def root(self) -> NodeSum:
        top = self.fold(0)
        return NodeSum(int(top.counts[0]), int(top.r[0]), int(top.r2[0]))


def key_words(key_digests: U8) -> U64:
    """k of key digests of shape (n, 16): uint64 in native order, same order as the bytes."""
    return np.ascontiguousarray(key_digests[:, :8]).view(">u8").reshape(-1).astype(np.uint64)


def row_words(row_digests: U8) -> tuple[U64, U64]:
    """(r, r′) of row digests of shape (n, 16), each (n,) uint64."""
    words = np.ascontiguousarray(row_digests).view("<u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64), words[:, 1].astype(np.uint64)


def boundaries(bits: int) -> U64:
    """The first k of each node of a depth, without the end (2^64 does not fit): shape (2^bits,)."""
    return np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits) if bits else np.zeros(1, np.uint64)


def sums_between(values: U64, cuts: NDArray[np.int64]) -> U64:
    """Σ values[cuts[i]:cuts[i+1]] mod 2^64 for ascending cuts: shape (len(cuts) - 1,)."""
    total = np.zeros(len(values) + 1, np.uint64)
    np.cumsum(values, out=total[1:])
    at: U64 = total[cuts]
    return at[1:] - at[:-1]


def leaf_sums(k: U64, r: U64, r2: U64, bits: int) -> LeafSums:
    """Sums at depth ``bits`` of rows sorted by k."""
    cuts = np.append(np.searchsorted(k, boundaries(bits)), len(k)).astype(np.int64)
    return LeafSums(bits, np.diff(cuts).astype(np.uint64), sums_between(r, cuts), sums_between(r2, cuts))


def leaf_bits(rows: int, leaf_rows: int, bits_max: int) -> int:
    """The depth at which a leaf has about ``leaf_rows`` rows, between 0 and ``bits_max``."""
    leaves = max(1, -(-rows // leaf_rows))
    return min(bits_max, (leaves - 1).bit_length())
