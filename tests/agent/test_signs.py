"""Signs of life: news soon, ever more rarely, and never silence for longer than a request allows."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator

import pytest

from edge_agent import signs
from edge_agent.signs import in_thread, while_working
from paritree.core.errors import SourceError
from paritree.core.messages import Ended, Progress, ReplyBody

pytestmark = pytest.mark.asyncio


async def times(lasts_s: float, timeout_s: float, *, news: bool) -> list[float]:
    """When signs came while work of that length was done, in seconds."""
    began = time.monotonic()
    work = asyncio.create_task(asyncio.sleep(lasts_s))

    def how_far() -> Progress:
        return Progress(round((time.monotonic() - began) * 1000), 9, 9)

    return [time.monotonic() - began async for _ in while_working(work, timeout_s, how_far if news else None)]


async def test_news_are_told_ever_more_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "NEWS_S", 0.01)
    monkeypatch.setattr(signs, "NEWS_SHARE", 5)
    told = await times(1.0, 60.0, news=True)
    assert 2 < len(told) < 25  # not a hundred
    assert sum(at < 0.5 for at in told) > sum(at >= 0.5 for at in told)


async def test_without_news_there_is_a_sign_before_the_request_expires() -> None:
    told = await times(3.0, 2.7, news=False)
    assert 1 <= len(told) <= 3
    assert all(later - earlier < 2.7 for earlier, later in itertools.pairwise([0.0, *told]))


async def test_quick_work_tells_its_news_once() -> None:
    assert len(await times(0.0, 60.0, news=True)) == 1
    assert await times(0.0, 60.0, news=False) == []


async def test_a_slow_part_is_waited_for_with_signs_of_life_and_nothing_gets_lost() -> None:
    def parts() -> Iterator[ReplyBody]:
        yield Ended()
        time.sleep(2.1)
        yield Ended()

    told = [type(part).__name__ async for part in in_thread(parts(), 2.7)]
    assert (told[0], told[-1]) == ("Ended", "Ended")
    assert set(told[1:-1]) == {"Progress"}


async def test_what_a_part_raises_is_raised() -> None:
    def parts() -> Iterator[ReplyBody]:
        yield Ended()
        raise SourceError("the table went away")

    with pytest.raises(SourceError, match="went away"):
        _ = [part async for part in in_thread(parts(), 60.0)]


async def test_work_that_fails_when_its_waiter_is_gone_is_no_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def rests() -> None:
        await asyncio.sleep(0.1)
        raise SourceError("the sweep rests")

    work = asyncio.create_task(rests())
    told = while_working(work, 0.03)
    await anext(told)
    await told.aclose()  # type: ignore[attr-defined]
    await asyncio.wait({work})
    del work
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]
