"""The agent's way to the coordinator: straight there, or through an SSH bastion.

The coordinator's certificate is checked against its own name either way: the bastion carries bytes that it cannot read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from edge_agent.connectors.bastion import Bastion
from edge_agent.connectors.forwards import HOST, Way, start_forward
from paritree.core.errors import ConfigError, ParitreeError, PeerError, SourceError
from paritree.wire.dial import Address

Leading = Callable[[Address], AbstractAsyncContextManager[Address]]
"""Where to dial for an address, for as long as the block lasts; a failed dial in it may raise a better error."""


@asynccontextmanager
async def straight(address: Address) -> AsyncIterator[Address]:
    """No bastion: dial the address itself."""
    yield address


def through(bastion: Bastion) -> Leading:
    """Dial the local end of a forward through ``bastion``, opened anew for each block that finds it closed.

    The block raises PeerError where the bastion cannot be reached (retryable), is not who it was, or refuses us, and
    ConfigError for files that cannot be used.
    """

    @asynccontextmanager
    async def leading(address: Address) -> AsyncIterator[Address]:
        forward = start_forward(Way(bastion, address.host, address.port))
        try:
            port = await asyncio.wrap_future(forward.opened)
        except SourceError as error:
            raise _of_peer(error) from error
        failures = forward.failures
        try:
            yield Address(HOST, port, address.server_name)
        except PeerError as error:
            raise _of_peer(forward.explained(error, failures)) from error

    return leading


def _of_peer(error: ParitreeError) -> ParitreeError:
    """A failure on the way to the coordinator, whatever the forward was opened for first."""
    if isinstance(error, ConfigError):
        return error
    return PeerError(error.message, next_step=error.next_step, retryable=error.retryable)
