"""The Control service on gRPC: bytes in and out, the caller's identity, errors as statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio
import structlog

from coordinator.control import Control
from coordinator.running import Finished
from paritree.core.errors import InvariantBroken, ParitreeError
from paritree.wire import control as wire
from paritree.wire.status import abort

Context = grpc.aio.ServicerContext[Any, Any]
_log = structlog.get_logger("paritree.coordinator")


def control_handler(control: Control, operator: Callable[[Context], str]) -> grpc.GenericRpcHandler[Any, Any]:
    """The handler to add to a server; ``operator`` says who calls, and raises what refuses the call."""
    service = _Rpc(control, operator)
    return grpc.method_handlers_generic_handler(
        wire.SERVICE,
        {
            "Sweep": _handler(service.sweep, wire.decode_sweep, wire.encode_event),
            "Status": _handler(service.status, wire.decode_status, wire.encode_piece),
            "Findings": _handler(service.findings, wire.decode_findings, wire.encode_piece),
        },
    )


def _handler(
    call: Callable[[Any, Context], AsyncIterator[Any]], decode: Callable[[bytes], Any], encode: Callable[[Any], bytes]
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_stream_rpc_method_handler(call, request_deserializer=decode, response_serializer=encode)


class _Rpc:
    """One method a call; each ends with its last message or with a status."""

    def __init__(self, control: Control, operator: Callable[[Context], str]) -> None:
        self._control = control
        self._operator = operator

    async def sweep(self, order: wire.SweepOrder, context: Context) -> AsyncIterator[wire.SweepEvent]:
        try:
            async with aclosing(self._control.sweep(order, self._operator(context))) as events:
                async for sweep_id, event in events:
                    if isinstance(event, Finished):
                        for piece in wire.pieces(event.report):
                            yield wire.SweepEvent(sweep_id, piece)
                    else:
                        yield wire.SweepEvent(sweep_id, event)
        except Exception as error:  # noqa: BLE001 - the border: every error becomes a status
            await _abort(context, error)

    async def status(self, order: wire.StatusOrder, context: Context) -> AsyncIterator[wire.JsonPiece]:
        try:
            self._operator(context)
            for piece in wire.pieces(await self._control.status(order.dataset)):
                yield piece
        except Exception as error:  # noqa: BLE001 - the border: every error becomes a status
            await _abort(context, error)

    async def findings(self, order: wire.FindingsOrder, context: Context) -> AsyncIterator[wire.JsonPiece]:
        try:
            self._operator(context)
            for piece in wire.pieces(await self._control.findings(order)):
                yield piece
        except Exception as error:  # noqa: BLE001 - the border: every error becomes a status
            await _abort(context, error)


async def _abort(context: Context, error: Exception) -> None:
    if not isinstance(error, ParitreeError):
        _log.error("a control call failed", exc_info=error)
        error = InvariantBroken(f"the coordinator failed with {type(error).__name__}", next_step="see its log")
    await abort(context, error)
