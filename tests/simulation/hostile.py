"""A region that lies: its service says something else than the truth, by chance and in ways that the seed chooses.

What it says is well formed as far as the codec goes (``garbled`` bytes are not). Lies about its own rows that are
consistent with each other are no lies to anybody else, so none is tried: they only make other rows of its own.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from paritree.core import messages as m
from paritree.wire.link import AgentService

Lie = Callable[[random.Random, Any], Any]
"""Another body for a body, or several."""


def _words(chance: random.Random, words: np.ndarray) -> np.ndarray:
    """One of them is another."""
    changed = words.copy()
    if changed.size:
        changed.reshape(-1)[chance.randrange(changed.size)] += np.asarray(chance.randint(1, 9)).astype(changed.dtype)
    return changed


def _column(chance: random.Random, sums: np.ndarray, word: int) -> np.ndarray:
    """One of the cells of a sketch has another S1, S2 or S3."""
    cells = sums.reshape(-1, 3).copy()
    cells[:, word] = _words(chance, cells[:, word])
    return cells.reshape(-1)


def _cut(chance: random.Random, words: np.ndarray) -> np.ndarray:
    return words[: chance.randrange(len(words))] if len(words) else words


def _rows(body: m.Lists, chosen: Any) -> m.Lists:
    """Those rows, all said to be of the first node."""
    counts = np.zeros_like(body.counts)
    if len(counts):
        counts[0] = len(body.k[chosen])
    return replace(body, counts=counts, k=body.k[chosen], r=body.r[chosen], r2=body.r2[chosen])


def _bits(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _table(chance: random.Random, body: m.Details, **changes: Callable[[bytes], bytes]) -> m.Details:
    if body.table is None:
        return body
    return replace(body, table=replace(body.table, **{n: f(getattr(body.table, n)) for n, f in changes.items()}))


def _stranger(chance: random.Random) -> m.Look:
    digests = (chance.randbytes(16),)
    return m.Look(chance.randbytes(16), digests, digests)


def _other_header(chance: random.Random, header: m.Header) -> m.Header:
    return replace(
        header,
        **chance.choice(
            [
                {"dataset": "other"},
                {"profile_id": chance.randbytes(16)},
                {"key_id": chance.randbytes(8)},
                {"position": "elsewhere"},
                {"canonical_version": 7},
            ]
        ),
    )


def _probe(chance: random.Random, body: m.Ready) -> m.Ready:
    sketch = replace(body.probe.sketch, sums=_words(chance, body.probe.sketch.sums))
    return replace(body, probe=replace(body.probe, sketch=sketch))


def _refusal(chance: random.Random) -> m.Refusal:
    return m.Refusal(chance.choice(list(m.RefusalCode)), "no", chance.random() < 0.5)


LIES: Final[dict[str, tuple[type, Lie]]] = {
    "a row more": (m.Ready, lambda c, b: replace(b, rows=b.rows + 1)),
    "huge count": (m.Ready, lambda c, b: replace(b, rows=c.choice([1 << 40, (1 << 64) - 1]))),
    "no rows": (m.Ready, lambda c, b: replace(b, rows=0)),
    "other root": (m.Ready, lambda c, b: replace(b, root_r=b.root_r ^ 1 << c.randrange(64))),
    "other second root": (m.Ready, lambda c, b: replace(b, root_r2=b.root_r2 ^ 1 << c.randrange(64))),
    "other probe": (m.Ready, _probe),
    "other pulls": (m.Ready, lambda c, b: replace(b, probe=replace(b.probe, pulls=_words(c, b.probe.pulls) * 9))),
    "dead letters": (m.Ready, lambda c, b: replace(b, dead=m.DeadLetters(0, 3, {"made up": 3}))),
    "other header": (m.Ready, lambda c, b: replace(b, header=_other_header(c, b.header))),
    "wrong sums": (m.Children, lambda c, b: replace(b, sums=_words(c, b.sums))),
    "few sums": (m.Children, lambda c, b: replace(b, sums=_cut(c, b.sums))),
    "wrong cell": (m.Sketched, lambda c, b: replace(b, sums=_column(c, b.sums, 0))),
    "wrong product": (m.Sketched, lambda c, b: replace(b, sums=_column(c, b.sums, c.randint(1, 2)))),
    "other salt": (m.Sketched, lambda c, b: replace(b, sums=np.roll(b.sums, 3 * c.randint(1, 5)))),
    "other size": (m.Sketched, lambda c, b: replace(b, sums=np.tile(b.sums, 2))),
    "empty sketch": (m.Sketched, lambda c, b: replace(b, sums=np.zeros_like(b.sums))),
    "a row less": (m.Lists, lambda c, b: _rows(b, slice(1, None))),
    "a row twice": (m.Lists, lambda c, b: _rows(b, [0, *range(len(b.k))] if len(b.k) else slice(None))),
    "out of order": (m.Lists, lambda c, b: _rows(b, slice(None, None, -1))),
    "other rows": (m.Lists, lambda c, b: replace(b, r2=_words(c, b.r2))),
    "rows elsewhere": (m.Lists, lambda c, b: replace(b, k=b.k ^ np.uint64(1 << 63))),
    "looks left out": (m.Details, lambda c, b: replace(b, looks=b.looks[1:])),
    "keys not asked for": (m.Details, lambda c, b: replace(b, looks=(*b.looks, _stranger(c)))),
    "looks twice": (m.Details, lambda c, b: replace(b, looks=b.looks * 2)),
    "other marks": (m.Details, lambda c, b: _table(c, b, plain=lambda d: _bits(c, d))),
    "other same": (m.Details, lambda c, b: _table(c, b, same=lambda d: _bits(c, d))),
    "other tails": (m.Details, lambda c, b: _table(c, b, tails=lambda d: _bits(c, d))),
    "other digests": (m.Details, lambda c, b: _table(c, b, digests=lambda d: _bits(c, d))),
    "other columns": (m.Details, lambda c, b: _table(c, b, columns=lambda d: _bits(c, d))),
    "other memory": (m.Details, lambda c, b: replace(b, memory=_bits(c, b.memory))),
    "forgetful": (m.Details, lambda c, b: replace(b, forgotten=True)),
    "no table": (m.Details, lambda c, b: replace(b, table=None)),
    "header changes": (
        object,
        lambda c, b: replace(b, header=_other_header(c, b.header)) if hasattr(b, "header") else b,
    ),
    "said twice": (object, lambda c, b: [b, b]),
    "nothing": (object, lambda c, b: []),
    "silence": (object, lambda c, b: asyncio.sleep(1e5)),
    "progress": (object, lambda c, b: [*(m.Progress(1, 2, 3) for _ in range(40)), b]),
    "ended": (object, lambda c, b: m.Ended()),
    "refused": (object, lambda c, b: _refusal(c)),
    "failing": (object, lambda c, b: ZeroDivisionError()),
    "garbled": (object, lambda c, b: b),
}


class Liar:
    """An ``AgentService`` that tells some lies of another one's answers. ``told`` are those that were."""

    def __init__(self, service: AgentService, chance: random.Random) -> None:
        self._service = service
        self._chance = chance
        self.lies = chance.sample(list(LIES), chance.randint(1, 3))
        self.often = chance.choice([0.2, 0.6, 1.0])
        self.told: list[str] = []

    def spoil(self, data: bytes) -> bytes:
        """A message on its way out, with some of its bytes changed, or cut short, where that is one of its lies."""
        if "garbled" not in self.lies or self._chance.random() > self.often / 2:
            return data
        self.told.append("garbled")
        changed = bytearray(data)
        for _ in range(self._chance.randint(1, 4)):
            changed[self._chance.randrange(len(changed))] ^= 1 << self._chance.randrange(8)
        return bytes(changed[: self._chance.randint(0, len(changed))] if self._chance.random() < 0.3 else changed)

    def hello(self) -> m.Hello:
        return self._service.hello()

    async def handle(self, request: m.Request) -> AsyncIterator[m.ReplyBody]:
        async for body in self._service.handle(request):
            for other in await self._other(body):
                if isinstance(other, Exception):
                    raise other
                yield other

    async def _other(self, body: m.ReplyBody) -> list[Any]:
        for name in self.lies:
            kind, lie = LIES[name]
            if isinstance(body, kind) and self._chance.random() < self.often:
                self.told.append(name)
                other = lie(self._chance, body)
                if asyncio.iscoroutine(other):
                    await other
                    return [body]
                return other if isinstance(other, list) else [other]
        return [body]
