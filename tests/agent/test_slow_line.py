"""A line that was fast and gets slow is not taken for a dead one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import faults
import pytest
from conftest_tls import agent_tls
from faults import Direction, Fault, Kind, fault_proxy
from linked import ScriptedService, ask, coordinator, header, u64

from paritree.core import limits
from paritree.core.messages import AskLists, Lists, ReplyBody, Request

pytestmark = pytest.mark.asyncio
ROWS = limits.BULK_BYTES_MAX // 24 - 100
PARTS = 6


async def many_rows(request: Request) -> AsyncIterator[ReplyBody]:
    rows = u64(*range(ROWS))
    for _ in range(PARTS):
        yield Lists(header(request.sweep_id), u64(ROWS).astype("u4"), rows, rows, rows)


async def test_a_large_answer_arrives_over_a_line_that_has_become_slow(
    pki_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some three times faster than in the field: a ping may take 6 s, and all six parts take 16 s."""
    monkeypatch.setattr(faults, "BYTES_PER_S", 100_000.0)
    async with coordinator(pki_dir, keepalive_s=3.0) as running, fault_proxy(running.port) as proxy:
        running.dial(ScriptedService(many_rows), agent_tls(pki_dir), port=proxy.port, keepalive_s=3.0)
        link = await running.link()
        for _ in range(3):
            await ask(link, AskLists(0, u64(0)))
        proxy.arm(Fault(Kind.BANDWIDTH, Direction.UP))
        dialled = proxy.accepted
        assert len(await ask(link, AskLists(0, u64(0)), timeout_s=60.0)) == PARTS
        assert proxy.accepted == dialled
