"""Token ranges: the ring cut into shards that tile it, each range with the replicas that hold it.

Tokens are int64 and ranges half-open, ``(start, end]``. The ring wraps: the range behind the last token goes on at the
lowest one, so it is cut in two here::

    -2^63 ... t1 ... t2 ... tn ... 2^63-1
         (    ](    ](  ...  ](       ]        owner of the first and of the last piece: the node at t1

No key has the token -2^63 (the partitioner gives 2^63-1 instead), though a node may. CQL reads an upper bound of -2^63
as "no bound", and a range with start >= end as empty: neither is ever asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from edge_agent.connectors.contract import Shard

TOKEN_MIN: Final = -(1 << 63)
TOKEN_MAX: Final = (1 << 63) - 1
RING: Final = 1 << 64
ROUTED_ROWS_MIN: Final = 10_000
"""Ranges of fewer rows are read together with their neighbours: two pages are not worth a query of their own."""
SHARDS_MAX: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class TokenRange:
    """``(start, end]`` and the host ids of its replicas; no hosts where several replica sets share it."""

    start: int
    end: int
    hosts: tuple[str, ...] = ()

    @property
    def fraction(self) -> float:
        """Its part of the ring."""
        return (self.end - self.start) / RING


def tile(tokens: Iterable[int], owners: Callable[[int], tuple[str, ...]]) -> list[TokenRange]:
    """The ring cut at every token; ``owners`` gives the replicas of a token. Covers each token but -2^63 once."""
    inner = sorted({token for token in tokens if TOKEN_MIN < token < TOKEN_MAX})
    return [TokenRange(a, b, owners(b)) for a, b in itertools.pairwise([TOKEN_MIN, *inner, TOKEN_MAX])]


def merged(ranges: Sequence[TokenRange], rows: int) -> list[TokenRange]:
    """Neighbours joined where they have the same replicas or too few rows to be read apart."""
    out: list[TokenRange] = []
    for each in ranges:
        if out and (out[-1].hosts == each.hosts or out[-1].fraction * rows < ROUTED_ROWS_MIN):
            last = out.pop()
            out.append(TokenRange(last.start, each.end, each.hosts if last.hosts == each.hosts else ()))
        else:
            out.append(each)
    return out


def split(each: TokenRange, pieces: int) -> list[TokenRange]:
    """The range in so many parts of equal width (fewer where it has fewer tokens)."""
    width = each.end - each.start
    pieces = max(1, min(pieces, width))
    edges = [each.start + width * i // pieces for i in range(pieces + 1)]
    return [replace(each, start=a, end=b) for a, b in itertools.pairwise(edges)]


def cut(ranges: Sequence[TokenRange], rows: int, shard_rows: int) -> tuple[Shard, ...]:
    """Shards of about ``shard_rows`` rows; a hash spreads partitions evenly, so rows go with the ring's width."""
    shard_rows = max(1, shard_rows, rows // SHARDS_MAX)
    pieces: list[TokenRange] = []
    for each in merged(ranges, rows):
        pieces += split(each, round(each.fraction * rows / shard_rows))
    # Ranges of one replica set side by side, so that a shard mostly reads from one set.
    pieces.sort(key=lambda piece: (piece.hosts, piece.start))
    groups: list[list[TokenRange]] = []
    filled = 0.0
    for piece in pieces:
        size = piece.fraction * rows
        if not groups or filled + size > shard_rows * 1.25:
            groups.append([])
            filled = 0.0
        groups[-1].append(piece)
        filled += size
    return tuple(_shard(number, group, rows) for number, group in enumerate(groups))


def _shard(number: int, group: Sequence[TokenRange], rows: int) -> Shard:
    # Replicas take turns at coming first, so that shards that run at once do not all ask the same host.
    ranges = [
        [each.start, each.end, [*each.hosts[number % len(each.hosts) :], *each.hosts[: number % len(each.hosts)]]]
        if each.hosts
        else [each.start, each.end, []]
        for each in group
    ]
    first = group[0]
    label = f"tokens ({first.start}, {first.end}]" + (f" and {len(group) - 1} more ranges" if len(group) > 1 else "")
    estimate = round(sum(each.fraction for each in group) * rows)
    return Shard(number, label, {"ranges": ranges}, estimate)


def ranges_of(shard: Shard) -> list[TokenRange]:
    """The token ranges of a shard made by :func:`cut`."""
    listed: Any = shard.range["ranges"]
    return [TokenRange(int(start), int(end), tuple(hosts)) for start, end, hosts in listed]
