"""Partition keys with a token of our choice: Cassandra's Murmur3 of one 16-byte block can be computed backwards.

The token is the first half of MurmurHash3_x64_128 (seed 0); the second half is free, so each token has 2^64 keys.
"""

from __future__ import annotations

import struct

_MASK = (1 << 64) - 1
_C1, _C2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
_F1, _F2 = 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53
LENGTH = 16


def key_of(token: int, salt: int = 0) -> bytes:
    """16 bytes whose Murmur3 value is ``token``; another ``salt`` gives another key of the same token."""
    h1, h2 = token & _MASK, salt & _MASK
    # Undo the end: h1 += h2; h2 += h1; both mixed; h1 += h2; h2 += h1; both xor length.
    h2 = (h2 - h1) & _MASK
    h1 = (h1 - h2) & _MASK
    h1, h2 = _unmix(h1), _unmix(h2)
    h2 = (h2 - h1) & _MASK
    h1 = (h1 - h2) & _MASK
    h1, h2 = h1 ^ LENGTH, h2 ^ LENGTH
    # Undo the block: h2 first, since it was made with the finished h1.
    h2 = ((h2 - 0x38495AB5) * pow(5, -1, 1 << 64)) & _MASK
    h2 = _rotate((h2 - h1) & _MASK, 64 - 31)
    k2 = (_rotate((h2 * pow(_C1, -1, 1 << 64)) & _MASK, 64 - 33) * pow(_C2, -1, 1 << 64)) & _MASK
    h1 = ((h1 - 0x52DCE729) * pow(5, -1, 1 << 64)) & _MASK
    h1 = _rotate(h1, 64 - 27)
    k1 = (_rotate((h1 * pow(_C2, -1, 1 << 64)) & _MASK, 64 - 31) * pow(_C1, -1, 1 << 64)) & _MASK
    return struct.pack("<QQ", k1, k2)


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _unmix(value: int) -> int:
    value ^= value >> 33
    value = (value * pow(_F2, -1, 1 << 64)) & _MASK
    value ^= value >> 33
    value = (value * pow(_F1, -1, 1 << 64)) & _MASK
    return value ^ (value >> 33)
