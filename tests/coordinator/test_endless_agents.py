"""Regions that show signs of life for ever, or tell of datasets that nobody has here: the coordinator goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from coordinator.letters import DeadLetters
from coordinator.roots import Roots
from coordinator.store import Store
from paritree.config.datasets import Dataset, Region
from paritree.core.ledger import ByteLedger
from paritree.core.messages import AskLetters, DatasetOffer, Hello, Letters, Progress, ReplyBody, RequestBody
from paritree.core.profile import CANONICAL_VERSION, Profile
from paritree.core.types import parse_type

pytestmark = pytest.mark.asyncio
PROFILE = Profile("orders", ("id",), {"id": parse_type("int")})
DATASET = Dataset(PROFILE, {r: Region(r) for r in ("eu", "us")}, file="d")


def offer(name: str) -> DatasetOffer:
    return DatasetOffer(name, PROFILE.profile_id, CANONICAL_VERSION, b"k" * 8, tells=True, rooted=True)


class Link:
    """An agent whose worker hangs: its event loop goes on saying that it is alive."""

    def __init__(self, region: str, *datasets: str, hangs: bool = True) -> None:
        self.region, self.hangs = region, hangs
        self.hello = Hello(region, "a1", "i1", tuple(map(offer, datasets)))
        self.ledger = ByteLedger()
        self.asked: list[RequestBody] = []

    async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        self.asked.append(body)
        while self.hangs:
            await asyncio.sleep(timeout_s / 3)
            yield Progress(0, 0, 0)
        yield Letters()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What bounds every other exchange that scans nothing, made short."""
    monkeypatch.setattr("coordinator.asking.ANSWER_S_MAX", 0.5)


async def test_roots_are_not_waited_for_without_end() -> None:
    links: Any = {name: Link(name, "orders") for name in ("eu", "us")}
    async with asyncio.timeout(30.0):
        assert await Roots(lambda: links, 0.3).judge(DATASET, 5.0, None) is None  # it takes a sweep


async def test_letters_are_not_waited_for_without_end(tmp_path: Path) -> None:
    """A sweep asks for them before it gives its turn away."""
    links: Any = {"eu": Link("eu", "orders")}
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        async with asyncio.timeout(30.0):
            errors = await DeadLetters(store, lambda: links, ["orders"], timeout_s=0.3).refresh("orders")
    assert "eu" in errors


async def test_letters_of_datasets_that_the_coordinator_has_not_are_not_asked_for(tmp_path: Path) -> None:
    """An agent may offer 10,000 datasets, with 10,000 letters each."""
    links: Any = {"eu": Link("eu", "orders", *(f"made-up-{n}" for n in range(50)), hangs=False)}
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        await DeadLetters(store, lambda: links, ["orders"]).refresh()
        asked = {body.dataset for body in links["eu"].asked if isinstance(body, AskLetters)}
        assert asked == {"orders", ""}
        assert {one.dataset for one in store.letter_lists()} == {"orders", ""}
