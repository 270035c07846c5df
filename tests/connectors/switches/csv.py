"""Switches of CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from switches.base import Refused, Row, Switches, Typed, never, text_of
from switches.files import contents

from edge_agent.connectors.contract import Source
from paritree.core.profile import BoundColumn
from paritree.core.types import LogicalType, parse_type

NO_SQL = never("files have no expressions and no predicates")


class Csv(Switches):
    engine: ClassVar[str] = "csv"
    packages: ClassVar[tuple[str, ...]] = ("edge_agent.connectors.files",)
    other_rows: ClassVar[frozenset[str]] = frozenset({"files:INT96"})
    knows_key: ClassVar[bool] = False
    enforces_types: ClassVar[bool] = False
    when_changed: ClassVar[str] = "refused"
    samples: ClassVar[Mapping[str, Typed | Refused]] = {
        "files:csv": Typed("csv", "text", [("x", "x"), ("", ""), ("é\n", "é\n"), ('"q", p', '"q", p'), (" 7 ", " 7 ")]),
    }
    holes: ClassVar[Mapping[str, Any]] = {"test_expressions_and_where_are_the_engines_own": NO_SQL}

    def __init__(self, place: Any, server: Any) -> None:
        super().__init__(place, server)
        self.table = "numbers"

    @property
    def source(self) -> Source:
        options = {"block_bytes": "16384"} if self.table == "many" else {}
        return Source(f"csv:///{quote(str(self.place / self.table))}.csv", options)

    def create(self, table: str, columns: Mapping[str, LogicalType], key: Sequence[str], rows: Sequence[Row]) -> str:
        texts = [[text_of(value, kind) for value, kind in zip(row, columns.values(), strict=True)] for row in rows]
        return self.write(table, list(columns), texts)

    def write(self, table: str, names: Sequence[str], rows: Sequence[Sequence[str | None]]) -> str:
        self.table = table
        lines = [",".join(map(field, names)), *(",".join(map(field, row)) for row in rows)]
        (self.place / f"{table}.csv").write_text("".join(f"{line}\r\n" for line in lines), newline="")
        return table

    def create_typed(self, table: str, declared: Any, natives: Sequence[Any]) -> str:
        return self.write(table, ("id", "c"), [(str(number), value) for number, value in enumerate(natives)])

    def change(self, table: str) -> None:
        path = self.place / f"{table}.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], "1,-1", *lines[3:], "1000,10000", ""]))

    def fingerprint(self) -> object:
        return contents(self.place)

    def unreachable(self) -> Sequence[Source]:
        return [Source(f"csv:///{self.place}/absent*.csv"), Source("csv://host/x.csv")]

    def late_failure(self) -> tuple[str, tuple[str, ...], tuple[BoundColumn, ...]]:
        kind = parse_type("int")
        count = 200_000
        table = self.create("many", {"id": kind}, ["id"], [])
        with (self.place / f"{table}.csv").open("a") as file:
            file.writelines(f"{number}\n" for number in range(count))
            file.write("1,2\n")
        return table, ("id",), (BoundColumn("id", kind, source="id"),)


def field(value: str | None) -> str:
    """A NULL is an empty field, an empty text a quoted one."""
    return "" if value is None else '"' + value.replace('"', '""') + '"'
