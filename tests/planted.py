"""Sweeps of regions of ten million rows of which only what differs is made: what is equal everywhere takes no part.

Sums, probes and sketches are linear, so rows that are the same in all regions vanish from every difference between two;
here their sums are 0, and only their number counts. The descent and its answers are the real ones. ``python
tests/planted.py SEED FEWEST MOST`` replays one sweep.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from paritree.core.descent import Answer, Ask, Descent
from paritree.core.fast.sketches import add_rows, probe_of
from paritree.core.leaves import U64
from paritree.core.messages import AskDetail, AskSketch, Header, Look, Ready
from paritree.core.sketch import empty_sketch

EQUAL_ROWS = 10_000_000
ANSWERED_MAX = 1_000
"""Differing keys of which the details are answered; of more it is enough that exactly they are asked for."""
HEADER = Header("d", b"p" * 16, 1, b"k" * 8, "s")
REGIONS = (2, 3, 5)
KINDS = {"updates": 0.0, "mixed": 0.4, "losses": 1.0}
"""Which part of the deviating rows is missing; the others have another digest."""
PLACES = ("one", "any", "own")
"""Where keys deviate: all in one region, each in any one, or in every region in its own way."""


class MoreRounds(Exception):
    """The descent goes on to lists: it takes more than three rounds."""


@dataclass(frozen=True, slots=True)
class Region:
    """The rows under the differing keys that one region has: k, r and r′, shape (n,)."""

    k: U64
    r: U64
    r2: U64

    def ready(self) -> Ready:
        root_r, root_r2 = (int(words.sum(dtype=np.uint64)) for words in (self.r, self.r2))
        probe = probe_of(self.k, self.r)
        return Ready(HEADER, "planted", EQUAL_ROWS + len(self.k), root_r, root_r2, probe, True, 0.0)

    def answer(self, ask: Ask) -> Answer:
        match ask:
            case AskSketch():
                sketch = empty_sketch(ask.cells, ask.salt)
                add_rows(sketch, self.k, self.r)
                return sketch
            case AskDetail():
                chosen = np.flatnonzero(np.isin(self.k, ask.ks)).tolist()
                return tuple(self._look(row, halves=ask.halves) for row in chosen)
            case _:
                raise MoreRounds

    def _look(self, row: int, *, halves: bool) -> Look:
        digest = b"" if halves else int(self.r[row]).to_bytes(8, "little")
        rows = (digest + int(self.r2[row]).to_bytes(8, "little"),)
        return Look(int(self.k[row]).to_bytes(8, "big") + bytes(8), rows, rows)


@dataclass(frozen=True, slots=True)
class World:
    """Regions that differ in exactly the keys ``ks`` (ascending)."""

    regions: Mapping[str, Region]
    ks: U64
    what: str

    @classmethod
    def of(cls, chance: np.random.Generator, differences: int) -> World:
        count = int(chance.choice(REGIONS))
        kind, place = str(chance.choice(list(KINDS))), str(chance.choice(PLACES))
        k, r, r2 = (chance.integers(0, 1 << 64, differences, np.uint64) for _ in range(3))
        where = {
            "one": np.full(differences, count - 1),
            "any": chance.integers(0, count, differences),
            "own": np.full(differences, -1),
        }[place]
        regions: dict[str, Region] = {}
        for i in range(count):
            deviates = (where == i) | ((where < 0) & (i > 0))
            gone = deviates & (chance.random(differences) < KINDS[kind])
            own, own2 = (chance.integers(0, 1 << 64, differences, np.uint64) for _ in range(2))
            mine, mine2 = np.where(deviates, own, r), np.where(deviates, own2, r2)
            regions[f"r{i}"] = Region(k[~gone], mine[~gone], mine2[~gone])
        return cls(regions, np.sort(k), f"{count} regions, {kind}, {place}")

    def rounds(self, salt: int) -> int:
        """Rounds of the descent, detail included. Raises MoreRounds, and AssertionError unless found is planted."""
        descent = Descent({name: region.ready() for name, region in self.regions.items()}, salt=salt)
        asks = descent.start()
        while asks:
            details = [ask for ask in asks.values() if isinstance(ask, AskDetail)]
            assert all(np.array_equal(ask.ks, self.ks) for ask in details), "found is not planted"
            if details and len(self.ks) > ANSWERED_MAX:
                return descent.rounds
            asks = descent.receive({name: self.regions[name].answer(ask) for name, ask in asks.items()})
        assert descent.outcome is not None
        assert not descent.outcome.broken
        assert descent.outcome.ks == tuple(self.ks.tolist()), "found is not planted"
        return descent.rounds


@dataclass(frozen=True, slots=True)
class Band:
    """Numbers of differing keys, drawn evenly by their logarithm, and the rounds that they may take."""

    fewest: int
    most: int
    rounds: int

    def __str__(self) -> str:
        return f"{self.fewest:,} to {self.most:,}" if self.most > self.fewest else f"{self.most:,}"

    def sweep(self, seed: int) -> tuple[str, int]:
        """One sweep: what it was, and its rounds; 99 where it went on to lists."""
        chance = np.random.default_rng([seed, self.most])
        low, high = np.log(max(self.fewest, 1)), np.log(self.most + 1)
        differences = min(int(np.exp(chance.uniform(low, high))), self.most) if self.most else 0
        world = World.of(chance, differences)
        try:
            return f"{world.what}, {differences:,} differing keys", world.rounds(seed)
        except MoreRounds:
            return f"{world.what}, {differences:,} differing keys", 99


BANDS = (Band(0, 0, 1), Band(1, 200, 2), Band(201, 20_000, 3))


if __name__ == "__main__":
    first, fewest, most = (int(word.replace(",", "")) for word in sys.argv[1:])
    print(*Band(fewest, most, 0).sweep(first))
