"""Pairs of regions: which region is the reference, and what separates another one from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paritree.core.decode import Decoded, decode
from paritree.core.sketch import Probe, Sketch


def closest(probes: Mapping[str, Probe], rows: Mapping[str, int]) -> str:
    """The region with the smallest summed distance to the others, by their tug-of-war sums.

    Of equals the one with the fewest rows, of those the first.
    """
    names = list(probes)
    distance = dict.fromkeys(names, 0.0)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            apart = probes[one].minus(probes[other]).estimate
            distance[one] += apart
            distance[other] += apart
    return min(names, key=lambda name: (distance[name], rows[name]))


class Pair:
    """One region against the reference: all sketches of their difference so far, peeled jointly."""

    def __init__(self, region: Probe, reference: Probe) -> None:
        difference = region.minus(reference)
        self.estimate = difference.estimate
        self.at_most = difference.at_most
        self._sketches = [difference.sketch]
        self.decoded: Decoded = decode(self._sketches)

    def add(self, region: Sketch, reference: Sketch) -> None:
        """One more sketch of both."""
        self._sketches.insert(0, region.minus(reference))
        self.decoded = decode(self._sketches)

    @property
    def ks(self) -> Sequence[int]:
        """The keys that differ, as far as they were found."""
        return list(self.decoded.deltas)
