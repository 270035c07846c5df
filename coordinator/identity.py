"""Who calls: the SPIFFE name in the certificate of the other side, and which service it may call.

gRPC verifies the chain, but lets certificates with two URI names, with none, or without a stated purpose pass; so no
call reaches a handler before :class:`Gate` has looked at the certificate itself.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import grpc
import grpc.aio
import structlog
from cryptography import x509

from paritree.certificate import Unfit, client_name
from paritree.core.errors import PeerError
from paritree.core.spiffe import AgentName, OperatorName
from paritree.wire import codec, control
from paritree.wire.answer import closing
from paritree.wire.status import abort

_log = structlog.get_logger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[Any, Context], Any]
CALLERS: Final[Mapping[str, type[AgentName | OperatorName]]] = {
    codec.SERVICE: AgentName,
    control.SERVICE: OperatorName,
}
"""Service -> who may call it. A service that is not named here is refused to everybody."""


def caller(context: Context, trust_domain: str) -> AgentName | OperatorName:
    """Who calls. Raises PeerError when the certificate does not name exactly one agent or operator of the domain."""
    shown = tuple(context.auth_context().get("x509_pem_cert") or ())
    try:
        if len(shown) != 1:
            raise Unfit("it is missing")
        name = client_name(x509.load_pem_x509_certificate(shown[0]))
    except (Unfit, ValueError) as error:
        reason = str(error) if isinstance(error, Unfit) else "it cannot be read"
        raise _refused(reason) from error
    if name.trust_domain != trust_domain:
        raise _refused(f"it is of the trust domain {name.trust_domain}, not {trust_domain}")
    return name


def agent_of(context: Context, trust_domain: str) -> AgentName:
    """The agent that calls. Raises PeerError for anybody else."""
    name = caller(context, trust_domain)
    if not isinstance(name, AgentName):
        raise _refused(f"{name.uri} is not an agent")
    return name


def operator_of(context: Context, trust_domain: str) -> OperatorName:
    """The operator that calls. Raises PeerError for anybody else."""
    name = caller(context, trust_domain)
    if not isinstance(name, OperatorName):
        raise _refused(f"{name.uri} is not an operator")
    return name


def _refused(reason: str) -> PeerError:
    return PeerError(
        f"the coordinator refuses this certificate: {reason}",
        next_step="make one with paritree pki agent or paritree pki operator",
    )


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Lets agents call the agent service and operators the control service, and nobody anything else."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the handler of a call, be it a coroutine or an async generator."""
        handler = await continuation(details)
        if handler is None:
            return None
        service = details.method.strip("/").partition("/")[0]
        inner, build = _parts_of(handler)

        async def guarded(request: Any, context: Context) -> Any:
            await self._admit(context, service)
            return await inner(request, context)

        async def guarded_generator(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._admit(context, service)
            async with closing(inner(request, context)) as answers:
                async for answer in answers:
                    yield answer

        return build(
            guarded_generator if inspect.isasyncgenfunction(inner) else guarded,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _admit(self, context: Context, service: str) -> None:
        """Ends the call unless its caller may make it."""
        try:
            name = caller(context, self._trust_domain)
            allowed = CALLERS.get(service)
            if allowed is None or not isinstance(name, allowed):
                raise _refused(f"{name.uri} may not call {service.rpartition('.')[2]}")
        except PeerError as error:
            _log.warning("caller_refused", reason=error.message, peer=context.peer(), service=service)
            await abort(context, error)


def _parts_of(handler: Any) -> tuple[Handler, Callable[..., Any]]:
    """A method handler's function and the maker of a handler of the same kind."""
    if handler.request_streaming and handler.response_streaming:
        return handler.stream_stream, grpc.stream_stream_rpc_method_handler
    if handler.request_streaming:
        return handler.stream_unary, grpc.stream_unary_rpc_method_handler
    if handler.response_streaming:
        return handler.unary_stream, grpc.unary_stream_rpc_method_handler
    return handler.unary_unary, grpc.unary_unary_rpc_method_handler
