"""Switches of PostgreSQL: one database for the run, its ``public`` schema made anew for each test."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from psycopg import sql
from switches.base import INT64_MAX, INT64_MIN, Dead, Hole, Refused, Row, Switches, Typed, never, text_of

from edge_agent.connectors.contract import Source
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type

DATABASE = "contract"
DECLARED = {"int": "bigint", "decimal": "numeric", "float": "double precision", "bool": "boolean", "bytes": "bytea"}
DECLARED |= {"datetime": "timestamp", "timestamp": "timestamptz"}
ENDS = [("'infinity'", INT64_MAX), ("'-infinity'", INT64_MIN)]
BIG = "9" * 40 + "." + "9" * 40
FLOATS = [("'NaN'", math.nan), ("'-Infinity'", -math.inf), ("'-0'", 0.0)]
MOMENTS = [("1970-01-01 00:00:01.5", 1_500_000), ("1969-12-31 23:59:59.999999", -1)]
JSON = [("""'{"b": [1, 2.50], "a": null}'""", '{"a":null,"b":[1,2.5]}'), ("'7'", "7"), ("'null'", "null")]
MISSING: dict[str, Any] = {
    "timetz": "'10:00:00+01'",
    "money": "'1.00'",
    "bit": "B'1'",
    "varbit": "B'1'",
    "xml": "'<a/>'",
    "macaddr": "'08:00:2b:01:02:03'",
    "macaddr8": "'08:00:2b:01:02:03:04:05'",
    "point": "'(1,2)'",
    "line": "'{1,2,3}'",
    "lseg": "'((1,2),(3,4))'",
    "box": "'((1,2),(3,4))'",
    "path": "'((1,2),(3,4))'",
    "polygon": "'((1,2),(3,4))'",
    "circle": "'<(1,2),3>'",
    "tsvector": "'a'",
    "tsquery": "'a'",
    "jsonpath": "'$'",
    "regclass": "'pg_class'",
    "regtype": "'int4'",
    "regproc": "'now'",
    "pg_lsn": "'0/0'",
    "xid": "'1'",
    "xid8": "'1'",
    "tid": "'(0,1)'",
    "int2vector": "'1 2'",
    "oidvector": "'1 2'",
    "record": "ROW(1, 2)",
}


def whole(declared: str, low: int, high: int) -> Typed:
    return Typed(declared, "int", [(str(low), low), (str(high), high)])


SAMPLES: dict[str, Typed | Refused] = {
    "bool": Typed("boolean", "bool", [("true", True), ("false", False)]),
    "int2": whole("smallint", -(2**15), 2**15 - 1),
    "int4": whole("integer", -(2**31), 2**31 - 1),
    "int8": whole("bigint", INT64_MIN, INT64_MAX),
    "oid": whole("oid", 0, 2**32 - 1),
    "numeric": Typed(
        "numeric",
        "decimal",
        [("1.10", "1.1"), (f"-{BIG}", f"-{BIG}"), ("'NaN'", "NaN"), ("'-Infinity'", "-Infinity"), ("0.000", "0")],
    ),
    "float4": Typed("real", "float", [("0.1", 0.10000000149011612), *FLOATS]),
    "float8": Typed("double precision", "float", [("0.1", 0.1), ("5e-324", 5e-324), *FLOATS]),
    "text": Typed("text", "text", [("''", ""), ("'é '", "é "), ("'\\N'", "\\N")]),
    "varchar": Typed("varchar(5)", "text", [("'ab  '", "ab  ")]),
    "bpchar": Typed("char(5)", "text", [("'ab'", "ab   ")]),
    "name": Typed("name", "text", [("'ab'", "ab")]),
    "char": Typed('"char"', "text", [("'a'", "a")]),
    "citext": Typed("citext", "text", [("'Ab'", "Ab")]),
    "bytea": Typed("bytea", "bytes", [("''", b""), (r"'\x00ff'", b"\0\xff")]),
    "date": Typed("date", "date", [("'2020-02-29'", 18321), ("'4713-01-01 BC'", -2440550), *ENDS]),
    "time": Typed(
        "time", "time", [("'00:00'", 0), ("'24:00:00'", 86_400_000_000), ("'10:20:30.000001'", 37_230_000_001)]
    ),
    "timestamp": Typed("timestamp", "datetime", [*((f"'{text}'", value) for text, value in MOMENTS), *ENDS]),
    "timestamptz": Typed(
        "timestamptz", "timestamp", [*((f"'{text}+00'", v) for text, v in MOMENTS), ("'1970-01-01 02:00+02'", 0), *ENDS]
    ),
    "interval": Typed(
        "interval",
        "duration",
        [("'14 months -3 days 90 seconds'", (14, -3, 90_000_000)), ("'-1.5 seconds'", (0, 0, -1_500_000))],
    ),
    "uuid": Typed("uuid", "uuid", [("'00010203-0405-0607-0809-0a0b0c0d0e0f'", bytes(range(16)))]),
    "inet": Typed("inet", "inet", [("'10.0.0.1/8'", "10.0.0.1/8"), ("'::1'", "::1"), ("'10.0.0.1'", "10.0.0.1")]),
    "cidr": Typed("cidr", "inet", [("'10.0.0.0/8'", "10.0.0.0/8")]),
    "json": Typed("json", "json", [*JSON, ("""'{"a": 1, "a": 2}'""", '{"a":2}'), ("""'"\\u0000"'""", Dead("NUL"))]),
    "jsonb": Typed("jsonb", "json", JSON),
    "hstore": Typed("hstore", "map<text, text>", [("'a=>1, b=>NULL'", [("a", "1"), ("b", None)]), ("''", [])]),
    **{name: Refused(f'"{name}"' if name == "char" else name, value) for name, value in MISSING.items()},
}


class Postgresql(Switches):
    engine: ClassVar[str] = "postgresql"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.postgresql",)
    server: ClassVar[str] = "postgresql"
    samples: ClassVar[Mapping[str, Typed | Refused]] = {f"postgresql:{name}": s for name, s in SAMPLES.items()}
    holes: ClassVar[Mapping[str, Hole]] = {
        "test_each_type[postgresql:record]": never("PostgreSQL lets no table have a column of type record"),
    }
    cannot_hold: ClassVar[Mapping[str, tuple[str, Sequence[Any]]]] = {"text": ("text holds no NUL", ["a\0b"])}
    databases: ClassVar[set[int]] = set()
    """Ports of the servers that have the database already."""

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        if server.port not in self.databases:
            server.create_database(DATABASE)
            self.databases.add(server.port)
        self.connection = server.connect(DATABASE)
        self.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    @property
    def source(self) -> Source:
        return Source(self.running.url(DATABASE))

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.connection.execute(statement)

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        kinds = {name: DECLARED.get(kind.name, kind.name) for name, kind in columns.items()}
        parts = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in kinds.items()]
        parts.append(sql.SQL("PRIMARY KEY ({})").format(sql.SQL(", ").join(map(sql.Identifier, key))))
        self.connection.execute(
            sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(table), sql.SQL(", ").join(parts))
        )
        marks = sql.SQL(", ").join(sql.SQL(mark_of(kind)) for kind in kinds.values())
        insert = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), marks)
        texts = [[text_of(value, kind) for value, kind in zip(row, columns.values(), strict=True)] for row in rows]
        with self.connection.cursor() as cursor:
            cursor.executemany(insert, texts)
        return (
            f"public.{table}" if re.fullmatch("[a-z_]+", table) else f'public."{table.replace(chr(34), chr(34) * 2)}"'
        )

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        if declared in ("citext", "hstore"):
            self.run(f"CREATE EXTENSION {declared} SCHEMA public")
        self.run(f"CREATE TABLE {table} (id integer PRIMARY KEY, c {declared})")
        for number, value in enumerate(natives):
            self.run(f"INSERT INTO {table} VALUES ({number}, {'NULL' if value is None else value})")
        return f"public.{table}"

    def change(self, table: str) -> None:
        self.run(
            f"DELETE FROM {table} WHERE id = 0",
            f"UPDATE {table} SET v = -1 WHERE id = 1",
            f"INSERT INTO {table} VALUES (1000, 10000)",
        )

    def fingerprint(self) -> object:
        """Every relation with its size, every row with the transaction that wrote it."""
        relations = self.connection.execute("SELECT relname, pg_relation_size(oid) FROM pg_class ORDER BY 1").fetchall()
        rows = self.connection.execute("SELECT id, v, xmin::text, xmax::text, ctid::text FROM numbers ORDER BY 1")
        own = ("pg_", "sql_")
        return [row for row in relations if not row[0].startswith(own)], rows.fetchall()

    def unreachable(self) -> Sequence[Source]:
        return [Source(f"postgresql://postgres@127.0.0.1:1/{DATABASE}"), Source(self.running.url("absent"))]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        self.run("CREATE TABLE many AS SELECT id, md5(id::text) AS v FROM generate_series(1, 600000) AS id")
        columns = (
            BoundColumn("id", parse_type("int"), source="id"),
            BoundColumn("v", parse_type("text"), source="v"),
            BoundColumn("late", parse_type("int"), expression="1 / (599990 - id)"),
        )
        return "public.many", ("id",), columns

    def close(self) -> None:
        self.connection.close()


def mark_of(kind: str) -> str:
    return "decode(%s, 'hex')" if kind == "bytea" else f"%s::text::{kind}"
