"""An operator's connection to the coordinator: one call a command, every failure a ParitreeError."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import grpc
import grpc.aio
import typer

from paritree.cli.output import note
from paritree.config.coordinator import ClientConfig, load_client
from paritree.core.errors import PeerError
from paritree.core.retry import Retries, RetryPolicy
from paritree.tls import Role, load_tls
from paritree.wire import control as wire
from paritree.wire.channel import open_channel
from paritree.wire.dial import Address
from paritree.wire.status import received

T = TypeVar("T")
DEFAULT_FILE: Final = Path("paritree.toml")
"""Read from the working directory when it is there and no other file is named."""

ConfigFlag = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="PARITREE_CLIENT_FILE", help="TOML file with [client]; default: paritree.toml here, if any."
    ),
]
AddressFlag = Annotated[str | None, typer.Option("--address", help="The coordinator's host:port.")]
CertFlag = Annotated[str | None, typer.Option("--cert", help="The operator's certificate file.")]
KeyFlag = Annotated[str | None, typer.Option("--key", help="The certificate's private key file.")]
CaFlag = Annotated[str | None, typer.Option("--ca", help="The file of the authority that issued both certificates.")]


def client_config(
    config: Path | None, address: str | None, cert: str | None, key: str | None, ca: str | None
) -> ClientConfig:
    """What the flags, the environment and the file say together. Raises ConfigError."""
    file = config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    return load_client(file, {"address": address, "cert": cert, "key": key, "ca": ca})


class Coordinator:
    """The Control service as an operator sees it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def sweep(
        self, order: wire.SweepOrder, progress: Callable[[wire.SweepProgress], None], begun: Callable[[str], None]
    ) -> dict[str, Any]:
        """Start or join a sweep and wait for its report; ``begun`` is told its id. Raises ParitreeError."""
        told, document = "", _Document()
        async for data in self._messages(wire.SWEEP, wire.encode_sweep(order)):
            event = wire.decode_event(data)
            if event.sweep_id != told:
                begun(told := event.sweep_id)
            if isinstance(event.body, wire.JsonPiece):
                document.add(event.body)
            else:
                progress(event.body)
        return document.read()

    async def status(self, dataset: str = "") -> dict[str, Any]:
        """The status document. Raises ParitreeError."""
        return await self._document(wire.STATUS, wire.encode_status(wire.StatusOrder(dataset)))

    async def steer(self, order: wire.SteerOrder) -> dict[str, Any]:
        """Pause, resume or cancel a sweep: what it is after that. Raises ParitreeError."""
        return await self._document(wire.STEER, wire.encode_steer(order))

    async def findings(self, order: wire.FindingsOrder) -> dict[str, Any]:
        """One page of findings. Raises ParitreeError."""
        return await self._document(wire.FINDINGS, wire.encode_findings(order))

    async def letters(self, order: wire.LettersOrder) -> dict[str, Any]:
        """Dead letters, or what came of trying them again or discarding them. Raises ParitreeError."""
        return await self._document(wire.LETTERS, wire.encode_letters(order))

    async def _document(self, path: str, request: bytes) -> dict[str, Any]:
        document = _Document()
        async for data in self._messages(path, request):
            document.add(wire.decode_piece(data))
        return document.read()

    async def _messages(self, path: str, request: bytes) -> AsyncIterator[bytes]:
        """The messages of one call, undecoded: gRPC would log what a deserializer raises and go on with None."""
        call = self._channel.unary_stream(path, request_serializer=bytes, response_deserializer=bytes)
        try:
            async for data in call(request):
                yield data
        except grpc.aio.AioRpcError as error:
            raise received(error) from None


class _Document:
    """A JSON document that arrives in pieces."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0
        self._last = False

    def add(self, piece: wire.JsonPiece) -> None:
        """The next piece. Raises PeerError for one too many."""
        self._size += len(piece.text)
        if self._size > wire.DOCUMENT_BYTES_MAX or self._last:
            raise PeerError(f"the coordinator's answer is longer than {wire.DOCUMENT_BYTES_MAX} bytes, or has two ends")
        self._texts.append(piece.text)
        self._last = piece.last

    def read(self) -> dict[str, Any]:
        """The document. Raises PeerError unless it is whole."""
        if not self._last:
            raise PeerError("the coordinator's answer ended before its last piece", retryable=True)
        document = wire.joined(self._texts)
        if not isinstance(document, dict):
            raise PeerError("the coordinator's answer is not what was asked for")
        return document


async def patiently(config: ClientConfig, call: Callable[[Coordinator], Awaitable[T]], *, away: bool = False) -> T:
    """The result of a call that may be made again, also of another coordinator process after a restart.

    ``away``: the coordinator may be away already when the first call is made. Raises ParitreeError.
    """
    retries, reached = Retries(RetryPolicy(patience_s=config.patience_s), time.monotonic()), away
    while True:
        try:
            async with coordinator(config) as service:
                reached = True
                return await call(service)
        except PeerError as error:
            pause = retries.after(error, time.monotonic(), random.random()) if reached else None
            if pause is None or not config.patience_s:
                raise
            note(f"{error.message}; trying again for up to {config.patience_s:g} s")
            await asyncio.sleep(pause)


@asynccontextmanager
async def coordinator(config: ClientConfig) -> AsyncIterator[Coordinator]:
    """A connection for one command. Raises ConfigError for unusable files, PeerError when nobody answers."""
    tls = load_tls(config.ca, config.cert, config.key, role=Role.OPERATOR)
    address = Address.parse(config.address)
    async with open_channel(address, tls, timeout_s=config.timeout_s) as channel:
        yield Coordinator(channel)
