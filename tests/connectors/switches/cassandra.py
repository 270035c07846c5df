"""Switches of Cassandra: one keyspace for the run, tables dropped after each test."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from cassandra.concurrent import execute_concurrent_with_args
from cassandra.util import Date, Time
from switches.base import Hole, Refused, Row, Switches, Typed, never

from edge_agent.connectors.contract import Source
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type

KEYSPACE = "contract"
DECLARED = {"int": "bigint", "float": "double", "bool": "boolean", "bytes": "blob"}
DECLARED |= {name: name for name in ("text", "decimal", "date", "time", "timestamp", "uuid")}
BY_KEY = never("Cassandra reads rows by their primary key only")
ID = "00010203-0405-0607-0809-0a0b0c0d0e0f"
TIME_ID = "50554d6e-29bb-11e5-b345-feff819cdc9f"
FLOATS = [("NaN", math.nan), ("-Infinity", -math.inf), ("-0.0", 0.0)]


def whole(kind: str, bits: int) -> Typed:
    return Typed(kind, "int", [(str(value), value) for value in (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0)])


SAMPLES: dict[str, Typed | Refused] = {
    "ascii": Typed("ascii", "text", [("'a '", "a "), ("''", "")]),
    "text": Typed("text", "text", [("'é '", "é "), ("''", "")]),
    "varchar": Typed("varchar", "text", [("'it''s'", "it's")]),
    "tinyint": whole("tinyint", 8),
    "smallint": whole("smallint", 16),
    "int": whole("int", 32),
    "bigint": whole("bigint", 64),
    "varint": whole("varint", 200),
    "counter": Typed("counter", "int", [("5", 5), ("-7", -7)]),
    "decimal": Typed("decimal", "decimal", [("1.10", "1.1"), ("-1E+30", "-1E+30"), ("0.000", "0")]),
    "float": Typed("float", "float", [("0.1", 0.10000000149011612), *FLOATS]),
    "double": Typed("double", "float", [("0.1", 0.1), ("5E-324", 5e-324), *FLOATS]),
    "boolean": Typed("boolean", "bool", [("true", True), ("false", False)]),
    "blob": Typed("blob", "bytes", [("0x00ff", b"\0\xff"), ("0x", b"")]),
    "date": Typed("date", "date", [("'2020-02-29'", 18321), ("'-5877641-06-23'", -(2**31))]),
    "time": Typed("time", "time", [("'00:00:00'", 0), ("'10:20:30.000001999'", 37_230_000_001)]),
    "timestamp": Typed(
        "timestamp", "timestamp", [("0", 0), ("-1", -1_000), ("253402300799999", 253_402_300_799_999_000)]
    ),
    "duration": Typed("duration", "duration", [("14mo3d90s", (14, 3, 90_000_000)), ("-1mo2us", (-1, 0, -2))]),
    "uuid": Typed("uuid", "uuid", [(ID, bytes(range(16)))]),
    "timeuuid": Typed("timeuuid", "uuid", [(TIME_ID, UUID(TIME_ID).bytes)]),
    "inet": Typed("inet", "inet", [("'127.0.0.1'", "127.0.0.1"), ("'::1'", "::1")]),
    "list": Typed("list<int>", "list<int>", [("[1, 1]", [1, 1]), ("[]", None)]),
    "set": Typed("frozen<set<text>>", "set<text>", [("{'b', 'a'}", ["a", "b"]), ("{}", [])]),
    "map": Typed("map<text, frozen<list<int>>>", "map<text, list<int>>", [("{'k': [1]}", [("k", [1])])]),
    "vector": Typed("vector<float, 2>", "list<float>", [("[1.5, -2]", [1.5, -2.0])]),
    "tuple": Typed("tuple<int, text>", "struct{0: int, 1: text}", [("(1, 'a')", {"0": 1, "1": "a"})]),
    "udt": Typed(
        "frozen<address>", "struct{no: int, street: text}", [("{street: 'x', no: 1}", {"no": 1, "street": "x"})]
    ),
    "custom": Refused("'org.apache.cassandra.db.marshal.LexicalUUIDType'"),
}


class Cassandra(Switches):
    engine: ClassVar[str] = "cassandra"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.cassandra",)
    server: ClassVar[str] = "cassandra"
    when_changed: ClassVar[str] = "interval"
    odd_table: ClassVar[str] = "Odd_Table"  # Cassandra allows letters, digits and underscores only
    samples: ClassVar[Mapping[str, Typed | Refused]] = {f"cassandra:{name}": s for name, s in SAMPLES.items()}
    holes: ClassVar[Mapping[str, Hole]] = {
        "test_expressions_and_where_are_the_engines_own": never("CQL has no expressions, and predicates on keys only"),
        "test_keys_of_every_type[datetime]": never("Cassandra has no time stamp without a zone"),
        "test_null_parts_never_match": BY_KEY,
        "test_duplicate_keys_give_every_row": BY_KEY,
    }
    cannot_hold: ClassVar[Mapping[str, tuple[str, Sequence[Any]]]] = {
        "text": ("a partition key is not empty", [""]),
        "bytes": ("a partition key is not empty", [b""]),
        "timestamp": ("milliseconds", [-1, 1, 1_577_836_800_123_456, 253_402_300_799_999_999]),
    }
    keyspaces: ClassVar[set[int]] = set()
    """Ports of the servers that have the keyspace already."""

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        self.exits = ExitStack()
        self.session = self.exits.enter_context(server.session())
        self.tables: list[str] = []
        if server.port not in self.keyspaces:
            replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            self.session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {replication}")
            self.keyspaces.add(server.port)
        self.session.set_keyspace(KEYSPACE)

    @property
    def source(self) -> Source:
        options = {"page_rows": "500", "attempts": "1"} if "many" in self.tables else {}
        return Source(f"{self.running.url}/{KEYSPACE}", options)

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        kinds = {name: DECLARED[kind.name] for name, kind in columns.items()}
        parts = ", ".join(f"{quoted(name)} {kind}" for name, kind in kinds.items())
        self.make(table, f"{parts}, PRIMARY KEY ({', '.join(map(quoted, key))})")
        names, marks = ", ".join(map(quoted, columns)), ", ".join("?" for _ in columns)
        insert = self.session.prepare(f"INSERT INTO {quoted(table)} ({names}) VALUES ({marks})")
        stored = [[native(value, kind) for value, kind in zip(row, columns.values(), strict=True)] for row in rows]
        execute_concurrent_with_args(self.session, insert, stored, concurrency=50)
        return table if re.fullmatch("[a-z_]+", table) else quoted(table)

    def make(self, table: str, definition: str) -> None:
        self.session.execute(f"CREATE TABLE {quoted(table)} ({definition})")
        self.tables.append(table)

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        if "address" in declared:
            self.session.execute("CREATE TYPE IF NOT EXISTS address (street text, no int)")
        counter = declared == "counter"
        self.make(table, f"id int PRIMARY KEY, c {declared}{', other counter' if counter else ''}")
        for number, value in enumerate(natives):
            if counter:  # a row with a null counter has another counter
                change = f"c = c + {value}" if value is not None else "other = other + 1"
                self.session.execute(f"UPDATE {table} SET {change} WHERE id = {number}")
            else:
                self.session.execute(f"INSERT INTO {table} (id, c) VALUES ({number}, {value or 'null'})")
        return table

    def change(self, table: str) -> None:
        self.session.execute(f"DELETE FROM {table} WHERE id = 0")
        self.session.execute(f"UPDATE {table} SET v = -1 WHERE id = 1")
        self.session.execute(f"INSERT INTO {table} (id, v) VALUES (1000, 10000)")

    def fingerprint(self) -> object:
        rows = [tuple(row) for row in self.session.execute("SELECT id, v, writetime(v) FROM numbers")]
        tables = self.session.execute(f"SELECT table_name FROM system_schema.tables WHERE keyspace_name = '{KEYSPACE}'")
        return sorted(rows), sorted(row.table_name for row in tables)

    def unreachable(self) -> Sequence[Source]:
        return [Source("cassandra://127.0.0.1:1/contract"), Source(f"{self.running.url}/absent")]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        kind = parse_type("int")
        table = self.create("many", {"id": kind}, ["id"], [(number,) for number in range(20_000)])
        return table, ("id",), (BoundColumn("id", kind, source="id"),)

    def break_late_failure(self) -> None:
        self.session.execute("DROP TABLE many")
        self.tables.remove("many")

    def close(self) -> None:
        for table in self.tables:
            self.session.execute(f"DROP TABLE {quoted(table)}")
        self.exits.close()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def native(value: Any, kind: LogicalType) -> Any:
    """A plain value as the driver takes it."""
    if value is None:
        return None
    match kind.name:
        case "decimal":
            return Decimal(value)
        case "date":
            return Date(value)
        case "time":
            return Time(value * 1_000)
        case "timestamp":
            return value // 1_000
        case "uuid":
            return UUID(bytes=value)
        case _:
            return value
