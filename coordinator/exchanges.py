"""Questions and answers of a sweep: cut into requests, put together from parts, naming the region that failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np

from coordinator.asking import Exchanges, RegionLost
from paritree.core import limits
from paritree.core.descent import Answer, Ask
from paritree.core.header import Comparable
from paritree.core.leaves import NodeSums
from paritree.core.listing import RowList
from paritree.core.messages import (
    AskChildren,
    AskDetail,
    AskSketch,
    Begin,
    Children,
    Header,
    Lists,
    Progress,
    Ready,
    ReplyBody,
    Sketched,
)
from paritree.core.sketch import TABLES, WORDS, Sketch

T = TypeVar("T")

_KEY_BYTES: Final = 64
"""A key digest, named twice where the key is sealed, with the tags and lengths around it."""
_SEALED_BYTES_MAX: Final = limits.PART_BYTES_MAX // 2
"""A longer sealed key is left out: with its digests it would fill a message alone."""


async def gather(work: Mapping[str, Coroutine[Any, Any, T]]) -> dict[str, T]:
    """Run one coroutine a region to its end; then raise anything that was raised, a RegionLost last."""
    results = await asyncio.gather(*work.values(), return_exceptions=True)
    raised = [result for result in results if isinstance(result, BaseException)]
    for error in sorted(raised, key=lambda error: isinstance(error, RegionLost)):
        raise error
    return dict(zip(work, results, strict=True))  # type: ignore[arg-type]


def check_headers(region: str, parts: Sequence[ReplyBody], expected: Header) -> None:
    """Every part belongs to this sweep and to the state that Ready announced. Raises RegionLost."""
    for part in parts:
        header = getattr(part, "header", None)
        if header is not None and header != expected:
            raise RegionLost(region, "its answer is about another state than the one it announced")


def ready_of(region: str, parts: Sequence[ReplyBody], begin: Begin, sweep_id: str) -> Ready:
    """The answer to a Begin. Raises RegionLost where it is none, or is about another index than was asked for."""
    ready = parts[-1]
    if not isinstance(ready, Ready) or len(parts) != 1:
        raise RegionLost(region, "its answer is not the index that was asked for")
    header = ready.header
    if header.sweep_id != sweep_id or header.dataset != begin.dataset:
        raise RegionLost(region, "its answer belongs to another sweep")
    if (header.scope, header.bucket) != (begin.scope, begin.bucket):
        raise RegionLost(region, "its answer is about another part of the dataset than was asked for")
    return ready


def not_alike(headers: Mapping[str, Header], profile_id: bytes) -> dict[str, str]:
    """The regions that are not compared, with the reason: those without the header that most have.

    A header with the coordinator's own profile comes first. Where all differ, none is more right than another.
    """
    groups = Counter(header.comparable for header in headers.values())
    if len(groups) < 2:
        return {}
    most, regions = max(groups.items(), key=lambda item: (item[0][1] == profile_id, item[1]))
    chosen = most if regions >= limits.REGIONS_MIN else None
    others = {name: header.comparable for name, header in headers.items() if header.comparable != chosen}
    return {name: _difference(mine, chosen) for name, mine in others.items()}


def _difference(mine: Comparable, chosen: Comparable | None) -> str:
    if chosen is None:
        return "no two regions have the same profile, canonical version, key and scope"
    names = ("dataset", "profile", "canonical version", "dataset key", "scope", "definition of the scope", "bucket")
    differing = [name for name, a, b in zip(names, mine, chosen, strict=True) if a != b]
    return f"its {' and '.join(differing)} differs from the other regions'"


async def nodes(
    exchanges: Exchanges, region: str, ask: Ask, header: Header, on_progress: Callable[[Progress], None]
) -> Answer:
    """One region's answer about nodes, asked in requests of bounded size. Raises RegionLost."""
    parts: list[ReplyBody] = []
    rows = 0
    for chunk in chunks(ask):
        answer = await exchanges.parts(region, chunk, on_progress)
        check_headers(region, answer, header)
        rows += sum(len(part.k) for part in answer if isinstance(part, Lists))
        if rows > limits.LISTED_ROWS_MAX:
            raise RegionLost(region, "it lists more rows than can be compared")
        parts += answer
    return nodes_answer(region, ask, parts)


def nodes_answer(region: str, ask: Ask, parts: Sequence[ReplyBody]) -> Answer:
    """The parts of a node answer as one. Raises RegionLost for parts of another kind or a wrong amount."""
    if isinstance(ask, AskChildren):
        children = [part for part in parts if isinstance(part, Children)]
        expected = len(ask.prefixes) << (ask.to_bits - ask.bits)
        sums = np.concatenate([np.zeros(0, np.uint64), *(part.sums for part in children)])
        counts = np.concatenate([np.zeros(0, np.uint64), *(part.counts for part in children)])
        if len(children) != len(parts) or (len(sums), len(counts)) != (expected, expected * ask.counts):
            raise RegionLost(region, f"its answer does not have the {expected} sums that were asked for")
        return NodeSums(counts, sums) if ask.counts else sums
    if isinstance(ask, AskSketch):
        words = [part.sums for part in parts if isinstance(part, Sketched)]
        shape = (TABLES, ask.cells, WORDS)
        if len(words) != len(parts) or sum(map(len, words)) != int(np.prod(shape)):
            raise RegionLost(region, f"its answer is not the sketch of {ask.cells} cells that was asked for")
        return Sketch(ask.salt, np.concatenate(words).reshape(shape))
    lists = [part for part in parts if isinstance(part, Lists)]
    if len(lists) != len(parts):
        raise RegionLost(region, "its answer is not the lists that were asked for")
    return RowList(*(np.concatenate([getattr(part, name) for part in lists]) for name in ("k", "r", "r2")))


def chunks(ask: Ask) -> Sequence[Ask]:
    """The same question in requests of bounded size, one after the other; their answers are concatenated."""
    if isinstance(ask, AskDetail):
        return detail_chunks(ask)
    if isinstance(ask, AskSketch):
        return [ask]
    step = limits.NODES_A_REQUEST_MAX
    return [replace(ask, prefixes=ask.prefixes[i : i + step]) for i in range(0, max(1, len(ask.prefixes)), step)]


def detail_chunks(ask: AskDetail) -> list[AskDetail]:
    """The same looks in requests of at most limits.KEYS_A_DETAIL_MAX keys that fit into a message.

    A k goes with its key digests. A sealed key that fits into no message is left out: the region searches for it.
    """
    asked = set(ask.ks.tolist())
    by_k: dict[int, list[bytes]] = {k: [] for k in asked}
    for digest in ask.key_digests:
        by_k.setdefault(int.from_bytes(digest[:8], "big"), []).append(digest)
    sealed = {digest: text for digest, text in ask.sealed.items() if len(text) <= _SEALED_BYTES_MAX}
    groups: list[list[int]] = [[]]
    size = 0
    for k in sorted(by_k):
        k_bytes = 8 + sum(_KEY_BYTES + len(sealed.get(digest, b"")) for digest in by_k[k])
        if groups[-1] and (len(groups[-1]) >= limits.KEYS_A_DETAIL_MAX or size + k_bytes > limits.PART_BYTES_MAX):
            groups.append([])
            size = 0
        groups[-1].append(k)
        size += k_bytes
    out: list[AskDetail] = []
    for ks in groups:
        digests = tuple(digest for k in ks for digest in by_k[k])
        some = {digest: sealed[digest] for digest in digests if digest in sealed}
        under = np.array([k for k in ks if k in asked], np.uint64)
        out.append(replace(ask, ks=under, key_digests=digests, sealed=some))
    return out
