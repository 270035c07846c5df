"""Switches of DuckDB."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import duckdb
import pyarrow as pa
from switches.base import INT64_MAX, INT64_MIN, Dead, Hole, Refused, Row, Switches, Typed, never, text_of
from switches.files import contents

from edge_agent.connectors.contract import Source
from edge_agent.connectors.duckdb.schema import quoted
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type

DECLARED = {"int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN", "text": "VARCHAR", "bytes": "BLOB"}
DECLARED |= {"decimal": "DECIMAL(30, 6)", "datetime": "TIMESTAMP", "timestamp": "TIMESTAMP WITH TIME ZONE"}
ENDS = [("'infinity'", INT64_MAX), ("'-infinity'", INT64_MIN)]


def whole(declared: str, low: int, high: int) -> Typed:
    return Typed(declared, "int", [(str(low), low), (str(high), high), ("0", 0)])


def moments(declared: str, logical: str, cases: Sequence[tuple[str, Any]]) -> Typed:
    zone = "+00" if logical == "timestamp" else ""
    both = [(f"'{text}{zone}'", value) for text, value in cases]
    return Typed(declared, logical, [*both, *ENDS])


MICRO = [
    ("1970-01-01 00:00:01.5", 1_500_000),
    ("1969-12-31 23:59:59.999999", -1),
    ("9999-12-31 23:59:59", 253_402_300_799_000_000),
]
SAMPLES: dict[str, Typed | Refused] = {
    "BOOLEAN": Typed("BOOLEAN", "bool", [("true", True), ("false", False)]),
    "TINYINT": whole("TINYINT", -(2**7), 2**7 - 1),
    "SMALLINT": whole("SMALLINT", -(2**15), 2**15 - 1),
    "INTEGER": whole("INTEGER", -(2**31), 2**31 - 1),
    "BIGINT": whole("BIGINT", -(2**63), 2**63 - 1),
    "HUGEINT": whole("HUGEINT", -(2**127), 2**127 - 1),
    "UTINYINT": whole("UTINYINT", 0, 2**8 - 1),
    "USMALLINT": whole("USMALLINT", 0, 2**16 - 1),
    "UINTEGER": whole("UINTEGER", 0, 2**32 - 1),
    "UBIGINT": whole("UBIGINT", 0, 2**64 - 1),
    "UHUGEINT": whole("UHUGEINT", 0, 2**128 - 1),
    "BIGNUM": Typed("BIGNUM", "int", [(f"'{10**60}'", 10**60), (f"'-{10**60}'", -(10**60)), ("'0'", 0)]),
    "FLOAT": Typed(
        "FLOAT", "float", [("1.5", 1.5), ("0.1", 0.10000000149011612), ("'nan'", math.nan), ("'-inf'", -math.inf)]
    ),
    "DOUBLE": Typed("DOUBLE", "float", [("0.1", 0.1), ("5e-324", 5e-324), ("'nan'", math.nan), ("'-0.0'", 0.0)]),
    "DECIMAL": Typed(
        "DECIMAL(38, 10)", "decimal", [("1.10", "1.1"), (f"-{'9' * 28}.{'9' * 10}", f"-{'9' * 28}.{'9' * 10}")]
    ),
    "VARCHAR": Typed("VARCHAR(5)", "text", [("''", ""), ("'é  '", "é  "), ("'a' || chr(0)", Dead("NUL"))]),
    "ENUM": Typed("ENUM('a', 'it''s')", "text", [("'it''s'", "it's"), ("'a'", "a")]),
    "BLOB": Typed("BLOB", "bytes", [("''::BLOB", b""), (r"'\xFF\x00'::BLOB", b"\xff\0")]),
    "DATE": Typed("DATE", "date", [("'2020-02-29'", 18321), ("'5877642-06-25 (BC)'", -(2**31) + 2), *ENDS]),
    "TIME": Typed(
        "TIME", "time", [("'00:00'", 0), ("'24:00:00'", 86_400_000_000), ("'10:20:30.000001'", 37_230_000_001)]
    ),
    "TIME_NS": Typed("TIME_NS", "time", [("'10:20:30.000001999'", 37_230_000_001)]),
    "TIMESTAMP_S": moments("TIMESTAMP_S", "datetime", [("1970-01-01 00:00:01", 1_000_000)]),
    "TIMESTAMP_MS": moments("TIMESTAMP_MS", "datetime", [("1969-12-31 23:59:59.999", -1_000)]),
    "TIMESTAMP": moments("TIMESTAMP", "datetime", MICRO),
    "TIMESTAMP_NS": moments("TIMESTAMP_NS", "datetime", [("1969-12-31 23:59:59.999999999", -1), ("1970-01-01", 0)]),
    "TIMESTAMP WITH TIME ZONE": moments("TIMESTAMPTZ", "timestamp", MICRO),
    "TIMESTAMPTZ_NS": moments("TIMESTAMPTZ_NS", "timestamp", [("1970-01-01 00:00:00.000001999", 1)]),
    "INTERVAL": Typed(
        "INTERVAL",
        "duration",
        [
            ("INTERVAL '14 months -3 days 90 seconds'", (14, -3, 90_000_000)),
            ("to_hours(3000000)", (0, 0, 10_800_000_000_000_000)),
            ("to_microseconds(-9223372036854775808)", (0, 0, INT64_MIN)),
            ("INTERVAL '-25 months' - INTERVAL '1.5 seconds'", (-25, 0, -1_500_000)),
        ],
    ),
    "UUID": Typed("UUID", "uuid", [("'00010203-0405-0607-0809-0a0b0c0d0e0f'", bytes(range(16)))]),
    "JSON": Typed("JSON", "json", [("""'{"b": [1, 2.50], "a": null}'""", '{"a":null,"b":[1,2.5]}'), ("'7'", "7")]),
    "LIST": Typed(
        "DATE[][]", "list<list<date>>", [("[['infinity'::DATE, NULL], []]", [[INT64_MAX, None], []]), ("[]", [])]
    ),
    "ARRAY": Typed("UHUGEINT[2]", "list<int>", [(f"[{2**128 - 1}, NULL]", [2**128 - 1, None])]),
    "MAP": Typed(
        "MAP(VARCHAR, TIMESTAMP)",
        "map<text, datetime>",
        [("MAP {'x': '-infinity'::TIMESTAMP, 'y': NULL}", [("x", INT64_MIN), ("y", None)])],
    ),
    "STRUCT": Typed(
        """STRUCT("a b" ENUM('x'), c INTEGER[2])""",
        "struct{a b: text, c: list<int>}",
        [
            ("{'a b': 'x', 'c': [1, 2]}", {"a b": "x", "c": [1, 2]}),
            ("{'a b': NULL, 'c': NULL}", {"a b": None, "c": None}),
        ],
        LogicalType("struct", fields=(("a b", parse_type("text")), ("c", parse_type("list<int>")))),
    ),
    "TIME WITH TIME ZONE": Refused("TIMETZ"),
    "BIT": Refused("BIT"),
    "UNION": Refused("UNION(a INTEGER, b VARCHAR)"),
    "VARIANT": Refused("VARIANT"),
    "GEOMETRY": Refused("GEOMETRY"),
    "TUPLE": Refused("AS SELECT 0 AS id, row(1, 2) AS c"),
    '"NULL"': Refused('"NULL"'),
    "TYPE": Refused("TYPE"),
}


class Duckdb(Switches):
    engine: ClassVar[str] = "duckdb"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.duckdb",)
    when_changed: ClassVar[str] = "refused"
    holes: ClassVar[Mapping[str, Hole]] = {
        "test_each_type[duckdb:TYPE]": never("DuckDB lets no table have a column of type TYPE"),
    }
    samples: ClassVar[Mapping[str, Typed | Refused]] = {f"duckdb:{name}": sample for name, sample in SAMPLES.items()}

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        self.path = place / "store.duckdb"
        self.run("SELECT 1")

    @property
    def source(self) -> Source:
        return Source(f"duckdb:///{quote(str(self.path))}")

    def run(self, *statements: str, path: Any = None) -> None:
        with duckdb.connect(str(path or self.path)) as connection:
            for statement in statements:
                connection.execute(statement).fetchall()

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        kinds = {name: DECLARED.get(kind.name, kind.name.upper()) for name, kind in columns.items()}
        parts = [f"{quoted(name)} {kind}" for name, kind in kinds.items()]
        parts.append(f"PRIMARY KEY ({', '.join(map(quoted, key))})")
        texts = [[text_of(value, kind) for value, kind in zip(row, columns.values(), strict=True)] for row in rows]
        given = pa.table({f"c{i}": pa.array([row[i] for row in texts], pa.utf8()) for i in range(len(columns))})
        read = [f"unhex(c{i})" if kind == "BLOB" else f"c{i}::{kind}" for i, kind in enumerate(kinds.values())]
        with duckdb.connect(str(self.path)) as connection:
            connection.execute(f"CREATE TABLE {quoted(table)} ({', '.join(parts)})").fetchall()
            connection.register("given", given)
            connection.execute(f"INSERT INTO {quoted(table)} SELECT {', '.join(read)} FROM given").fetchall()
        return table

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        if declared.startswith("AS "):
            self.run(f"CREATE TABLE {table} {declared}")
            return table
        inserts = [f"INSERT INTO {table} VALUES ({n}, {'NULL' if v is None else v})" for n, v in enumerate(natives)]
        self.run(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, c {declared})", *inserts)
        return table

    def change(self, table: str) -> None:
        """DuckDB lets nobody write while a plan is open, so the file is replaced, as a nightly export would."""
        copy = self.place / "new.duckdb"
        shutil.copy(self.path, copy)
        self.run(
            f"DELETE FROM {table} WHERE id = 0",
            f"UPDATE {table} SET v = -1 WHERE id = 1",
            f"INSERT INTO {table} VALUES (1000, 10000)",
            path=copy,
        )
        os.replace(copy, self.path)

    def fingerprint(self) -> object:
        return contents(self.place)

    def unreachable(self) -> Sequence[Source]:
        (self.place / "text.duckdb").write_text("this is no database " * 1000)
        return [
            Source("duckdb://"),
            *(Source(f"duckdb:///{self.place}/{name}") for name in ("absent.db", "text.duckdb")),
        ]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        self.run("CREATE TABLE many AS SELECT range AS id, md5(range::VARCHAR) AS v FROM range(1200000)")
        late = "CASE WHEN id > 1190000 THEN error('late') ELSE v END"
        return (
            "many",
            ("id",),
            (
                BoundColumn("id", parse_type("int"), source="id"),
                BoundColumn("late", parse_type("text"), expression=late),
            ),
        )
