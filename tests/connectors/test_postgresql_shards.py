"""What is cut and how: partitions, inheritance, views, foreign tables, expressions and predicates."""

from __future__ import annotations

from typing import Any

import pytest
from connectors.pg_case import PgCase, bound

from edge_agent.connectors.contract import Shard
from edge_agent.connectors.postgresql import keyranges, shards
from paritree.core.errors import ConfigError

pytestmark = pytest.mark.servers


def plan_of(pg: PgCase, table: str, shard_rows: int, **how: Any) -> tuple[Shard, ...]:
    with pg.connector.plan(pg.bind(table, **how), shard_rows) as plan:
        return plan.shards


def ids(found: list[dict[str, Any]]) -> list[Any]:
    return sorted(row["id"] for row in found)


@pytest.mark.parametrize("setup", ["", "ANALYZE t", "VACUUM t"])
@pytest.mark.parametrize("count", [0, 1, 5_000])
def test_plain_table(pg: PgCase, setup: str, count: int) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, v text)")
    pg.run(f"INSERT INTO t SELECT n, repeat('v', 80) FROM generate_series(1, {count}) n")
    if setup:
        pg.run(setup)
    assert ids(pg.scan(pg.bind("t"), 700)) == list(range(1, count + 1))
    found = plan_of(pg, "t", 700)
    assert [shard.number for shard in found] == list(range(len(found)))
    if count == 5_000 and setup:
        assert 6 <= len(found) <= 9
        assert abs(sum(shard.rows_estimate for shard in found) - count) < 200
        assert found[1].label.startswith("public.t blocks ")


def test_shards_of_one_row_and_of_everything(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 2000)", "ANALYZE t")
    assert len(plan_of(pg, "t", 1)) == 9  # one block each: rows of a block stay together
    assert len(plan_of(pg, "t", 10**9)) == 1


def test_nested_partitions_are_cut_one_by_one_and_small_ones_share_a_shard(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE t_eu PARTITION OF t FOR VALUES IN ('eu') PARTITION BY RANGE (id)",
        *(f"CREATE TABLE t_eu_{n} PARTITION OF t_eu FOR VALUES FROM ({n}000) TO ({n + 1}000)" for n in range(10)),
        "CREATE TABLE t_rest (region text, extra int, v text, id int NOT NULL)",  # columns in another order
        "ALTER TABLE t_rest DROP COLUMN extra, ALTER region SET NOT NULL",
        "ALTER TABLE t ATTACH PARTITION t_rest DEFAULT",
        "INSERT INTO t SELECT n, 'eu', 'v' FROM generate_series(0, 9999) n",
        "INSERT INTO t SELECT n, 'us', 'v' FROM generate_series(0, 9999) n",
        "ANALYZE t",
    )
    found = plan_of(pg, "t", 4_000)
    assert [len(shard.range["pieces"]) for shard in found] == [4, 4, 2, 1, 1, 1]
    assert found[0].label == "public.t_eu_0 blocks 0..; and 3 more"
    scanned = pg.scan(pg.bind("t"), 4_000)
    assert sorted((row["region"], row["id"]) for row in scanned) == [
        (r, n) for r in ("eu", "us") for n in range(10_000)
    ]


def test_partitioned_table_without_partitions(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)")
    assert len(plan_of(pg, "t", 100)) == 1
    assert pg.scan(pg.bind("t")) == []


def test_inheriting_tables_belong_to_their_parent_and_only_once(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE left_child (more int) INHERITS (t)",
        "CREATE TABLE right_child () INHERITS (t)",
        "CREATE TABLE grandchild () INHERITS (left_child, right_child)",
        "INSERT INTO t VALUES (1)",
        "INSERT INTO left_child VALUES (2)",
        "INSERT INTO right_child VALUES (3)",
        "INSERT INTO grandchild VALUES (4)",
    )
    binding = pg.bind("t")
    assert ids(pg.scan(binding)) == [1, 2, 3, 4]
    assert ids(pg.lookup(binding, *((n,) for n in range(9)))) == [1, 2, 3, 4]
    assert ids(pg.scan(pg.bind("left_child", key=["id"]))) == [2, 4]


@pytest.fixture
def viewed(pg: PgCase) -> PgCase:
    pg.run(
        "CREATE TABLE base (id int PRIMARY KEY, v text)",
        "INSERT INTO base SELECT n * 7, 'v' || n FROM generate_series(1, 20000) n",
        "ANALYZE base",
        "CREATE VIEW v AS SELECT id, v FROM base WHERE id % 2 = 0",
    )
    return pg


def test_view_by_key_ranges(viewed: PgCase) -> None:
    binding = viewed.bind("v", key=["id"])
    with viewed.connector.plan(viewed.bind("v", key=["id"]), 10) as plan:
        assert len(plan.shards) > 5
        assert plan.position().point
        pieces = [shard.range["pieces"][0] for shard in plan.shards]
        assert [piece.get("low") for piece in pieces[1:]] == [piece.get("high") for piece in pieces[:-1]]
        viewed.run("DELETE FROM base WHERE id < 70000")
        assert ids(viewed.scan_plan(binding, plan)) == [n * 7 for n in range(1, 20_001) if n * 7 % 2 == 0]


def test_locking_a_view_locks_what_it_reads(viewed: PgCase) -> None:
    with viewed.connector.plan(viewed.bind("v", key=["id"]), 1_000), viewed.session() as other:
        other.execute("SET lock_timeout = '100ms'")
        for statement in ("TRUNCATE base", "CREATE OR REPLACE VIEW v AS SELECT id, v FROM base"):
            with pytest.raises(Exception, match="lock timeout"):
                other.execute(statement)


def test_view_that_no_index_serves_is_one_shard(viewed: PgCase) -> None:
    viewed.run("CREATE VIEW counted AS SELECT v AS id, count(*) AS n FROM base GROUP BY v")
    assert len(plan_of(viewed, "counted", 100, key=["id"])) == 1
    assert len(viewed.scan(viewed.bind("counted", key=["id"]), 100)) == 20_000


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("bigint", "n"),
        ("numeric", "n / 7.0"),
        ("double precision", "CASE WHEN n = 3 THEN 'NaN'::float8 ELSE n / 3.0 END"),
        ("text", "md5(n::text)"),
        ("text", "chr(n % 900 + 33) || '''' || n"),
        ("uuid", "md5(n::text)::uuid"),
        ("date", "CASE WHEN n = 3 THEN 'infinity' ELSE DATE '1000-01-01' + n END"),
        ("timestamptz", "CASE WHEN n = 3 THEN '-infinity' ELSE 'epoch'::timestamptz + n * interval '1.001 s' END"),
        ("bytea", "decode(md5(n::text), 'hex')"),
        ("char(8)", "n::text"),
        ("citext", "chr(65 + n % 2 * 32 + n % 25) || n"),
        ("boolean", "n % 2 = 0"),
    ],
)
def test_key_ranges_cover_every_row_once_whatever_the_key(
    pg: PgCase, declared: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NULL keys included: a view has no NOT NULL columns."""
    monkeypatch.setattr(keyranges, "COST_RATIO_MAX", 1e9)  # a table this small is not worth cutting
    if declared == "citext":
        pg.run("CREATE EXTENSION citext")
    pg.run(
        f"CREATE TABLE base (n int, id {declared})",
        f"INSERT INTO base SELECT n, {value} FROM generate_series(1, 4000) n",
        "INSERT INTO base VALUES (0, NULL), (-1, NULL)",
        "CREATE INDEX ON base (id)",
        "ANALYZE base",
        "CREATE VIEW v AS SELECT * FROM base",
    )
    binding = pg.bind("v", key=["id"])
    assert sorted(row["n"] for row in pg.scan(binding, 50)) == [-1, *range(4001)]
    ranged = declared not in ("boolean", "citext", "char(8)")
    assert (len(plan_of(pg, "v", 50, key=["id"])) > 1) == ranged


def test_materialized_view_by_blocks(viewed: PgCase) -> None:
    viewed.run("CREATE MATERIALIZED VIEW m AS SELECT * FROM base", "ANALYZE m")
    binding = viewed.bind("m", key=["id"])
    with viewed.connector.plan(binding, 3_000) as plan, viewed.session() as other:
        assert len(plan.shards) > 5
        other.execute("SET lock_timeout = '100ms'")
        with pytest.raises(Exception, match="lock timeout"):
            other.execute("REFRESH MATERIALIZED VIEW m")
        assert len(viewed.scan_plan(binding, plan)) == 20_000


@pytest.fixture
def foreign(pg: PgCase) -> PgCase:
    pg.run(
        "CREATE TABLE base (id int PRIMARY KEY, v text)",
        "INSERT INTO base SELECT n, 'v' FROM generate_series(1, 5000) n",
        "ANALYZE base",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw"
        f" OPTIONS (host '127.0.0.1', port '{pg.server.port}', dbname '{pg.database}', use_remote_estimate 'true')",
        "CREATE USER MAPPING FOR postgres SERVER s OPTIONS (user 'postgres')",
        "CREATE FOREIGN TABLE f (id int, v text) SERVER s OPTIONS (table_name 'base')",
    )
    return pg


def test_foreign_table(foreign: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyranges, "COST_RATIO_MAX", 1e9)
    binding = foreign.bind("f", key=["id"])
    assert not foreign.connector.describe("f").consistent
    with foreign.connector.plan(binding, 500) as plan:
        assert not plan.position().point
        assert len(plan.shards) > 5
        assert ids(foreign.scan_plan(binding, plan)) == list(range(1, 5001))
    assert foreign.lookup(binding, (5,), (6000,)) == [{"id": 5, "v": "v"}]


def test_foreign_partition_and_view_over_a_foreign_table(foreign: PgCase) -> None:
    foreign.run(
        "CREATE VIEW over AS SELECT * FROM f",
        "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_near PARTITION OF t FOR VALUES FROM (100000) TO (200000)",
        "INSERT INTO t SELECT n, 'near' FROM generate_series(100000, 100099) n",
        "ALTER TABLE t ATTACH PARTITION f FOR VALUES FROM (0) TO (100000)",
    )
    for table in ("over", "t"):
        assert not foreign.connector.describe(table).consistent
        with foreign.connector.plan(foreign.bind(table, key=["id"]), 500) as plan:
            assert not plan.position().point
    assert len(foreign.scan(foreign.bind("t", key=["id"]), 500)) == 5_100
    assert any("is foreign" in sentence for sentence in foreign.connector.advice("t"))


def test_partitions_readable_through_the_parent_only_are_cut_by_key(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (5000)",
        "CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (5000) TO (20000)",
        "INSERT INTO t SELECT n, 'v' FROM generate_series(0, 9999) n",
        "ANALYZE t",
    )
    reader = pg.role("reader", "GRANT SELECT ON t")
    connector, binding = pg.connect(reader), pg.bind("t")
    with connector.plan(binding, 1_000) as plan:
        assert len(plan.shards) > 3
        assert plan.shards[0].range["key"] == "id"
        assert ids(pg.scan_plan(binding, plan, connector)) == list(range(10_000))
    assert any("GRANT SELECT ON public.t_high" in sentence for sentence in connector.advice("t"))


def test_servers_without_ctid_range_scans_are_cut_by_key(viewed: PgCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "CTID_VERSION_MIN", 10**9)
    with viewed.connector.plan(viewed.bind("base"), 1_000) as plan:
        assert plan.shards[0].range["key"] == "id"
        assert len(viewed.scan_plan(viewed.bind("base"), plan)) == 20_000


def test_ctid_ranges_read_only_their_blocks(viewed: PgCase) -> None:
    """The work of a shard is its share of the table, not all of it."""
    with viewed.connector.plan(viewed.bind("base"), 2_000) as plan:
        viewed.run("SELECT pg_stat_reset()")
        viewed.scan_plan(viewed.bind("base"), plan)
    viewed.run("SELECT pg_sleep(1.1)", "SELECT pg_stat_clear_snapshot()")
    row = viewed.admin.execute(
        "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'base'"
    ).fetchone()
    assert row is not None
    assert row[0] <= 20_000  # not 10 times as many


def test_expressions_constants_folds_and_predicates(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY, a text, u uuid, ok bool, pad char(4))",
        "INSERT INTO t VALUES (1, 'x%y', '00112233-4455-6677-8899-AABBCCDDEEFF', true, 'ab')",
        "INSERT INTO t VALUES (2, NULL, NULL, false, 'c')",
    )
    columns = [
        bound("id", "int"),
        bound("up", expression="upper(t.a) || '%s' -- with a comment"),
        bound("twice", "int", expression="id * 2"),
        bound("region", constant="e'u \\ {}"),
        bound("fold", parts=("id", "a", "u", "ok", "pad"), joiner="'|"),
        bound("same", "int", source="id"),
    ]
    binding = pg.bind("t", columns=columns, where="id < 10 OR a = '%' -- all\n")
    whole = [
        {
            "id": 1, "up": "X%Y%s", "twice": 2, "region": "e'u \\ {}",
            "fold": "1'|x%y'|00112233-4455-6677-8899-aabbccddeeff'|true'|ab", "same": 1,
        },
        {"id": 2, "up": None, "twice": 4, "region": "e'u \\ {}", "fold": None, "same": 2},
    ]  # fmt: skip
    assert pg.scan(binding) == whole
    assert pg.lookup(binding, (1,), (2,)) == whole
    narrowed = pg.bind("t", columns=columns, where="a IS NULL")
    assert ids(pg.scan(narrowed)) == [2]
    assert ids(pg.lookup(narrowed, (1,), (2,))) == [2]


def test_predicate_cannot_be_widened_by_its_own_or(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 3000)", "ANALYZE t")
    binding = pg.bind("t", where="id = 1 OR id = 2")
    assert ids(pg.scan(binding, 100)) == [1, 2]


def test_expressions_see_partitions_under_the_tables_name(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "CREATE TABLE p PARTITION OF t DEFAULT",
        "INSERT INTO t VALUES (3)",
    )
    binding = pg.bind("t", columns=[bound("id", "int"), bound("d", "int", expression="t.id + 1")], where="t.id > 0")
    assert pg.scan(binding) == [{"id": 3, "d": 4}]


@pytest.mark.parametrize(
    ("column", "message", "step"),
    [
        (bound("v", source="nmae"), "has no column 'nmae'", "similar: name"),
        (bound("v", source="zzz"), "has no column 'zzz'", "its columns: id, name, at"),
        (bound("v", expression="nosuch + 1"), 'column v: column "nosuch" does not exist', "correct the name"),
        (bound("v", expression="name +"), "column v: syntax error", "correct the expression"),
        (bound("v", expression="nofunc(1)"), "column v: function nofunc", "correct the expression"),
        (bound("v", parts=("id", "at"), joiner="-"), "part at is timestamp", "write an expression"),
        (bound("v", "int", source="name", expression="1"), "exactly one of", ""),
        (bound("v", "datetime", source="at"), "holds timestamp with time zone", "convert with an expression"),
        (bound("v", "text", source="id"), "holds integer", "change the profile's type"),
    ],
)  # fmt: skip
def test_unusable_bindings_are_refused_before_the_scan(pg: PgCase, column: Any, message: str, step: str) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY, name text, at timestamptz)")
    with pytest.raises(ConfigError, match=message) as error:
        pg.connector.plan(pg.bind("t", columns=[bound("id", "int"), column]), 10)
    assert step in error.value.next_step


def test_a_broken_predicate_is_named(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(ConfigError, match="the where clause: syntax error"):
        pg.connector.plan(pg.bind("t", where="id >"), 10)


def test_a_failing_expression_ends_the_scan(pg: PgCase) -> None:
    pg.run("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (0)")
    binding = pg.bind("t", columns=[bound("id", "int"), bound("v", "int", expression="1 / id")])
    with pytest.raises(Exception, match="division by zero"):
        pg.scan(binding)
