"""What the catalogue says: names, keys, sizes, and who may read."""

from __future__ import annotations

import pytest
from connectors.pg_case import PgCase, bound, rows

from paritree.core.errors import ConfigError, ParitreeError, SourceError

pytestmark = pytest.mark.servers


def test_tables_lists_what_can_be_compared(pg: PgCase) -> None:
    pg.run(
        "CREATE EXTENSION postgres_fdw",
        "CREATE SCHEMA shop",
        'CREATE TABLE "Odd Name" (id int)',
        "CREATE TABLE shop.orders (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE shop.orders_1 PARTITION OF shop.orders DEFAULT",
        "CREATE VIEW shop.v AS SELECT 1 AS id",
        "CREATE MATERIALIZED VIEW shop.m AS SELECT 1 AS id",
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE FOREIGN TABLE shop.f (id int) SERVER s",
        "CREATE TEMP TABLE passing (id int)",
        "CREATE SEQUENCE shop.numbers",
        "CREATE INDEX ON shop.orders (id)",
    )
    names = pg.connector.tables()
    assert names == ['public."Odd Name"', "shop.f", "shop.m", "shop.orders", "shop.v"]
    for name in names:
        assert [column.name for column in pg.connector.describe(name).columns] == ["id"]


@pytest.mark.parametrize(
    ("create", "asked"),
    [
        ("public.orders", "orders"),
        ("public.orders", "public.orders"),
        ("public.orders", "ORDERS"),
        ("public.orders", "Public.Orders"),
        ("public.orders", '"public"."orders"'),
        ('public."Orders"', "Orders"),
        ('public."Orders"', "public.Orders"),
        ('public."Orders"', 'public."Orders"'),
        ('public."a.b"', "a.b"),
        ('public."a.b"', 'public."a.b"'),
        ('public."my table"', "my table"),
        ('public."say ""hi"" 100%; --"', 'say "hi" 100%; --'),
        ('public."say ""hi"" 100%; --"', 'public."say ""hi"" 100%; --"'),
        ('"Shop"."Zoë ☃"', "Shop.Zoë ☃"),
        ('"Shop".t', "{database}.Shop.t"),
    ],
)
def test_names(pg: PgCase, create: str, asked: str) -> None:
    pg.run('CREATE SCHEMA "Shop"', f"CREATE TABLE {create} (id int PRIMARY KEY)", f"INSERT INTO {create} VALUES (7)")
    binding = pg.bind(asked.format(database=pg.database))
    assert pg.scan(binding) == [{"id": 7}]
    assert pg.lookup(binding, (7,)) == [{"id": 7}]


def test_the_name_as_written_goes_before_the_lower_case_one(pg: PgCase) -> None:
    pg.run('CREATE TABLE "Orders" (a int)', "CREATE TABLE orders (b int)")
    assert pg.connector.describe("Orders").columns[0].name == "a"
    assert pg.connector.describe("orders").columns[0].name == "b"
    with pytest.raises(ConfigError):
        pg.connector.describe('"ORDERS"')


def test_unqualified_names_follow_the_search_path(pg: PgCase) -> None:
    pg.run("CREATE SCHEMA shop", "CREATE TABLE shop.orders (id int)")
    with pytest.raises(ConfigError):
        pg.connector.describe("orders")
    pg.run(f"ALTER DATABASE {pg.database} SET search_path = shop, public")
    assert pg.connect().describe("orders").columns[0].name == "id"


@pytest.mark.parametrize("asked", ["ordres", "public.ordres", "shop.orders"])
def test_an_absent_table_names_close_ones(pg: PgCase, asked: str) -> None:
    pg.run("CREATE TABLE orders (id int)", "CREATE TABLE unrelated (id int)")
    with pytest.raises(ConfigError, match=f"no table '{asked}' in database {pg.database}") as error:
        pg.connector.describe(asked)
    assert error.value.next_step.startswith("similar: public.orders")


@pytest.mark.parametrize("asked", ["", ".", "a.b.c.d", '"', '""', "x" * 200, "t\x00"])
def test_odd_names_of_absent_tables(pg: PgCase, asked: str) -> None:
    with pytest.raises(ParitreeError):
        pg.connector.describe(asked)


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("a int, b int, PRIMARY KEY (b, a)", ("b", "a")),
        ("a int, b int, PRIMARY KEY (b) INCLUDE (a)", ("b",)),
        ("a int NOT NULL UNIQUE, b int PRIMARY KEY DEFERRABLE", ("b",)),
        ("a int NOT NULL, b int NOT NULL, c int NOT NULL, UNIQUE (a, b), UNIQUE (c)", ("c",)),
        ("a int NOT NULL, b int NOT NULL, UNIQUE (b, a), UNIQUE (a, b)", ("b", "a")),
        ("a int UNIQUE, b int", ()),
        ("a int NOT NULL, b int, UNIQUE (a, b)", ()),
        ("a int NOT NULL UNIQUE DEFERRABLE, b int", ()),
        ("a int NOT NULL, b int", ()),
        ('a int, "odd ""key"" %" text PRIMARY KEY', ('odd "key" %',)),
    ],
)
def test_key(pg: PgCase, columns: str, key: tuple[str, ...]) -> None:
    pg.run(f"CREATE TABLE t ({columns})")
    assert pg.connector.describe("t").key == key


def test_partial_expression_and_plain_indexes_are_no_keys(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (a int NOT NULL, b text NOT NULL)",
        "CREATE UNIQUE INDEX ON t (a) WHERE a > 0",
        "CREATE UNIQUE INDEX ON t (lower(b))",
        "CREATE INDEX ON t (a)",
    )
    assert pg.connector.describe("t").key == ()


def test_key_of_a_partitioned_table(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b)) PARTITION BY HASH (a)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n",
        "ANALYZE t",
    )
    schema = pg.connector.describe("t")
    assert schema.key == ("a", "b")
    assert schema.rows_estimate == 1000


def test_nullability_and_estimates(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (a int NOT NULL, b int)",
        "INSERT INTO t SELECT n, n FROM generate_series(1, 500) n",
        "CREATE VIEW v AS SELECT * FROM t",
    )
    assert pg.connector.describe("t").rows_estimate == 0
    pg.run("ANALYZE t")
    schema = pg.connector.describe("t")
    assert [column.nullable for column in schema.columns] == [False, True]
    assert schema.rows_estimate == 500
    assert schema.consistent
    assert not schema.empty_is_null
    assert pg.connector.describe("v").rows_estimate == 500


def test_select_on_the_table_is_enough_for_everything(pg: PgCase) -> None:
    pg.run(
        "CREATE SCHEMA shop",
        "CREATE TYPE shop.mood AS ENUM ('ok')",
        "CREATE TABLE shop.t (id int PRIMARY KEY, m shop.mood)",
        "INSERT INTO shop.t SELECT n, 'ok' FROM generate_series(1, 3000) n",
        "ANALYZE shop.t",
    )
    reader = pg.role("reader", "GRANT USAGE ON SCHEMA shop", "GRANT SELECT ON shop.t")
    connector, binding = pg.connect(reader), pg.bind("shop.t")
    assert connector.tables() == ["shop.t"]
    assert connector.describe("shop.t").key == ("id",)
    with connector.plan(binding, 500) as plan:
        assert len(plan.shards) > 1
        assert len(pg.scan_plan(binding, plan, connector)) == 3000
        assert plan.position().point
    assert rows(connector.lookup(binding, [(5,)])) == [{"id": 5, "m": "ok"}]
    assert connector.advice("shop.t") == []


def test_a_table_without_select_says_the_grant(pg: PgCase) -> None:
    pg.run('CREATE SCHEMA "S h"', 'CREATE TABLE "S h".t (id int PRIMARY KEY, secret text)')
    binding = pg.bind('"S h".t')
    pg.role("reader")
    connector = pg.connect("reader")
    grants = ['GRANT USAGE ON SCHEMA "S h" TO "reader"', 'GRANT SELECT ON "S h".t TO "reader"']
    for grant in grants:
        for call in (lambda: connector.describe('"S h".t'), lambda: connector.plan(binding, 10)):
            with pytest.raises(ConfigError, match="may not") as error:
                call()
            assert grant in error.value.next_step
        pg.run(grant)
    assert connector.describe('"S h".t').key == ("id",)
    pg.run('REVOKE SELECT ON "S h".t FROM reader', 'GRANT SELECT (id) ON "S h".t TO reader')
    with pytest.raises(ConfigError, match="may not read") as error:
        connector.describe('"S h".t')
    assert "whole table" in error.value.next_step


def test_permission_lost_between_plan_and_scan(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)")
    reader = pg.role("reader", "GRANT SELECT ON t")
    connector, binding = pg.connect(reader), pg.bind("t")
    with connector.plan(binding, 10) as plan:
        shard = plan.shards[0]
        pg.run("REVOKE SELECT ON t FROM reader")
        with pytest.raises(ConfigError, match="may not read"):
            rows(connector.scan(binding, shard))


POLICY = (
    "CREATE TABLE t (id int PRIMARY KEY, owner text)",
    "INSERT INTO t SELECT n, CASE WHEN n % 2 = 0 THEN 'reader' ELSE 'other' END FROM generate_series(1, 100) n",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON t USING (owner = current_user)",
)


def test_a_row_policy_hides_rows_silently_from_a_session_that_lets_it(pg: PgCase) -> None:
    """The failure that row_security = off prevents."""
    pg.run(*POLICY)
    reader = pg.role("reader", "GRANT SELECT ON t")
    with pg.server.connect(pg.database, reader) as plain:
        assert plain.execute("SELECT count(*) FROM t").fetchone() == (50,)


def test_a_row_policy_is_an_error_everywhere(pg: PgCase) -> None:
    pg.run(*POLICY)
    reader = pg.role("reader", "GRANT SELECT ON t")
    connector, binding = pg.connect(reader), pg.bind("t")
    with pg.connector.plan(binding, 1000) as plan:
        calls = (
            lambda: connector.describe("t"),
            lambda: connector.plan(binding, 10),
            lambda: rows(connector.scan(binding, plan.shards[0])),
            lambda: rows(connector.lookup(binding, [(2,)])),
        )
        for call in calls:
            with pytest.raises(ConfigError, match="row security policy hides rows") as error:
                call()
            assert "BYPASSRLS" in error.value.next_step
    pg.run("ALTER ROLE reader BYPASSRLS")
    assert len(rows(connector.lookup(binding, [(n,) for n in range(1, 101)]))) == 100
    pg.run("ALTER TABLE t DISABLE ROW LEVEL SECURITY", "ALTER ROLE reader NOBYPASSRLS")
    assert len(pg.scan(binding, connector=connector)) == 100


def test_a_row_policy_beneath_a_view_or_expression_is_an_error_too(pg: PgCase) -> None:
    pg.run(
        *POLICY, "CREATE VIEW v WITH (security_invoker) AS SELECT * FROM t", "CREATE TABLE plain (id int PRIMARY KEY)"
    )
    pg.run("INSERT INTO plain VALUES (1)")
    reader = pg.role("reader", "GRANT SELECT ON t, v, plain")
    connector = pg.connect(reader)
    view = pg.bind("v", key=["id"])
    counted = pg.bind("plain", columns=[bound("id", "int"), bound("n", "int", expression="(SELECT count(*) FROM t)")])
    for binding in (view, counted):
        with pytest.raises(SourceError, match="row-level security") as error, connector.plan(binding, 10) as plan:
            pg.scan_plan(binding, plan, connector)
        assert "BYPASSRLS" in error.value.next_step


def test_an_owner_forced_under_the_policy(pg: PgCase) -> None:
    pg.run(*POLICY)
    pg.role("reader")
    pg.run("ALTER TABLE t OWNER TO reader")
    connector = pg.connect("reader")
    assert len(pg.scan(pg.bind("t"), connector=connector)) == 100
    pg.run("ALTER TABLE t FORCE ROW LEVEL SECURITY")
    with pytest.raises(ConfigError, match="row security"):
        connector.describe("t")
