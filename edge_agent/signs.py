"""Signs of life while an answer is made: often at first, then ever more rarely, because each costs bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

from paritree.core.messages import Progress, ReplyBody

NEWS_S: Final = 0.25
"""Shortest time between two of them, for work that has news."""
NEWS_SHARE: Final = 20
"""Between two of them passes a twentieth of the time since the work began: about 60 in the first minute."""
ALIVE_S: Final = 15.0
"""Work without news shows a sign of life at least this often, or three times before its request expires."""
_UNKNOWN: Final = Progress(0, 0, 0)


async def while_working(
    work: asyncio.Future[Any], timeout_s: float, how_far: Callable[[], Progress] | None = None
) -> AsyncIterator[Progress]:
    """What is to be told until the work is done. ``timeout_s`` is the silence that its request allows.

    Without ``how_far`` there is no news, only signs of life. News are told even when the work is done meanwhile.
    """
    work.add_done_callback(_heard)
    alive_s = min(ALIVE_S, timeout_s / 3)
    began = told_at = time.monotonic()
    told = None if how_far else _UNKNOWN
    while not work.done():
        now = time.monotonic()
        pause_s = max(NEWS_S, (now - began) / NEWS_SHARE)
        await asyncio.wait({work}, timeout=max(0.0, min(pause_s, told_at + alive_s - now)))
        now, progress = time.monotonic(), how_far() if how_far else _UNKNOWN
        if progress != told or (now - told_at >= alive_s and not work.done()):
            told, told_at = progress, now
            yield progress


def _heard(work: asyncio.Future[Any]) -> None:
    """Whoever waited may be gone: how it ended is nothing to complain of then."""
    if not work.cancelled():
        work.exception()


async def in_thread(parts: Iterator[ReplyBody], timeout_s: float) -> AsyncIterator[ReplyBody]:
    """The parts of a blocking iterator, each made in a worker thread, with signs of life in between."""
    done = object()
    while True:
        making = asyncio.ensure_future(asyncio.to_thread(next, parts, done))
        try:
            async for sign in while_working(making, timeout_s):
                yield sign
        finally:
            making.cancel()  # unless it is done
        part = making.result()
        if part is done:
            return
        yield part  # type: ignore[misc]
