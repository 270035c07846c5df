"""The Control service on gRPC: bytes in and out, the caller's identity, errors as statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import structlog

from coordinator.control import Control
from coordinator.letters import DeadLetters
from coordinator.running import Finished
from paritree.core.errors import InvariantBroken, ParitreeError, exhausted
from paritree.wire import control as wire
from paritree.wire.answer import closing
from paritree.wire.status import abort

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("paritree.coordinator")


def control_handler(
    control: Control, operator: Callable[[Context], str], letters: DeadLetters | None = None
) -> grpc.GenericRpcHandler[Any, Any]:
    """The handler to add to a server; ``operator`` says who calls, and raises what refuses the call."""
    service = _Rpc(control, letters)

    def method(answers: Callable[[bytes, str], AsyncIterator[bytes]]) -> grpc.RpcMethodHandler[Any, Any]:
        async def call(request: bytes, context: Context) -> AsyncIterator[bytes]:
            try:
                async with closing(answers(request, operator(context))) as messages:
                    async for message in messages:
                        yield message
            except Exception as error:  # noqa: BLE001 - the border: every error becomes a status
                await _abort(context, error)

        # No serializers: gRPC would log what they raise and go on with None.
        return grpc.unary_stream_rpc_method_handler(call)

    methods = {
        "Sweep": service.sweep,
        "Status": service.status,
        "Findings": service.findings,
        "Steer": service.steer,
        "Letters": service.letters,
    }
    return grpc.method_handlers_generic_handler(wire.SERVICE, {name: method(one) for name, one in methods.items()})


class _Rpc:
    """One method a call, from the request's bytes to those of the answer's messages."""

    def __init__(self, control: Control, letters: DeadLetters | None) -> None:
        self._control = control
        self._letters = letters

    async def sweep(self, request: bytes, operator: str) -> AsyncIterator[bytes]:
        async with aclosing(self._control.sweep(wire.decode_sweep(request), operator)) as events:
            async for sweep_id, event in events:
                if isinstance(event, Finished):
                    for piece in wire.pieces(event.report):
                        yield wire.encode_event(wire.SweepEvent(sweep_id, piece))
                else:
                    yield wire.encode_event(wire.SweepEvent(sweep_id, event))

    async def status(self, request: bytes, _operator: str) -> AsyncIterator[bytes]:
        for piece in wire.pieces(await self._control.status(wire.decode_status(request).dataset)):
            yield wire.encode_piece(piece)

    async def findings(self, request: bytes, _operator: str) -> AsyncIterator[bytes]:
        for piece in wire.pieces(await self._control.findings(wire.decode_findings(request))):
            yield wire.encode_piece(piece)

    async def steer(self, request: bytes, operator: str) -> AsyncIterator[bytes]:
        for piece in wire.pieces(await self._control.steer(wire.decode_steer(request), operator)):
            yield wire.encode_piece(piece)

    async def letters(self, request: bytes, operator: str) -> AsyncIterator[bytes]:
        if self._letters is None:
            raise InvariantBroken("this coordinator has no dead letters")
        for piece in wire.pieces(await self._letters.answer(wire.decode_letters(request), operator)):
            yield wire.encode_piece(piece)


async def _abort(context: Context, error: Exception) -> None:
    if not isinstance(error, ParitreeError):
        _log.error("a control call failed", exc_info=error)
        failed = InvariantBroken(f"the coordinator failed with {type(error).__name__}", next_step="see its log")
        error = exhausted(error) or failed
    await abort(context, error)
