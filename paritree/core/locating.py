"""Which one of many columns differs, from two sums of their digests: D₀ = Σ cᵢ and D₁ = Σ (i + 1) cᵢ mod 2^(8 width).

Where two rows differ in column i alone, D₁′ − D₁ is (i + 1) times D₀′ − D₀, and no other place fits unless the
difference is a multiple of a high power of two. Where no place or several fit, the columns are asked for one by one.
Rows that differ in several columns and seem to differ in one: once in 2^(8 width) a place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

LOCATED_BYTES: Final = 17
"""Length to which two sums are filled up, so that they are never taken for a digest or for one sum."""
_HALF: Final = 8

Columns = tuple[bytes, ...]


def weighted(digests: Sequence[bytes], places: Sequence[int]) -> bytes:
    """Σ (place + 1) × digest mod 2^64 of the digests at those places, as little-endian words."""
    total = sum((place + 1) * int.from_bytes(digests[place], "little") for place in places)
    return (total & ((1 << 64) - 1)).to_bytes(8, "little")


def located(sums: Sequence[bytes]) -> bytes:
    """Both sums (of equal width, at most 8 bytes) as they stand in each of their columns."""
    return b"".join(one.ljust(_HALF, b"\0") for one in sums) + bytes([len(sums[0])])


def resolved(columns: Mapping[str, Columns]) -> dict[str, Columns] | None:
    """The column digests by region with something equal where columns are equal, and different where they differ.

    None where there is nothing to be located, or where it cannot be said of every region in which column it differs
    from the first one.
    """
    regions = list(columns)
    if len(regions) < 2 or len({len(digests) for digests in columns.values()}) != 1:
        return None
    reference = columns[regions[0]]
    places = [i for i, digest in enumerate(reference) if len(digest) == LOCATED_BYTES]
    out: dict[str, Columns] = {}
    for region in regions:
        told = columns[region]
        if not places or [i for i, digest in enumerate(told) if len(digest) == LOCATED_BYTES] != places:
            return None
        hits = _differing(told[places[0]], reference[places[0]], places)
        if hits is None:
            return None
        values = list(told)
        for place in places:
            values[place] = told[place][:_HALF] if place in hits else reference[place][:_HALF]
        out[region] = tuple(values)
    return out


def _differing(told: bytes, reference: bytes, places: Sequence[int]) -> list[int] | None:
    """The one place that differs, or none; None where that cannot be said."""
    modulus = 1 << 8 * told[-1]
    first, second = (
        (int.from_bytes(told[at : at + _HALF], "little") - int.from_bytes(reference[at : at + _HALF], "little"))
        % modulus
        for at in (0, _HALF)
    )
    if not first and not second:
        return []
    hits = [place for place in places if (place + 1) * first % modulus == second]
    return hits if first and len(hits) == 1 and told[-1] == reference[-1] else None
