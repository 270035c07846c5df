"""Arrays and digests as packed bytes, and texts made fit to be sent. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from paritree.core import messages as m
from paritree.core.limits import MERGED_MAX, POSITION_CHARS_MAX, REASON_CHARS_MAX
from paritree.core.sketch import CELL_BYTES, PROBE_CELL_BYTES, PROBE_CELLS, TABLES, Probe, Sketch
from paritree.wire.validity import Malformed

V = TypeVar("V")


def pack_u64(values: NDArray[np.uint64]) -> bytes:
    """8 bytes a value, little-endian."""
    return np.ascontiguousarray(values, "<u8").tobytes()


def pack_u32(values: NDArray[np.uint32]) -> bytes:
    """4 bytes a value, little-endian."""
    return np.ascontiguousarray(values, "<u4").tobytes()


def unpack_u64(field: str, data: bytes) -> NDArray[np.uint64]:
    """A read-only array in native byte order. Raises Malformed."""
    if len(data) % 8:
        raise Malformed(f"{field} is not a multiple of 8 bytes")
    return np.frombuffer(data, "<u8").astype(np.uint64, copy=False)


def unpack_u32(field: str, data: bytes) -> NDArray[np.uint32]:
    """A read-only array in native byte order. Raises Malformed."""
    if len(data) % 4:
        raise Malformed(f"{field} is not a multiple of 4 bytes")
    return np.frombuffer(data, "<u4").astype(np.uint32, copy=False)


def pack_probe(probe: Probe) -> tuple[bytes, bytes]:
    """The words of its sketch (u64) and its pulls (i16), little-endian, in the order table, cell, part."""
    return np.ascontiguousarray(probe.sketch.sums, "<u8").tobytes(), np.ascontiguousarray(probe.pulls, "<i2").tobytes()


def unpack_probe(sums: bytes, pulls: bytes) -> Probe:
    """Read-only arrays in native byte order. Raises Malformed."""
    cells = TABLES * PROBE_CELLS
    if len(sums) != cells * CELL_BYTES or len(pulls) != cells * (PROBE_CELL_BYTES - CELL_BYTES):
        raise Malformed("ready.probe does not have the size of a probe")
    words = unpack_u64("ready.probe", sums).reshape(TABLES, PROBE_CELLS, 3)
    signed = np.frombuffer(pulls, "<i2").astype(np.int16, copy=False).reshape(TABLES, PROBE_CELLS, 2)
    return Probe(Sketch(0, words), signed)


def split(field: str, data: bytes, size: int) -> tuple[bytes, ...]:
    """Digests of ``size`` bytes each, packed without a gap. Raises Malformed."""
    if len(data) % size:
        raise Malformed(f"{field} is not a multiple of {size} bytes")
    return tuple(data[start : start + size] for start in range(0, len(data), size))


def unique(field: str, pairs: Iterable[tuple[bytes, V]]) -> dict[bytes, V]:
    """A mapping that must not name a key twice, because one of the two would be lost. Raises Malformed."""
    mapping: dict[bytes, V] = {}
    for key, value in pairs:
        if key in mapping:
            raise Malformed(f"{field} names a digest twice")
        mapping[key] = value
    return mapping


def refusal_code(text: str) -> m.RefusalCode:
    """Raises Malformed for a code that this version does not know."""
    try:
        return m.RefusalCode(text)
    except ValueError:
        raise Malformed("refusal.code is unknown") from None


def presentable(reply: m.Reply) -> m.Reply:
    """The reply with its texts for people on one line and cut at their bounds (limits.py); nothing else changes."""
    body = reply.body
    match body:
        case m.Refusal():
            return replace(reply, body=replace(body, message=line(body.message)))
        case m.Ready():
            reasons: Counter[str] = Counter()
            for reason, count in body.dead.reasons.items():
                reasons[line(reason)] += count
            notes = tuple(line(note, POSITION_CHARS_MAX) for note in body.notes)
            return replace(reply, body=replace(body, dead=replace(body.dead, reasons=dict(reasons)), notes=notes))
        case m.Details():
            looks = tuple(
                replace(look, dead=line(look.dead), merged=tuple(map(line, look.merged[:MERGED_MAX])))
                if look.dead or look.merged
                else look
                for look in body.looks
            )
            return replace(reply, body=replace(body, looks=looks))
        case m.Revealed():
            return replace(reply, body=replace(body, refused=line(body.refused)))
        case m.Letters():
            letters = tuple(replace(one, reason=line(one.reason), note=line(one.note)) for one in body.letters)
            return replace(reply, body=replace(body, letters=letters))
        case _:
            return reply


def line(text: str, chars_max: int = REASON_CHARS_MAX) -> str:
    """One printable line of at most ``chars_max`` characters; a cut is shown by a final "…"."""
    if not text.isprintable():
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"
