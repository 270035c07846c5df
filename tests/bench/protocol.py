"""Bytes and rounds of a whole comparison, as counted on the stream, from no difference to 1 % of the rows.

    python tests/bench/protocol.py [--rows 1000000] [--regions 2]

The regions' indexes are made of random digests (no source, no scan); agents' answers, codec, ledger, descent and
details are the real ones. 60 % of the differing rows are changed, 40 % are missing in one region. ``details`` is shown
apart: so many bytes for each differing key, columns excluded, whatever found the key.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path[:0] = [str(Path(__file__).parent)]

from measure import machine, table

from coordinator.asking import Exchanges
from coordinator.course import Course, Surroundings
from coordinator.exchanges import chunks, gather, nodes_answer
from coordinator.viewing import View
from edge_agent.index.index import Index
from edge_agent.index.run import Run, RunRows, write_run
from edge_agent.parts import list_parts, node_parts, sketch_parts
from edge_agent.sketching import probe_of
from edge_agent.telling import detail_parts
from paritree.core.descent import Answer, Ask, Descent
from paritree.core.fast.sort import sort_run
from paritree.core.leaves import LeafSums, key_words, leaf_sums, row_words
from paritree.core.messages import (
    AskChildren,
    AskDetail,
    AskLists,
    AskSketch,
    Begin,
    ByteClass,
    DatasetOffer,
    Header,
    Hello,
    Look,
    Ready,
    ReplyBody,
    Request,
)
from paritree.core.shown import Row, Telling, names_of
from paritree.core.sketch import empty_probe
from paritree.wire.loopback import LoopbackLink

U8 = np.ndarray[Any, np.dtype[np.uint8]]
SHARD_ROWS = 1_000_000
SWEEP = "bench"


class SyntheticAgent:
    """An agent whose index was made of digests."""

    def __init__(self, region: str, keys: U8, rows: U8, spool: Path) -> None:
        self._hello = Hello(region, "a1", "i1", (DatasetOffer("bench", b"p" * 16, 1, b"k" * 8),))
        self.header = Header("bench", b"p" * 16, 1, b"k" * 8, SWEEP, "synthetic")
        spool.mkdir()
        sums, probe, runs = LeafSums.zero(12), empty_probe(), []
        for number, first in enumerate(range(0, max(1, len(keys)), SHARD_ROWS)):
            locators = pa.array([b""] * len(keys[first : first + SHARD_ROWS]), pa.large_binary())
            sorted_rows = RunRows(
                *sort_run(keys[first : first + SHARD_ROWS], rows[first : first + SHARD_ROWS], locators)
            )
            k, (r, r2) = key_words(sorted_rows.key_digests), row_words(sorted_rows.row_digests)
            sums, probe = sums.plus(leaf_sums(k, r, r2, 12)), probe.plus(probe_of(k, r, "compiled"))
            write_run(spool / f"{number}.run", sorted_rows)
            runs.append(Run(spool / f"{number}.run"))
        self.index = Index(runs, sums, probe)

    def hello(self) -> Hello:
        return self._hello

    async def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        match request.body:
            case Begin():
                root = self.index.sums.root
                yield Ready(self.header, "synthetic", root.count, root.r, root.r2, self.index.probe, True, 0.0)
            case AskChildren() as ask:
                for part in node_parts(self.header, self.index, ask):
                    yield part
            case AskSketch() as ask:
                for part in sketch_parts(self.header, self.index, ask):
                    yield part
            case AskLists() as ask:
                for part in list_parts(self.header, self.index, ask):
                    yield part
            case AskDetail() as ask:
                looks = {look.key_digest: look for look in self._looks(ask)}
                for part in detail_parts(self.header, Telling(names_of(ask), looks, halves=ask.halves)):
                    yield part

    def _looks(self, ask: AskDetail) -> list[Look]:
        return [
            Look(entry.key_digest, (entry.row_digest,), (entry.row_digest,))
            for entry in self.index.find(ask.ks.tolist())
        ]


def planted(rows: int, regions: int, differences: int, seed: int) -> tuple[dict[str, tuple[U8, U8]], set[int]]:
    """Key and row digests of every region, and the k that differ."""
    chance = np.random.default_rng(seed)
    keys, digests = (chance.integers(0, 256, (rows, 16), np.uint8) for _ in range(2))
    at = chance.choice(rows, differences, replace=False)
    deviating = chance.integers(1, regions, differences)
    changed = chance.random(differences) < 0.6
    tables = {"r0": (keys, digests)}
    for region in range(1, regions):
        mine = digests.copy()
        edits = at[(deviating == region) & changed]
        mine[edits] = chance.integers(0, 256, (len(edits), 16), np.uint8)
        kept = np.ones(rows, bool)
        kept[at[(deviating == region) & ~changed]] = False
        tables[f"r{region}"] = (keys[kept], mine[kept])
    return tables, set(key_words(keys[at]).tolist())


async def compare(links: dict[str, LoopbackLink]) -> tuple[Descent, float]:
    """The descent of a sweep over the links; wall seconds without the start."""

    async def pause(_: float) -> None:
        return None

    exchanges = Exchanges(links, SWEEP, 60.0, Course.plain(Surroundings(sleep=pause, jitter=lambda: 0.0)))
    begin = Begin("bench", b"p" * 16, 1)
    ready: dict[str, Ready] = {}
    for name in links:
        [part] = await exchanges.parts(name, begin, lambda _: None)
        assert isinstance(part, Ready)
        ready[name] = part

    async def one(name: str, ask: Ask) -> Answer:
        if isinstance(ask, AskDetail):
            return tuple(await View(Row()).first(lambda body: exchanges.parts(name, body, lambda _: None), ask))
        parts: list[ReplyBody] = []
        for chunk in chunks(ask):
            parts += await exchanges.parts(name, chunk, lambda _: None)
        return nodes_answer(name, ask, parts)

    began = time.perf_counter()
    descent = Descent(ready, salt=7)
    asks = descent.start()
    while asks:
        asks = descent.receive(await gather({name: one(name, ask) for name, ask in asks.items()}))
    return descent, time.perf_counter() - began


def bench(rows: int, regions: int, differences: int) -> list[str]:
    tables, truth = planted(rows, regions, differences, differences + 1)
    with tempfile.TemporaryDirectory() as spool:
        agents = {name: SyntheticAgent(name, *made, Path(spool) / name) for name, made in tables.items()}
        links = {name: LoopbackLink(agent) for name, agent in agents.items()}
        descent, wall = asyncio.run(compare(links))
    assert descent.outcome is not None
    assert not descent.outcome.broken
    assert set(descent.outcome.ks) == truth, "found is not planted"
    tallies = [link.ledger.of(SWEEP) for link in links.values()]
    worst = max(tallies, key=lambda tally: tally.bytes_sent + tally.bytes_received)
    details = worst.by_class[ByteClass.DETAILS]
    search = worst.bytes_sent + worst.bytes_received - details
    return [
        f"{differences:,}",
        str(descent.rounds),
        ", ".join(descent.forms) or "probe",
        f"{search:,}",
        f"{details:,}",
        f"{search + details:,}",
        f"{24 * rows:,}",
        f"{wall:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--regions", type=int, default=2)
    parser.add_argument("--differences", default="0,1,10,100,1000,10000,1%")
    arguments = parser.parse_args()
    chosen = [
        int(arguments.rows * float(word[:-1]) / 100) if word.endswith("%") else int(word)
        for word in arguments.differences.split(",")
    ]
    print(f"{arguments.rows:,} rows, {arguments.regions} regions, bytes of the region with most. {machine()}\n")
    head = ["d", "rounds", "forms", "search bytes", "detail bytes", "together", "all rows listed", "seconds"]
    print(
        table(head, [bench(arguments.rows, arguments.regions, d) for d in dict.fromkeys(chosen) if d <= arguments.rows])
    )


if __name__ == "__main__":
    main()
