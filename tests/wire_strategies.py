"""Hypothesis strategies for every message of the stream."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from hypothesis import strategies as st

from paritree.core import limits
from paritree.core import messages as m
from paritree.core.copies import folded
from paritree.core.deadletters import Letter, LetterAction, LetterKind, LetterState
from paritree.core.looktable import LookTable, Picked, packed
from paritree.core.sketch import Probe, Sketch
from paritree.wire.frames import Cancel, Notice, Welcome

u32s = st.integers(0, 2**32 - 1)
u64s = st.integers(0, 2**64 - 1)
names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=40)
texts = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=80)
seconds = st.floats(0, 1e9, allow_nan=False)
sweep_ids = st.text("abcdef0123456789-", min_size=1, max_size=36)


def arrays(elements: st.SearchStrategy[int], dtype: type, max_size: int = 40) -> st.SearchStrategy[Any]:
    return st.lists(elements, max_size=max_size).map(lambda values: np.array(values, dtype))


def digests(size: int, max_size: int = 6, **options: Any) -> st.SearchStrategy[tuple[bytes, ...]]:
    return st.lists(st.binary(min_size=size, max_size=size), max_size=max_size, **options).map(tuple)


def by_digest(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[bytes, Any]]:
    return st.dictionaries(st.binary(min_size=16, max_size=16), values, max_size=5)


letter_ids = st.lists(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=16), max_size=3).map(tuple)
times = st.integers(0, limits.TIME_US_MAX)
letters = st.builds(
    Letter,
    letter_ids.filter(bool).map(lambda ids: ids[0]),
    texts,
    st.sampled_from(LetterKind),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    st.booleans(),
    st.sampled_from(LetterState),
    times,
    times,
    st.just("") | sweep_ids,
    u64s,
    texts,
)
offers = st.builds(
    m.DatasetOffer,
    names,
    st.binary(min_size=16, max_size=16),
    u32s,
    st.binary(min_size=8, max_size=8),
    st.booleans(),
    st.booleans(),
)
hellos = st.builds(
    m.Hello, names, names, names, st.lists(offers, max_size=5, unique_by=lambda o: o.dataset).map(tuple), u32s
)
welcomes = st.builds(Welcome, names, u32s, st.lists(names, max_size=3).map(tuple))
spans = st.tuples(times, times).map(sorted)
notices = st.builds(lambda name, keys, span, at: Notice(name, keys, *span, at), names, u64s, spans, texts)
cancels = st.builds(Cancel, u64s, sweep_ids)


@st.composite
def nodes(draw: st.DrawFn, *, ascending: bool) -> tuple[int, Any]:
    bits = draw(st.integers(0, limits.LEAF_BITS_MAX))
    prefixes = draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=30, unique=ascending))
    return bits, np.array(sorted(prefixes) if ascending else prefixes, np.uint64)


@st.composite
def children_asks(draw: st.DrawFn) -> m.AskChildren:
    bits, prefixes = draw(nodes(ascending=False).filter(lambda pair: pair[0] < limits.LEAF_BITS_MAX))
    return m.AskChildren(
        bits, draw(st.integers(bits + 1, min(bits + 10, limits.LEAF_BITS_MAX))), prefixes, draw(st.booleans())
    )


freshness = st.builds(m.Freshness, st.none() | st.floats(0, 1e9), st.booleans())
bitmaps = st.binary(max_size=20)
picks = st.none() | st.builds(Picked, bitmaps, bitmaps, st.integers(1, 8))

request_bodies = st.one_of(
    st.builds(m.Begin, names, st.binary(min_size=16, max_size=16), u32s, freshness=freshness),
    st.builds(m.Begin, names, st.binary(min_size=16, max_size=16), u32s, names, st.binary(min_size=1, max_size=60)),
    children_asks(),
    nodes(ascending=True).map(lambda pair: m.AskLists(*pair)),
    st.builds(
        lambda cells, salt, pair: m.AskSketch(cells, salt, *pair),
        st.integers(1, limits.SKETCH_CELLS_MAX),
        u64s,
        nodes(ascending=True),
    ),
    st.builds(
        m.AskDetail,
        arrays(u64s, np.uint64),
        digests(16),
        by_digest(st.binary(max_size=60)),
        st.booleans(),
        st.booleans(),
        picks,
        u32s,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(m.AskAgain, st.binary(min_size=16, max_size=16), bitmaps, bitmaps, picks, st.booleans()),
    st.builds(m.AskReveal, digests(16), texts),
    st.builds(m.AskLetters, texts, st.sampled_from(LetterAction), letter_ids, texts, texts),
    st.integers(0, limits.LEAF_BITS_MAX).flatmap(
        lambda bits: st.builds(m.AskKeep, st.just(bits), st.integers(0, (1 << bits) - 1))
    ),
    st.builds(m.AskRoot, names, st.binary(min_size=16, max_size=16), u32s, seconds),
    st.builds(m.End, st.booleans()),
)
requests = st.builds(m.Request, u64s, sweep_ids, request_bodies, st.floats(0.001, limits.TIMEOUT_S_MAX), u64s)

whole = st.tuples(st.just(""), st.just(b""), st.just(b""))
parts = st.tuples(names, st.binary(min_size=8, max_size=8), st.binary(min_size=1, max_size=60))
headers = st.builds(
    lambda *args: m.Header(*args[:-1], *args[-1]),
    names,
    st.binary(min_size=16, max_size=16),
    u32s,
    st.binary(min_size=8, max_size=8),
    sweep_ids,
    texts,
    whole | parts,
)
deads = st.builds(m.DeadLetters, u64s, u64s, st.dictionaries(texts, u64s, max_size=5))
row_digests = st.dictionaries(st.binary(min_size=16, max_size=16), st.integers(1, 40), max_size=3).map(folded)
looks = st.builds(
    m.Look,
    st.binary(min_size=16, max_size=16),
    row_digests,
    row_digests,
    texts,
    digests(8),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=50),
    merged=st.lists(texts, max_size=3).map(tuple),
)
looks |= looks.map(lambda look: dataclasses.replace(look, whole=look.version is not None))


@st.composite
def tables(draw: st.DrawFn) -> LookTable:
    said = draw(st.lists(st.sampled_from(["plain", "same", "absent"]), max_size=20))
    rows = said.count("plain")
    columned = [each != "absent" and draw(st.booleans()) for each in said]
    halves, versioned, fields, width = draw(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 3), st.integers(1, 8))
    )
    chance = draw(st.randoms(use_true_random=False))
    return LookTable(
        len(said),
        packed(each == "plain" for each in said),
        chance.randbytes(8 * rows),
        chance.randbytes((8 if halves else 16) * rows),
        halves,
        chance.randbytes(8 * rows * versioned),
        packed(each == "same" for each in said),
        packed(columned),
        chance.randbytes(sum(columned) * fields * width),
        fields,
        width,
        packed(each == "plain" and versioned for each in said),
    )


@st.composite
def readies(draw: st.DrawFn) -> m.Ready:
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    words = chance.integers(0, 1 << 64, (4, 96, 3), np.uint64)
    pulls = chance.integers(-(1 << 15), 1 << 15, (4, 96, 2), np.int16)
    return m.Ready(
        draw(headers),
        draw(names),
        draw(u64s),
        draw(u64s),
        draw(u64s),
        Probe(Sketch(0, words), pulls),
        draw(st.booleans()),
        draw(seconds),
        draw(seconds),
        draw(u64s),
        draw(deads),
        draw(st.sampled_from(["nothing", "tokens", "keys"])),
        draw(st.booleans()),
        draw(st.lists(texts, max_size=4).map(tuple)),
    )


@st.composite
def row_lists(draw: st.DrawFn) -> m.Lists:
    counts = draw(st.lists(st.integers(0, 4), max_size=6))
    rows = [draw(st.lists(u64s, min_size=sum(counts), max_size=sum(counts))) for _ in range(3)]
    return m.Lists(draw(headers), np.array(counts, np.uint32), *(np.array(row, np.uint64) for row in rows))


reply_bodies = st.one_of(
    st.builds(m.Progress, u32s, u32s, u64s),
    readies(),
    st.builds(m.Rooted, headers, u64s, u64s, u64s, seconds, st.booleans(), texts),
    st.builds(m.Children, headers, arrays(u64s, np.uint64), arrays(u64s, np.uint64)),
    st.builds(m.Sketched, headers, arrays(u64s, np.uint64)),
    row_lists(),
    st.builds(
        m.Details,
        headers,
        st.lists(looks, max_size=5).map(tuple),
        st.none() | tables(),
        st.just(b"") | st.binary(min_size=16, max_size=16),
        st.booleans(),
    ),
    st.builds(m.Revealed, headers, by_digest(st.text(max_size=60)), texts),
    st.builds(m.Letters, st.lists(letters, max_size=3).map(tuple), u64s, letter_ids, letter_ids),
    st.builds(m.Refusal, st.sampled_from(m.RefusalCode), texts, st.booleans(), st.floats(0.0, 1e6)),
    st.builds(m.Kept, headers, names, u64s),
    st.just(m.Ended()),
)


@st.composite
def replies(draw: st.DrawFn) -> m.Reply:
    body = draw(reply_bodies)
    sweep_id = body.header.sweep_id if hasattr(body, "header") else draw(sweep_ids)
    return m.Reply(draw(u64s), sweep_id, draw(u32s), draw(st.booleans()), body)


from_agent = st.one_of(hellos, replies(), notices)
to_agent = st.one_of(welcomes, requests, cancels)


def plain(value: Any) -> Any:
    """A message as nested plain values, so that messages with arrays can be compared."""
    if dataclasses.is_dataclass(value):
        return type(value).__name__, {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.tolist()
    return value
