"""Whole sweeps over memory regions: found = planted, and never "equal" by accident."""

from __future__ import annotations

import random

import pytest

from edge_agent.connectors.contract import Shard
from edge_agent.policy import Policy
from paritree.core.digest import token
from paritree.core.errors import SourceError
from paritree.core.profile import Profile
from paritree.core.sketch import PROBE_CELL_BYTES, PROBE_CELLS, TABLES
from paritree.core.types import parse_type

PROBE_BYTES = TABLES * PROBE_CELLS * PROBE_CELL_BYTES
CLEAR = Policy(disclosure="keys")


def some_rows(count: int) -> list[tuple[object, ...]]:
    return [(i, f"name {i}", f"{i}.50") for i in range(count)]


def test_equal_regions_are_equal_and_move_nothing(memory_regions):
    regions = memory_regions()
    rows = some_rows(5000)
    regions.add("eu", rows)
    regions.add("us", rows[::-1], shard_rows=700)
    report = regions.sweep()
    assert report["verdict"] == "equal"
    assert [v["verdict"] for v in report["verdicts"]] == ["equal"]
    assert report["findings"] == []
    assert report["rounds"] == 1
    assert report["bytes"]["lists"] == report["bytes"]["details"] == report["bytes"]["revealed"] == 0
    assert [r["rows"] for r in report["regions"]] == [5000, 5000]
    moved = sum(r["bytes_sent"] + r["bytes_received"] for r in report["regions"])
    assert moved == sum(report["bytes"].values())


@pytest.mark.parametrize("count", [1, 2, 20, 70_000])
@pytest.mark.parametrize("sealed", [False, True])
def test_planted_differences_are_found_exactly(memory_regions, summary_of, count, sealed):
    rng = random.Random(count)
    policy = Policy(disclosure="keys", sealed_keys=sealed)
    rows = some_rows(count)
    regions = memory_regions()
    regions.add("eu", rows, policy=policy, shard_rows=20_000)
    other = {r[0]: r for r in rows}
    expected = []
    ids = rng.sample(range(count), min(count, 30))
    for n, i in enumerate(ids):
        if n % 3 == 0:
            other[i] = (i, "edited", f"{i}.50")
            expected.append((i, "different", ("name",), ()))
        elif n % 3 == 1:
            del other[i]
            expected.append((i, "missing", (), ("us",)))
        else:
            other[-i - 1] = (-i - 1, "extra", "1")
            expected.append((-i - 1, "missing", (), ("eu",)))
    regions.add("us", list(other.values()), policy=policy, shard_rows=20_000)
    report = regions.sweep(purpose="test")
    assert report["verdict"] == "different"
    assert summary_of(report) == sorted(expected)
    assert report["findings_total"] == len(expected)
    assert report["rounds"] == 2
    assert report["bytes"]["sketches"] == 2 * PROBE_BYTES
    assert report["bytes"]["lists"] == 0
    assert report["summary"]["unknown"] == report["summary"]["healed"] == 0


def test_three_regions_are_grouped_by_version(memory_regions):
    regions = memory_regions()
    rows = some_rows(300)
    regions.add("a", rows, policy=CLEAR)
    regions.add("b", [(0, "other", "0.50"), *rows[1:]], policy=CLEAR)
    regions.add("c", [*rows[:7], *rows[8:]], policy=CLEAR)
    report = regions.sweep(purpose="test")
    found = {f["key"]["id"]: f for f in report["findings"]}
    assert found[0]["groups"] == [["a", "c"], ["b"]]
    assert found[0]["missing_in"] == []
    assert found[7]["groups"] == [["a", "b"]]
    assert found[7]["missing_in"] == ["c"]
    assert report["summary"]["missing"] == {"c": 1}


def test_empty_against_full_and_empty_against_empty(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(100))
    regions.add("b", [])
    regions.add("c", [])
    assert regions.sweep(regions=["b", "c"])["verdict"] == "equal"
    report = regions.sweep(regions=["a", "b"])
    assert report["verdict"] == "different"
    assert report["summary"]["missing"] == {"b": 100}


def test_tokens_are_the_default_and_nothing_means_no_tokens(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    regions.add("b", some_rows(9))
    [finding] = regions.sweep(purpose="please")["findings"]
    assert finding["key"] is None
    assert len(finding["token"]) == 16
    silent = memory_regions()
    silent.add("a", some_rows(10), policy=Policy(disclosure="nothing"))
    silent.add("b", some_rows(9), policy=CLEAR)
    [finding] = silent.sweep(purpose="please")["findings"]
    assert finding["token"] is None


def test_the_agent_resolves_the_tokens_of_a_report(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    regions.add("b", some_rows(9))
    [finding] = regions.sweep()["findings"]
    service = regions.links["a"]._service
    assert service.reveal_tokens("orders", [finding["token"].lower()]) == {finding["token"]: b"\x91\x09"}
    assert service.reveal_tokens("orders", [token(b"x" * 16)]) == {}


def test_a_region_without_an_agent_is_unknown_and_the_rest_is_compared(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    regions.add("b", some_rows(10))
    report = regions.sweep(regions=["a", "b", "c"])
    assert report["verdict"] == "unknown"
    assert [(v["verdict"], v["regions"]) for v in report["verdicts"]] == [("unknown", ["c"])]
    regions.put("b", some_rows(9))
    report = regions.sweep(regions=["a", "b", "c"])
    assert report["verdict"] == "different"
    assert {v["verdict"] for v in report["verdicts"]} == {"different", "unknown"}


def test_one_region_alone_is_unknown(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    assert regions.sweep(regions=["a", "b"])["verdict"] == "unknown"


def test_another_dataset_key_is_unknown_not_different(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    regions.add("b", some_rows(10))
    regions.add("c", some_rows(10), master_key=b"x" * 32)
    report = regions.sweep()
    assert report["verdict"] == "unknown"
    assert report["verdicts"][0]["regions"] == ["c"]
    assert "key" in report["verdicts"][0]["reason"]
    report = regions.sweep(regions=["a", "c"])
    assert report["verdict"] == "unknown"
    assert report["findings"] == []


def test_another_profile_is_refused_by_the_agent(memory_regions):
    regions = memory_regions()
    regions.add("a", some_rows(10))
    regions.add("b", some_rows(10))
    columns = {"id": parse_type("int"), "name": parse_type("text")}
    regions.add("c", some_rows(10), profile=Profile("orders", ("id",), columns))
    report = regions.sweep()
    assert report["verdict"] == "unknown"
    assert [(v["verdict"], v["regions"]) for v in report["verdicts"]] == [("unknown", ["c"])]


def test_a_row_that_heals_between_looks_is_not_reported(memory_regions):
    regions = memory_regions()
    rows = some_rows(50)
    regions.add("a", rows)
    regions.add("b", [(3, "late", "3.50"), *[r for r in rows if r[0] not in (3, 4)]])
    regions.stores["b"].before_shard = None
    seen = []

    def heal(region: str, stage: str, progress: object) -> None:
        seen.append(stage)

    from coordinator.sweep import Sweep, SweepOptions

    class HealingLooks(Sweep):
        async def _ask_look(self, name, ask):  # the late row arrives just before the first look
            regions.put("b", rows)
            return await super()._ask_look(name, ask)

    import asyncio

    sweep = HealingLooks(
        regions.profile, ["a", "b"], regions.links, "healing", SweepOptions(lag_max_s=0.0), on_progress=heal
    )
    report = asyncio.run(sweep.run())
    assert report["verdict"] == "equal"
    assert report["summary"]["healed"] == 2
    assert "scan" in seen


def test_dead_letters_make_the_sweep_unknown(memory_regions):
    regions = memory_regions()
    rows = some_rows(50)
    regions.add("a", rows, policy=CLEAR)
    regions.add("b", [*rows[:49], (49, "na\0me", "49.50")], policy=CLEAR)
    report = regions.sweep(purpose="test")
    assert report["verdict"] == "unknown"
    assert report["summary"]["unknown"] == 1
    assert report["unknown_keys"][0]["key"] == {"id": 49}
    assert report["findings"] == []
    assert report["regions"][1]["dead_letter_reasons"] == {"name: text with NUL": 1}


def test_a_null_key_makes_keys_absent_there_unknown_not_missing(memory_regions):
    regions = memory_regions()
    rows = some_rows(50)
    regions.add("a", rows)
    regions.add("b", [*rows[:49], (None, "lost key", "49.50")])
    report = regions.sweep()
    assert report["verdict"] == "unknown"
    assert report["summary"]["missing"] == {}
    assert report["summary"]["unknown"] == 1
    assert report["regions"][1]["rows"] == 50


def test_duplicate_keys_are_compared_as_multisets(memory_regions):
    regions = memory_regions()
    rows = some_rows(50)
    regions.add("a", [*rows, rows[5]], policy=CLEAR)
    regions.add("b", rows, policy=CLEAR)
    report = regions.sweep(purpose="test")
    assert report["verdict"] == "different"
    assert report["summary"]["duplicate"] == {"a": 1}
    [finding] = report["findings"]
    assert (finding["kind"], finding["key"], finding["counts"]) == ("duplicate", {"id": 5}, {"a": 2, "b": 1})
    regions.put("b", [*rows, rows[5]])
    report = regions.sweep()
    assert report["verdict"] == "equal"
    assert report["summary"]["duplicate"] == {"a": 1, "b": 1}
    assert report["rounds"] == 1


def test_a_source_that_fails_in_the_middle_is_unknown_with_the_rest_compared(memory_regions):
    regions = memory_regions()
    for name in "abc":
        regions.add(name, some_rows(5000))

    def fail(shard: Shard) -> None:
        if shard.number == 3:
            raise SourceError("the disk is gone")

    regions.stores["b"].before_shard = fail
    report = regions.sweep()
    assert report["verdict"] == "unknown"
    assert [(v["regions"], v["reason"]) for v in report["verdicts"]] == [(["b"], "the disk is gone")]
    assert [r["compared"] for r in report["regions"]] == [True, False, True]
    assert not list(regions.spool.glob("*/orders/*/*.run"))


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("shard_rows", [1, 13, 10_000])
def test_any_sharding_and_executor_gives_the_same_root(memory_regions, executor, shard_rows):
    regions = memory_regions()
    rows = some_rows(200)
    regions.add("a", rows)
    regions.add("b", rows[::-1], executor=executor, shard_rows=shard_rows)
    assert regions.sweep()["verdict"] == "equal"


def test_a_row_that_never_rests_is_unsettled(memory_regions):
    import asyncio

    from coordinator.sweep import Sweep, SweepOptions

    regions = memory_regions()
    rows = some_rows(50)
    regions.add("a", rows)
    regions.add("b", [(0, "x", "0.50"), *rows[1:]])
    count = iter(range(100))

    class Restless(Sweep):
        async def _ask_looks(self, asks):
            regions.put("b", [(0, f"version {next(count)}", "0.50"), *rows[1:]])
            return await super()._ask_looks(asks)

    sweep = Restless(regions.profile, ["a", "b"], regions.links, "restless", SweepOptions(lag_max_s=0.0))
    report = asyncio.run(sweep.run())
    assert report["verdict"] == "unsettled"
    assert report["summary"]["unsettled"] == 1
    assert report["findings"] == []
