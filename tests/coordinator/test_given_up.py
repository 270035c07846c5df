"""One exchange that nobody waits for any more does not stop the others of its region."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from linked import SWEEP, ScriptedService, answer, ask, header, linked, u64

from paritree.core import limits
from paritree.core.messages import AskChildren, Children, End, Ended, ReplyBody, Request

pytestmark = pytest.mark.asyncio


async def test_what_was_given_up_while_its_parts_waited_does_not_block_the_stream(pki_dir: Path) -> None:
    """A sweep that was cancelled while a rate held its answer back: its region hears the end, and answers others."""

    async def large(request: Request) -> AsyncIterator[ReplyBody]:
        if isinstance(request.body, AskChildren):
            for _ in range(256):
                yield Children(header(), np.zeros(1 << 12, np.uint64))
            return
        async for part in answer(request):
            yield part

    async with linked(pki_dir, ScriptedService(large)) as (_, link, _session):
        parts = link.ask(AskChildren(0, 20, u64(0)), sweep_id=SWEEP, timeout_s=limits.EXCHANGE_TIMEOUT_S)
        assert isinstance(await anext(parts), Children)
        await asyncio.sleep(1.0)  # paced: more parts have come than may wait
        await parts.aclose()  # cancelled
        async with asyncio.timeout(10.0):
            assert await ask(link, End()) == [Ended()]
