"""Regions that are plain lists of rows, the real descent over them, the truth by brute force, and the bytes it cost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from paritree.core import sketch
from paritree.core.descent import Answer, Ask, Descent, Outcome
from paritree.core.leaves import NodeSums, leaf_sums
from paritree.core.limits import BULK_BYTES_MAX
from paritree.core.listing import RowList
from paritree.core.messages import AskChildren, AskDetail, AskLists, AskSketch, Header, Look, Ready

Rows = list[tuple[int, int, int]]
Versions = dict[int, dict[str, list[int]]]
"""k -> region -> r′ of its rows, sorted: r is not always told."""
HEADER = Header("d", b"p" * 16, 1, b"k" * 8, "s")
FRAME_BYTES = 300
"""More than header, sweep id, tags and gRPC prefix of one message take."""


class Region:
    """Answers like an agent, from rows in memory."""

    def __init__(self, rows: Rows) -> None:
        self.rows = sorted(rows)
        self.k, self.r, self.r2 = (np.array([row[i] for row in self.rows], np.uint64) for i in range(3))

    def ready(self) -> Ready:
        root = leaf_sums(self.k, self.r, self.r2, 0).root
        return Ready(HEADER, "memory", root.count, root.r, root.r2, sketch.probe_of(self.k, self.r), True, 0.0)

    def answer(self, ask: Ask) -> Answer:
        match ask:
            case AskChildren():
                sums = leaf_sums(self.k, self.r, self.r2, ask.to_bits)
                r, counts = (
                    words.reshape(1 << ask.bits, -1)[ask.prefixes.astype(np.int64)].reshape(-1)
                    for words in (sums.r, sums.counts)
                )
                return NodeSums(counts, r) if ask.counts else r
            case AskSketch():
                chosen = self._below(ask.bits, ask.prefixes)
                return sketch.sketch_of(self.k[chosen], self.r[chosen], ask.cells, ask.salt)
            case AskLists():
                chosen = self._below(ask.bits, ask.prefixes)
                return RowList(self.k[chosen], self.r[chosen], self.r2[chosen])
            case AskDetail():
                return self.looks(ask)

    def _below(self, bits: int, prefixes: np.ndarray) -> np.ndarray:
        node = self.k >> np.uint64(64 - bits) if bits else np.zeros_like(self.k)
        return np.isin(node, prefixes)

    def looks(self, ask: AskDetail) -> tuple[Look, ...]:
        found: dict[int, list[bytes]] = {}
        for row in np.flatnonzero(np.isin(self.k, ask.ks)).tolist():
            k, r, r2 = self.rows[row]
            found.setdefault(k, []).append(r.to_bytes(8, "little") + r2.to_bytes(8, "little"))
        return tuple(_look(k, digests, halves=ask.halves) for k, digests in found.items())


def _look(k: int, digests: list[bytes], *, halves: bool) -> Look:
    """Without r where the request allows it, and there is one row."""
    rows = (digests[0][8:],) if halves and len(digests) == 1 else tuple(sorted(digests))
    return Look(k.to_bytes(8, "big") + bytes(8), rows, rows)


@dataclass
class Cost:
    """Bytes a region, both ways, of everything but the details; an over-estimate of the stream's own."""

    bytes: Counter[str] = field(default_factory=Counter)

    def exchange(self, region: str, asked: int, answered: int) -> None:
        parts = 1 + answered // BULK_BYTES_MAX
        self.bytes[region] += asked + answered + FRAME_BYTES * (1 + parts)


Tamper = Callable[[str, Ask, Answer], Answer]


def untouched(name: str, ask: Ask, answer: Answer) -> Answer:
    return answer


def run(regions: dict[str, Region], tamper: Tamper = untouched, salt: int = 1) -> tuple[Outcome, Descent, Cost]:
    ready = {name: region.ready() for name, region in regions.items()}
    cost = Cost()
    for name in regions:
        cost.exchange(name, 0, sketch.TABLES * sketch.PROBE_CELLS * sketch.PROBE_CELL_BYTES)
    descent = Descent(ready, salt=salt)
    asks = descent.start()
    while asks:
        answers = {name: tamper(name, ask, regions[name].answer(ask)) for name, ask in asks.items()}
        for name, ask in asks.items():
            if isinstance(answers[name], RowList | sketch.Sketch | np.ndarray):
                cost.exchange(name, 8 * len(ask.prefixes), _answer_bytes(ask, answers[name]))
        asks = descent.receive(answers)
    assert descent.outcome is not None
    return descent.outcome, descent, cost


def _answer_bytes(ask: Ask, answer: Answer) -> int:
    if isinstance(answer, RowList):
        return 24 * len(answer.k) + 4 * len(ask.prefixes)
    if isinstance(answer, sketch.Sketch):
        return answer.sums.nbytes
    return answer.nbytes


def expected(tables: dict[str, Rows]) -> Versions:
    """The truth by brute force: every k whose rows are not the same multiset everywhere."""
    by_k: dict[int, dict[str, Counter]] = {}
    for name, rows in tables.items():
        for k, r, r2 in rows:
            by_k.setdefault(k, {n: Counter() for n in tables})[name][(r, r2)] += 1
    return {
        k: {n: sorted(r2 for _, r2 in c.elements()) for n, c in versions.items() if c}
        for k, versions in by_k.items()
        if any(c != next(iter(versions.values())) for c in versions.values())
    }


def found(outcome: Outcome) -> Versions:
    """What the descent found, in the same form; a k is found when it is named, whoever shows rows under it."""
    versions: Versions = {k: {} for k in outcome.ks}
    for name, looks in outcome.looks.items():
        for look in looks:
            rows = [int.from_bytes(digest[-8:], "little") for digest in look.indexed]
            versions[int.from_bytes(look.key_digest[:8], "big")][name] = sorted(rows)
    return versions


def make_tables(rng: random.Random, regions: int, rows: int, changes: int) -> dict[str, Rows]:
    """Tables that differ in ``changes`` ways: added, lost, changed and doubled rows."""
    base = [(rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)) for _ in range(rows)]
    tables = {f"r{i}": list(base) for i in range(regions)}
    for _ in range(changes):
        table = tables[rng.choice(list(tables))]
        what = rng.randrange(4)
        at = rng.randrange(len(table)) if table else None
        if what == 0 or at is None:
            table.append((rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)))
        elif what == 1:
            table[at] = table[-1]
            table.pop()
        elif what == 2:
            table[at] = (table[at][0], rng.getrandbits(64), rng.getrandbits(64))
        else:
            table.append(table[at])
    return tables


def bytes_allowed(tables: dict[str, Rows]) -> int:
    """2 × 24 bytes × rows + 16 KiB a region, by the largest region's rows."""
    return 2 * 24 * max(len(rows) for rows in tables.values()) + 16_384


def check(tables: dict[str, Rows], salt: int = 1, rounds_max: int = 3) -> Descent:
    """Found = planted, within the bytes and the rounds; the one check that every mutant has to fail somewhere."""
    outcome, descent, cost = run({name: Region(rows) for name, rows in tables.items()}, salt=salt)
    assert not outcome.broken
    assert found(outcome) == expected(tables)
    assert max(cost.bytes.values()) <= bytes_allowed(tables)
    assert descent.rounds <= rounds_max
    return descent


def check_seed(seed: int) -> None:
    """A small world that the seed decides: 2, 3 or 5 regions, from no difference to all of them."""
    rng = random.Random(seed)
    rows = rng.choice([0, 1, 5, 40, 300, 1200])
    changes = rng.choice([0, 1, 7, rows // 20, rows // 3, rows, 2 * rows])
    check(make_tables(rng, rng.choice([2, 3, 5]), rows, changes), salt=seed)


if __name__ == "__main__":
    import sys

    check_seed(int(sys.argv[1]))
