"""A folder with tables, good and bad, and the command line in it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from typer.testing import CliRunner

from paritree.cli.main import app

SECRET = "s3cret-pa55"
DOWN = "postgresql://u@127.0.0.1:1/x"
STATEMENTS = (
    "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, at TIMESTAMP)",
    "INSERT INTO orders VALUES (1, 'x', '2020-01-01 00:00:00'), (2, 'y', '2020-01-01 00:00:00')",
    "CREATE TABLE empty (id INTEGER PRIMARY KEY, v TEXT)",
    "CREATE TABLE nulls (id INT, v TEXT)",
    "INSERT INTO nulls VALUES (1, 'a'), (2, 'b'), (NULL, 'c')",
    "CREATE TABLE twice (id INT, v TEXT)",
    "INSERT INTO twice VALUES (1, 'a'), (1, 'a'), (2, 'b')",
    "CREATE TABLE misfits (id INTEGER PRIMARY KEY, v INTEGER)",
    "INSERT INTO misfits VALUES (1, 7), (2, 'seven')",
)


@dataclass(frozen=True)
class Said:
    """What a command answered: exit code, the JSON document of its ``--json`` run, and what people saw on stderr."""

    code: int
    document: Any
    stderr: str
    stdout: str

    @property
    def error(self) -> str:
        """Message and next step as a program gets them."""
        return f"{self.document['error']['message']}\n{self.document['error']['next_step']}"

    @property
    def reasons(self) -> str:
        """Every reason of a report."""
        return "\n".join(verdict["reason"] for verdict in self.document["verdicts"])


class Shop:
    """A folder with tables, good and bad, and the command line in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("a.db", "b.db"):
            with closing(sqlite3.connect(folder / name)) as connection, connection:
                for statement in STATEMENTS:
                    connection.execute(statement)

    def sqlite(self, region: str, table: str = "orders", file: str = "") -> str:
        file = file or {"eu": "a.db"}.get(region, "b.db")
        return f"{region}=sqlite:///{self.folder}/{file}" + (f"#{table}" if table else "")

    def csv(self, region: str, text: str) -> str:
        path = self.folder / f"{region}.csv"
        path.write_text(text)
        return f"{region}=csv:///{path}"

    def parquet(self, region: str, **columns: pa.Array) -> str:
        path = self.folder / f"{region}.parquet"
        pq.write_table(pa.table(columns), path)
        return f"{region}=parquet:///{path}"

    @property
    def orders(self) -> tuple[str, str]:
        return self.sqlite("eu"), self.sqlite("us")

    def run(self, *arguments: str) -> Said:
        """Run the command twice, for people and with ``--json``: both say the same, and nobody sees a traceback."""
        people = CliRunner().invoke(app, list(arguments))
        program = CliRunner().invoke(app, [*arguments, "--json"])
        assert people.exit_code == program.exit_code, (people.output, program.output)
        for result in (people, program):
            assert "Traceback" not in result.output
            assert SECRET not in result.output
        document = json.loads(program.stdout) if program.stdout else None
        assert program.stdout.count("\n") <= 1
        return Said(people.exit_code, document, people.stderr, people.stdout)

    def refused(self, *arguments: str) -> Said:
        """Exit 2, nothing compared, a next step, nothing on stdout but the error."""
        said = self.run(*arguments)
        assert said.code == 2, (said.stdout, said.stderr)
        assert set(said.document) == {"error"}
        assert said.document["error"]["exit_code"] == 2
        assert said.stdout == ""
        assert "error" in said.stderr.lower()
        return said

    def unknown(self, *arguments: str) -> Said:
        """Exit 3 with a report whose verdict is not equal anywhere."""
        said = self.run("diff", *arguments, "--lag-max", "0")
        assert said.code == 3, (said.stdout, said.stderr)
        assert said.document["verdict"] == "unknown"
        assert all(verdict["verdict"] != "equal" for verdict in said.document["verdicts"])
        return said
