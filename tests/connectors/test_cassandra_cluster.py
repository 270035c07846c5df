"""Two nodes of one ring: ranges go to the node that holds them, and a lost node is never fewer rows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from bench.cassandra_tables import load_cassandra
from servers.cassandra import CassandraServer, settled
from servers.cassandra_keyspace import Keyspace, bound, found, keyspace, scanned

from edge_agent.connectors.cassandra import ring, schema
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.cassandra.shards import ranges_of
from paritree.core.errors import SourceError

pytestmark = pytest.mark.servers
HEAP = "512m"


@pytest.fixture(scope="module")
def pair() -> Iterator[list[CassandraServer]]:
    """A ring of two nodes."""
    with contextlib.ExitStack() as stack:
        first = CassandraServer(cluster_name="pair", heap=HEAP, num_tokens=8)
        stack.callback(first.stop)
        first.launch().wait()
        second = CassandraServer(
            cluster_name="pair", heap=HEAP, num_tokens=8, host="127.0.0.2", seed=f"127.0.0.1:{first.storage_port}",
            storage_port=first.storage_port, port=first.port,
        )  # fmt: skip
        stack.callback(second.stop)
        second.launch().wait()
        settled(first, 2)
        settled(second, 2)
        yield [first, second]


@pytest.fixture(scope="module")
def split(pair: list[CassandraServer]) -> Iterator[Keyspace]:
    """A keyspace whose rows are on one node each."""
    with keyspace(pair[0], "split") as made:
        made.create("t", "id int PRIMARY KEY, v text")
        load_cassandra(made.session, made.name, "t", ((i, f"v{i}") for i in range(4_000)), ["id", "v"])
        yield made


def test_every_range_is_asked_of_the_node_that_holds_it(
    split: Keyspace, pair: list[CassandraServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.connectors.cassandra.shards.ROUTED_ROWS_MIN", 1)
    asked: list[tuple[tuple[str, ...], str]] = []
    answer = Session._answer

    def noting(self: Session, request: Any, under_way: Any) -> Any:
        out = answer(self, request, under_way)
        if "scanning" in request.doing:
            asked.append((request.hosts, str(under_way.future.coordinator_host.host_id)))
        return out

    monkeypatch.setattr(Session, "_answer", noting)
    with split.connect(page_rows="200") as connector:
        assert len(connector._session.hosts) == 2
        binding = bound(connector, "t")
        with connector.plan(binding, 500) as plan:
            hosts = {each.hosts for shard in plan.shards for each in ranges_of(shard)}
        rows = scanned(connector, binding, 500)
    assert len(hosts) == 2
    assert all(len(each) == 1 for each in hosts)
    assert Counter(row["id"] for row in rows) == Counter(range(4_000))
    assert {coordinator for _, coordinator in asked} == {name for (name,) in hosts}
    assert all(coordinator == only for (only,), coordinator in asked)


def test_the_ring_has_the_ranges_of_both_nodes(split: Keyspace, pair: list[CassandraServer]) -> None:
    tokens: set[int] = set()
    for node in pair:
        with node.session() as session:
            tokens |= {int(token) for token in session.execute("SELECT tokens FROM system.local").one().tokens}
    with split.connect() as connector:
        ranges = ring.ring(connector._session, schema.read_table(connector._session, "t"))
    assert {each.end for each in ranges[:-1]} == tokens
    assert ranges[0].hosts == ranges[-1].hosts  # both ends of the range that wraps


def test_a_lost_replica_is_an_error_and_not_fewer_rows(split: Keyspace, pair: list[CassandraServer]) -> None:
    """Half of the rows are on the node that hangs: what is left must not pass for the table."""
    with split.connect(timeout_s="4", attempts="2") as connector:
        binding = bound(connector, "t")
        with connector.plan(binding, 500) as plan, pair[1].frozen():
            with pytest.raises(SourceError) as caught:
                [list(connector.scan(binding, shard)) for shard in plan.shards]
            assert caught.value.retryable
            with pytest.raises(SourceError):
                found(connector, binding, *((i,) for i in range(200)))
    with split.connect() as connector:
        assert len(scanned(connector, binding)) == 4_000
