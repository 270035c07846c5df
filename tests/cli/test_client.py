"""A coordinator that answers nonsense is an error of the peer, never a report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from paritree.cli import client
from paritree.cli.client import Coordinator
from paritree.core.errors import PeerError
from paritree.wire import control as wire


async def answered(
    messages: Sequence[bytes], ask: Callable[[Coordinator], Awaitable[Any]], *, cut: bool = False
) -> Any:
    """What the client makes of these messages, whatever it asked."""

    async def reply(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        for message in messages:
            yield message
        if cut:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    server = grpc.aio.server()
    handler = grpc.unary_stream_rpc_method_handler(reply)
    methods = dict.fromkeys(("Sweep", "Status", "Findings"), handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(wire.SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(20):
                return await ask(Coordinator(channel))
    finally:
        await server.stop(0)


async def status(service: Coordinator) -> Any:
    return await service.status()


async def sweep(service: Coordinator) -> Any:
    return await service.sweep(wire.SweepOrder("orders"), lambda _: None, lambda _: None)


def piece(text: str, last: bool = True) -> bytes:
    return wire.encode_piece(wire.JsonPiece(text, last))


def event(text: str, last: bool = True) -> bytes:
    return wire.encode_event(wire.SweepEvent("s", wire.JsonPiece(text, last)))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "ended before its last piece"),
        ([piece('{"a": 1', last=False)], "ended before its last piece"),
        ([piece('{"a": 1')], "not JSON"),
        ([piece("[1]")], "not what was asked for"),
        ([b"\xff\xff\xff"], "cannot be read"),
    ],
)
async def test_nonsense_for_a_document(messages: list[bytes], message: str) -> None:
    with pytest.raises(PeerError, match=message):
        await answered(messages, status)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "ended before its last piece"),
        ([event('{"verdict": "equal"}', last=False)], "ended before its last piece"),
        ([b"\xff\xff\xff"], "cannot be read"),
        ([wire.encode_event(wire.SweepEvent("s", wire.SweepProgress("eu", "scan")))], "ended before its last piece"),
        ([b""], "an event that this version does not know"),
    ],
)
async def test_nonsense_for_a_report(messages: list[bytes], message: str) -> None:
    with pytest.raises(PeerError, match=message):
        await answered(messages, sweep)


@pytest.mark.asyncio
async def test_a_report_in_pieces() -> None:
    assert await answered([event('{"verdict": ', last=False), event('"equal"}')], sweep) == {"verdict": "equal"}


@pytest.mark.asyncio
async def test_a_connection_that_is_cut_in_the_middle() -> None:
    for ask in (status, sweep):
        with pytest.raises(PeerError) as caught:
            await answered([], ask, cut=True)
        assert caught.value.retryable


@pytest.mark.asyncio
async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.wire, "DOCUMENT_BYTES_MAX", 1_000)
    with pytest.raises(PeerError, match=r"longer than 1000 bytes"):
        await answered([piece("x" * 600, last=False)] * 50, status)
