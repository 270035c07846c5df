"""Errors over a real gRPC call: ours arrive whole, gRPC's own are translated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from paritree.core.errors import ConfigError, DeadLetter, InvariantBroken, ParitreeError, PeerError, SourceError
from paritree.wire.status import METADATA_KEY, abort, received

pytestmark = pytest.mark.asyncio


async def outcome(end: Callable[[Any], Any]) -> ParitreeError:
    """What a caller gets when the handler ends the call like that."""

    async def handler(_: bytes, context: Any) -> bytes:
        await end(context)
        return b""

    server = grpc.aio.server()
    handlers = {"M": grpc.unary_unary_rpc_method_handler(handler)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("s.S", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/s.S/M")(b"")
            return received(caught.value)
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    "error",
    [
        PeerError("Grüße\nfrom afar", next_step="do this", retryable=True),
        ConfigError("unknown dataset 'ordrs'", next_step="did you mean orders?"),
        SourceError("down"),
        InvariantBroken("never"),
        PeerError("x" * 5_000, next_step="y" * 5_000),
        PeerError("ü" * 1_000, next_step="ü" * 500),
    ],
)
async def test_our_errors_arrive_with_family_and_next_step(error: ParitreeError) -> None:
    got = await outcome(lambda context: abort(context, error))
    assert type(got) is type(error)
    assert got.message[:20] == error.message.replace("\n", " ")[:20]
    assert got.next_step[:20] == error.next_step[:20]
    assert got.retryable == error.retryable


async def test_another_family_arrives_as_the_peers() -> None:
    assert type(await outcome(lambda context: abort(context, DeadLetter("value")))) is PeerError


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.INTERNAL, True),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, False),
        (grpc.StatusCode.PERMISSION_DENIED, False),
    ],
)
async def test_codes_of_grpc_are_translated(code: grpc.StatusCode, retryable: bool) -> None:
    got = await outcome(lambda context: context.abort(code, "raw text of gRPC"))
    assert type(got) is PeerError
    assert got.retryable == retryable
    assert "raw text" not in got.message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"family": "SystemExit", "message": "", "next_step": "", "retryable": true}',
        b'{"family": "PeerError", "message": 7, "next_step": "", "retryable": true}',
        b'{"family": [], "message": "", "next_step": "", "retryable": true}',
        b'{"family": "PeerError"}',
        b" " * 5_000,
    ],
)
async def test_metadata_that_is_not_ours_is_passed_over(content: bytes) -> None:
    got = await outcome(
        lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "x", trailing_metadata=((METADATA_KEY, content),))
    )
    assert got.message == "the connection was lost (unavailable)"
