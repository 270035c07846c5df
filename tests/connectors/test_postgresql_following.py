"""Following a table through what is not a row's change: the slot's life, DDL, partitions, and who may."""

from __future__ import annotations

import pytest
from connectors.pg_case import PgCase
from connectors.pg_follow import filled, following, settings, until

from edge_agent.connectors.changes import Mark, RescanNeeded
from edge_agent.connectors.postgresql import slot
from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers


# --- the slot -------------------------------------------------------------------------------------------------------


def test_an_idle_table_lets_the_log_go(pg: PgCase) -> None:
    filled(pg)
    pg.run("CREATE TABLE other (v text)")
    with following(pg, pg.bind("orders")) as follower:
        pg.run("INSERT INTO other SELECT repeat('x', 500) FROM generate_series(1, 2000)", "CHECKPOINT")
        before = follower.mark
        follower.refresh(proven=False)
        assert follower.changes == 0
        assert follower.mark != before
        confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s"
        assert pg.admin.execute(confirmed, (follower.source.slot,)).fetchone() == (
            follower.mark.text.removeprefix("pg:lsn="),
        )
        assert follower.source.lag().worry == ""


def test_a_slot_that_the_server_gave_up_means_a_rescan_and_says_so(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        with settings(pg, max_slot_wal_keep_size="1MB"):
            until(lambda: pg.admin.execute("SHOW max_slot_wal_keep_size").fetchone() == ("1MB",))
            for _ in range(4):
                pg.run("INSERT INTO orders SELECT max(id) + 1, 'x', 1 FROM orders", "SELECT pg_switch_wal()")
            pg.run("CHECKPOINT")
        with pytest.raises(RescanNeeded, match="given up the slot"):
            follower.refresh()
        assert "lost" in follower.source.lag().worry
        follower.start().refresh().check()


def test_a_slot_that_is_gone_or_was_read_by_others_means_a_rescan(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        name = follower.source.slot
        pg.run("SET synchronous_commit = on", "UPDATE orders SET n = 0 WHERE id = 1")
        pg.run(
            f"SELECT count(*) FROM pg_logical_slot_get_binary_changes('{name}', NULL, NULL, 'proto_version', '1',"
            f" 'publication_names', '{name}')"
        )
        with pytest.raises(RescanNeeded, match="somebody else read the slot"):
            follower.refresh()
        follower.start()
        pg.run(f"SELECT pg_drop_replication_slot('{name}')")
        with pytest.raises(RescanNeeded, match="is gone"):
            follower.refresh()
        pg.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
        with pytest.raises(RescanNeeded, match="somebody else"):
            follower.refresh()
        follower.start()
        pg.run(
            "DELETE FROM orders WHERE id = 2", f"DROP PUBLICATION {name}", f"CREATE PUBLICATION {name} FOR TABLE orders"
        )
        with pytest.raises(RescanNeeded, match="made anew"):
            follower.refresh()
        follower.start().refresh().check()


def test_two_agents_have_slots_of_their_own(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders"), name="eu/a") as one, following(pg, pg.bind("orders"), name="eu/b") as two:
        pg.run("UPDATE orders SET n = 0")
        one.refresh().check()
        two.refresh().check()
        assert one.changes == two.changes == 20
        with pytest.raises(RescanNeeded, match="slot"):
            list(two.source.changes(one.mark, proven=True))


def test_a_mark_of_another_kind_or_server_means_a_rescan(pg: PgCase) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        for said in ("", "{}", "[]", '{"format": 2}', follower.mark.state.replace('"system": "', '"system": "1')):
            with pytest.raises(RescanNeeded):
                list(follower.source.changes(Mark("", said), proven=False))


def test_names_of_slots_are_names_and_differ() -> None:
    names = {slot.slot_name(d, n) for d in ("orders", "Orders", "or.ders", "ö", "x" * 200) for n in ("eu/a", "eu/A")}
    assert len(names) == 10
    assert all(len(name) <= 63 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_") for name in names)


# --- what is no change of a row -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("TRUNCATE orders", "emptied"),
        ("ALTER TABLE orders DROP COLUMN code", "columns"),
        ("ALTER TABLE orders ALTER n TYPE bigint", "columns"),
        ("ALTER TABLE orders ALTER n TYPE int USING n * 2", "written anew"),
        ("ALTER TABLE orders RENAME n TO m", "columns"),
        ("ALTER TABLE orders DROP COLUMN n; ALTER TABLE orders ADD COLUMN n int DEFAULT 7", "columns"),
        ("ALTER TABLE orders REPLICA IDENTITY NOTHING; INSERT INTO orders VALUES (99, '', 0)", "replica identity"),
        ("ALTER TABLE orders SET UNLOGGED", "unlogged"),
    ],
)
def test_what_changes_cannot_make_good_is_told(pg: PgCase, statement: str, why: str) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        if "UNLOGGED" in statement:
            pg.run(f"DROP PUBLICATION {follower.source.slot}")  # a table cannot become unlogged while it is in one
        pg.run(*statement.split(";"))
        expected = "gone" if "UNLOGGED" in statement else why
        with pytest.raises(SourceError, match=expected) as told:
            follower.refresh()
        assert isinstance(told.value, RescanNeeded)


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM FULL orders",
        "CLUSTER orders USING orders_pkey",
        "ALTER TABLE orders ADD COLUMN more text DEFAULT 'x'",
        "ALTER TABLE orders ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        "CREATE INDEX ON orders (n)",
        "ANALYZE orders",
        "ALTER TABLE orders ALTER n SET STATISTICS 7",
    ],
)
def test_what_leaves_the_rows_alone_is_nothing(pg: PgCase, statement: str) -> None:
    filled(pg)
    with following(pg, pg.bind("orders")) as follower:
        pg.run("UPDATE orders SET n = 0 WHERE id = 1", statement, "UPDATE orders SET n = 0 WHERE id = 2")
        follower.refresh().check()
        assert follower.changes == 2


PARTITIONED = (
    "CREATE TABLE events (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE events_2 (v text, day int NOT NULL, extra int, id int NOT NULL, PRIMARY KEY (id, day))",
    "ALTER TABLE events_2 DROP COLUMN extra",
    "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)",
    "INSERT INTO events SELECT i, i % 20, 'v' || i FROM generate_series(1, 40) AS i",
)


def test_partitions_are_followed_through_their_root(pg: PgCase) -> None:
    pg.run(*PARTITIONED)
    with following(pg, pg.bind("events")) as follower:
        pg.run(
            "UPDATE events SET v = 'x' WHERE id < 5",
            "UPDATE events SET day = day + 10 WHERE id = 6",  # moves to the other partition
            "DELETE FROM events_2 WHERE id = 31",
            "INSERT INTO events_1 VALUES (100, 1, 'direct')",
        )
        follower.refresh().check()


def test_new_partitions_bring_their_rows(pg: PgCase) -> None:
    pg.run(*PARTITIONED)
    with following(pg, pg.bind("events")) as follower:
        pg.run(
            "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (20) TO (30)",
            "INSERT INTO events VALUES (200, 25, 'born here')",
            "CREATE TABLE events_4 (LIKE events INCLUDING ALL)",
            "INSERT INTO events_4 SELECT i, 35, 'before' FROM generate_series(300, 330) AS i",
            "ALTER TABLE events ATTACH PARTITION events_4 FOR VALUES FROM (30) TO (40)",
            "UPDATE events SET v = 'after' WHERE id = 301",
            "CREATE TABLE events_5 (LIKE events INCLUDING ALL) PARTITION BY LIST (id)",
            'CREATE TABLE "Sub.part" PARTITION OF events_5 DEFAULT',
            "INSERT INTO events_5 VALUES (500, 45, 'deep')",
            "ALTER TABLE events ATTACH PARTITION events_5 FOR VALUES FROM (40) TO (50)",
        )
        follower.refresh().check()
        assert follower.changes == 2 + 1 + 31 + 1, "a row of a partition that is born here is told and read"
        follower.refresh().check()
        assert follower.changes == 0


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        (["ALTER TABLE events DETACH PARTITION events_2"], "no longer a partition"),
        (["DROP TABLE events_2"], "no longer a partition"),
        (["TRUNCATE events_2"], "emptied"),
        (["TRUNCATE events"], "emptied"),
        (
            [
                "ALTER TABLE events DETACH PARTITION events_2",
                "DELETE FROM events_2",
                "ALTER TABLE events ATTACH PARTITION events_2 FOR VALUES FROM (10) TO (20)",
            ],
            "attached again",
        ),
    ],
)
def test_partitions_that_go_need_a_rescan(pg: PgCase, statements: list[str], why: str) -> None:
    pg.run(*PARTITIONED)
    with following(pg, pg.bind("events")) as follower:
        pg.run(*statements)
        with pytest.raises(RescanNeeded, match=why):
            follower.refresh()
        follower.start().refresh().check()


# --- who may, and what is told before -------------------------------------------------------------------------------


def refusal(pg: PgCase, table: str, user: str = "postgres", key: tuple[str, ...] | None = None) -> ConfigError:
    """Why the changes of a table cannot be followed."""
    source = pg.connect(user).changes(pg.bind(table, key), "eu/1")
    try:
        with pytest.raises(ConfigError) as refused:
            source.start()
    finally:
        source.close()
    left = "SELECT FROM pg_replication_slots WHERE database = current_database()"
    assert pg.admin.execute(left).fetchall() == []
    return refused.value


def test_a_table_whose_identity_lacks_the_key_is_not_published(pg: PgCase) -> None:
    pg.run(
        "CREATE TABLE bare (id int, v text)",
        "CREATE TABLE other (id int PRIMARY KEY, code text NOT NULL, day int NOT NULL)",
        "CREATE UNIQUE INDEX by_code ON other (code) INCLUDE (day)",
    )
    assert refusal(pg, "bare", key=("id",)).next_step == "ALTER TABLE public.bare REPLICA IDENTITY FULL"
    assert (
        refusal(pg, "other", key=("code",)).next_step == "ALTER TABLE public.other REPLICA IDENTITY USING INDEX by_code"
    )
    assert refusal(pg, "other", key=("day",)).next_step == "ALTER TABLE public.other REPLICA IDENTITY FULL"
    assert pg.admin.execute("SELECT FROM pg_publication").fetchall() == []
    pg.run("UPDATE bare SET v = ''")


def test_relations_without_changes_of_their_own_are_refused(pg: PgCase) -> None:
    filled(pg)
    pg.run(
        "CREATE VIEW seen AS SELECT * FROM orders",
        "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY)",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent)",
    )
    assert "no table" in refusal(pg, "seen", key=("id",)).message
    assert "unlogged" in refusal(pg, "fleeting").message
    assert "inherit" in refusal(pg, "parent").message


def test_roles_are_told_what_they_lack(pg: PgCase) -> None:
    filled(pg)
    reader = pg.role("paritree_reader", "GRANT SELECT ON orders")
    name = pg.connect(reader).changes(pg.bind("orders"), "eu/1").slot
    assert (
        refusal(pg, "orders", reader).next_step
        == f"have the table's owner run: CREATE PUBLICATION {name} FOR TABLE public.orders"
    )
    pg.run(f"CREATE PUBLICATION {name} FOR TABLE orders WITH (publish = 'insert')")
    assert f"DROP PUBLICATION {name}; CREATE PUBLICATION" in refusal(pg, "orders", reader).next_step
    pg.run(f"DROP PUBLICATION {name}", f"CREATE PUBLICATION {name} FOR TABLE orders (code) WHERE (n > 3)")
    assert "leaves out rows" in refusal(pg, "orders", reader).message
    pg.run(f"DROP PUBLICATION {name}", f"CREATE PUBLICATION {name} FOR TABLE orders (id)")
    assert 'ALTER ROLE "paritree_reader" REPLICATION' in refusal(pg, "orders", reader).next_step
    pg.run("ALTER ROLE paritree_reader REPLICATION")
    source = pg.connect(reader).changes(pg.bind("orders"), "eu/1")
    mark = source.start()
    pg.run("UPDATE orders SET n = 0 WHERE id = 3")
    (batch,) = source.changes(mark, proven=True)
    assert batch.keys.to_pylist() == [{"id": 3}]
    with pytest.raises(ConfigError, match="may not drop"):
        source.stop()
    source.close()
    pg.run(f"DROP PUBLICATION {name}")


def test_what_there_is_to_know_is_told_before_and_while_a_table_is_followed(pg: PgCase) -> None:
    filled(pg)
    source = pg.connector.changes(pg.bind("orders"), "eu/1")
    before = source.check()
    assert f"the slot {source.name} is made when the dataset is first swept." in before
    assert any("max_slot_wal_keep_size is not set" in sentence for sentence in before)
    assert pg.admin.execute("SELECT FROM pg_publication").fetchall() == [], "asking changes nothing"
    with following(pg, pg.bind("orders"), name="eu/2") as other:
        source.start()
        told = source.check()
        assert any(sentence.startswith(f"the slot {source.name} keeps 0.0 MiB") for sentence in told)
        assert any(f"SELECT pg_drop_replication_slot('{other.source.slot}')" in sentence for sentence in told)
    with settings(pg, max_slot_wal_keep_size="1GB"):
        until(lambda: pg.admin.execute("SHOW max_slot_wal_keep_size").fetchone() == ("1GB",))
        assert not any("max_slot_wal_keep_size" in sentence for sentence in source.check())
    source.stop()
    reader = pg.role("paritree_checker", "GRANT SELECT ON orders")
    unable = pg.connect(reader).changes(pg.bind("orders"), "eu/1")
    with pytest.raises(ConfigError, match="is not published"):
        unable.check()
    pg.run(f"CREATE PUBLICATION {source.name} FOR TABLE orders")
    with pytest.raises(ConfigError, match="may not use slots"):
        unable.check()
    pg.run("ALTER TABLE orders REPLICA IDENTITY NOTHING")
    with pytest.raises(ConfigError) as refused:
        source.check()
    assert refused.value.next_step == "ALTER TABLE public.orders REPLICA IDENTITY USING INDEX orders_pkey"
