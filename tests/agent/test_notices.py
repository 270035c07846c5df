"""Notices of an agent: what is told, how often, from whatever thread, and what is passed over."""

from __future__ import annotations

import asyncio
import threading

import pytest

from edge_agent.notices import EVERY_S, Notices
from paritree.core import limits
from paritree.wire.frames import Notice

pytestmark = pytest.mark.asyncio


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def soon(notices: Notices) -> Notice | None:
    """The next notice, if it may be sent now."""
    try:
        async with asyncio.timeout(0.05):
            return await notices.next()
    except TimeoutError:
        return None


async def test_notices_of_a_dataset_grow_together_until_one_may_be_sent() -> None:
    clock = Clock()
    notices = Notices(clock)
    notices.watch(["orders", "users"])
    notices.note("orders", 2, (10.0, 11.0), "lsn 1")
    assert await soon(notices) == Notice("orders", 2, 10_000_000, 11_000_000, "lsn 1")
    notices.note("orders", 1, (9.0, 9.5), "lsn 2")
    notices.note("users", 1)
    assert await soon(notices) == Notice("users", 1)
    notices.note("orders", 4, (12.0, 13.0), "lsn 3")
    assert await soon(notices) is None, "at most one a second"
    clock.now_s += EVERY_S
    assert await soon(notices) == Notice("orders", 5, 9_000_000, 13_000_000, "lsn 3")
    clock.now_s += EVERY_S
    assert await soon(notices) is None


async def test_what_nobody_watches_is_not_told() -> None:
    notices = Notices()
    notices.note("orders", 1)
    notices.watch(["users"])
    notices.note("orders", 1)
    notices.note("users", 0)
    assert await soon(notices) is None
    notices.note("users", 1)
    notices.watch(["orders"])  # another coordinator
    assert await soon(notices) is None
    assert notices.watches("orders")
    assert not notices.watches("users")


async def test_a_thread_wakes_whoever_waits() -> None:
    notices = Notices()
    notices.watch(["orders"])
    waiting = asyncio.create_task(notices.next())
    await asyncio.sleep(0)
    threading.Thread(target=notices.note, args=("orders", 3)).start()
    async with asyncio.timeout(5):
        assert await waiting == Notice("orders", 3)


async def test_a_notice_fits_the_wire_whatever_is_noted() -> None:
    clock = Clock()
    notices = Notices(clock)
    notices.watch(["orders"])
    notices.note("orders", 2**64 - 1, (-5.0, 1e15), "x" * (limits.POSITION_CHARS_MAX + 1))
    notices.note("orders", 2**64 - 1, None, "a\nb")
    assert await soon(notices) == Notice("orders", 2**64 - 1, 1, limits.TIME_US_MAX)
