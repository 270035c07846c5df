"""The looks of whole sweeps as they cross the wire: what is not repeated, what is forgotten, what is asked anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from edge_agent import recall, service
from edge_agent.policy import Policy
from paritree.core import columnplan
from paritree.core.messages import AskAgain, AskDetail, Details, RequestBody
from paritree.wire.loopback import LoopbackLink

CLEAR = Policy(disclosure="keys")
Row = tuple[Any, ...]


def some_rows(count: int) -> list[Row]:
    return [(i, f"name {i}", f"{i}.50") for i in range(count)]


def drifted(rows: list[Row]) -> tuple[list[Row], dict[int, list[str]], set[int]]:
    """Every third row is gone, the others differ in one column or in both: the columns by id, and the gone."""
    changed = {
        i: (i, f"other {i}" if i % 3 == 1 or i % 9 == 2 else name, "7" if i % 3 == 2 else amount)
        for i, name, amount in rows
        if i % 3
    }
    columns = {i: (["amount"] if i % 3 == 2 else []) + (["name"] if i % 3 == 1 or i % 9 == 2 else []) for i in changed}
    return list(changed.values()), columns, {i for i, _, _ in rows if not i % 3}


class Heard:
    """What was asked of each region about keys, and what it answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, RequestBody]] = []
        self.answered: list[tuple[str, Details]] = []
        before = LoopbackLink.ask

        async def ask(link: LoopbackLink, body: RequestBody, **options: Any) -> Any:
            self.asked.append((link.region, body))
            async for part in before(link, body, **options):
                if isinstance(part, Details):
                    self.answered.append((link.region, part))
                yield part

        monkeypatch.setattr(LoopbackLink, "ask", ask)

    def of(self, kind: type[RequestBody]) -> list[Any]:
        return [body for _, body in self.asked if isinstance(body, kind)]

    @property
    def forgotten(self) -> int:
        return sum(part.forgotten for _, part in self.answered)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    return Heard(monkeypatch)


def compared(
    make: Callable[[], Any], rows: int, *, others: int = 1, **options: Any
) -> tuple[Any, dict[str, Any], dict[int, list[str]], set[int]]:
    regions = make()
    whole = some_rows(5 * rows)
    mine, columns, gone = drifted(whole[:rows])
    regions.add("a", whole, policy=CLEAR, digester="compiled", shard_rows=5_000)
    for number in range(others):
        regions.add(f"b{number}", mine + whole[rows:], policy=CLEAR, digester="compiled", shard_rows=5_000)
    return regions, regions.sweep(purpose="test", limit=10_000, **options), columns, gone


def check(report: dict[str, Any], columns: dict[int, list[str]], gone: set[int]) -> None:
    """Exactly the planted keys, with exactly the planted columns."""
    found = {f["key"]["id"]: f for f in report["findings"]}
    assert {i for i, f in found.items() if f["kind"] == "missing"} == gone
    assert {i: sorted(f["columns"]) for i, f in found.items() if f["kind"] == "different"} == columns
    assert report["summary"]["unknown"] == report["summary"]["unsettled"] == report["summary"]["healed"] == 0


def test_a_second_look_of_resting_rows_says_so_in_bits(memory_regions: Any, heard: Heard) -> None:
    _, report, columns, gone = compared(memory_regions, 900)
    check(report, columns, gone)
    assert (report["rounds"], report["bytes"]["lists"]) == (3, 0)
    asked = heard.of(AskDetail)
    assert [len(ask.ks) for ask in asked] == [900, 900]
    assert {ask.halves for ask in asked} == {True}
    for _, part in heard.answered:
        assert part.looks == ()  # all of it went into columns
    told_again = [part.table for _, part in heard.answered if part.table is not None and part.table.same]
    assert len(told_again) == 5  # what one region lacks is looked for, then both look again, twice at what is missing
    assert all(not table.columns and not table.digests for table in told_again)
    details = report["bytes"]["details"]
    assert details < 900 * (8 + 24 + 16) + 600 * (8 + 16 + 2 * 24) + 6_000


@pytest.mark.parametrize("others", [1, 2])
def test_columns_of_many_keys_come_with_the_second_look(
    memory_regions: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    monkeypatch.setattr(columnplan, "FEW_KEYS", 100)
    monkeypatch.setattr(columnplan, "SAMPLE_KEYS", 40)
    monkeypatch.setattr("paritree.core.looks.FEW_KEYS", 100)
    _, report, columns, gone = compared(memory_regions, 900, others=others)
    check(report, columns, gone)
    assert {ask.sampled for ask in heard.of(AskDetail)} == {40}
    assert all(ask.read for ask in heard.of(AskAgain))


def test_an_agent_that_forgets_is_asked_in_full(
    memory_regions: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "ENTRIES_KEPT_MAX", 0)
    _, report, columns, gone = compared(memory_regions, 300)
    check(report, columns, gone)
    assert heard.forgotten > 0
    assert not any(part.table.same for _, part in heard.answered if part.table is not None)


def before_answering(
    regions: Any, monkeypatch: pytest.MonkeyPatch, region: str, number: int, change: Callable[[], None]
) -> None:
    """Change something when a region is asked again for the ``number``-th time."""
    asked = 0
    answer = service.Teller.answer

    def changing(teller: Any, ask: Any) -> Any:
        nonlocal asked
        if isinstance(ask, AskAgain) and teller.copy.source.url == regions.stores[region].url:
            asked += 1
            if asked == number:
                change()
        return answer(teller, ask)

    monkeypatch.setattr(service.Teller, "answer", changing)


def test_a_row_that_changes_between_looks_is_not_the_same(memory_regions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Healed where it becomes equal, confirmed as what it is where it becomes something else."""
    regions = memory_regions()
    rows = some_rows(40)
    regions.add("a", rows, policy=CLEAR)
    regions.add(
        "b", [(i, "x", amount) if i in (3, 4, 5) else (i, name, amount) for i, name, amount in rows], policy=CLEAR
    )
    healed = [(i, "x", amount) if i == 5 else (i, name, amount) for i, name, amount in rows]
    changed = [row if row[0] != 4 else (4, "name 4", "0") for row in healed]
    before_answering(regions, monkeypatch, "b", 1, lambda: regions.put("b", changed))
    report = regions.sweep(purpose="test")
    assert {f["key"]["id"]: f["columns"] for f in report["findings"]} == {4: ["amount"], 5: ["name"]}
    assert report["summary"]["healed"] == 1


def test_a_key_that_comes_between_looks_heals(memory_regions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    regions = memory_regions()
    rows = some_rows(40)
    regions.add("a", rows, policy=CLEAR)
    regions.add("b", [row for row in rows if row[0] not in (7, 8)], policy=CLEAR)
    there = [row for row in rows if row[0] != 8]
    before_answering(regions, monkeypatch, "b", 2, lambda: regions.put("b", there))  # the first look is complete then
    report = regions.sweep(purpose="test")
    assert [f["key"]["id"] for f in report["findings"]] == [8]
    assert report["summary"]["healed"] == 1
