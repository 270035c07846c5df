"""What a cluster is spared: questions that hang are given up, and the time that it took for answers is known."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from servers.cassandra import CassandraServer
from servers.cassandra_keyspace import Keyspace, bound, keyspace

from paritree.core.errors import ConfigError, SourceError

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def numbers(cassandra: CassandraServer) -> Iterator[Keyspace]:
    with keyspace(cassandra, "kind") as made:
        made.create("n", "id int PRIMARY KEY, v text")
        for number in range(200):
            made.run(f"INSERT INTO {{ks}}.n (id, v) VALUES ({number}, 'x')")
        yield made


def test_a_look_up_at_a_node_that_hangs_is_given_up(numbers: Keyspace) -> None:
    with numbers.connect(timeout_s="2", attempts="2") as connector:
        binding = bound(connector, "n")
        assert sum(batch.num_rows for batch in connector.lookup(binding, [(1,), (2,)])) == 2
        start = time.monotonic()
        with numbers.server.frozen(), pytest.raises(SourceError, match="did not answer in time") as caught:
            list(connector.lookup(binding, [(1,), (2,)]))
        assert time.monotonic() - start < 30
        assert caught.value.retryable
        assert "timeout_s" in caught.value.next_step
        assert sum(batch.num_rows for batch in connector.lookup(binding, [(1,), (2,)])) == 2


def test_the_time_that_the_cluster_took_is_measured_for_each_scan(numbers: Keyspace) -> None:
    with numbers.connect() as connector:
        binding = bound(connector, "n")
        with connector.plan(binding, 250_000) as plan:
            taken = []
            for _ in range(2):
                before = time.monotonic()
                assert sum(b.num_rows for s in plan.shards for b in connector.scan(binding, s)) == 200
                assert connector.waited_s is not None
                taken.append(connector.waited_s)
                assert 0 < taken[-1] < time.monotonic() - before


def test_its_load_is_not_known(numbers: Keyspace) -> None:
    with numbers.connect() as connector:
        assert connector.load(None, None) == ""
        with pytest.raises(ConfigError, match="not known for this engine"):
            connector.load(10.0, None)
