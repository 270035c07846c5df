"""An agent asked about what it remembers: late, twice, in another order, after a change, of nothing it knows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from paritree.core.digest import DatasetKeys
from paritree.core.looktable import Picked, marked, packed
from paritree.core.messages import (
    AskAgain,
    AskDetail,
    Begin,
    Details,
    Ready,
    Refusal,
    ReplyBody,
    RequestBody,
)
from paritree.core.profile import CANONICAL_VERSION
from paritree.core.shown import Row, looks_of, names_of

ROWS = [(i, f"name {i}", f"{i}.50") for i in range(20)]
KEYS = DatasetKeys.of(bytes(range(32)), "orders")
SWEEP = "one"
MINE = [KEYS.key_digest(bytes([0x91, i])) for i in (3, 4, 5)]
ABSENT = KEYS.key_digest(bytes([0x91, 99]))


@dataclass
class Region:
    """One region whose rows under four k were shown: three are there, one is not."""

    regions: Any
    memory: bytes = b""

    def ask(self, body: RequestBody) -> list[ReplyBody]:
        async def parts() -> list[ReplyBody]:
            asked = self.regions.links["a"].ask(body, sweep_id=SWEEP, timeout_s=30.0)
            async with aclosing(asked) as answer:
                return [part async for part in answer]

        return [part for part in asyncio.run(parts()) if type(part).__name__ != "Progress"]

    @property
    def entries(self) -> list[bytes]:
        return sorted([*MINE, ABSENT[:8]])

    def begin(self) -> None:
        (ready,) = self.ask(Begin("orders", self.regions.profile.profile_id, CANONICAL_VERSION))
        assert isinstance(ready, Ready)
        ks = sorted(int.from_bytes(digest[:8], "big") for digest in (*MINE, ABSENT))
        ask = AskDetail(np.array(ks, np.uint64))
        (details,) = self.ask(ask)
        assert isinstance(details, Details)
        shown = looks_of(names_of(ask), [details], Row(3), None)
        assert sorted(look.key_digest for looks in shown.values() for look in looks) == sorted(MINE)
        self.memory = details.memory

    def again(self, memory: bytes, **options: Any) -> tuple[dict[bytes, Any], bytes]:
        """What is told of each entry: True where it is the same, else the fresh digests; and the new token."""
        kept = packed([True] * 4)
        (details,) = self.ask(AskAgain(memory, kept, **options))
        assert isinstance(details, Details)
        found = looks_of(self.entries, [details], Row(3), options.get("picked"))
        return {name: looks[0].same or looks[0].fresh for name, looks in found.items()}, details.memory


@pytest.fixture
def region(memory_regions: Any) -> Region:
    regions = memory_regions()
    regions.add("a", ROWS)
    made = Region(regions)
    made.begin()
    return made


def test_what_rests_is_the_same_and_what_is_absent_too(region: Region) -> None:
    told, memory = region.again(region.memory)
    assert told == dict.fromkeys(region.entries, True)
    assert len(memory) == 16
    assert memory != region.memory
    assert region.again(memory)[0] == told


def test_a_repeated_or_late_request_speaks_of_the_answer_that_it_names(region: Region) -> None:
    rested, _ = region.again(region.memory)
    region.regions.put("a", [row if row[0] != 4 else (4, "other", "4.50") for row in ROWS])
    changed, after = region.again(region.memory)
    assert {name for name, seen in changed.items() if seen is not True} == {MINE[1]}
    assert region.again(region.memory)[0] == changed  # asked once more, it has not become "the same"
    assert region.again(after)[0] == rested  # of the newer answer it is
    region.regions.put("a", ROWS)
    assert region.again(region.memory)[0] == rested  # late, and true again
    back, _ = region.again(after)
    assert {name for name, seen in back.items() if seen is not True} == {MINE[1]}


def test_rows_that_come_and_go(region: Region) -> None:
    region.regions.put("a", [*(row for row in ROWS if row[0] != 3), (99, "new", "1")])
    told, after = region.again(region.memory)
    assert told[MINE[0]] == ()  # gone
    assert told[MINE[2]] is True
    assert told[ABSENT[:8]] not in (True, ())  # found by a scan, under its k
    entries = sorted([*MINE, ABSENT])
    (details,) = region.ask(AskAgain(after, packed([True] * 4)))
    assert isinstance(details, Details)
    assert details.table is not None
    assert marked(details.table.same, 4).all()  # type: ignore[union-attr]
    assert looks_of(entries, [details], Row(3), None)[ABSENT][0].same


def test_columns_of_remembered_rows_are_those_that_were_seen(region: Region) -> None:
    picked = Picked(packed([True] * 3))
    all_of_them = packed([True] * 4)
    (before,) = region.ask(AskAgain(region.memory, all_of_them, all_of_them, picked, read=False))
    region.regions.put("a", [(i, "other", amount) for i, _, amount in ROWS])
    (after,) = region.ask(AskAgain(region.memory, all_of_them, all_of_them, picked, read=False))
    assert isinstance(before, Details)
    assert isinstance(after, Details)
    assert before == after
    assert before.table is not None
    assert len(before.table.columns) == 3 * 3 * 8


def test_what_is_not_remembered_is_said_to_be_forgotten(region: Region) -> None:
    (details,) = region.ask(AskAgain(b"never given out!", packed([True] * 4)))
    assert isinstance(details, Details)
    assert details.forgotten
    assert (details.looks, details.table, details.memory) == ((), None, b"")


@pytest.mark.parametrize(
    ("request_of", "reason"),
    [
        (lambda memory: AskAgain(memory, packed([True] * 9)), "other keys"),
        (
            lambda memory: AskAgain(memory, packed([True, False, False, False]), packed([False, True])),
            "not to be looked at",
        ),
        (lambda memory: AskAgain(memory, b"\xff"), "other keys"),
        (lambda memory: AskAgain(memory, b"\x01", b"\x01", Picked(packed([True] * 9))), "other columns"),
    ],
)
def test_a_request_that_does_not_fit_the_answer_is_refused(region: Region, request_of: Any, reason: str) -> None:
    (refusal,) = region.ask(request_of(region.memory))
    assert isinstance(refusal, Refusal)
    assert reason in refusal.message
