"""Switches of SQLite."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar
from urllib.parse import quote

from switches.base import Dead, Refused, Row, Switches, Typed, text_of
from switches.files import contents

from edge_agent.connectors.contract import Source
from edge_agent.connectors.sqlite.schema import quoted
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type

DECLARED = {"int": "INTEGER", "float": "REAL", "bytes": "BLOB", "bool": "BOOLEAN", "text": "TEXT"}
"""Logical type -> declared type, where it is not the same word in capitals."""
INT = [
    (0, 0),
    (-(2**63), -(2**63)),
    (2**63 - 1, 2**63 - 1),
    ("12", 12),
    (1.5, Dead("REAL storage")),
    ("x", Dead("number")),
]
FLOAT = [(1.5, 1.5), (7, 7.0), (math.inf, math.inf), ("NaN", math.nan), (5e-324, 5e-324), (b"1", Dead("BLOB storage"))]
DECIMAL = [(1, "1"), ("1.10", "1.1"), (0.1, "0.1"), ("NaN", "NaN"), (1e300, "1e300"), (b"1", Dead("BLOB storage"))]
TEXT = [("é\n", "é\n"), ("", ""), (b"x", Dead("BLOB storage")), (7, "7")]
BOOL = [(1, True), (0, False), ("true", True), (2, Dead("other than 0 and 1")), (1.5, Dead("REAL storage"))]
DATE = [("2020-02-29", 18321), ("infinity", 2**63 - 1), (18321, Dead("date(column, 'unixepoch')")), ("x", Dead("date"))]
TIME = [("10:20", 37_200_000_000), ("24:00:00", 86_400_000_000), (7, Dead("time(column, 'unixepoch')"))]
LOCAL = [
    ("1970-01-01 00:00:01.5", 1_500_000),
    ("1970-01-01T00:00:01", 1_000_000),
    (1, Dead("datetime(column, 'unixepoch')")),
    (2440587.5, Dead("a REAL in a datetime column")),
    ("1970-01-01 00:00:01Z", Dead("zone")),
]
INSTANT = [("1970-01-01T02:00:01+02:00", 1_000_000), (1, Dead("|| 'Z'")), ("1970-01-01 00:00:01", Dead("zone"))]
ID = bytes(range(16))
UUID = [("00010203-0405-0607-0809-0A0B0C0D0E0F", ID), (ID, ID), (b"x", Dead("BLOB storage")), ("x", Dead("uuid"))]
JSON = [
    ('{"a": [1, 2.50]}', '{"a":[1,2.5]}'),
    ("7", "7"),
    ("1.10", "1.1"),
    ("{", Dead("JSON")),
    (b"1", Dead("json(column)")),
]


def typed(declared: str, logical: str, cases: Sequence[tuple[Any, Any]], read_as: str = "") -> Typed:
    return Typed(declared, logical, cases, read_as)


class Sqlite(Switches):
    engine: ClassVar[str] = "sqlite"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.sqlite",)
    enforces_types: ClassVar[bool] = False
    when_changed: ClassVar[str] = "interval"
    samples: ClassVar[Mapping[str, Typed | Refused]] = {
        f"sqlite:{name}": sample
        for name, sample in {
            **{
                name: typed(name, "int", INT)
                for name in ("INTEGER", "INT", "TINYINT", "SMALLINT", "MEDIUMINT", "BIGINT", "INT2", "INT8")
            },
            "UNSIGNED BIG INT": typed("UNSIGNED BIG INT", "int", [*INT, (str(2**64), Dead("REAL storage"))]),
            **{name: typed(name, "float", FLOAT) for name in ("REAL", "DOUBLE", "DOUBLE PRECISION", "FLOAT")},
            "NUMERIC": typed("NUMERIC(10, 2)", "decimal", DECIMAL),
            "DECIMAL": typed("decimal(10,2)", "decimal", DECIMAL),
            **{name: typed(name, "text", TEXT) for name in ("TEXT", "CLOB")},
            **{
                name: typed(f"{name}(20)", "text", TEXT)
                for name in (
                    "VARCHAR",
                    "VARYING CHARACTER",
                    "CHAR",
                    "CHARACTER",
                    "NCHAR",
                    "NATIVE CHARACTER",
                    "NVARCHAR",
                )
            },
            "BLOB": typed("BLOB", "bytes", [(b"", b""), (b"\xff\0", b"\xff\0"), ("x", Dead("TEXT storage"))]),
            **{name: typed(name, "bool", BOOL) for name in ("BOOLEAN", "BOOL")},
            "DATE": typed("DATE", "date", DATE),
            "TIME": typed("TIME", "time", TIME),
            **{name: typed(name, "datetime", LOCAL) for name in ("DATETIME", "TIMESTAMP")},
            **{name: typed(name, "timestamp", INSTANT) for name in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")},
            **{name: typed(name, "uuid", UUID) for name in ("UUID", "GUID")},
            "INET": typed("INET", "inet", [("10.0.0.1/8", "10.0.0.1/8"), ("x", Dead("address")), (7, Dead("INTEGER"))]),
            "JSON": typed("JSON", "json", JSON),
            "": typed("", "text", [("x", "x"), (7, Dead("INTEGER storage")), (b"x", Dead("BLOB storage"))]),
            "ANY": typed("ANY", "text", [(7, 7), ("8", 8), (b"x", Dead("BLOB storage"))], read_as="int"),
            "JSONB": Refused("JSONB"),
        }.items()
    }

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        self.path = place / "store.db"
        self.run("SELECT 1")
        self.path.touch()

    @property
    def source(self) -> Source:
        return Source(f"sqlite:///{quote(str(self.path))}")

    def run(self, statement: str, rows: Sequence[Sequence[Any]] = ((),)) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(statement, rows) if statement.startswith("INSERT") else connection.execute(statement)

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        parts = [f"{quoted(name)} {DECLARED.get(kind.name, kind.name.upper())}" for name, kind in columns.items()]
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
        self.run(f"CREATE TABLE {quoted(table)} ({', '.join(parts)})")
        kinds = list(columns.values())
        stored = [[native(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in rows]
        self.run(f"INSERT INTO {quoted(table)} VALUES ({', '.join('?' * len(kinds))})", stored)
        return table

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        self.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, c {declared})")
        self.run(f"INSERT INTO {table} VALUES (?, ?)", list(enumerate(natives)))
        return table

    def change(self, table: str) -> None:
        self.run(f"DELETE FROM {table} WHERE id = 0")
        self.run(f"UPDATE {table} SET v = -1 WHERE id = 1")
        self.run(f"INSERT INTO {table} VALUES (1000, 10000)")

    def fingerprint(self) -> object:
        return contents(self.place)

    def unreachable(self) -> Sequence[Source]:
        (self.place / "text.db").write_text("this is no database " * 100)
        names = ("absent.db", "text.db", "a?mode=rwc")
        return [Source("sqlite://"), *(Source(f"sqlite:///{self.place}/{name}") for name in names)]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        table = self.create("many", {"id": parse_type("int")}, ["id"], [(number,) for number in range(40_000)])
        late = "CASE WHEN id > 36000 THEN abs(-9223372036854775807 - 1) ELSE id END"
        kind = parse_type("int")
        return table, ("id",), (BoundColumn("id", kind, source="id"), BoundColumn("late", kind, expression=late))


def native(value: Any, kind: LogicalType) -> Any:
    """A plain value as an application stores it in SQLite."""
    if kind.name == "float" and value is not None and math.isnan(value):
        return "NaN"  # SQLite stores the float as NULL
    return value if kind.name in ("int", "float", "text", "bytes", "bool") else text_of(value, kind)
