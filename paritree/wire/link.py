"""The two ends of a link between the coordinator and one region, without saying what carries it.

The coordinator's sweep sees a :class:`RegionLink`; the agent's side is an :class:`AgentService`. In between are the
gRPC stream (``edge_agent.session``, ``coordinator.transport``) or nothing (``paritree.wire.loopback``): the same bytes
through the same codec, the same ledger.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Protocol

from paritree.core.ledger import ByteLedger
from paritree.core.messages import Hello, ReplyBody, Request, RequestBody


class AgentService(Protocol):
    """What an agent does for the coordinator."""

    def hello(self) -> Hello:
        """Who this agent is and what it serves; asked anew for every connection."""
        ...

    def handle(self, request: Request) -> AsyncIterator[ReplyBody]:
        """Answer one request: an async generator of the parts, each small enough for one message (``codec.fits``).

        :class:`Progress` may come at any time; the last other body ends the exchange. ``Ready``, ``Refusal`` and
        ``Ended`` are always the last. A ParitreeError that is raised becomes a :class:`Refusal`. The generator is
        cancelled (``CancelledError`` at its await) when the exchange is cancelled or has expired.
        """
        ...


class RegionLink(Protocol):
    """What the coordinator's sweep sees of one region. One object a region, which survives reconnects."""

    @property
    def region(self) -> str: ...

    @property
    def hello(self) -> Hello:
        """The Hello of the newest connection."""
        ...

    @property
    def ledger(self) -> ByteLedger:
        """Every byte of this region, by class and sweep; survives reconnects."""
        ...

    def ask(self, request_body: RequestBody, *, sweep_id: str, timeout_s: float) -> AsyncGenerator[ReplyBody, None]:
        """Send one request and yield every part of the answer in order, Progress and Refusal included.

        The request is sent when the iteration starts. ``timeout_s`` bounds the silence between two parts, in seconds.
        Closing the iterator early cancels the exchange at the agent; use ``contextlib.aclosing`` when leaving early.
        Asking again with an equal body, after the connection was cut, continues the same exchange: the agent does not
        do the work twice.

        Raises PeerError with ``retryable`` set when there is no connection, when it is cut, when the silence is too
        long, or when parts are missing, undecodable or not what was asked for.
        """
        ...
