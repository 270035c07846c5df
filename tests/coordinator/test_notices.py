"""Notices over the real stream: who sends them to whom, that every byte is counted, and what a flood of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from conftest_tls import agent_tls
from linked import BEGIN, KEY_ID, PROFILE_ID, Coordinator, ScriptedService, ask, coordinator

from edge_agent.notices import Notices
from paritree.core.ledger import CONNECTION
from paritree.core.messages import DatasetOffer, Hello, Ready
from paritree.wire import codec
from paritree.wire.dial import Address, open_stream
from paritree.wire.frames import Notice, Welcome

pytestmark = pytest.mark.asyncio


class Telling(ScriptedService):
    """An agent whose dataset orders is told of, and whose users are not."""

    def hello(self) -> Hello:
        told, other = (
            DatasetOffer(name, PROFILE_ID, 1, KEY_ID, tells=name == "orders") for name in ("orders", "users")
        )
        return Hello("eu", "a1", "i1", (told, other))


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_has_changed_is_told_unasked_and_counted_alike_on_both_sides(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        running.regions.watched = ("users", "orders", "payments")
        notices = Notices()
        session, _ = running.dial(Telling(), agent_tls(pki_dir), notices=notices)
        link = await running.link()
        await until(session.connected.is_set)
        assert [notices.watches(name) for name in ("orders", "users", "payments")] == [True, False, False]
        before = session.ledger.of(CONNECTION).bytes_sent
        notices.note("orders", 3, (10.0, 11.0), "lsn 1")
        notices.note("users", 1)
        await until(lambda: running.heard)
        assert running.heard == [("eu", Notice("orders", 3, 10_000_000, 11_000_000, "lsn 1"))]
        await until(lambda: session.ledger.total() == link.ledger.total())
        assert 0 < session.ledger.of(CONNECTION).bytes_sent - before < 64
        assert await ask(link, BEGIN), "and sweeps go on beside it"


async def test_a_coordinator_that_asks_for_none_gets_none(pki_dir: Path) -> None:
    """An older one cannot read them; an older agent does not see that it is asked."""
    async with coordinator(pki_dir) as running:
        notices = Notices()
        session, _ = running.dial(Telling(), agent_tls(pki_dir), notices=notices)
        link = await running.link()
        await until(session.connected.is_set)
        notices.note("orders", 3)
        await asyncio.sleep(0.05)
        assert await ask(link, BEGIN)
        assert running.heard == []


async def test_after_a_cut_connection_the_next_one_tells(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        running.regions.watched = ("orders",)
        notices = Notices()
        session, _ = running.dial(Telling(), agent_tls(pki_dir), notices=notices)
        link = await running.link()
        await until(session.connected.is_set)
        link.close("cut")
        await until(lambda: not session.connected.is_set())
        notices.note("orders", 2)
        await until(lambda: running.heard)
        assert running.heard == [("eu", Notice("orders", 2))]


async def told(running: Coordinator, folder: Path, *data: bytes) -> None:
    """A played agent sends these after it was welcomed, and stays until they were read, or the stream has ended."""
    tls = agent_tls(folder)
    credentials = grpc.ssl_channel_credentials(tls.authority, tls.credential.key, tls.credential.certificate)
    async with grpc.aio.secure_channel(str(Address.parse(f"localhost:{running.port}")), credentials) as channel:
        call = open_stream(channel, codec.ATTACH)
        await call.write(codec.encode_from_agent(Telling().hello()))
        welcome = codec.decode_to_agent(await call.read())  # type: ignore[arg-type]
        assert welcome == Welcome("test", watched=("orders",))
        for one in data:
            await call.write(one)
        await until(lambda: len(running.heard) == len(data) or running.unreadable)
        call.cancel()


async def test_a_flood_of_notices_stays_one_agents_and_a_bad_one_ends_its_connection(pki_dir: Path) -> None:
    async with coordinator(pki_dir) as running:
        running.regions.watched = ("orders",)
        flood = codec.encode_from_agent(Notice("orders", 2**64 - 1, 1, 2, "p" * 4_096))
        await told(running, pki_dir, *([flood] * 2_000))
        assert len(running.heard) == 2_000
        bad = codec.encode_from_agent(Notice("orders", 1, 1, 2)).replace(b"orders", b"ord\x1brs")
        running.heard.clear()
        await told(running, pki_dir, bad)
        ((data, reason, _),) = running.unreadable
        assert (data, running.heard) == (bad, [])
        assert "control characters" in reason
        session, _ = running.dial(Telling(), agent_tls(pki_dir))
        await until(session.connected.is_set)
        assert isinstance((await ask(await running.link(), BEGIN))[-1], Ready)
