"""A link to an agent inside the same process: the same bytes through the codec, the same ledger, no network.

``paritree diff`` compares with it, and tests and simulations run on it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

from paritree.core.errors import PeerError
from paritree.core.ledger import ByteLedger
from paritree.core.messages import ByteClass, Hello, Reply, ReplyBody, Request, RequestBody, byte_class
from paritree.wire import codec
from paritree.wire.answer import AnswerCheck, parts
from paritree.wire.link import AgentService


class LoopbackLink:
    """A RegionLink that calls the service directly."""

    def __init__(self, service: AgentService) -> None:
        """Raises InvariantBroken or PeerError when the service's Hello cannot be sent."""
        self._service = service
        self._exchanges = itertools.count()
        self.ledger = ByteLedger()
        data = codec.encode_from_agent(service.hello())
        self.ledger.count_sent(ByteClass.CONTROL, len(data))
        hello = codec.decode_from_agent(data)
        if not isinstance(hello, Hello):
            raise PeerError("the agent did not say hello")
        self.hello = hello

    @property
    def region(self) -> str:
        return self.hello.region

    async def ask(
        self, request_body: RequestBody, *, sweep_id: str, timeout_s: float
    ) -> AsyncGenerator[ReplyBody, None]:
        """See RegionLink.ask; there is no connection that could be cut."""
        request = Request(next(self._exchanges), sweep_id, request_body, timeout_s)
        data = codec.encode_to_agent(request)
        self.ledger.count_received(byte_class(request_body), len(data), sweep_id)
        received = codec.decode_to_agent(data)
        if not isinstance(received, Request):
            raise PeerError("the agent received something else than a request")
        check = AnswerCheck(request)
        async with aclosing(parts(self._service, received)) as answer:
            while not check.complete:
                try:
                    async with asyncio.timeout(timeout_s):
                        part = await anext(answer)
                except TimeoutError:
                    raise PeerError(f"no sign of life for {timeout_s:g} s", retryable=True) from None
                self.ledger.count_sent(part.kind, len(part.data), sweep_id, sketched=part.sketched)
                reply = codec.decode_from_agent(part.data)
                if not isinstance(reply, Reply):
                    raise PeerError("the agent sent something else than a reply")
                body = check.accept(reply)
                if body is not None:
                    yield body
