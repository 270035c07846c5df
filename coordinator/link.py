"""One region as the coordinator's sweeps see it: a link that outlives the connections it runs over.

::

    ask ──► Connection.send ──► outgoing ──► (transport writes) ──► agent
    ask ◄── Inbox ◄── Connection.receive ◄── (transport reads)  ◄── agent

"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterator

from coordinator.ends import UnheardEnds
from paritree.core import limits
from paritree.core.errors import PeerError
from paritree.core.ledger import CONNECTION, ByteLedger
from paritree.core.messages import (
    Begin,
    ByteClass,
    End,
    Hello,
    Reply,
    ReplyBody,
    Request,
    RequestBody,
    byte_class,
    sketched_bytes,
)
from paritree.wire import codec
from paritree.wire.answer import AnswerCheck
from paritree.wire.frames import Cancel, Notice, Welcome

OnNotice = Callable[[str, Notice], None]
"""Hears of the region that tells, and what."""


def _unheard(*_: object) -> None:
    """Nobody asked for notices."""


class ConnectionCut(PeerError):
    """The stream ended while an answer was due: the same question may be asked again over the next one."""


class Inbox:
    """Parts of one exchange that have arrived and were not taken yet."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._replies: deque[Reply] = deque()
        self._failure: PeerError | None = None
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, reply: Reply) -> None:
        """Add a part; waits while too many are waiting, but not longer than the exchange may be silent."""
        try:
            async with asyncio.timeout(self.request.timeout_s):
                await self._room.wait()
        except TimeoutError:
            self.fail(PeerError("parts of an answer were not taken in time", retryable=True))
            return
        self._replies.append(reply)
        if len(self._replies) >= limits.PARTS_WAITING_MAX:
            self._room.clear()
        self._news.set()

    def fail(self, error: PeerError) -> None:
        """No more parts will come."""
        self._failure = self._failure or error
        self._room.set()
        self._news.set()

    async def take(self) -> Reply:
        """The next part. Raises PeerError after the silence that the request allows, or what ``fail`` was given."""
        try:
            async with asyncio.timeout(self.request.timeout_s):
                while not self._replies:
                    if self._failure is not None:
                        raise self._failure
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise PeerError(f"no sign of life for {self.request.timeout_s:g} s", retryable=True) from None
        self._room.set()
        return self._replies.popleft()


class Connection:
    """One stream of one agent: what is to be written, and who waits for what is read."""

    def __init__(self, ledger: ByteLedger, notice: Callable[[Notice], None] = _unheard) -> None:
        """``notice`` is given what the agent tells unasked."""
        self.ledger = ledger
        self._notice = notice
        self.ended = asyncio.Event()
        self.outgoing: asyncio.Queue[tuple[bytes, ByteClass, str]] = asyncio.Queue(limits.EXCHANGES_OPEN_MAX)
        self._inboxes: dict[tuple[str, int], Inbox] = {}

    def welcome(self, coordinator: str, watched: tuple[str, ...] = ()) -> None:
        """Say welcome, the first message of every stream, and of which datasets notices are wanted."""
        data = codec.encode_to_agent(Welcome(coordinator, watched=watched))
        self.outgoing.put_nowait((data, ByteClass.CONTROL, CONNECTION))

    async def send(self, request: Request) -> Inbox:
        """Put a request on its way. Raises PeerError when the stream has ended, or stays full for too long."""
        if self.ended.is_set():
            raise ConnectionCut("the connection to the agent was cut", retryable=True)
        data = codec.encode_to_agent(request)
        inbox = self._inboxes[request.sweep_id, request.exchange] = Inbox(request)
        try:
            async with asyncio.timeout(request.timeout_s):
                await self.outgoing.put((data, byte_class(request.body), request.sweep_id))
        except TimeoutError:
            raise PeerError(f"the agent took no request for {request.timeout_s:g} s", retryable=True) from None
        return inbox

    def tell(self, request: Request) -> None:
        """Put a request on its way whose answer nobody waits for; left out where too many are waiting already."""
        if not self.outgoing.full():
            data = codec.encode_to_agent(request)
            self.outgoing.put_nowait((data, byte_class(request.body), CONNECTION))

    def close_exchange(self, request: Request, *, complete: bool) -> None:
        """Nobody waits for it any more; the agent is told unless it has sent everything."""
        inbox = self._inboxes.pop((request.sweep_id, request.exchange), None)
        if inbox is not None:  # a part that waits for room would hold up every other exchange of the stream
            inbox.fail(PeerError("nobody waits for the answer any more"))
        if not complete and not self.ended.is_set() and not self.outgoing.full():
            data = codec.encode_to_agent(Cancel(request.exchange, request.sweep_id))
            self.outgoing.put_nowait((data, ByteClass.CONTROL, request.sweep_id))

    async def receive(self, data: bytes) -> None:
        """Take one message of the agent. Raises PeerError for what cannot be read and for a second Hello."""
        try:
            message = codec.decode_from_agent(data)
        except PeerError:
            self.ledger.count_sent(ByteClass.CONTROL, len(data))
            raise
        if not isinstance(message, Reply):
            self.ledger.count_sent(ByteClass.CONTROL, len(data))
            if isinstance(message, Notice):
                self._notice(message)
                return
            raise PeerError("the agent said hello twice")
        inbox = self._inboxes.get((message.sweep_id, message.exchange))
        known = inbox is not None or self.ledger.knows(message.sweep_id)
        self.ledger.count_sent(
            byte_class(message.body),
            len(data),
            message.sweep_id if known else CONNECTION,
            sketched=sketched_bytes(message.body),
        )
        if inbox is not None:  # else an answer that nobody waits for any more
            await inbox.put(message)

    def end(self, reason: str, *, kind: type[PeerError] = ConnectionCut) -> None:
        """The stream has ended: everybody who waits is told. Only after a ConnectionCut can an exchange continue."""
        self.ended.set()
        for inbox in self._inboxes.values():
            inbox.fail(kind(f"the connection to the agent was cut: {reason}", retryable=True))


class GrpcLink:
    """A RegionLink over whatever connection the region's agent has at the moment."""

    def __init__(
        self,
        hello: Hello,
        exchanges: Iterator[int],
        ends: UnheardEnds,
        fence: int = 0,
        on_notice: OnNotice = _unheard,
    ) -> None:
        """``exchanges`` gives numbers that no exchange of this coordinator has had, restarts included.

        ``ends`` are those that the region was away for until now. ``fence`` is the coordinator's fencing token, which
        every request carries.
        """
        self._on_notice = on_notice
        self._exchanges = exchanges
        self._fence = fence
        self._cut: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._ends = ends
        self._connection: Connection | None = None
        self.region = hello.region
        self.hello = hello
        self.ledger = ByteLedger()

    @property
    def connected(self) -> bool:
        """True while a stream of the region's agent is open."""
        return self._connection is not None and not self._connection.ended.is_set()

    def connect(self, hello: Hello) -> Connection:
        """Begin with a new stream; the one before is told to end.

        Raises PeerError (retryable) while another agent process of the region is connected: which of two copies of
        the truth to ask must not depend on who dialled last. The same process (``instance``) may come again at once,
        because its old connection can look alive for a while after a cut.
        """
        if self._connection is not None and self.connected:
            if (hello.agent, hello.instance) != (self.hello.agent, self.hello.instance):
                raise PeerError(
                    f"region {self.region} is already served by agent {self.hello.agent}",
                    next_step="stop one of the two agents; this one goes on trying",
                    retryable=True,
                )
            self._connection.end("the agent has connected anew")
        self.hello = hello
        self._connection = Connection(self.ledger, lambda notice: self._on_notice(self.region, notice))
        return self._connection

    def close(self, reason: str) -> None:
        """End the stream, if there is one."""
        if self._connection is not None:
            self._connection.end(reason)

    async def ask(
        self, request_body: RequestBody, *, sweep_id: str, timeout_s: float
    ) -> AsyncGenerator[ReplyBody, None]:
        """See RegionLink.ask."""
        self._ends.asked(sweep_id, request_body)
        connection = self._connected()
        if isinstance(request_body, Begin):
            self._end_again(connection, sweep_id)
        key = sweep_id, codec.fingerprint(request_body)
        exchange = self._cut.pop(key, None)
        exchange = next(self._exchanges) if exchange is None else exchange
        request = Request(exchange, sweep_id, request_body, timeout_s, self._fence)
        check = AnswerCheck(request)
        try:
            inbox = await connection.send(request)
            while not check.complete:
                body = check.accept(await inbox.take())
                if body is not None:
                    yield body
            self._ends.heard(sweep_id, request_body)
        except ConnectionCut:
            self._remember(key, request.exchange)
            raise
        finally:
            connection.close_exchange(request, complete=check.complete)

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.ended.is_set():
            raise PeerError(
                f"region {self.region} is not connected", next_step="check that its agent runs", retryable=True
            )
        return self._connection

    def _end_again(self, connection: Connection, opening: str) -> None:
        """Say it again to an agent that was away, before it opens the sweep of that id."""
        for sweep_id in self._ends.take(opening=opening):
            connection.tell(Request(next(self._exchanges), sweep_id, End(), limits.EXCHANGE_TIMEOUT_S, self._fence))

    def _remember(self, key: tuple[str, bytes], exchange: int) -> None:
        """The exchange of a question that was cut off: asked again, it continues."""
        self._cut[key] = exchange
        while len(self._cut) > limits.EXCHANGES_RESUMED_MAX:
            self._cut.popitem(last=False)


def exchange_numbers(start: int) -> Iterator[int]:
    """Exchange numbers from a random ``start`` below 2^62 on, so that a restarted coordinator repeats none."""
    return itertools.count(start)
