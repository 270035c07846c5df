"""BLAKE2b (RFC 7693) as far as keyed digests need it: constants, and the state after the key block.

A keyed digest hashes the key, padded to a block of 128 bytes, before the message. The state after that block is the
same for every message, so it is computed once a key and each digest saves one block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK_BYTES = 128
IV = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_PERMUTATIONS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
SIGMA = (*_PERMUTATIONS, *_PERMUTATIONS[:2])
"""Order of the message words in each of the twelve rounds."""
_MASK = (1 << 64) - 1


def key_state(key: bytes, digest_bytes: int) -> NDArray[np.uint64]:
    """The state words, (8,), after the block of a key of 1 to 64 bytes, for digests of 1 to 64 bytes.

    It serves every message but the empty one, whose last block the key block would be.
    """
    words = list(IV)
    words[0] ^= 0x01010000 ^ len(key) << 8 ^ digest_bytes
    return np.array(compressed(words, key.ljust(BLOCK_BYTES, b"\0"), BLOCK_BYTES, last=False), np.uint64)


def compressed(state: list[int], block: bytes, counter: int, *, last: bool) -> list[int]:
    """The eight state words after one block of 128 bytes (RFC 7693, 3.2), in plain Python."""
    message = [int.from_bytes(block[i : i + 8], "little") for i in range(0, BLOCK_BYTES, 8)]
    v = [*state, *IV]
    v[12] ^= counter & _MASK
    v[13] ^= counter >> 64
    v[14] ^= _MASK if last else 0
    for order in SIGMA:
        for i in range(4):
            _mix(v, i, 4 + i, 8 + i, 12 + i, message[order[2 * i]], message[order[2 * i + 1]])
        for i in range(4):
            a, b, c, d = i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4
            _mix(v, a, b, c, d, message[order[8 + 2 * i]], message[order[9 + 2 * i]])
    return [state[i] ^ v[i] ^ v[i + 8] for i in range(8)]


def _mix(v: list[int], a: int, b: int, c: int, d: int, x: int, y: int) -> None:
    v[a] = v[a] + v[b] + x & _MASK
    v[d] = _rotated(v[d] ^ v[a], 32)
    v[c] = v[c] + v[d] & _MASK
    v[b] = _rotated(v[b] ^ v[c], 24)
    v[a] = v[a] + v[b] + y & _MASK
    v[d] = _rotated(v[d] ^ v[a], 16)
    v[c] = v[c] + v[d] & _MASK
    v[b] = _rotated(v[b] ^ v[c], 63)


def _rotated(word: int, bits: int) -> int:
    return (word >> bits | word << (64 - bits)) & _MASK
