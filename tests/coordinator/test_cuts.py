"""Connections that are cut at random moments, by seed: every answer arrives whole, no work is done twice."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from conftest_tls import agent_tls
from faults import fault_proxy
from linked import BEGIN, ScriptedService, ask, coordinator, header

from paritree.core.errors import PeerError
from paritree.core.messages import AskChildren, Children, End, Progress, ReplyBody, Request

pytestmark = pytest.mark.asyncio
ASKERS = 4
QUESTIONS = 12
TRIES_MAX = 2_000


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_answers_survive_cuts(pki_dir: Path, seed: int) -> None:
    rng = random.Random(seed)

    async def script(request: Request) -> AsyncIterator[ReplyBody]:
        assert isinstance(request.body, AskChildren)
        for prefix in request.body.prefixes:
            yield Progress(0, 1, 0)
            await asyncio.sleep(rng.uniform(0, 0.02))
            yield Children(header(), np.full(1 << 12, prefix, np.uint64))

    service = ScriptedService(script)
    async with coordinator(pki_dir) as running, fault_proxy(running.port) as proxy:
        session, task = running.dial(service, agent_tls(pki_dir), port=proxy.port, seed=seed)
        session._pause_s = lambda failures: rng.uniform(0, 0.02)  # type: ignore[method-assign]
        link = await running.link()

        async def one(asker: int) -> int:
            cuts = 0
            for question in range(QUESTIONS):
                first = (asker * QUESTIONS + question) * 4
                body = AskChildren(20, 32, np.arange(first, first + 4, dtype=np.uint64))
                for _ in range(TRIES_MAX):
                    try:
                        parts = await ask(link, body, timeout_s=20.0)
                        break
                    except PeerError as error:
                        if not error.retryable:
                            raise
                        cuts += 1
                        await asyncio.sleep(0.02)
                else:
                    raise AssertionError(f"no answer in {TRIES_MAX} tries, seed {seed}")
                sums = np.concatenate([part.sums for part in parts if isinstance(part, Children)])
                assert np.array_equal(sums, np.repeat(body.prefixes, 1 << 12))
            return cuts

        async def cutting() -> None:
            while True:
                began = time.monotonic()
                while not link.connected:
                    await asyncio.sleep(0.005)
                # As long as answers take, on a machine that dials as slowly as that.
                await asyncio.sleep(rng.uniform(0.2, 2.5) * max(0.1, time.monotonic() - began))
                proxy.cut()

        cutter = asyncio.create_task(cutting())
        try:
            async with asyncio.timeout(300):
                cuts = await asyncio.gather(*(one(asker) for asker in range(ASKERS)))
        finally:
            cutter.cancel()
            await asyncio.gather(cutter, return_exceptions=True)
        assert not task.done()
        assert sum(cuts) > 0
        assert len(service.asked) == len({request.exchange for request in service.asked}) == ASKERS * QUESTIONS


async def test_an_end_that_was_not_heard_is_said_before_the_next_sweep(pki_dir: Path) -> None:
    """Else the agent would keep the sweep's runs and one of its places for half an hour."""
    service = ScriptedService()
    async with coordinator(pki_dir) as running, fault_proxy(running.port) as proxy:
        running.dial(service, agent_tls(pki_dir), port=proxy.port)
        link = await running.link()
        await ask(link, BEGIN, sweep_id="heard")
        await ask(link, End(), sweep_id="heard")
        for sweep_id, end in (("unheard", End()), ("resting", End(keep=True))):
            await ask(link, BEGIN, sweep_id=sweep_id)
            proxy.refusing = True
            proxy.cut()
            while link.connected:
                await asyncio.sleep(0.01)
            with pytest.raises(PeerError, match="not connected"):
                await ask(link, end, sweep_id=sweep_id)
            proxy.heal()
            await running.link()
        await ask(link, BEGIN, sweep_id="next")
        told = [(type(request.body).__name__, request.sweep_id) for request in service.asked]
        assert told.count(("End", "unheard")) == 1
        assert told.index(("End", "unheard")) < told.index(("Begin", "next"))
        assert ("End", "resting") not in told
        assert told.count(("End", "heard")) == 1


async def test_an_end_before_the_first_connection_is_said_too(pki_dir: Path) -> None:
    """A coordinator that has just started takes a sweep up and ends it before its agents have dialled again."""
    service = ScriptedService()
    async with coordinator(pki_dir) as running:
        away = running.regions.away("eu")
        for sweep_id, end in (("taken-up", End()), ("resting", End(keep=True)), ("again", End())):
            with pytest.raises(PeerError, match="not connected"):
                await ask(away, end, sweep_id=sweep_id)
        running.dial(service, agent_tls(pki_dir))
        await running.link()
        await ask(away, BEGIN, sweep_id="again")
        told = [(type(request.body).__name__, request.sweep_id) for request in service.asked]
        assert told == [("End", "taken-up"), ("Begin", "again")]
