"""The coordinator's gRPC server: agents attach their streams to it, operators call its control service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
import structlog

from coordinator.identity import Context, Gate, agent_of
from coordinator.link import Connection
from coordinator.regions import Regions
from paritree.core import limits
from paritree.core.errors import ConfigError, PeerError, Unreadable
from paritree.core.messages import PROTOCOL_VERSION, ByteClass, Hello
from paritree.core.spiffe import AgentName
from paritree.tls import Tls
from paritree.wire import codec
from paritree.wire.dial import keepalive_options, message_options
from paritree.wire.status import abort

_log = structlog.get_logger(__name__)
STOP_S: Final = 5.0
"""Time that calls get to end when the server stops; agents' streams are ended by us, so it is for operators."""


Keep = Callable[[bytes, str, str], Awaitable[None]]
"""Takes bytes that are no message, why they are none, and the name of who sent them."""


async def _forgotten(_data: bytes, _reason: str, _peer: str) -> None:
    """Unreadable messages are logged, and not kept."""


class Server:
    """Serves agents (and the given further handlers) over mutual TLS."""

    def __init__(
        self,
        regions: Regions,
        tls: Tls,
        *,
        trust_domain: str,
        name: str,
        handlers: Sequence[grpc.GenericRpcHandler[Any, Any]] = (),
        keepalive_s: float = limits.KEEPALIVE_S,
        unreadable: Keep = _forgotten,
    ) -> None:
        """``name`` is what the coordinator calls itself; ``handlers`` are other services that Gate knows.

        ``unreadable`` is given what could not be read, why, and who sent it.
        """
        self._regions = regions
        self._tls = tls
        self._trust_domain = trust_domain
        self._name = name
        self._unreadable = unreadable
        self._server = self._build(handlers, keepalive_s)
        self.port = 0
        """The port it listens on, once started."""

    def _build(self, handlers: Sequence[grpc.GenericRpcHandler[Any, Any]], keepalive_s: float) -> grpc.aio.Server:
        options: list[tuple[str, Any]] = [
            *message_options(),
            *keepalive_options(keepalive_s),
            ("grpc.http2.min_ping_interval_without_data_ms", int(keepalive_s * 500)),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.so_reuseport", 0),  # two coordinators on one port are a mistake, not load balancing
        ]
        server = grpc.aio.server(interceptors=[Gate(self._trust_domain)], options=options)
        attach = grpc.stream_stream_rpc_method_handler(self._attach)
        method = codec.ATTACH.rpartition("/")[2]
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(codec.SERVICE, {method: attach}),))
        server.add_generic_rpc_handlers(tuple(handlers))
        return server

    async def start(self, listen: str) -> int:
        """Listen on ``host:port`` (port 0: a free one); returns the port. Raises ConfigError."""
        pair = (self._tls.credential.key, self._tls.credential.certificate)
        credentials = grpc.ssl_server_credentials([pair], self._tls.authority, require_client_auth=True)
        try:
            self.port = self._server.add_secure_port(listen, credentials)
        except RuntimeError as error:
            raise ConfigError(
                f"cannot listen on {listen}", next_step="choose a free port and an address of this machine"
            ) from error
        await self._server.start()
        _log.info("listening", address=listen, port=self.port)
        return self.port

    async def stop(self, grace_s: float = STOP_S) -> None:
        """Take no more calls, end the agents' streams, and give the other calls ``grace_s`` seconds."""
        self._regions.close("the coordinator stops")
        await self._server.stop(grace_s)

    async def wait(self) -> None:
        """Return when the server has stopped."""
        await self._server.wait_for_termination()

    async def _attach(self, _requests: Any, context: Context) -> None:
        try:
            agent = agent_of(context, self._trust_domain)
            hello, size = await _read_hello(context, self._unreadable, str(agent.uri))
            _require_fitting(hello, agent)
            link, connection = self._regions.connect(hello)
        except PeerError as error:
            _log.warning("agent_refused", reason=error.message, peer=context.peer())
            await abort(context, error)
            return
        link.ledger.count_sent(ByteClass.CONTROL, size)
        offered = {offer.dataset for offer in hello.datasets if offer.tells}
        connection.welcome(self._name, tuple(name for name in self._regions.watched if name in offered))
        _log.info("agent_connected", region=hello.region, agent=hello.agent)
        try:
            await _carry(context, connection, self._unreadable, str(agent.uri))
        except PeerError as error:  # it would be answered with the same again
            _log.warning("agent_unreadable", region=hello.region, reason=error.message)
            connection.end(error.message, kind=PeerError)
            await abort(context, error)
        finally:
            connection.end("the stream has ended")
            _log.info("agent_disconnected", region=hello.region, agent=hello.agent)


async def _read_hello(context: Context, unreadable: Keep, peer: str) -> tuple[Hello, int]:
    """The first message and its size. Raises PeerError."""
    try:
        async with asyncio.timeout(limits.HELLO_TIMEOUT_S):
            data = await context.read()
    except TimeoutError:
        raise PeerError(f"no hello within {limits.HELLO_TIMEOUT_S:g} s", retryable=True) from None
    if not isinstance(data, bytes):
        raise PeerError("the stream ended before a hello", retryable=True)
    try:
        message = codec.decode_from_agent(data)
    except Unreadable as error:
        await unreadable(data, error.message, peer)
        raise
    if not isinstance(message, Hello):
        raise PeerError("the first message of a stream is hello")
    return message, len(data)


def _require_fitting(hello: Hello, agent: AgentName) -> None:
    """Raises PeerError when the agent speaks another protocol or for another than its certificate names."""
    if hello.protocol != PROTOCOL_VERSION:
        raise PeerError(
            f"the agent speaks protocol {hello.protocol}, this coordinator {PROTOCOL_VERSION}",
            next_step="run the same paritree version on both sides",
        )
    if (hello.region, hello.agent) != (agent.region, agent.name):
        raise PeerError(
            f"the certificate is of agent {agent.name} of region {agent.region}, "
            f"but the agent says it is {hello.agent} of {hello.region}",
            next_step="give the agent the certificate of its own region and name",
        )


async def _carry(context: Context, connection: Connection, unreadable: Keep, peer: str) -> None:
    """Write what is to be sent and take what arrives, until either side ends. Raises PeerError for bad messages."""
    tasks = [
        asyncio.create_task(_write(context, connection)),
        asyncio.create_task(_read(context, connection, unreadable, peer)),
        asyncio.create_task(_ended(connection)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(context: Context, connection: Connection) -> None:
    while True:
        data, kind, sweep_id = await connection.outgoing.get()
        await context.write(data)
        connection.ledger.count_received(kind, len(data), sweep_id)


async def _read(context: Context, connection: Connection, unreadable: Keep, peer: str) -> None:
    while True:
        data = await context.read()
        if not isinstance(data, bytes):
            return
        try:
            await connection.receive(data)
        except Unreadable as error:
            await unreadable(data, error.message, peer)
            raise


async def _ended(connection: Connection) -> None:
    await connection.ended.wait()
