"""How a byte string is described to the kernels: one row of 64-bit words a column (no numba here).

A column is *read* into 64-bit values or into spans of bytes, then *put* as canonical bytes. Every decision that
depends on types is made once, in :mod:`paritree.core.fast.plan`.
"""

from __future__ import annotations

from typing import Final

WIDE: Final = 32
"""Bytes that wide loads and stores touch at once."""

WORDS: Final = 21
"""Words that describe a column; their places follow."""

READ: Final = 0
PUT: Final = 1
DATA: Final = 2
"""Address of the first row's value (of the bitmap for bits; of the whole data for spans with offsets)."""
DATA_BYTES: Final = 3
"""Bytes that may be read from DATA on."""
OFFSETS: Final = 4
"""Address of the first row's offset (of its place, int32, where there are SIZES); 0 for spans of fixed width."""
WIDTH: Final = 5
"""Bytes of an offset (4 or 8), or of a span of fixed width."""
VALIDITY: Final = 6
"""Address of the bitmap of valid rows, 0 where every row is valid."""
BIT: Final = 7
"""The first row's place in the bitmaps."""
NUMBER: Final = 8
"""Which flag a value sets that the kernel does not decide."""
BYTES_MAX: Final = 9
"""Most bytes a row's value needs, without the length of its span."""
SPAN_COUNTS: Final = 10
"""1 where the span's length comes on top of BYTES_MAX."""
HEAD: Final = 11
"""First two bytes of values with a fixed head (little-endian)."""
SCALE: Final = 12
"""Scale of the integers of a decimal."""
SCALE_TO: Final = 13
"""Scale to round a decimal to, -1 for none."""
ROUNDING: Final = 14
RULES: Final = 15
TIMES: Final = 16
"""Microseconds in one tick where a tick is a microsecond or more."""
UNIT: Final = 17
"""Ticks (after TIMES) in one unit of the precision."""
UNIT_US: Final = 18
"""Microseconds in one unit of the precision."""
KIND: Final = 19
"""Which values of a time are allowed: ANY, INSTANT, FINITE, FINITE_NS or CLOCK."""
SIZES: Final = 20
"""Address of the first row's size (int32, -1 for null) where values stand in the source's own bytes, else 0."""

READ_NONE: Final = 0
READ_BIT: Final = 1
READ_I8: Final = 2
READ_I16: Final = 3
READ_I32: Final = 4
READ_I64: Final = 5
READ_U8: Final = 6
READ_U16: Final = 7
READ_U32: Final = 8
READ_U64: Final = 9
READ_F32: Final = 10
READ_DECIMAL128: Final = 11
READ_SPAN: Final = 12
READ_TEXT_INT: Final = 13
READ_TEXT_DECIMAL: Final = 14
READ_BYTE_BOOL: Final = 15
"""From here on: forms of :mod:`paritree.core.placed`."""
READ_BIG_8: Final = 16
READ_BIG_16: Final = 17
READ_BIG_32: Final = 18
READ_BIG_64: Final = 19
READ_BIG_F32: Final = 20
READ_DAYS_2000: Final = 21
READ_US_2000: Final = 22
READ_DAYS_CENTERED: Final = 23
READ_VARINT: Final = 24
READ_SCALED: Final = 25
READ_NUMERIC: Final = 26

PUT_NIL: Final = 0
PUT_BOOL: Final = 1
PUT_INT: Final = 2
PUT_UNSIGNED: Final = 3
PUT_DECIMAL: Final = 4
PUT_FLOAT: Final = 5
PUT_INT_AS_FLOAT: Final = 6
PUT_TIME: Final = 7
PUT_TEXT: Final = 8
PUT_BYTES: Final = 9
PUT_SIXTEEN: Final = 10
PUT_UUID_TEXT: Final = 11
PUT_MONTH_DAY_NANO: Final = 12
PUT_CANONICAL: Final = 13
"""The span holds canonical bytes already."""

ANY: Final = 0
INSTANT: Final = 1
"""int64 max and min are the infinities."""
FINITE: Final = 2
"""Arrow's own times: they have no infinities, so what looks like one does not fit."""
FINITE_NS: Final = 3
"""The same in nanoseconds, all of which fit."""
CLOCK: Final = 4
"""0 to 86,400,000,000."""

FLOOR: Final = 0
TRUNCATE: Final = 1
HALF_UP: Final = 2
HALF_EVEN: Final = 3

RULE_NFC: Final = 1
RULE_RTRIM: Final = 2
RULE_CASEFOLD: Final = 4

DECIDED: Final = 0
UNDECIDED: Final = 1
"""The plain encoder must look at a value of this row."""
REFUSED: Final = 2
"""The plain digester must look at this row: a null in its key, for one."""

SCALE_READ_MAX: Final = 22
"""Largest scale that a kernel writes: the fraction and one digit before it fit into 24 digits."""
ROW_SLACK: Final = 128
"""Bytes after a row's longest form: wide stores go past the end, and the last block is padded with zeros."""

CALL_WORDS: Final = 6
"""Words that describe one call of the kernel; their places follow."""
HEAD_BYTES_WORD: Final = 0
"""The bytes that every byte string starts with (little-endian, at most 8)."""
HEAD_BYTES: Final = 1
"""How many they are."""
FIRST: Final = 2
"""The next row; moved on by the kernel."""
ROWS: Final = 3
OPTIONS: Final = 4
KEPT: Final = 5
"""Bytes kept so far; moved on by the kernel."""

IN_KEY: Final = 1
"""Option: a nil among the columns is refused."""
HASH: Final = 2
KEEP: Final = 4

DONE: Final = 0
NO_ROOM: Final = -1
BROKEN_SPANS: Final = -1_000_000
