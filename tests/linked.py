"""A coordinator's server and an agent's session over real TLS on loopback, with a service that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from conftest_tls import TRUST_DOMAIN, agent_tls, coordinator_tls

from coordinator.link import GrpcLink
from coordinator.regions import Regions
from coordinator.transport import Server
from edge_agent.notices import Notices
from edge_agent.session import AgentSession
from paritree.core.messages import (
    AskChildren,
    AskLists,
    Begin,
    Children,
    DatasetOffer,
    End,
    Ended,
    Header,
    Hello,
    Lists,
    Progress,
    Ready,
    ReplyBody,
    Request,
    RequestBody,
)
from paritree.core.sketch import empty_probe
from paritree.tls import Tls
from paritree.wire.dial import Address
from paritree.wire.frames import Notice
from paritree.wire.link import RegionLink

PROFILE_ID = b"p" * 16
KEY_ID = b"k" * 8
FENCE = 7
SWEEP = "sweep-1"
BEGIN = Begin("orders", PROFILE_ID, 1)
Script = Callable[[Request], AsyncIterator[ReplyBody]]


def header(sweep_id: str = SWEEP) -> Header:
    return Header("orders", PROFILE_ID, 1, KEY_ID, sweep_id, "lsn 0/16B3748")


def ready(sweep_id: str = SWEEP) -> Ready:
    return Ready(header(sweep_id), "memory", 3, 6, 7, empty_probe(), True, 0.1)


def u64(*values: int) -> Any:
    return np.array(values, np.uint64)


async def answer(request: Request) -> AsyncIterator[ReplyBody]:
    """A plain, correct answer to the requests that tests use."""
    match request.body:
        case Begin():
            yield Progress(0, 1, 0)
            yield ready(request.sweep_id)
        case AskChildren(bits=bits, to_bits=to_bits, prefixes=prefixes):
            for prefix in prefixes:
                yield Children(header(request.sweep_id), np.full(1 << (to_bits - bits), prefix, np.uint64))
        case AskLists(prefixes=prefixes):
            counts = np.ones(len(prefixes), np.uint32)
            yield Lists(header(request.sweep_id), counts, prefixes, prefixes, prefixes)
        case End():
            yield Ended()


class ScriptedService:
    """Answers with ``script`` and remembers what it was asked and what was cancelled."""

    def __init__(self, script: Script = answer, *, region: str = "eu", agent: str = "a1", instance: str = "i1") -> None:
        self.script = script
        self.asked: list[Request] = []
        self.cancelled: list[Request] = []
        self._hello = Hello(region, agent, instance, (DatasetOffer("orders", PROFILE_ID, 1, KEY_ID),))

    def hello(self) -> Hello:
        return self._hello

    async def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        self.asked.append(request)
        try:
            async with aclosing(self.script(request)) as bodies:  # type: ignore[type-var]
                async for body in bodies:
                    yield body
        except asyncio.CancelledError:
            self.cancelled.append(request)
            raise


@dataclass
class Coordinator:
    """A server on a free port and its regions."""

    regions: Regions
    server: Server
    port: int
    unreadable: list[tuple[bytes, str, str]] = field(default_factory=list)
    """What the coordinator could not read: the bytes, why, and from whom."""
    unread: list[tuple[bytes, str]] = field(default_factory=list)
    """What agents could not read: the bytes, and why."""
    heard: list[tuple[str, Notice]] = field(default_factory=list)
    """What agents told unasked."""
    _sessions: list[tuple[AgentSession, asyncio.Task[None]]] = field(default_factory=list)

    async def keep(self, data: bytes, reason: str, peer: str) -> None:
        self.unreadable.append((data, reason, peer))

    def dial(
        self,
        service: Any,
        tls: Tls,
        *,
        port: int = 0,
        keepalive_s: float = 10.0,
        seed: int = 1,
        notices: Notices | None = None,
    ) -> tuple[AgentSession, asyncio.Task[None]]:
        """Start an agent's session; ``port`` of a proxy in between."""
        address = Address.parse(f"127.0.0.1:{port or self.port}")
        session = AgentSession(
            service,
            address,
            tls,
            rng=random.Random(seed),
            keepalive_s=keepalive_s,
            unreadable=lambda *what: self.unread.append(what),
            notices=notices,
        )
        task = asyncio.create_task(session.run())
        self._sessions.append((session, task))
        return session, task

    async def link(self, region: str = "eu", timeout_s: float = 60.0) -> GrpcLink:
        links = await self.regions.wait_for({region}, timeout_s)
        if not links:
            for t in asyncio.all_tasks():
                t.print_stack()
        return links[region]

    async def stop_agents(self) -> None:
        for _, task in self._sessions:
            task.cancel()
        await asyncio.gather(*(task for _, task in self._sessions), return_exceptions=True)


@contextlib.asynccontextmanager
async def coordinator(
    folder: Path, *, tls: Tls | None = None, keepalive_s: float = 10.0, handlers: Any = ()
) -> AsyncIterator[Coordinator]:
    """A running server; on leaving, every session and the server are stopped and no task may be left."""
    regions = Regions(1_000, fence=FENCE, on_notice=lambda *told: running.heard.append(told))
    server = Server(
        regions,
        tls or coordinator_tls(folder),
        trust_domain=TRUST_DOMAIN,
        name="test",
        handlers=handlers,
        keepalive_s=keepalive_s,
        unreadable=lambda *what: running.keep(*what),
    )
    running = Coordinator(regions, server, 0)
    running.port = await server.start("127.0.0.1:0")
    try:
        yield running
    finally:
        await running.stop_agents()
        await server.stop(0)
        await no_task_left()


async def no_task_left() -> None:
    """Every task but the test's own ends by itself within a moment."""
    for _ in range(50):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"tasks left behind: {left}")


@contextlib.asynccontextmanager
async def linked(folder: Path, service: Any) -> AsyncIterator[tuple[Coordinator, GrpcLink, AgentSession]]:
    """One agent (eu) connected to a coordinator."""
    async with coordinator(folder) as running:
        session, _ = running.dial(service, agent_tls(folder))
        yield running, await running.link(), session


async def ask(
    link: RegionLink, body: RequestBody, *, sweep_id: str = SWEEP, timeout_s: float = 60.0
) -> list[ReplyBody]:
    """Every part of one answer."""
    async with aclosing(link.ask(body, sweep_id=sweep_id, timeout_s=timeout_s)) as parts:
        return [part async for part in parts]
