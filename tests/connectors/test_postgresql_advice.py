"""What doctor tells about a table, each sentence with its fix."""

from __future__ import annotations

import pytest
from connectors.pg_case import PgCase
from servers.postgresql import PostgresqlServer

from paritree.core.errors import ConfigError

pytestmark = pytest.mark.servers


def test_nothing_to_say(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, amount numeric(12,2), at timestamptz)")
    assert pg.connector.advice("t") == ["public.t has no statistics, so shards are cut by a guess: ANALYZE public.t."]
    pg.run("INSERT INTO t VALUES (1)", "ANALYZE t")
    assert pg.connector.advice("t") == []


def test_key_identity_types_and_case(pg: PgCase) -> None:
    pg.run(
        "CREATE EXTENSION citext",
        "CREATE TABLE t (a int, m money, j json, c citext)",
        "INSERT INTO t VALUES (1)",
        "ANALYZE t",
    )
    said = pg.connector.advice("t")
    assert [sentence for sentence in said if "primary key nor a unique index" in sentence and "--key" in sentence]
    assert [sentence for sentence in said if "REPLICA IDENTITY FULL" in sentence and "public.t" in sentence]
    assert [sentence for sentence in said if "column m (money) is not compared" in sentence and '"m"::text' in sentence]
    assert [sentence for sentence in said if "column j (json) is compared without white space" in sentence]
    assert [sentence for sentence in said if "column c" in sentence and "casefold" in sentence]
    pg.run("ALTER TABLE t REPLICA IDENTITY FULL")
    assert not [sentence for sentence in pg.connector.advice("t") if "REPLICA IDENTITY" in sentence]


@pytest.mark.parametrize(
    ("identity", "fails"),
    [("DEFAULT", False), ("NOTHING", True), ("FULL", False), ("USING INDEX t_b", False)],
)
def test_replica_identity_as_production_will_see_it(pg: PgCase, identity: str, fails: bool) -> None:
    """The sentence is there exactly when a published table would refuse an UPDATE."""
    pg.run(
        "CREATE TABLE t (a int PRIMARY KEY, b int NOT NULL)",
        "CREATE UNIQUE INDEX t_b ON t (b)",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
        "INSERT INTO t VALUES (1, 1)",
        "ANALYZE t",
    )
    said = [sentence for sentence in pg.connector.advice("t") if "no replica identity" in sentence]
    assert bool(said) == fails
    pg.run("CREATE PUBLICATION p FOR TABLE t")
    if fails:
        with pytest.raises(Exception, match="replica identity"):
            pg.run("UPDATE t SET b = 2")
        pg.run(said[0].partition("run ")[2].removesuffix("."))
        assert not [sentence for sentence in pg.connector.advice("t") if "no replica identity" in sentence]
    pg.run("UPDATE t SET b = 2")


def test_rights_and_policies(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "ANALYZE t")
    pg.role("reader")
    connector = pg.connect("reader")
    assert connector.advice("t")[0].endswith(
        'may not read public.t: GRANT SELECT ON public.t TO "reader" (on the whole table: scans read it by block).'
    )
    pg.run("GRANT SELECT ON t TO reader", "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert "BYPASSRLS" in connector.advice("t")[0]
    with pytest.raises(ConfigError, match="no table"):
        connector.advice("absent")


def test_views_say_that_they_have_no_key(pg: PgCase) -> None:
    pg.run("CREATE VIEW v AS SELECT 1 AS id")
    assert pg.connector.advice("v") == [
        "the view public.v has no primary key nor a unique index over NOT NULL columns: "
        "add one, or name the key columns with key = [...] or --key."
    ]


def test_wal_level() -> None:
    with PostgresqlServer({"wal_level": "replica"}) as server:
        server.create_database("own")
        case = PgCase(server, "own")
        case.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", "ANALYZE t")
        (sentence,) = case.connector.advice("t")
        assert "wal_level is replica" in sentence
        assert "ALTER SYSTEM SET wal_level = 'logical'" in sentence
        case.close()
