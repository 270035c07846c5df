"""The contract of ``edge_agent/connectors/contract.py``, for every connector that is installed."""

from __future__ import annotations

import contextlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from reading import INT, TEXT, binding, filled, looked_up, scanned, types, values
from switches.base import Switches

from edge_agent.connectors.contract import BATCH_ROWS, Shard, Source
from edge_agent.connectors.registry import connect
from paritree.core.errors import ConfigError, ParitreeError, SourceError
from paritree.core.profile import Binding, BoundColumn

SCAN_ELSEWHERE = """
import json, pickle, sys
from edge_agent.connectors.registry import connect
source, binding, shard = pickle.load(sys.stdin.buffer)
with connect(source) as connector:
    print(json.dumps([int(v) for batch in connector.scan(binding, shard) for v in batch.column("id").to_pylist()]))
"""


def test_schema_comes_from_the_catalogue(store: Switches) -> None:
    columns = types(id="int", part="text", amount="decimal", note="text", seen="date", raw="bytes", ok="bool")
    table = store.create("orders", columns, ["part", "id"], [])
    with store.connect() as connector:
        assert table in connector.tables()
        schema = connector.describe(table)
        assert connector.describe(schema.table) == schema
    assert {column.name for column in schema.columns} == set(columns)
    assert schema.key == (("part", "id") if store.knows_key else ())
    for column in schema.columns:
        assert column.engine_type
        assert column.typed is store.enforces_types
        assert column.logical is not None, column.refusal
        if store.engine != "csv":
            assert column.logical.name == columns[column.name].name
    nullable = {column.name for column in schema.columns if column.nullable}
    assert "note" in nullable


@pytest.mark.parametrize("shard_rows", [1, 7, 1000])
@pytest.mark.parametrize("count", [0, 1, 7, 50])
def test_every_row_is_in_exactly_one_shard(store: Switches, count: int, shard_rows: int) -> None:
    bound = filled(store, count)
    with store.connect() as connector, connector.plan(bound, shard_rows) as plan:
        assert len(plan.shards) >= 1
        assert [shard.number for shard in plan.shards] == list(range(len(plan.shards)))
        assert len({shard.label for shard in plan.shards}) == len(plan.shards)
        rows = [row for shard in plan.shards for row in values(bound, connector.scan(bound, shard))]
        rows.sort(key=lambda row: row["id"])
        assert rows == [{"id": number, "v": number * 10} for number in range(count)]


def test_a_shard_can_be_scanned_again(store: Switches) -> None:
    bound = filled(store, 5)
    with store.connect() as connector, connector.plan(bound, 2) as plan:
        first, again = (values(bound, connector.scan(bound, plan.shards[0])) for _ in range(2))
        assert first == again


def test_shards_are_scanned_in_another_process(store: Switches) -> None:
    bound = filled(store, 20)
    with store.connect() as connector, connector.plan(bound, 7) as plan:
        found = [number for shard in plan.shards for number in _elsewhere(store, bound, shard)]
    assert sorted(found) == list(range(20))


def _elsewhere(store: Switches, bound: Binding, shard: Shard) -> list[int]:
    sent = pickle.dumps((store.source, bound, shard))
    done = subprocess.run([sys.executable, "-c", SCAN_ELSEWHERE], input=sent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: list[int] = json.loads(done.stdout)
    return found


def test_the_first_batch_comes_before_all_is_read(store: Switches) -> None:
    table, key, columns = store.late_failure()
    bound = Binding("dataset", table, key, columns)
    with store.connect() as connector, connector.plan(bound, 10_000_000) as plan:
        (shard,) = plan.shards
        batches = connector.scan(bound, shard)
        assert 0 < next(batches).num_rows <= BATCH_ROWS
        store.break_late_failure()
        with pytest.raises(SourceError):
            list(batches)


def test_an_abandoned_scan_leaves_nothing_open(store: Switches) -> None:
    bound = filled(store, 10)
    with store.connect() as connector, connector.plan(bound, 1000) as plan:
        batches = connector.scan(bound, plan.shards[0])
        next(batches)
        del batches
        assert len(scanned(connector, bound)) == 10


def test_two_scans_run_side_by_side(store: Switches) -> None:
    bound = filled(store, 10)
    with store.connect() as connector, connector.plan(bound, 1000) as plan:
        one, two = (connector.scan(bound, plan.shards[0]) for _ in range(2))
        assert next(one).num_rows == next(two).num_rows == 10


def test_columns_are_renamed_constant_and_folded(store: Switches) -> None:
    columns = types(id="int", tenant="text", bucket="int")
    table = store.create("mapped", columns, ["id"], [(1, "a", 7), (2, "b", None), (3, "", 0)])
    bound = Binding(
        "dataset",
        table,
        ("number",),
        (
            BoundColumn("number", INT, source="id"),
            BoundColumn("region", TEXT, constant="eu"),
            BoundColumn("scope", TEXT, parts=("tenant", "bucket"), joiner=":"),
            BoundColumn("limit", INT, constant="12"),
        ),
    )
    with store.connect() as connector:
        rows = sorted(scanned(connector, bound), key=lambda row: row["number"])
        assert [int(row["limit"]) for row in rows] == [12, 12, 12]
        assert [(row["number"], row["region"], row["scope"]) for row in rows] == [
            (1, "eu", "a:7"),
            (2, "eu", None),
            (3, "eu", ":0"),
        ]


def test_expressions_and_where_are_the_engines_own(store: Switches) -> None:
    bound = filled(store, 10)
    columns = (BoundColumn("id", INT, source="id"), BoundColumn("twice", INT, expression="v * 2"))
    with store.connect() as connector:
        rows = scanned(connector, Binding("dataset", bound.table, ("id",), columns, where="id >= 7"))
        assert sorted((row["id"], row["twice"]) for row in rows) == [(7, 140), (8, 160), (9, 180)]
        (row,) = looked_up(connector, Binding("dataset", bound.table, ("twice",), columns), (60,))
        assert row["id"] == 3


def test_a_malformed_expression_is_the_operators_mistake(store: Switches) -> None:
    bound = filled(store, 3)
    columns = (BoundColumn("id", INT, source="id"), BoundColumn("x", INT, expression="no_such_function(id)"))
    with store.connect() as connector, pytest.raises(ConfigError):
        scanned(connector, Binding("dataset", bound.table, ("id",), columns))


def test_odd_identifiers(store: Switches) -> None:
    columns = dict.fromkeys(store.odd_columns, INT)
    table = store.create(store.odd_table, columns, [store.odd_columns[0]], [tuple(range(len(columns)))])
    bound = binding(table, columns, [store.odd_columns[0]])
    with store.connect() as connector:
        assert {column.name for column in connector.describe(table).columns} == set(columns)
        assert scanned(connector, bound) == [dict(zip(columns, range(len(columns)), strict=True))]
        assert len(looked_up(connector, bound, (0,))) == 1


def test_an_absent_table_is_a_mistake_of_the_operator(store: Switches) -> None:
    filled(store, 1)
    with store.connect() as connector:
        with pytest.raises(ConfigError) as error:
            connector.describe("numbrs")
        assert "numbers" in error.value.next_step
        with pytest.raises(ConfigError):
            connector.plan(binding("numbrs", types(id="int"), ["id"]), 10)


def test_an_absent_column_is_a_mistake_of_the_operator(store: Switches) -> None:
    table = filled(store, 1).table
    bound = binding(table, types(id="int", vv="int"), ["id"])
    with store.connect() as connector:
        with pytest.raises(ConfigError) as error:
            connector.plan(bound, 10)
        assert "vv" in str(error.value)
        with pytest.raises(ConfigError):
            looked_up(connector, bound, (0,))


def test_an_unreachable_source_is_an_error_of_ours(store: Switches) -> None:
    for source in store.unreachable():
        with pytest.raises((SourceError, ConfigError)) as error:
            connect(source)
        assert isinstance(error.value, ParitreeError)
        assert error.value.next_step


def test_an_unknown_option_is_a_mistake_of_the_operator(store: Switches) -> None:
    filled(store, 1)
    options = {**store.source.options, "colour": "green"}
    with pytest.raises(ConfigError) as error:
        connect(Source(store.source.url, options, store.source.secrets))
    assert "colour" in str(error.value)


def test_the_source_is_not_changed(store: Switches) -> None:
    bound = filled(store, 20)
    before = store.fingerprint()
    with store.connect() as connector:
        connector.tables()
        connector.describe(bound.table)
        connector.advice(bound.table)
        scanned(connector, bound, 7)
        looked_up(connector, bound, (3,), (4,))
        assert store.fingerprint() == before
    assert store.fingerprint() == before


def test_position_without_changes(store: Switches) -> None:
    bound = filled(store, 20)
    with store.connect() as connector, connector.plan(bound, 7) as plan:
        for shard in plan.shards:
            list(connector.scan(bound, shard))
        position = plan.position()
    assert position.text
    assert position.point or store.engine == "cassandra"


def test_a_change_between_shards_is_never_taken_for_one_state(store: Switches) -> None:
    bound = filled(store, 20)
    seen: list[dict[str, int]] = []
    outcome = "refused"
    with store.connect() as connector, connector.plan(bound, 10) as plan:
        seen += values(bound, connector.scan(bound, plan.shards[0]))
        store.change(bound.table)
        with contextlib.suppress(SourceError):
            for shard in plan.shards[1:]:
                seen += values(bound, connector.scan(bound, shard))
            outcome = "snapshot" if plan.position().point else "interval"
    assert outcome == store.when_changed
    if outcome == "snapshot":
        assert sorted(row["id"] for row in seen) == list(range(20))
        assert all(row["v"] == row["id"] * 10 for row in seen)


def test_describe_says_what_position_proves(store: Switches) -> None:
    bound = filled(store, 1)
    with store.connect() as connector:
        assert connector.describe(bound.table).consistent is (store.when_changed != "interval")


def test_close_is_idempotent(store: Switches) -> None:
    bound = filled(store, 3)
    connector = store.connect()
    plan = connector.plan(bound, 10)
    for _ in range(2):
        plan.close()
    for _ in range(2):
        connector.close()


def test_every_hole_names_a_test(store: Switches) -> None:
    modules = Path(__file__).parent.glob("test_contract*.py")
    text = "".join(module.read_text() for module in modules)
    for hole in store.holes:
        assert f"def {hole.partition('[')[0]}(" in text
