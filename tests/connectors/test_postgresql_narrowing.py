"""What PostgreSQL is asked for where one bucket is wanted: by an index or a partition where there is one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from connectors.pg_case import PgCase, bound, rows

from paritree.core.profile import Binding, Profile
from paritree.core.scope import Bucket, Cut, Scope
from paritree.core.scope_labels import content
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers
ROWS = 20_000


def narrow(binding: Binding, kind: str, column: str, text: str) -> Binding:
    types = {each.name: each.type for each in binding.columns}
    cut = Cut.of(Scope("s", kind, (column,)), Profile("d", binding.key, types), bytes(32))
    return replace(binding, bucket=Bucket(cut, content(cut, text)))


def months(pg: PgCase, table: str) -> None:
    days = ROWS // 8
    pg.run(
        f"INSERT INTO {table} SELECT i, '2024-01-01Z'::timestamptz + i % {days} * interval '1 hour', 't' || i % 100"
        f" FROM generate_series(1, {ROWS}) i",
        f"ANALYZE {table}",
    )


def test_an_index_is_used_for_a_small_bucket_and_blocks_for_a_large_one(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id bigint PRIMARY KEY, seen timestamptz, tenant text)", "CREATE INDEX ON t (seen)")
    months(pg, "t")
    whole = pg.bind("t")
    day = narrow(whole, "day", "seen", "2024-02-01")
    with pg.connector.plan(day, 1_000) as plan:
        assert len(plan.shards) == 1
        assert plan.shards[0].rows_estimate < ROWS / 10
        found = rows(pg.connector.scan(day, plan.shards[0]))
    assert len(found) == 24 * 8
    year = narrow(whole, "year", "seen", "2024")
    with pg.connector.plan(year, 1_000) as plan:
        assert len(plan.shards) > 10
    assert len(pg.scan(year)) == ROWS
    assert pg.connector.asks(day)


def test_partitions_without_the_bucket_are_not_read(pg: PgCase) -> None:
    pg.run("CREATE TABLE p (id bigint, seen timestamptz, tenant text) PARTITION BY RANGE (seen)")
    for month in range(1, 5):
        bounds = f"FROM ('2024-0{month}-01Z') TO ('2024-0{month + 1}-01Z')"
        pg.run(f"CREATE TABLE p{month} PARTITION OF p FOR VALUES {bounds}")
    pg.run("CREATE TABLE rest PARTITION OF p DEFAULT")
    months(pg, "p")
    february = narrow(pg.bind("p", key=["id"]), "month", "seen", "2024-02")
    with pg.connector.plan(february, 500) as plan:
        assert len(plan.shards) == 1
        found = rows(pg.connector.scan(february, plan.shards[0]))
    assert len(found) == 29 * 24 * 8


def test_columns_of_many_types_are_asked_for_their_values(pg: PgCase) -> None:
    pg.run(
        "CREATE TYPE mood AS ENUM ('a', 'b')",
        "CREATE DOMAIN tag AS varchar(10)",
        "CREATE TABLE t (id int PRIMARY KEY, e mood, c char(4), v tag, n numeric, s smallint, j text, o oid)",
        "INSERT INTO t VALUES (1, 'a', 'x', 'x', 7.0, 7, '7', 7), (2, 'b', 'y', 'y', 8, 8, '8', 8)",
        "INSERT INTO t VALUES (3)",
    )
    types = {"n": "int", "j": "int", "c": parse_type({"type": "text", "rules": ["rtrim"]})}
    binding = pg.bind("t", types=types)
    for column, text, asks, given in (
        ("e", "a", True, [1]),
        ("e", "no mood", True, []),
        ("v", "x", True, [1]),
        ("n", "7", True, [1]),
        ("s", "8", True, [2]),
        ("s", "9" * 20, True, []),
        ("o", "7", True, [1]),
        ("o", "9" * 12, False, [1, 2, 3]),
        ("c", "x", False, [1, 2, 3]),
        ("c", "null", True, [3]),
        ("j", "7", False, [1, 2, 3]),
    ):
        one = narrow(binding, "value", column, text)
        assert (pg.connector.asks(one), [row["id"] for row in pg.scan(one)]) == (asks, given), (column, text)


def test_expressions_and_texts_that_the_database_cannot_hold(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a-1'), (2, 'b-2')")
    columns = [bound("id", "int", source="id"), bound("half", "text", expression="split_part(v, '-', 1)")]
    binding = pg.bind("t", columns=columns)
    assert [row["id"] for row in pg.scan(narrow(binding, "value", "half", "b"))] == [2]
    pg.admin.execute("CREATE DATABASE narrow_latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    latin = PgCase(pg.server, "narrow_latin")
    try:
        latin.run("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'é')")
        for text, asks in (("日", False), ("é", False), ("e", True)):
            one = narrow(latin.bind("t"), "value", "v", text)
            assert latin.connector.asks(one) is asks
            assert [row["id"] for row in latin.scan(one)] == ([] if asks else [1])
    finally:
        latin.close()
