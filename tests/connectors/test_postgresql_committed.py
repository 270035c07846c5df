"""Commit times of rows, as the server keeps them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from edge_agent.connectors.contract import VERSION, VERSION_TYPE, Source
from edge_agent.connectors.postgresql import PostgresqlConnector
from paritree.core.profile import Binding, BoundColumn
from paritree.core.types import parse_type

pytestmark = pytest.mark.servers


def versions(connector: PostgresqlConnector, binding: Any, *ids: int) -> dict[int, Any]:
    """The version of each row found, by id."""
    found: dict[int, Any] = {}
    for batch in connector.lookup_versioned(binding, [(i,) for i in ids]):
        assert batch.schema.field(VERSION).type == VERSION_TYPE
        found |= dict(zip(batch.column("id").to_pylist(), batch.column(VERSION).to_pylist(), strict=True))
    return found


def test_a_version_is_the_commit_time_of_the_row_as_it_is(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    began = time.time_ns() // 1_000
    pg.run(
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (3, 'c')", "UPDATE t SET v = 'x' WHERE id = 2"
    )
    found = versions(pg.connector, pg.bind("t"), 1, 2, 3, 4)
    assert set(found) == {1, 2, 3}
    assert began <= found[1]["at"] < found[3]["at"] < found[2]["at"] <= time.time_ns() // 1_000
    assert all(one["whole"] for one in found.values())
    (kept,) = pg.admin.execute(
        "SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint FROM t WHERE id = 2"
    ).fetchone()
    assert found[2]["at"] == kept  # to the microsecond


def test_rows_of_partitions_have_versions_and_views_have_none(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)",
        "INSERT INTO t VALUES (1, 'a'), (11, 'b')",
        "CREATE VIEW w AS SELECT * FROM t",
    )
    found = versions(pg.connector, pg.bind("t"), 1, 11)
    assert found[1] == found[11]
    assert found[1]["at"] > 0
    (batch,) = pg.connector.lookup_versioned(pg.bind("w", key=["id"]), [(1,), (11,)])
    assert batch.num_rows == 2
    assert VERSION not in batch.schema.names


def test_a_frozen_row_may_have_no_version_and_is_found_all_the_same(pg: PgCase) -> None:
    """Of the rows that initdb made, the server keeps no commit time."""
    columns = [BoundColumn(name, parse_type(kind), source=name) for name, kind in (("oid", "int"), ("nspname", "text"))]
    binding = Binding("d", "pg_catalog.pg_namespace", ("oid",), tuple(columns))
    (oid,) = pg.admin.execute("SELECT oid::bigint FROM pg_namespace WHERE nspname = 'pg_catalog'").fetchone()
    (batch,) = pg.connector.lookup_versioned(binding, [(oid,)])
    assert batch.column(VERSION).to_pylist() == [None]


def test_a_server_that_keeps_no_commit_times_gives_rows_without_versions() -> None:
    with PostgresqlServer({"track_commit_timestamp": "off"}) as server, server.connect() as admin:
        admin.execute("CREATE TABLE t (id int PRIMARY KEY)")
        admin.execute("INSERT INTO t VALUES (1)")
        with PostgresqlConnector.connect(Source(server.url())) as connector:
            binding = Binding("d", "t", ("id",), (BoundColumn("id", parse_type("int"), source="id"),))
            (batch,) = connector.lookup_versioned(binding, [(1,)])
    assert batch.num_rows == 1
    assert VERSION not in batch.schema.names
