"""The in-process store: what it refuses, snapshots and the lack of them, hooks between shards."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from reading import binding, scanned, types, values

from edge_agent.connectors.contract import Shard, Source
from edge_agent.connectors.memory import MemoryConnector, MemoryStore
from paritree.core.errors import ConfigError, SourceError
from paritree.core.schema import SourceColumn
from paritree.core.types import parse_type

NUMBERS = binding("t", types(id="int", v="int"), ["id"])


def numbers(start: int, stop: int) -> pa.Table:
    ids = pa.array(range(start, stop), pa.int64())
    return pa.table({"id": ids, "v": pc.multiply(ids, 10)})


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with MemoryStore("shop") as made:
        made.put("t", numbers(0, 10), key=("id",))
        yield made


def connected(store: MemoryStore) -> MemoryConnector:
    return MemoryConnector.connect(Source(store.url))


def test_a_plan_reads_the_state_that_it_was_made_from(store: MemoryStore) -> None:
    connector = connected(store)
    with connector.plan(NUMBERS, 4) as plan:
        store.put("t", numbers(5, 100))
        rows = [row["id"] for shard in plan.shards for row in values(NUMBERS, connector.scan(NUMBERS, shard))]
        assert rows == list(range(10))
        assert plan.position().point
    with pytest.raises(SourceError):
        list(connector.scan(NUMBERS, plan.shards[0]))


def test_without_snapshots_each_shard_reads_what_is_there(store: MemoryStore) -> None:
    store.snapshots = False
    connector = connected(store)
    assert not connector.describe("t").consistent
    with connector.plan(NUMBERS, 4) as plan:
        assert plan.position().point
        seen: list[int] = []

        def grow(shard: Shard) -> None:
            seen.append(shard.number)
            store.put("t", numbers(0, 10 + shard.number))

        store.before_shard = grow
        rows = [row["id"] for shard in plan.shards for row in values(NUMBERS, connector.scan(NUMBERS, shard))]
        assert rows == list(range(12))
        assert seen == [0, 1, 2]
        position = plan.position()
    assert not position.point
    assert position.text == "versions 1 to 4"


def test_a_column_can_be_declared_otherwise(store: MemoryStore) -> None:
    column = SourceColumn("v", "anything", parse_type("int"), typed=False)
    store.put("t", pa.table({"id": [1], "v": ["7"]}), columns={"v": column}, empty_is_null=True)
    schema = connected(store).describe("t")
    assert schema.column("v") == column
    assert schema.empty_is_null
    assert scanned(connected(store), NUMBERS) == [{"id": 1, "v": 7}]


def test_what_a_store_refuses(store: MemoryStore) -> None:
    with pytest.raises(ConfigError):
        MemoryStore("shop")
    with pytest.raises(ConfigError):
        store.put("t", pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(ConfigError) as error:
        store.put("t", pa.table({"id": [1]}), key=("ids",))
    assert "'id'" in error.value.next_step
    with pytest.raises(ConfigError):
        connected(store).plan(binding("t", types(id="int"), ["id"], where="id > 1"), 10)


def test_a_closed_store_is_gone_and_its_name_free(store: MemoryStore) -> None:
    store.close()
    store.close()
    with pytest.raises(ConfigError):
        connected(store)
    with MemoryStore("shop") as other:
        store.close()
        assert MemoryStore.named("shop") is other


def test_chunks_and_slices_are_one_table(store: MemoryStore) -> None:
    whole = pa.concat_tables([numbers(0, 3), numbers(3, 3), numbers(3, 50)]).slice(1, 40)
    store.put("t", whole)
    assert [row["id"] for row in scanned(connected(store), NUMBERS, 7)] == list(range(1, 41))
