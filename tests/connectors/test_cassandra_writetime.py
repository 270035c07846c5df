"""Write times of rows, and when they are those of the whole row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, bound, keyspace

from edge_agent.connectors.contract import VERSION, VERSION_TYPE

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def ks(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "writetimes") as made:
        made.run("CREATE TYPE {ks}.pair (a int, b text)")
        yield made


def versions(ks: Keyspace, table: str, *keys: Any, only: tuple[str, ...] = ()) -> list[tuple[int, bool] | None]:
    """The version of each row found, in the order of the keys."""
    with ks.connect() as connector:
        binding = bound(connector, table, (), *only)
        out: dict[Any, tuple[int, bool] | None] = {}
        for batch in connector.lookup_versioned(binding, [(key,) for key in keys]):
            assert batch.schema.field(VERSION).type == VERSION_TYPE
            for key, one in zip(batch.column("id").to_pylist(), batch.column(VERSION).to_pylist(), strict=True):
                out[key] = None if one is None else (one["at"], one["whole"])
        return [out[key] for key in keys]


def test_a_version_is_the_newest_cells(ks: Keyspace) -> None:
    ks.create("t", "id int PRIMARY KEY, a text, b int")
    ks.run("INSERT INTO {ks}.t (id, a, b) VALUES (1, 'x', 1) USING TIMESTAMP 1000")
    ks.run("INSERT INTO {ks}.t (id, a, b) VALUES (2, 'x', 1) USING TIMESTAMP 1000")
    ks.run("UPDATE {ks}.t USING TIMESTAMP 2000 SET b = 2 WHERE id = 2")
    ks.run("INSERT INTO {ks}.t (id, a, b) VALUES (3, 'x', 1) USING TIMESTAMP 1000")
    ks.run("DELETE a FROM {ks}.t USING TIMESTAMP 3000 WHERE id = 3")
    ks.run("INSERT INTO {ks}.t (id) VALUES (4) USING TIMESTAMP 1000")
    # one write; a newer cell; a deleted cell, of which nothing says when; no cell at all
    assert versions(ks, "t", 1, 2, 3, 4) == [(1000, True), (2000, False), (1000, False), None]


def test_cells_that_are_not_compared_do_not_count(ks: Keyspace) -> None:
    ks.create("u", "id int PRIMARY KEY, a text, b int")
    ks.run("INSERT INTO {ks}.u (id, a, b) VALUES (1, 'x', 1) USING TIMESTAMP 1000")
    ks.run("UPDATE {ks}.u USING TIMESTAMP 2000 SET b = 2 WHERE id = 1")
    assert versions(ks, "u", 1, only=("id", "a")) == [(1000, True)]


def test_collections_have_no_time_of_their_own_unless_frozen(ks: Keyspace) -> None:
    ks.create("c", "id int PRIMARY KEY, a text, s set<int>, f frozen<set<int>>, p pair, q frozen<pair>")
    ks.run("INSERT INTO {ks}.c (id, a, s, f, p, q) VALUES (1, 'x', {1}, {1}, {a: 1}, {a: 1}) USING TIMESTAMP 1000")
    assert versions(ks, "c", 1) == [(1000, False)]
    assert versions(ks, "c", 1, only=("id", "a", "f", "q")) == [(1000, True)]
    with ks.connect() as connector:
        (batch,) = connector.lookup_versioned(bound(connector, "c", (), "id", "s", "p"), [(1,)])
    assert VERSION not in batch.schema.names


def test_static_columns_and_rows_of_many(ks: Keyspace) -> None:
    ks.create("s", "p int, id int, a text, s text static, PRIMARY KEY (p, id)")
    for number in range(5):
        ks.run(f"INSERT INTO {{ks}}.s (p, id, a) VALUES (1, {number}, 'x') USING TIMESTAMP {1000 + number}")
    ks.run("INSERT INTO {ks}.s (p, s) VALUES (1, 'y') USING TIMESTAMP 1002")
    with ks.connect() as connector:
        binding = bound(connector, "s")
        batches = list(connector.lookup_versioned(binding, [(1, number) for number in range(5)]))
    told = {
        key: (one["at"], one["whole"])
        for batch in batches
        for key, one in zip(batch.column("id").to_pylist(), batch.column(VERSION).to_pylist(), strict=True)
    }
    assert told == {0: (1002, False), 1: (1002, False), 2: (1002, True), 3: (1003, False), 4: (1004, False)}


def test_views_counters_and_keys_alone_have_no_version(ks: Keyspace) -> None:
    ks.create("n", "id int PRIMARY KEY, c counter")
    ks.run("UPDATE {ks}.n SET c = c + 1 WHERE id = 1")
    ks.create("k", "id int PRIMARY KEY")
    ks.run("INSERT INTO {ks}.k (id) VALUES (1)")
    with ks.connect() as connector:
        for table in ("n", "k"):
            (batch,) = connector.lookup_versioned(bound(connector, table), [(1,)])
            assert batch.num_rows == 1
            assert VERSION not in batch.schema.names
