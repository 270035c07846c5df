"""The row digests under one key, when a row occurs many times: tables without a key can hold millions of copies.

Digests are a sorted tuple, each as often as its row occurs. Of one that occurs more than LISTED_MAX times, the first is
listed and the others are *folded* into one entry of 24 bytes behind it: the digest and how many more there are (u64,
little-endian). So equal multisets are equal tuples, and one entry is one row.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

DIGEST_BYTES: Final = 16
FOLDED_BYTES: Final = 24
LISTED_MAX: Final = 16
"""Copies that are listed one by one: more than duplicates by mistake have."""


def folded(digests: Iterable[bytes] | Mapping[bytes, int]) -> tuple[bytes, ...]:
    """Digests of 16 bytes in any order, or how often each occurs, as they are told."""
    out: list[bytes] = []
    for digest, count in sorted(Counter(digests).items()):
        out += [digest, digest + (count - 1).to_bytes(8, "little")] if count > LISTED_MAX else [digest] * count
    return tuple(out)


def counted(digests: Sequence[bytes]) -> Iterator[tuple[bytes, int]]:
    """Each entry's digest and how many rows it stands for."""
    for digest in digests:
        if len(digest) == FOLDED_BYTES:
            yield digest[:DIGEST_BYTES], int.from_bytes(digest[DIGEST_BYTES:], "little")
        else:
            yield digest, 1


def rows_in(digests: Sequence[bytes]) -> int:
    """How many rows they stand for."""
    return sum(count for _, count in counted(digests))


def problem(digests: Sequence[bytes]) -> str:
    """What is wrong with told digests, or "": other lengths, another order, or folded otherwise than :func:`folded`."""
    if any(len(digest) not in (DIGEST_BYTES, FOLDED_BYTES) for digest in digests):
        return f"is not of {DIGEST_BYTES} bytes each"
    if any(later < earlier for earlier, later in itertools.pairwise(digests)):
        return "is not sorted"
    listed = Counter(digest[:DIGEST_BYTES] for digest in digests)
    for digest, more in counted([digest for digest in digests if len(digest) == FOLDED_BYTES]):
        if listed[digest] != 2 or more < LISTED_MAX:
            return "has copies that are not folded as they have to be"
    if any(count > LISTED_MAX for count in listed.values()):
        return "has copies that are not folded as they have to be"
    return ""
