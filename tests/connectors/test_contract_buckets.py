"""Buckets in every engine: the rows of each are found whole, by scans and look-ups, whatever the source is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from reading import binding, types, values
from switches.base import Switches

from edge_agent import reading
from edge_agent.connectors.contract import Connector
from paritree.core.profile import Binding, Profile
from paritree.core.scope import Bucket, Cut, Scope
from paritree.core.scope_labels import content, label
from paritree.core.sieve import sifted, tally

MAY = 1_714_521_600_000_000
"""2024-05-01 in microseconds."""
DAY = 86_400_000_000
KINDS = types(id="int", tenant="text", seen="timestamp", day="date", owner="uuid", paid="bool", grp="int")
SCOPES = {
    "tenant": Scope("tenant", "value", ("tenant",)),
    "grp": Scope("grp", "value", ("grp",)),
    "owner": Scope("owner", "value", ("owner",)),
    "paid": Scope("paid", "value", ("paid",)),
    "both": Scope("both", "value", ("tenant", "paid")),
    "on": Scope("on", "value", ("day",)),
    "id": Scope("id", "value", ("id",)),
    "slice": Scope("slice", "hash", ("id", "tenant"), 3),
    "year": Scope("year", "year", ("seen",)),
    "month": Scope("month", "month", ("seen",)),
    "day": Scope("day", "day", ("seen",)),
    "month_of_day": Scope("month_of_day", "month", ("day",)),
}
NOT_ASKED = {
    "memory": set(SCOPES),
    "csv": set(SCOPES),
    "cassandra": set(SCOPES) - {"id"},
    "parquet": {"slice", "owner", "paid"},
    "sqlite": {"slice", "owner"},
    "postgresql": {"slice"},
    "duckdb": {"slice"},
}
"""Scopes for whose buckets an engine reads all rows; of others it may read more than the bucket, but not all."""
EDGES = (0, -1_000, DAY - 1_000, 31 * DAY, 31 * DAY - 1_000, -MAY, -MAY - 1_000, 400 * DAY)


def made(number: int) -> tuple[Any, ...]:
    """A row; every seventh value is NULL, in another place each time."""
    seen = MAY + EDGES[number % len(EDGES)]
    row = [f"t{number % 5}'ü", seen, seen // DAY, bytes([number % 3]) * 16, number % 2 == 0, number % 4 - 1]
    return number, *(None if (number + place) % 7 == 0 else value for place, value in enumerate(row))


ROWS = [made(number) for number in range(56)]
PROFILE = Profile("dataset", ("id",), KINDS)


@pytest.fixture
def bound(store: Switches) -> Binding:
    table = store.create("orders", KINDS, ["id"], ROWS)
    return binding(table, KINDS, ["id"])


def read(connector: Connector, bound: Binding, shard_rows: int = 1_000) -> tuple[list[int], int]:
    """The ids of the bucket's rows, and how many rows the source handed out."""
    ids: list[int] = []
    given = 0
    with connector.plan(bound, shard_rows) as plan:
        for shard in plan.shards:
            batches = list(connector.scan(bound, shard))
            given += sum(batch.num_rows for batch in batches)
            kept = batches if bound.bucket is None else sifted(bound.bucket, iter(batches))
            ids += [row["id"] for row in values(bound, kept)]
    return ids, given


def test_the_rows_of_every_bucket(store: Switches, bound: Binding) -> None:
    with store.connect() as connector:
        with connector.plan(bound, 1_000) as plan:
            batches = [batch for shard in plan.shards for batch in connector.scan(bound, shard)]
        for named, scope in SCOPES.items():
            cut = Cut.of(scope, PROFILE, bytes(32))
            counts = sum((tally(cut, batch) for batch in batches), Counter())
            assert sum(counts.values()) == len(ROWS)
            found: list[int] = []
            chosen = sorted(counts) if len(counts) < 6 else [*sorted(counts)[:2], *sorted(counts)[-2:]]
            for each in chosen:
                narrow, text = replace(bound, bucket=Bucket(cut, each)), label(cut, each)
                ids, given = read(connector, narrow)
                assert len(ids) == counts[each], (named, text)
                assert connector.asks(narrow) == is_asked(store.engine, named, text), (named, text)
                assert given < len(ROWS) or not connector.asks(narrow) or store.engine == "parquet", (named, text)
                found += ids
            assert len(chosen) < len(counts) or sorted(found) == list(range(len(ROWS)))


def is_asked(engine: str, named: str, text: str) -> bool:
    """Whether the engine is asked for a bucket: where it is asked for any, also for NULL."""
    if "null" in text and engine not in ("memory", "csv", "cassandra") and named != "slice":
        return True
    return named not in NOT_ASKED[engine]


def test_shards_and_look_ups_stay_in_the_bucket(store: Switches, bound: Binding) -> None:
    cut = Cut.of(SCOPES["month"], PROFILE, bytes(32))
    narrow = replace(bound, bucket=Bucket(cut, content(cut, "2024-05")))
    with store.connect() as connector:
        inside, _ = read(connector, narrow)
        assert sorted(read(connector, narrow, 7)[0]) == sorted(inside)
        found = reading.looked_up(connector, narrow, [(row[0],) for row in ROWS])
        looked = [number for batch in found for number in batch.column("id").to_pylist()]
    assert sorted(map(int, looked)) == sorted(inside)
    assert 0 < len(inside) < len(ROWS)


def test_a_bucket_without_rows_is_empty(store: Switches, bound: Binding) -> None:
    texts = {"tenant": "none';--", "grp": "9" * 30, "month": "1999-12", "day": "+12024-01-01", "id": "null"}
    with store.connect() as connector:
        for named, text in texts.items():
            cut = Cut.of(SCOPES[named], PROFILE, bytes(32))
            assert read(connector, replace(bound, bucket=Bucket(cut, content(cut, text))))[0] == []
