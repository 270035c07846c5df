"""What a hostile agent may tell of its dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from linked import ScriptedService, linked
from operated import report_of

from coordinator.aftermath import Aftermath
from coordinator.control import Control
from coordinator.letters import DeadLetters
from coordinator.store import Store
from paritree.config.datasets import Dataset, Region
from paritree.core import limits
from paritree.core.deadletters import Letter, LetterKind
from paritree.core.messages import DatasetOffer, Hello, Letters, ReplyBody, Request
from paritree.core.profile import Profile
from paritree.core.types import parse_type
from paritree.wire.control import SweepOrder

DATASET = Dataset(Profile("orders", ("id",), {"id": parse_type("int")}), {r: Region(r) for r in ("eu", "us")}, file="d")


class Agent(ScriptedService):
    def hello(self) -> Hello:
        return Hello("eu", "a1", "i1", (DatasetOffer("orders", b"p" * 16, 1, b"k" * 8),))


@pytest.mark.asyncio
async def test_a_number_that_no_store_holds_does_not_fail_the_sweep(tmp_path: Path, pki_dir: Path) -> None:
    """Of the other regions, too: the sweep came to a report, and this is only what is asked after it."""

    async def telling(request: Request) -> AsyncIterator[ReplyBody]:
        yield Letters(not_kept=2**64 - 1)

    class Runner:
        async def run(self, dataset: Dataset, regions: Any, **options: Any) -> dict[str, Any]:
            report = report_of("orders", "different")
            report["regions"][0]["dead_letters"] = 1
            return report

    async with linked(pki_dir, Agent(telling)) as (running, _, _session):
        with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
            letters = DeadLetters(store, lambda: running.regions.links, ["orders"])
            control = Control(store, Aftermath(Runner(), letters, store), {"orders": DATASET}, list)
            told = [event async for _, event in control.sweep(SweepOrder("orders"), "ann")]
            assert told[-1].report["verdict"] == "different"


@pytest.mark.asyncio
async def test_parts_without_letters_do_not_fill_the_memory(tmp_path: Path, pki_dir: Path) -> None:
    sent = 0

    async def endless(request: Request) -> AsyncIterator[ReplyBody]:
        nonlocal sent
        while sent < 300:
            sent += 1
            yield Letters(cleared=tuple(f"{sent:05}{n:011}" for n in range(10_000)))

    async with linked(pki_dir, Agent(endless)) as (running, _, _session):
        with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
            letters = DeadLetters(store, lambda: running.regions.links, ["orders"])
            errors = await letters.refresh("orders")
    assert "eu" in errors, f"{sent} parts were taken, with {sent * 10_000:,} ids"
    assert sent < 200


@pytest.mark.servers
def test_the_latest_time_of_a_letter_can_be_read_again_wherever_the_server_is(postgresql: Any) -> None:
    """Else one region's letter fails each sweep of its dataset: they are looked for after it."""
    url = postgresql.create_database("tokyo")
    with postgresql.connect("tokyo") as connection:
        connection.execute("ALTER DATABASE tokyo SET timezone = 'Asia/Tokyo'")
    with Store.open(url) as store:
        at = {"first_seen_us": 1, "last_seen_us": limits.TIME_US_MAX}
        store.replace_letters("eu", "orders", [Letter("ABCDEFGHIJKLMNOP", "orders", LetterKind.ROW, "bad", **at)], 0)
        assert len(store.letters(dataset="orders")) == 1
