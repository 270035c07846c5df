"""Kernels that put spans of bytes as canonical bytes at each row's cursor (compiled into ``rows``).

``sources`` and ``lengths`` are a tile's spans; the other arrays are as in :mod:`paritree.core.fast.numbers`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paritree.core.fast import layout as at
from paritree.core.fast.compiler import inner
from paritree.core.fast.layout import WIDE
from paritree.core.fast.memory import (
    copy_wide,
    is_plain_wide,
    load_64,
    load_i32,
    load_u8,
    lower_wide,
    store_8,
    store_16,
    store_32,
    store_64,
    swapped,
)
from paritree.core.fast.numbers import NIL
from paritree.core.fast.reading import Tile, mark

_LOW_BITS = 0x0101010101010101
_HIGH_BITS = -0x7F7F7F7F7F7F7F80
_SPACE = 0x20
_DASH = 0x2D
_SPAN_MAX = 1 << 32
_COMBINING_LEAD = 0xCC
"""UTF-8 of U+0300 starts with this byte; every character below is in normal form C whatever stands beside it."""
_NIBBLES = np.full(256, 255, np.uint8)
for _i, _char in enumerate(b"0123456789abcdef"):
    _NIBBLES[_char] = _NIBBLES[ord(chr(_char).upper())] = _i


@inner
def is_plain(source: int, length: int, limit: int) -> bool:
    """Whether every byte of a span whose buffer ends at ``limit`` is ASCII and none is NUL."""
    end = source + length
    while source + WIDE <= limit and source < end:
        if not is_plain_wide(source, min(end - source, WIDE)):
            return False
        source += WIDE
    while source < end:
        if not 0 < load_u8(source) < 0x80:
            return False
        source += 1
    return True


@inner
def inspected(source: int, length: int) -> int:
    """-1 where the bytes are not UTF-8 or hold NUL, else the largest byte that starts a character."""
    end = source + length
    largest = 0
    while source < end:
        if source + 8 <= end:
            word = load_64(source)
            if (word | (word - _LOW_BITS)) & _HIGH_BITS == 0:
                source += 8
                continue
        char = load_u8(source)
        if char == 0:
            return -1
        width = 1 + (char >= 0xC2) + (char >= 0xE0) + (char >= 0xF0)
        if 0x80 <= char < 0xC2 or char > 0xF4 or source + width > end:
            return -1
        if width > 1 and not is_tail_sound(source, char, width):
            return -1
        largest = max(largest, char)
        source += width
    return largest


@inner
def is_tail_sound(source: int, char: int, width: int) -> bool:
    """Whether the bytes after a start byte make a character: not overlong, no surrogate, not above U+10FFFF."""
    second = load_u8(source + 1)
    low, high = 0x80, 0xBF
    if char == 0xE0:
        low = 0xA0
    elif char == 0xED:
        high = 0x9F
    elif char == 0xF0:
        low = 0x90
    elif char == 0xF4:
        high = 0x8F
    if not low <= second <= high:
        return False
    bad = 0
    for i in range(2, width):
        bad |= load_u8(source + i) ^ 0x80
    return bad < 0x40


@inner
def copy_span(target: int, source: int, length: int, limit: int) -> None:
    """Copy a span whose buffer ends at ``limit``; the target has room for 32 bytes more."""
    if source + (length + WIDE - 1) // WIDE * WIDE <= limit:
        for i in range(0, length, WIDE):
            copy_wide(target + i, source + i)
    else:
        for i in range(length):
            store_8(target + i, load_u8(source + i))


@inner
def put_text_head(place: int, length: int) -> int:
    if length < 32:
        store_8(place, 0xA0 | length)
        return place + 1
    return put_span_head(place, length, 0xD9)


@inner
def put_span_head(place: int, length: int, head: int) -> int:
    """A head byte and the length in 1, 2 or 4 bytes."""
    if length < 1 << 8:
        store_16(place, head | length << 8)
        return place + 2
    store_8(place, head + (1 if length < 1 << 16 else 2))
    if length < 1 << 16:
        store_16(place + 1, swapped(length) >> 48)
        return place + 3
    store_32(place + 1, swapped(length) >> 32)
    return place + 5


@inner
def put_texts(column: Any, tile: Tile) -> None:
    """Text with its rules. ASCII is decided here; other text where its rules cannot change it."""
    n, sources, lengths, valid, cursor = tile.n, tile.sources, tile.lengths, tile.valid, tile.cursor
    rules = column[at.RULES]
    limit = column[at.DATA] + column[at.DATA_BYTES]
    clean = column[at.SIZES] == 0 and is_plain(sources[0], sources[n - 1] + lengths[n - 1] - sources[0], limit)
    for i in range(n):
        place, source, length = cursor[i], sources[i], lengths[i]
        if not clean and valid[i] and not is_plain(source, length, limit):
            largest = inspected(source, length)
            changed = (rules & at.RULE_NFC and largest >= _COMBINING_LEAD) or (
                rules & at.RULE_CASEFOLD and largest >= 0x80
            )
            if largest < 0 or changed:
                mark(column, tile, i)
        if not valid[i] or tile.state[i] or length >= _SPAN_MAX:
            store_8(place, NIL)
            cursor[i] = place + 1
            if length >= _SPAN_MAX and valid[i]:
                mark(column, tile, i)
            continue
        if rules & at.RULE_RTRIM:
            while length > 0 and load_u8(source + length - 1) == _SPACE:
                length -= 1
        start = put_text_head(place, length)
        if length <= WIDE and source + WIDE <= limit:
            copy_wide(start, source)
        else:
            copy_span(start, source, length, limit)
        if rules & at.RULE_CASEFOLD:
            for k in range(0, length, WIDE):
                lower_wide(start + k)
        cursor[i] = start + length


@inner
def put_bytes(column: Any, tile: Tile) -> None:
    n, sources, lengths, valid, cursor = tile.n, tile.sources, tile.lengths, tile.valid, tile.cursor
    limit = column[at.DATA] + column[at.DATA_BYTES]
    for i in range(n):
        place, length = cursor[i], lengths[i]
        if valid[i] and length < _SPAN_MAX:
            start = put_span_head(place, length, 0xC4)
            copy_span(start, sources[i], length, limit)
            cursor[i] = start + length
            continue
        store_8(place, NIL)
        cursor[i] = place + 1
        if valid[i]:
            mark(column, tile, i)


@inner
def put_canonical(column: Any, tile: Tile, in_key: bool) -> None:
    """Spans that hold canonical bytes already; a nil among the key columns is refused."""
    n, sources, lengths, cursor = tile.n, tile.sources, tile.lengths, tile.cursor
    limit = column[at.DATA] + column[at.DATA_BYTES]
    for i in range(n):
        copy_span(cursor[i], sources[i], lengths[i], limit)
        cursor[i] += lengths[i]
        if in_key and lengths[i] == 1 and load_u8(sources[i]) == NIL:
            tile.state[i] |= at.REFUSED


@inner
def put_sixteens(column: Any, tile: Tile) -> None:
    """Sixteen bytes under the column's head; other lengths are marked."""
    n, sources, lengths, valid, cursor = tile.n, tile.sources, tile.lengths, tile.valid, tile.cursor
    head = column[at.HEAD]
    for i in range(n):
        place = cursor[i]
        if valid[i] and lengths[i] == 16:
            store_16(place, head)
            store_64(place + 2, load_64(sources[i]))
            store_64(place + 10, load_64(sources[i] + 8))
            cursor[i] = place + 18
            continue
        store_8(place, NIL)
        cursor[i] = place + 1
        if valid[i]:
            mark(column, tile, i)


@inner
def put_uuid_texts(column: Any, tile: Tile) -> None:
    """The usual 36 characters of a uuid; other forms are marked."""
    n, sources, lengths, valid, cursor = tile.n, tile.sources, tile.lengths, tile.valid, tile.cursor
    head = column[at.HEAD]
    for i in range(n):
        place = cursor[i]
        if valid[i] and lengths[i] == 36 and put_uuid(place + 2, sources[i]):
            store_16(place, head)
            cursor[i] = place + 18
            continue
        store_8(place, NIL)
        cursor[i] = place + 1
        if valid[i]:
            mark(column, tile, i)


@inner
def put_uuid(target: int, source: int) -> bool:
    bad: Any = 0
    for i in range(16):
        shift = (i >= 4) + (i >= 6) + (i >= 8) + (i >= 10)
        high = np.int64(_NIBBLES[load_u8(source + 2 * i + shift)])
        low = np.int64(_NIBBLES[load_u8(source + 2 * i + shift + 1)])
        bad |= high | low
        store_8(target + i, high << 4 | low)
    for dash in (8, 13, 18, 23):
        bad |= (load_u8(source + dash) != _DASH) << 4
    return bool(bad < 16)


@inner
def put_months(column: Any, tile: Tile) -> None:
    """Arrow's months, days and nanoseconds; parts of a microsecond are marked."""
    n, sources, valid, cursor = tile.n, tile.sources, tile.valid, tile.cursor
    for i in range(n):
        place, source = cursor[i], sources[i]
        nanos = load_64(source + 8)
        micros = nanos // 1000
        store_16(place, column[at.HEAD] if valid[i] else NIL)
        store_32(place + 2, swapped(load_i32(source)) >> 32)
        store_32(place + 6, swapped(load_i32(source + 4)) >> 32)
        store_64(place + 10, swapped(micros))
        cursor[i] = place + (18 if valid[i] else 1)
        if valid[i] and micros * 1000 != nanos:
            mark(column, tile, i)
