"""A course of asking one scripted region, by a clock that only waiting moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
from linked import header

from coordinator.asking import Exchanges
from coordinator.course import Course, Surroundings
from coordinator.gates import Gates, Rates
from coordinator.journal import Journal
from paritree.core.errors import PeerError
from paritree.core.ledger import ByteLedger
from paritree.core.messages import (
    AskChildren,
    ByteClass,
    Children,
    Hello,
    Progress,
    Refusal,
    RefusalCode,
    ReplyBody,
    RequestBody,
)
from paritree.core.retry import RetryPolicy

SWEEP = "sweep-1"
CHILDREN = AskChildren(0, 1, np.zeros(1, np.uint64))
ANSWER = Children(header(), np.zeros(2, np.uint64))
BUSY = Refusal(RefusalCode.BUSY, "too much to do", True, 5.0)
Step = ReplyBody | Exception


class Clock:
    """Monotonic seconds that pass only when somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class ScriptedLink:
    """Gives the steps of one try after the other; each part counts ``part_bytes``."""

    region = "eu"

    def __init__(self, *tries: list[Step], part_bytes: int = 100, last: list[Step] | None = None) -> None:
        self.tries = list(tries)
        self.last = last
        self.ledger = ByteLedger()
        self.asked: list[RequestBody] = []
        self.part_bytes = part_bytes

    @property
    def hello(self) -> Hello:
        raise AssertionError

    async def ask(self, body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        self.asked.append(body)
        steps = self.tries.pop(0) if self.tries else self.last
        assert steps is not None, "asked once too often"
        for step in steps:
            if isinstance(step, Exception):
                raise step
            self.ledger.count_sent(ByteClass.NODES, self.part_bytes, sweep_id)
            yield step


def cut() -> PeerError:
    return PeerError("the connection was cut", retryable=True)


class Asking:
    def __init__(self, link: ScriptedLink, policy: RetryPolicy | None = None, **course: Any) -> None:
        self.clock = Clock()
        self.link = link
        surroundings = Surroundings(self.clock, self.clock.sleep, lambda: 0.5)
        rates = course.pop("rates", Rates())
        journal = course.pop("journal", None) or Journal(clock=self.clock, sleep=self.clock.sleep)
        gates = Gates(rates, clock=self.clock)
        self.course = Course(journal, gates, surroundings, retry=policy or RetryPolicy(), **course)
        self.exchanges = Exchanges({"eu": link}, SWEEP, 60.0, self.course)  # type: ignore[dict-item]
        self.told: list[Progress] = []

    async def __call__(self, body: RequestBody = CHILDREN) -> list[ReplyBody]:
        return await self.exchanges.parts("eu", body, self.told.append)
