"""A sweep that came to no report is a dead letter; `dlq replay` begins it again, as it was, and a report ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from operated import report_of

from coordinator.aftermath import Aftermath, beginning_again
from coordinator.control import Control
from coordinator.letters import DeadLetters
from coordinator.store import Store, SweepState
from paritree.config.datasets import Dataset, Region
from paritree.core.deadletters import LetterAction
from paritree.core.errors import PeerError
from paritree.core.profile import Profile
from paritree.core.types import parse_type
from paritree.wire.control import Budget, LettersOrder, SweepOrder

pytestmark = pytest.mark.asyncio
PROFILE = Profile("orders", ("id",), {"id": parse_type("int")})
DATASET = Dataset(PROFILE, {name: Region(name) for name in ("eu", "us", "ap")}, file="datasets.toml")
ORDER = SweepOrder("orders", ("eu", "us"), "job", "audit 7", 2.5, 10, budget=Budget(rows=500))


class Runner:
    """Fails as often as a test says, then reports; remembers what it was asked."""

    def __init__(self) -> None:
        self.failures = 1
        self.asked: list[dict[str, Any]] = []

    async def run(self, dataset: Dataset, regions: Any, **options: Any) -> dict[str, Any]:
        kept = ("sweep_id", "lag_max_s", "purpose", "limit")
        self.asked.append({"regions": tuple(regions), **{name: options[name] for name in kept}})
        if len(self.asked) <= self.failures:
            raise PeerError("gave up after 4 tries")
        return {**report_of("orders"), "stored": {"findings": [], "traffic": []}}


@dataclass
class Central:
    """A coordinator without regions, put together as ``coordinator/serve.py`` does it."""

    store: Store
    runner: Runner = field(default_factory=Runner)

    def __post_init__(self) -> None:
        again = beginning_again(self.store, lambda new: self.control.jobs.begin(new))
        self.letters = DeadLetters(self.store, dict, ["orders"], begin_again=again)
        aftermath = Aftermath(self.runner, self.letters, self.store)
        self.control = Control(self.store, aftermath, {"orders": DATASET}, list)
        self.control.jobs.failed = aftermath.failed

    async def fail(self) -> dict[str, Any]:
        """A sweep that comes to no report; its letter."""
        with pytest.raises(PeerError, match="gave up"):
            _ = [event async for event in self.control.sweep(ORDER, "ann")]
        [letter] = await self.listed()
        return letter

    async def listed(self) -> list[dict[str, Any]]:
        return list((await self.letters.answer(LettersOrder(LetterAction.LIST), "ops"))["letters"])

    async def replay(self, letter: dict[str, Any]) -> str | None:
        """Try again, and wait for the end; what the coordinator could not do."""
        order = LettersOrder(LetterAction.REPLAY, ids=(letter["id"],))
        told = await self.letters.answer(order, "ops")
        await asyncio.gather(
            *(one.task for one in self.control.jobs.running.values() if one.task), return_exceptions=True
        )
        return next((str(one["error"]) for one in told["regions"] if one["error"]), None)


@pytest_asyncio.fixture
async def central(tmp_path: Path) -> AsyncIterator[Central]:
    with Store.open(f"sqlite:///{tmp_path}/store.db") as store:
        made = Central(store)
        yield made
        await made.control.stop(0.0)


async def test_a_failed_job_is_begun_again_with_all_that_it_was_begun_with(central: Central) -> None:
    letter = await central.fail()
    sweep_id = letter["detail"]["sweep_id"]
    failed = central.store.sweep(sweep_id)
    assert (letter["kind"], letter["reason"], letter["detail"]["job_id"]) == ("job", "gave up after 4 tries", "job")
    assert failed is not None
    assert failed.state is SweepState.FAILED
    assert await central.replay(letter) is None
    assert await central.listed() == [], "a report ends it"
    asked = {"regions": ("eu", "us"), "lag_max_s": 2.5, "purpose": "audit 7", "limit": 10}
    assert central.runner.asked == [{**asked, "sweep_id": sweep_id}, {**asked, "sweep_id": f"{sweep_id}.2"}]
    done = central.store.sweep(sweep_id)
    assert done is not None
    assert (done.state, done.verdict, done.job_id, done.operator) == (SweepState.FINISHED, "equal", "job", "ops")
    assert done.options == failed.options
    assert done.options["max_rows"] == 500


async def test_a_job_that_fails_again_stays(central: Central) -> None:
    central.runner.failures = 2
    letter = await central.fail()
    assert await central.replay(letter) is None
    [again] = await central.listed()
    assert (again["id"], again["count"]) == (letter["id"], 2)
    assert await central.replay(again) is None
    assert await central.listed() == []


async def test_what_cannot_be_begun_again_says_why(central: Central) -> None:
    await central.letters.job_failed(job_id="old", sweep_id="forgotten", dataset="orders", reason="gave up")
    [letter] = await central.listed()
    assert "sweep forgotten is not in the store any more" in str(await central.replay(letter))
    assert await central.listed() == [letter]
    assert central.runner.asked == []
