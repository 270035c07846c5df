"""A table ``orders`` in a real engine whose schema tests change, and sweeps over it that keep dead letters."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from edge_agent.build import Built, Copy, build_index
from edge_agent.connectors.contract import Source
from edge_agent.executors import SerialExecutor
from edge_agent.letters.desk import LetterDesk
from edge_agent.letters.sweep import SweepLetters
from paritree.core.deadletters import Letter, LetterAction
from paritree.core.digest import DatasetKeys
from paritree.core.messages import AskLetters, Letters, Progress
from paritree.core.profile import Binding, BoundColumn, Profile
from paritree.core.types import parse_type

MASTER_KEY = bytes(range(32))
_NUMBERS = itertools.count()


class Drifting(ABC):
    """``change`` alters the table in one of the ways ``added``, ``dropped``, ``retyped``; ``back`` undoes it."""

    server: ClassVar[str] = ""
    table: ClassVar[str] = "orders"

    def __init__(self, place: Path, server: Any) -> None:
        self.place = place
        self.running = server
        self.make()
        self.copy = self._copy()
        keys = DatasetKeys.of(MASTER_KEY, "")
        self.desk = LetterDesk("eu", place / "spool", {"orders": self.copy}, SerialExecutor, keys)

    def _copy(self, *ignored: str) -> Copy:
        kinds = {"id": parse_type("int"), "name": parse_type("text"), "amount": parse_type("int")}
        profile = Profile("orders", ("id",), kinds, ignored=ignored)
        columns = tuple(BoundColumn(name, kind, source=name) for name, kind in kinds.items())
        binding = Binding("orders", self.table, ("id",), columns)
        return Copy(self.source(), profile, binding, DatasetKeys.of(MASTER_KEY, "orders"), 2, "plain")

    def sweep(self, meanwhile: Callable[[], None] | None = None) -> Built:
        """One sweep; ``meanwhile`` is done when the scan is planned and nothing is read yet."""
        sweep_id = f"s{next(_NUMBERS)}"
        letters = SweepLetters(self.desk.store, self.copy.profile, self.copy.keys, sweep_id)
        todo = [meanwhile] if meanwhile else []

        def progress(_: Progress) -> None:
            while todo:
                todo.pop()()

        return build_index(self.copy, SerialExecutor(), self.place / sweep_id, progress, letters)

    @property
    def letters(self) -> tuple[Letter, ...]:
        return self.ask("list").letters

    def ask(self, action: str) -> Letters:
        (answer,) = self.desk.answer(AskLetters("orders", LetterAction(action)))
        return answer

    @abstractmethod
    def make(self) -> None:
        """The table with columns id (key), name and amount, and three rows."""

    @abstractmethod
    def source(self) -> Source:
        """What to connect to."""

    @abstractmethod
    def change(self, how: str) -> None:
        """Alter the table."""

    def close(self) -> None:  # noqa: B027 - files go with the test's folder
        """Remove what was made."""


class Sqlite(Drifting):
    def make(self) -> None:
        self.path = self.place / "shop.db"
        self.run(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT, amount INTEGER)",
            "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        )

    def source(self) -> Source:
        return Source(f"sqlite:///{self.path}")

    def run(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            for statement in statements:
                db.execute(statement)

    def change(self, how: str) -> None:
        retyped = "id INTEGER PRIMARY KEY, name TEXT, amount INTEGER"
        self.run(
            *{
                "added": ["ALTER TABLE orders ADD note TEXT"],
                "back": ["ALTER TABLE orders DROP note"],
                "dropped": ["ALTER TABLE orders DROP amount"],
                "retyped": [
                    "DROP TABLE orders",
                    f"CREATE TABLE orders ({retyped.replace('amount INTEGER', 'amount BIGINT')})",
                ],
                "key": ["DROP TABLE orders", f"CREATE TABLE orders ({retyped.replace(' PRIMARY KEY', '')})"],
                "gone": ["DROP TABLE orders"],
            }[how]
        )


class Parquet(Drifting):
    """Two files, so that one of them can be replaced by one with another schema."""

    TABLE: ClassVar[dict[str, Any]] = {"id": pa.int64(), "name": pa.utf8(), "amount": pa.int64()}
    table: ClassVar[str] = ""

    def make(self) -> None:
        self.write(0, self.TABLE)
        self.write(1, self.TABLE)

    def write(self, number: int, types: dict[str, Any], rows: int = 3) -> None:
        arrays = [pa.array(range(number * rows, number * rows + rows)).cast(kind) for kind in types.values()]
        partial = self.place / f"part{number}.new"
        pq.write_table(pa.table(arrays, names=list(types)), partial)
        partial.replace(self.place / f"part{number}.parquet")

    def source(self) -> Source:
        return Source(f"parquet:///{self.place}/part*.parquet")

    def change(self, how: str) -> None:
        types = {
            "added": {**self.TABLE, "note": pa.utf8()},
            "back": self.TABLE,
            "dropped": {name: kind for name, kind in self.TABLE.items() if name != "amount"},
            "retyped": {**self.TABLE, "amount": pa.int32()},
        }[how]
        self.write(0, types)
        self.write(1, types)


class Postgresql(Drifting):
    server: ClassVar[str] = "postgresql"
    table: ClassVar[str] = "public.orders"

    def make(self) -> None:
        self.database = f"drift_{uuid.uuid4().hex[:8]}"
        self.running.create_database(self.database)
        self.admin = self.running.connect(self.database)
        self.run(
            "CREATE TABLE orders (id bigint PRIMARY KEY, name text, amount bigint)",
            "INSERT INTO orders VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        )

    def source(self) -> Source:
        return Source(self.running.url(self.database))

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.admin.execute(statement)

    def change(self, how: str) -> None:
        self.run(
            *{
                "added": ["ALTER TABLE orders ADD note text"],
                "back": ["ALTER TABLE orders DROP note"],
                "dropped": ["ALTER TABLE orders DROP amount"],
                "retyped": ["ALTER TABLE orders ALTER amount TYPE int"],
                "key": ["ALTER TABLE orders DROP CONSTRAINT orders_pkey, ADD PRIMARY KEY (id, amount)"],
                "gone": ["DROP TABLE orders"],
            }[how]
        )

    def change_at_once(self, how: str) -> bool:
        """Whether the table can be altered now, without waiting for a lock."""
        self.run("SET lock_timeout = '200ms'")
        with contextlib.suppress(psycopg.errors.LockNotAvailable):
            self.change(how)
            return True
        return False

    def close(self) -> None:
        self.admin.close()


class Cassandra(Drifting):
    server: ClassVar[str] = "cassandra"

    def make(self) -> None:
        self.keyspace = f"drift_{uuid.uuid4().hex[:8]}"
        self._session = self.running.session()
        self.session = self._session.__enter__()
        replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
        self.session.execute(f"CREATE KEYSPACE {self.keyspace} WITH replication = {replication}")
        self.run("CREATE TABLE {ks}.orders (id bigint PRIMARY KEY, name text, amount bigint)")
        for i in range(3):
            self.run(f"INSERT INTO {{ks}}.orders (id, name, amount) VALUES ({i}, 'x', {i})")

    def run(self, statement: str) -> None:
        self.session.execute(statement.replace("{ks}", self.keyspace))

    def source(self) -> Source:
        return Source(f"{self.running.url}/{self.keyspace}")

    def change(self, how: str) -> None:
        if how == "retyped":  # Cassandra has no other way than another column of the name
            self.run("DROP TABLE {ks}.orders")
            self.run("CREATE TABLE {ks}.orders (id bigint PRIMARY KEY, name text, amount int)")
            return
        self.run(
            {
                "added": "ALTER TABLE {ks}.orders ADD note text",
                "back": "ALTER TABLE {ks}.orders DROP note",
                "dropped": "ALTER TABLE {ks}.orders DROP amount",
                "gone": "DROP TABLE {ks}.orders",
            }[how]
        )

    def close(self) -> None:
        self.run("DROP KEYSPACE {ks}")
        self._session.__exit__(None, None, None)
