"""Rows as servers send them, COPY BINARY and CQL pages, by the plain decoders and by the compiled ones.

The compiled ones read from, and write to, memory between guards (:mod:`guarded`), so that a byte too far is a crash.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from guarded import Guarded
from parser import Parser
from psycopg import sql

from edge_agent.connectors.cassandra import decode as cql
from edge_agent.connectors.cassandra import fast as cql_fast
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Rows
from edge_agent.connectors.cassandra.placing import FORMS as CQL_FORMS
from edge_agent.connectors.contract import REJECTS, REJECTS_TYPE
from edge_agent.connectors.postgresql import decode as pg
from edge_agent.connectors.postgresql import fast as pg_fast
from edge_agent.connectors.postgresql.copy import CopyAnswer
from edge_agent.connectors.postgresql.placing import placed as pg_placed
from edge_agent.connectors.postgresql.primitives import PLAIN
from edge_agent.connectors.postgresql.projection import Output, Projection
from edge_agent.connectors.postgresql.relation import Relation
from edge_agent.connectors.postgresql.tuples import SIGNATURE, TupleReader, Tuples
from edge_agent.connectors.postgresql.types import EngineType, translation
from paritree.core.digest import DatasetKeys
from paritree.core.digester import PlainDigester
from paritree.core.errors import SourceError
from paritree.core.fast import digester as fast_digester
from paritree.core.fast.digester import CompiledDigester
from paritree.core.placed import Placed, PlacedColumn
from paritree.core.profile import BoundColumn, Profile
from paritree.core.types import LogicalType, parse_type

KEYS: Final = DatasetKeys.of(bytes(32), "orders")
ROOM: Final = 16_384
"""Rows located at a time, as a scan does."""
GUARDED: Final = Guarded()


def zeros(size: int) -> bytes:
    """Random digests, but the same in every run."""
    return bytes(size)


def guard() -> None:
    """Let the compiled decoders and the digester allocate between guards."""
    for module in (pg_fast, cql_fast, fast_digester):
        module.np = GUARDED  # type: ignore[attr-defined]
    GUARDED.begin(at_end=True)
    _ = CompiledDigester(PG[0].profile, KEYS, zeros)


# --- COPY BINARY ------------------------------------------------------------------------------------------------------


def engine(name: str) -> EngineType:
    row = translation()[name]
    return EngineType(1, name, row["wire"], parse_type(row["logical"]))


class Table:
    """Columns of one relation: their projection, and a profile that compares them all."""

    def __init__(self, **columns: EngineType) -> None:
        relation = Relation(1, "public", "orders", "r", True, 1.0, 1, True)
        kinds = {name: kind.logical or LogicalType("text") for name, kind in columns.items()}
        outputs = [
            Output(BoundColumn(name, kinds[name], source=name), sql.SQL("x"), kind) for name, kind in columns.items()
        ]
        self.projection = Projection(relation, tuple(outputs), (), tuple(columns), None, {})
        self.profile = Profile("orders", (next(iter(columns)),), kinds)
        self.width = len(columns)


NUMERIC: Final = struct.pack(">hhHhhh", 2, 0, 0x4000, 2, 12, 3400)
LONG: Final = struct.pack(">hhHhh", 1, 40, 0, 0, 1)
HUGE: Final = struct.pack(">hhHhh", 1, 32_767, 0, 0, 1)
"""A one with 131,068 zeros."""
INT8, TEXT, REAL = engine("int8"), engine("text"), engine("float4")
PG: Final = (
    Table(
        id=INT8, uid=engine("uuid"), a=TEXT, b=engine("numeric"), c=engine("int4"), d=engine("bool"), e=engine("float8")
    ),
    Table(id=engine("numeric"), a=engine("timestamptz"), b=engine("date"), c=engine("bytea"), d=engine("int2"), e=REAL),
    Table(id=TEXT, a=engine("time"), b=engine("interval"), c=engine("inet"), d=engine("jsonb"), e=engine("json")),
    Table(
        id=INT8,
        a=EngineType(1, "int8[]", "array", parse_type("list<int>"), element=INT8),
        b=EngineType(1, "pair", "composite", parse_type("struct{x: int, y: text}"), fields=(("x", INT8), ("y", TEXT))),
        c=EngineType(1, "hstore", "hstore", parse_type("map<text, text>")),
        d=engine("timestamp"),
        e=engine("oid"),
    ),
    Table(id=INT8, a=EngineType(1, "numeric[]", "array", parse_type("list<decimal>"), element=engine("numeric"))),
)
INET: Final = (b"\x02\x20\x00\x04\x7f\x00\x00\x01", b"\x03\x40\x01\x10" + bytes(16))
ARRAY: Final = struct.pack(">iiiii", 1, 0, 20, 2, 1) + struct.pack(">iqi", 8, -5, -1)
PAIR: Final = struct.pack(">i", 2) + struct.pack(">iiq", 20, 8, 7) + struct.pack(">ii", 25, 2) + b"xy"
HSTORE: Final = struct.pack(">i", 2) + struct.pack(">i1si2s", 1, b"k", 2, b"vv") + struct.pack(">i1si", 1, b"l", -1)
DAY, NOW = struct.pack(">i", 9000), struct.pack(">q", 700_000_000_000_000)
PG_ROWS: Final[tuple[list[list[bytes | None]], ...]] = (
    [
        [
            struct.pack(">q", 1),
            b"u" * 16,
            b"caf\xc3\xa9",
            NUMERIC,
            struct.pack(">i", -3),
            b"\1",
            struct.pack(">d", 1.5),
        ],
        [struct.pack(">q", 2), None, b"", LONG, None, b"\0", struct.pack(">d", float("nan"))],
    ],
    [
        [NUMERIC, NOW, DAY, b"\0\xff", struct.pack(">h", 5), struct.pack(">f", 0.1)],
        [LONG, struct.pack(">q", (1 << 63) - 1), struct.pack(">i", -(1 << 31)), b"", None, None],
    ],
    [
        [b"k", struct.pack(">q", 86_400_000_000), struct.pack(">qii", 1, 2, 3), INET[0], b'\1{"a": [1.50]}', b"[1]"],
        [b"l", None, struct.pack(">qii", -1, 0, 0), INET[1], b"\1null", b'"\\ud83d\\ude00"'],
    ],
    [
        [struct.pack(">q", 1), ARRAY, PAIR, HSTORE, NOW, struct.pack(">I", 1 << 31)],
        [struct.pack(">q", 2), struct.pack(">iii", 0, 0, 20), None, struct.pack(">i", 0), None, None],
    ],
    [
        [struct.pack(">q", 1), struct.pack(">iiiii", 1, 0, 1700, 1, 1) + struct.pack(">i", len(NUMERIC)) + NUMERIC],
        [struct.pack(">q", 2), None],
    ],
)


def tuple_of(row: Sequence[bytes | None]) -> bytes:
    fields = [struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value for value in row]
    return struct.pack(">h", len(row)) + b"".join(fields)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body


def copies() -> list[bytes]:
    """Number of the table, framed or not, then the stream."""
    made = []
    for number, rows in enumerate(PG_ROWS):
        header, trailer = SIGNATURE + bytes(8), struct.pack(">h", -1)
        made.append(bytes([number, 0]) + header + b"".join(map(tuple_of, rows)) + trailer)
        bodies = [header + tuple_of(rows[0]), *map(tuple_of, rows[1:]), trailer]
        end = message(b"c", b"") + message(b"C", b"COPY %d\0" % len(rows)) + message(b"Z", b"T")
        made.append(bytes([number, 1]) + message(b"H", b"\1\0\0") + b"".join(message(b"d", b) for b in bodies) + end)
    return made


def wild_tuples(times: int = 10) -> list[bytes]:
    """Few bytes that mean hundreds of megabytes of digits; a megabyte of one value."""
    row = PG_ROWS[0][0]
    huge = [*row[:3], HUGE, *row[4:]]
    long = [row[0], row[1], b"x" * (1 << 20), *row[3:]]
    digits = struct.pack(">hhHh", 32_767, 32_766, 0, 0) + struct.pack(">h", 9999) * 32_767
    numbers = struct.pack(">iiiii", 1, 0, 1700, 150, 1) + (struct.pack(">i", len(HUGE)) + HUGE) * 150
    return [
        b"\4" + tuple_of([row[0], numbers]) * (2 * times),
        b"\0" + tuple_of(huge) * (25 * times),
        b"\0" + tuple_of(long) * 4,
        b"\0" + tuple_of([*row[:3], digits, *row[4:]]) * (10 * times),
    ]


def wild_copies() -> list[bytes]:
    header, trailer = SIGNATURE + bytes(8), struct.pack(">h", -1)
    return [data[:1] + b"\0" + header + data[1:] + trailer for data in wild_tuples(1)]


class Bytes:
    """A stream of given bytes in pieces of any size; it ends where they end."""

    def __init__(self, data: bytes, framed: bool) -> None:
        self._data, self.framed = data, framed
        self._sizes = random.Random(len(data))
        self._answer = CopyAnswer("fuzzing")

    def fill(self, into: memoryview) -> int:
        size = min(len(into), self._sizes.choice((1, 7, 100, 1 << 20)), len(self._data))
        if not size and self.framed:
            raise SourceError("the connection ended")
        into[:size], self._data = self._data[:size], self._data[size:]
        return size

    def message(self, kind: int, body: bytes) -> bool:
        return self._answer.message(kind, body)

    def rows_sent(self) -> int:
        return self._answer.rows_sent() if self.framed else 2


def parse_copy(data: bytes) -> None:
    """Reader, decoder and digester, all plain."""
    table = PG[(data[0] if data else 0) % len(PG)]
    stream = Bytes(data[2:], framed=bool(data[1:2] == b"\1"))
    digester = PlainDigester(table.profile, KEYS, zeros)
    for tuples in TupleReader(stream, table.width, PLAIN.locate, ROOM):
        for batch in pg.decode_batches(table.projection, tuples, PLAIN):
            digester.digest(batch)


def tuples() -> list[bytes]:
    """Number of the table, then the rows without header and trailer."""
    return [bytes([number]) + b"".join(map(tuple_of, rows)) for number, rows in enumerate(PG_ROWS)]


DIGESTERS: dict[int, CompiledDigester] = {}


def parse_copy_compiled(data: bytes) -> None:
    """Located, decoded and digested where they lie, between guards."""
    GUARDED.begin(at_end=len(data) % 2 == 0)
    number = (data[0] if data else 0) % len(PG)
    table = PG[number]
    if number not in DIGESTERS:
        DIGESTERS[number] = CompiledDigester(table.profile, KEYS, zeros)
    content = GUARDED.holding(data[1:])
    at, size = np.empty((table.width, ROOM), np.int32), np.empty((table.width, ROOM), np.int32)
    rows, _, _ = pg_fast.FAST.locate(content, 0, len(content), False, at, size)
    if not rows:  # nothing is complete
        return
    found = Tuples(content, at[:, :rows], size[:, :rows])
    for batch in pg.decode_batches(table.projection, found, pg_fast.FAST):
        DIGESTERS[number].digest(batch)
    DIGESTERS[number].digest(pg_placed(table.projection, found, pg_fast.FAST))


# --- CQL pages --------------------------------------------------------------------------------------------------------

CQL_INT, CQL_TEXT = CqlType("int"), CqlType("text")
CQL: Final[tuple[tuple[CqlType, ...], ...]] = (
    tuple(map(CqlType, ("bigint", "uuid", "text", "decimal", "int", "boolean", "double", "timestamp"))),
    tuple(map(CqlType, ("varint", "blob", "date", "time", "smallint", "tinyint", "float", "inet", "duration"))),
    (
        CQL_TEXT,
        CqlType("list", (CQL_INT,)),
        CqlType("set", (CqlType("varint"),)),
        CqlType("map", (CQL_TEXT, CqlType("list", (CQL_TEXT,)))),
        CqlType("udt", (CQL_TEXT, CqlType("set", (CQL_INT,))), ("street", "floors"), label="address"),
        CqlType("vector", (CQL_TEXT,), dimensions=2),
        CqlType("tuple", (CQL_INT, CQL_TEXT), ("0", "1")),
    ),
)


def cell(content: bytes | None) -> bytes:
    return struct.pack(">i", -1) if content is None else struct.pack(">i", len(content)) + content


def some(*parts: bytes | None) -> bytes:
    return struct.pack(">i", len(parts)) + b"".join(map(cell, parts))


NUMBER: Final = struct.pack(">i", 2) + b"\x04\xd2"
ONE_PAIR: Final = struct.pack(">i", 1) + cell(b"a") + cell(some(b"b"))
CQL_ROWS: Final[tuple[list[list[bytes | None]], ...]] = (
    [
        [bytes(8), b"u" * 16, b"caf\xc3\xa9", NUMBER, bytes(4), b"\1", struct.pack(">d", 1.5), NOW],
        [b"\xff" * 8, None, b"", struct.pack(">i", -9) + b"\x7f" * 20, None, b"\0", None, struct.pack(">q", -1)],
    ],
    [
        [b"\x01\x00", b"\0\1", b"\x80\0\0\0", bytes(8), b"\0\5", b"\x80", bytes(4), b"\x7f\0\0\1", b"\2\4\6"],
        [b"\x7f" * 40, b"", None, None, None, None, None, bytes(15) + b"\1", b"\2\4\x9f\x40"],
    ],
    [
        [b"k", some(bytes(4), b"\0\0\0\1"), some(b"\1", b"\2\3"), ONE_PAIR, cell(b"s") + cell(some()),
         b"\1a\2bc", cell(bytes(4)) + cell(b"x")],
        [b"l", None, some(), None, cell(None), None, None],
    ],
)  # fmt: skip
CQL_PROFILES: Final = tuple(
    Profile("orders", ("c0",), {f"c{n}": kind.logical for n, kind in enumerate(kinds)}) for kinds in CQL
)


def cql_pages() -> list[bytes]:
    """Number of the table, number of rows, then the cells."""
    return [bytes([n, len(rows)]) + b"".join(cell(c) for row in rows for c in row) for n, rows in enumerate(CQL_ROWS)]


def wild_pages() -> list[bytes]:
    """Numbers of a megabyte, and cells that are all of a page."""
    row = CQL_ROWS[0][0]
    wild = [row[0], row[1], b"x" * (4 << 20), struct.pack(">i", 5) + b"\x7f" * (1 << 20), *row[4:]]
    far = [*row[:3], struct.pack(">i", 2_000_000_000) + b"\1", *row[4:]]
    varint = [b"\x7f" * (1 << 20), *CQL_ROWS[1][0][1:]]
    return [
        bytes([0, 1]) + b"".join(map(cell, wild)),
        bytes([0, 200]) + b"".join(map(cell, far)) * 200,
        bytes([1, 3]) + b"".join(map(cell, varint)) * 3,
        bytes([2, 1]) + b"".join(map(cell, [b"k", some(*[b"\0\0\0\1"] * 120_000), *CQL_ROWS[2][0][2:]])),
    ]


def parse_cql(data: bytes) -> None:
    kinds = CQL[(data[0] if data else 0) % len(CQL)]
    profile = CQL_PROFILES[(data[0] if data else 0) % len(CQL)]
    found = cql.decode(Rows(data, data[1] if len(data) > 1 else 0, min(2, len(data))), kinds)
    PlainDigester(profile, KEYS, zeros).digest(batch_of(found, profile))


def batch_of(found: cql.Columns, profile: Profile) -> pa.RecordBatch:
    names = list(profile.columns)
    arrays = list(found.arrays)
    rows = len(arrays[0])
    listed: dict[int, list[dict[str, str]]] = {}
    for row, number, reason in found.rejects:
        listed.setdefault(row, []).append({"column": names[number], "reason": reason})
    rejects = pa.array([listed.get(row) for row in range(rows)], REJECTS_TYPE)
    return pa.RecordBatch.from_arrays([*arrays, rejects], names=[*names, REJECTS])


CQL_DIGESTERS: dict[int, CompiledDigester] = {}


def parse_cql_compiled(data: bytes) -> None:
    """Indexed by the kernel, decoded and digested where they lie, between guards."""
    GUARDED.begin(at_end=len(data) % 2 == 0)
    number = (data[0] if data else 0) % len(CQL)
    kinds, profile = CQL[number], CQL_PROFILES[number]
    if number not in CQL_DIGESTERS:
        CQL_DIGESTERS[number] = CompiledDigester(profile, KEYS, zeros)
    rows, raw = data[1] if len(data) > 1 else 0, data[2:]
    if rows * len(kinds) * 4 > len(raw):
        return
    content = GUARDED.holding(raw)
    content.flags.writeable = False
    starts, lengths = (GUARDED.empty((len(kinds), rows), np.int32) for _ in range(2))
    if cql_fast.KERNELS.index_cells(content, 0, starts, lengths) != len(raw) or not rows:
        return
    located = cql_fast.Located(raw, content, starts, lengths)
    CQL_DIGESTERS[number].digest(batch_of(located.columns(kinds), profile))
    CQL_DIGESTERS[number].digest(placed_page(located, kinds, profile))


def placed_page(located: cql_fast.Located, kinds: Sequence[CqlType], profile: Profile) -> Placed:
    names = list(profile.columns)
    columns = {
        name: PlacedColumn(CQL_FORMS[kind.name], located.starts[n], located.lengths[n])
        for n, (name, kind) in enumerate(zip(names, kinds, strict=True))
        if kind.name in CQL_FORMS
    }

    def array(name: str) -> tuple[pa.Array, list[int]]:
        number = names.index(name)
        found, bad = located.column(number, kinds[number])
        return found, [row for row, _ in bad]

    def batches(wanted: Any) -> Iterator[pa.RecordBatch]:
        yield batch_of(located.taken(wanted).columns(kinds), profile)

    return Placed(located.data, located.rows, len(located.raw), columns, array, batches)


def warm_cql() -> None:
    """Compile before the process is divided: every child would do it anew."""
    guard()
    for example in cql_pages():
        parse_cql_compiled(example)


def warm_copy() -> None:
    guard()
    for example in tuples():
        parse_copy_compiled(example)


PARSERS: Final = (
    Parser("copy", copies, parse_copy, (SourceError,), wild=wild_copies),
    Parser("copy-compiled", tuples, parse_copy_compiled, (SourceError,), prepare=warm_copy, wild=wild_tuples),
    Parser("cql", cql_pages, parse_cql, (SourceError,), wild=wild_pages),
    Parser("cql-compiled", cql_pages, parse_cql_compiled, (SourceError,), prepare=warm_cql, wild=wild_pages),
)
