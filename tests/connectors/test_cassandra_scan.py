"""Scans of a real node: every row once whatever the tokens, pages that fail and come again, rows that are no rows."""

from __future__ import annotations

import itertools
import random
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from bench.cassandra_tables import load_cassandra
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, bound, found, keyspace, scanned
from servers.cassandra_tokens import key_of

from edge_agent.connectors.cassandra import CassandraConnector, ring, schema
from edge_agent.connectors.cassandra.select import STATIC_ONLY
from edge_agent.connectors.cassandra.shards import TOKEN_MAX, TOKEN_MIN, ranges_of
from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers
ROWS = 6_000


@pytest.fixture(scope="module")
def ks(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "scans") as made:
        yield made


def ring_tokens(ks: Keyspace) -> list[int]:
    (row,) = ks.session.execute("SELECT tokens FROM system.local")
    return sorted(int(token) for token in row.tokens)


@pytest.fixture(scope="module")
def spread(ks: Keyspace) -> dict[bytes, int]:
    """Table ``spread``: thousands of partitions, among them the extreme tokens and both sides of every border."""
    seed = random.Random(11)
    borders = [TOKEN_MIN, TOKEN_MAX, 0, *ring_tokens(ks)]
    tokens = {max(TOKEN_MIN, min(TOKEN_MAX, border + step)) for border in borders for step in (-1, 0, 1)}
    keys = [key_of(token, salt) for token in sorted(tokens) for salt in range(3)]
    keys += [key_of(seed.randrange(TOKEN_MIN, TOKEN_MAX), 7) for _ in range(ROWS - len(keys))]
    rows = {key: number for number, key in enumerate(keys)}
    ks.create("spread", "id blob PRIMARY KEY, n int")
    load_cassandra(ks.session, ks.name, "spread", rows.items(), ["id", "n"])
    return rows


@pytest.mark.parametrize("shard_rows", [60, 1_000, 250_000])
def test_every_row_is_in_exactly_one_shard(
    ks: Keyspace, spread: dict[bytes, int], shard_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.connectors.cassandra.shards.ROUTED_ROWS_MIN", 1)  # keep every range of the ring
    with ks.connect(page_rows="500") as connector:
        rows = scanned(connector, bound(connector, "spread"), shard_rows)
    assert Counter((row["id"], row["n"]) for row in rows) == Counter(spread.items())


def test_rows_on_both_sides_of_every_shard_border(ks: Keyspace, spread: dict[bytes, int]) -> None:
    """Keys made for the very borders of this plan: a closed or open end too many shows as twice or never."""
    ks.create("borders", "id blob PRIMARY KEY, n int")
    load_cassandra(ks.session, ks.name, "borders", spread.items(), ["id", "n"])
    with ks.connect() as connector:
        binding = bound(connector, "borders")
        with connector.plan(binding, 300) as plan:
            edges = {edge for shard in plan.shards for each in ranges_of(shard) for edge in (each.start, each.end)}
            assert len(edges) > 15
            tokens = {edge + step for edge in edges for step in (-1, 0, 1) if TOKEN_MIN <= edge + step <= TOKEN_MAX}
            extra = {key_of(token, 99): -1 for token in tokens}
            load_cassandra(ks.session, ks.name, "borders", extra.items(), ["id", "n"])
            seen = Counter(
                key
                for shard in plan.shards
                for batch in connector.scan(binding, shard)
                for key in batch.column("id").to_pylist()
            )
    assert seen == Counter([*spread, *extra])


def test_the_ring_that_wraps_would_lose_or_double_rows(ks: Keyspace, spread: dict[bytes, int]) -> None:
    """What the cut prevents: the ring's own ranges, asked as they are, lose the rows behind the last token."""
    count = ks.session.prepare(f"SELECT count(*) FROM {ks.name}.spread WHERE token(id) > ? AND token(id) <= ?")

    def rows(start: int, end: int) -> int:
        return int(ks.session.execute(count, [start, end]).one()[0])

    ring_of = ring_tokens(ks)
    naive = sum(rows(a, b) for a, b in zip([ring_of[-1], *ring_of], ring_of, strict=False))
    assert naive < len(spread)
    assert rows(TOKEN_MIN, TOKEN_MIN) == len(spread)  # an end of -2^63 is no bound: a node there would double the table
    with ks.connect() as connector:
        ranges = ring.ring(connector._session, schema.read_table(connector._session, "spread"))
    assert len(ranges) == len(ring_of) + 1
    assert sum(rows(each.start, each.end) for each in ranges) == len(spread)


def test_an_empty_table_has_one_empty_shard(ks: Keyspace) -> None:
    ks.create("nothing", "id int PRIMARY KEY")
    with ks.connect() as connector:
        binding = bound(connector, "nothing")
        with connector.plan(binding, 1_000) as plan:
            assert len(plan.shards) == 1
        assert scanned(connector, binding) == []


def test_large_partitions_keep_all_their_rows(ks: Keyspace) -> None:
    ks.create("wide", "p int, c int, v text, PRIMARY KEY (p, c)")
    rows = [(p, c, f"v{c}") for p in range(3) for c in range(2_500)]
    load_cassandra(ks.session, ks.name, "wide", rows, ["p", "c", "v"])
    with ks.connect(page_rows="700") as connector:
        binding = bound(connector, "wide")
        assert binding.key == ("p", "c")
        seen = Counter((row["p"], row["c"], row["v"]) for row in scanned(connector, binding, 500))
    assert seen == Counter(rows)


def test_sizes_come_from_the_nodes_records_and_from_samples(ks: Keyspace, spread: dict[bytes, int]) -> None:
    ks.create("recorded", "id blob PRIMARY KEY, n int")
    load_cassandra(ks.session, ks.name, "recorded", spread.items(), ["id", "n"])
    # Only now, so that all rows are flushed at once: a part of them on disk would be recorded as the whole.
    ks.run("ALTER TABLE {ks}.recorded WITH memtable_flush_period_in_ms = 500")
    with ks.connect() as connector:
        session = connector._session
        table = schema.read_table(session, "recorded")
        assert 0.7 * ROWS < ring.rows_probed(session, table) < 1.4 * ROWS
        end = time.monotonic() + 120  # a node writes its records down now and then
        while (recorded := ring.rows_recorded(session, table)) == 0 and time.monotonic() < end:
            time.sleep(0.3)
        assert 0.7 * ROWS < recorded < 1.4 * ROWS
        assert 0.7 * ROWS < connector.describe("recorded").rows_estimate < 1.4 * ROWS
        with connector.plan(bound(connector, "recorded"), ROWS // 10) as plan:
            assert 7 <= len(plan.shards) <= 14


def test_the_position_is_an_interval(ks: Keyspace, spread: dict[bytes, int]) -> None:
    with ks.connect(consistency="ONE") as connector, connector.plan(bound(connector, "spread"), 1_000) as plan:
        first = plan.position()
        last = plan.position()
    words = last.text.split()
    assert not last.point
    assert [words[0], words[2], words[4]] == ["cassandra:", "..", "ONE"]
    assert words[1] == first.text.split()[1]
    assert words[1] < first.text.split()[3] < words[3]


def test_a_partition_with_static_columns_only_is_counted_as_such(ks: Keyspace) -> None:
    """It comes out of a scan with a null clustering key: dropped, its loss would never show; kept, its key is null."""
    ks.create("statics", "p int, c int, s text static, v text, PRIMARY KEY (p, c)")
    ks.run("INSERT INTO {ks}.statics (p, s) VALUES (1, 'alone')")
    ks.run("INSERT INTO {ks}.statics (p, c, s, v) VALUES (2, 1, 'shared', 'a')")
    ks.run("INSERT INTO {ks}.statics (p, c, v) VALUES (2, 2, 'b')")
    with ks.connect() as connector:
        rows = sorted(scanned(connector, bound(connector, "statics")), key=repr)
        assert {"p": 1, "c": None, "s": "alone", "v": None, "rejects": {"c": STATIC_ONLY}} in rows
        # Static columns stand on every row of their partition.
        assert [(row["c"], row["s"], row["v"]) for row in rows if row["p"] == 2] == [
            (1, "shared", "a"),
            (2, "shared", "b"),
        ]
        without = scanned(connector, bound(connector, "statics", ("p", "c"), "p", "c", "v"))
        assert sorted(row.get("rejects", {}).get("c", "") for row in without) == ["", "", STATIC_ONLY]
        by_partition = scanned(connector, bound(connector, "statics", ("p",), "p", "v"))
        assert sorted(repr(row.get("rejects")) for row in by_partition) == sorted(
            ["None", "None", repr({"p": STATIC_ONLY})]
        )
        assert [row["c"] for row in found(connector, bound(connector, "statics"), (1, 1), (2, 1))] == [1]
        assert any("static columns only" in line for line in connector.advice("statics"))


def test_pages_are_bounded_by_bytes(ks: Keyspace) -> None:
    ks.create("heavy", "id int PRIMARY KEY, b blob")
    blob = random.Random(1).randbytes(50_000)
    load_cassandra(ks.session, ks.name, "heavy", ((i, blob) for i in range(600)), ["id", "b"], batch_rows=1)
    with ks.connect() as connector:
        binding = bound(connector, "heavy")
        with connector.plan(binding, 250_000) as plan:
            sizes = [batch.num_rows for shard in plan.shards for batch in connector.scan(binding, shard)]
    assert sum(sizes) == 600
    assert sizes[0] == 64  # the first page finds out how large rows are
    assert max(sizes[1:]) <= (4 << 20) // 50_000 + 1


def test_a_node_that_hangs_for_a_while_costs_no_row(ks: Keyspace, spread: dict[bytes, int]) -> None:
    with ks.connect(page_rows="300", timeout_s="2", attempts="8") as connector:
        binding = bound(connector, "spread")
        with connector.plan(binding, 250_000) as plan:
            (shard,) = plan.shards
            batches = connector.scan(binding, shard)
            seen = Counter(next(batches).column("id").to_pylist())
            with ks.server.frozen():
                thaw = threading.Timer(5.0, ks.server.thaw)
                thaw.start()
                for batch in batches:
                    seen.update(batch.column("id").to_pylist())
                thaw.join()
    assert seen == Counter(spread.keys())


def test_a_node_that_hangs_for_good_is_a_retryable_error(ks: Keyspace, spread: dict[bytes, int]) -> None:
    with ks.connect(page_rows="300", timeout_s="2", attempts="2") as connector:
        binding = bound(connector, "spread")
        with connector.plan(binding, 250_000) as plan:
            batches = connector.scan(binding, plan.shards[0])
            next(batches)
            start = time.monotonic()
            with ks.server.frozen(), pytest.raises(SourceError, match="did not answer in time") as caught:
                list(batches)
            assert time.monotonic() - start < 30
        assert caught.value.retryable
        assert len(scanned(connector, binding)) == len(spread)  # the connection is usable afterwards


def test_too_few_replicas_is_a_retryable_error(cassandra: CassandraServer) -> None:
    with keyspace(cassandra, "scarce", replicas=3) as scarce:
        scarce.create("t", "id int PRIMARY KEY")
        with scarce.connect(attempts="2", consistency="ONE") as connector:
            binding = bound(connector, "t")
            assert scanned(connector, binding) == []
        with scarce.connect(attempts="2") as connector:
            with pytest.raises(SourceError, match="2 needed, 1 alive") as caught:
                scanned(connector, binding)
            assert caught.value.retryable
            with pytest.raises(SourceError, match="2 needed, 1 alive"):
                found(connector, binding, (1,))


def test_a_table_that_goes_away_ends_the_scan(ks: Keyspace) -> None:
    ks.create("fleeting", "id int PRIMARY KEY, v text")
    load_cassandra(ks.session, ks.name, "fleeting", ((i, "x") for i in range(3_000)), ["id", "v"])
    with ks.connect(page_rows="256") as connector:
        binding = bound(connector, "fleeting")
        with connector.plan(binding, 250_000) as plan:
            batches = connector.scan(binding, plan.shards[0])
            next(batches)
            ks.run("DROP TABLE {ks}.fleeting")
            with pytest.raises((SourceError, ConfigError)):
                list(batches)
            with pytest.raises(ConfigError, match="no table 'fleeting'"):
                list(connector.scan(binding, plan.shards[0]))


def test_scans_go_to_the_replicas_of_their_range(ks: Keyspace, spread: dict[bytes, int]) -> None:
    with ks.connect() as connector:
        hosts = set(connector._session.hosts)
        ranges = ring.ring(connector._session, schema.read_table(connector._session, "spread"))
    assert all(set(each.hosts) == hosts for each in ranges)


def test_shards_are_scanned_by_another_connector(ks: Keyspace, spread: dict[bytes, int]) -> None:
    with ks.connect() as one, ks.connect() as other:
        binding = bound(one, "spread")
        with one.plan(binding, 1_000) as plan:
            connectors: Iterator[CassandraConnector] = itertools.cycle([one, other])
            rows = [
                key
                for shard, connector in zip(plan.shards, connectors, strict=False)
                for batch in connector.scan(binding, shard)
                for key in batch.column("id").to_pylist()
            ]
    assert Counter(rows) == Counter(spread.keys())


def test_partition_keys_that_no_look_up_can_ask_for_are_rejects(ks: Keyspace) -> None:
    ks.create("odd", "p varint PRIMARY KEY, v int")
    ks.insert_raw("odd", ["p", "v"], [b"\1", struct.pack(">i", 1)], [b"\0\1", struct.pack(">i", 2)])
    with ks.connect() as connector:
        binding = bound(connector, "odd")
        rows = {row["v"]: row for row in scanned(connector, binding)}
        assert "rejects" not in rows[1]
        assert "cannot ask for" in rows[2]["rejects"]["p"]
        assert [row["v"] for row in found(connector, binding, (1,))] == [1]
