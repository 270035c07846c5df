"""A JetStream stream, read by sequence: the one place that talks to the NATS server.

``nats`` is asynchronous, change sources are not: an event loop in a thread of its own lies between. The durable
consumer is made anew wherever reading begins, at the sequence after what the index holds, so nothing depends on what
the server remembers of it; it shows an operator how far the index is, and its own count proves that no message was lost
on the way or went to somebody else.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Coroutine
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, SecureConnWantedError
from nats.errors import TimeoutError as NatsTimeout

from paritree.core.errors import ConfigError, SourceError

ANSWER_S: Final = 10.0
"""What a server may take to answer."""
PULL_MESSAGES: Final = 256
"""Messages of one request: with a server's usual limit of 1 MiB each, a bounded piece of memory."""
CONSUMER_NOT_FOUND: Final = 10014
STREAM_NOT_FOUND: Final = 10059
UNACKNOWLEDGED_NS: Final = 24 * 3_600 * 10**9
"""After which the server would hand a message out again: longer than any refresh."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the stream is. ``secrets``: ``password`` or ``token``; never in ``repr``, logs or errors."""

    url: str
    user: str = ""
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def tls(self) -> ssl.SSLContext | None:
        """What a TLS connection is checked by, None without TLS. Raises ConfigError."""
        if not self.url.startswith("tls://"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
            return context
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"topic: ca, cert or key cannot be used: {error.strerror or error}") from None


@dataclass(frozen=True, slots=True)
class Extent:
    """What a stream holds: sequences ``first`` to ``last`` but ``deleted`` ones, since it was ``created``."""

    created: str
    first: int
    last: int
    deleted: frozenset[int]
    config: dict[str, Any]
    bytes: int

    def lost(self, low: int, high: int) -> int:
        """The first sequence in (low, high] that is not in the stream any more; 0 where all are."""
        if self.first > low + 1 and high > low:
            return low + 1
        return min((one for one in self.deleted if low < one <= high), default=0)


@dataclass(frozen=True, slots=True)
class Message:
    """One message: its sequence in the stream and the moment it was stored there, seconds since 1970."""

    sequence: int
    subject: str
    data: bytes
    headers: dict[str, str]
    stored_at: float
    pending: int
    reply: str = field(repr=False)


class _Client(Client):
    """``nats`` goes on in clear where a server does not ask for TLS, or somebody between takes that word away."""

    def __init__(self, secure: bool) -> None:
        super().__init__()
        self._secure = secure

    def _connect_command(self) -> bytes:
        """What is sent first, the password in it."""
        if self._secure and not self._server_info.get("tls_required"):
            raise SecureConnWantedError
        return super()._connect_command()


class Stream:
    """A connection to one stream. For one thread; every method raises SourceError or ConfigError."""

    def __init__(self, server: Server, stream: str, consumer: str, subject: str) -> None:
        """Connect. ``subject`` "" reads all subjects of the stream."""
        self._server, self.stream, self.consumer, self._subject = server, stream, consumer, subject
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="paritree-topic", daemon=True)
        self._thread.start()
        self._client: Client | None = None
        self._delivered = 0
        self.filtered = bool(subject)
        try:
            self._client = self._run(self._connected(server.tls()), "connecting")
        except BaseException:
            self.close()
            raise

    # --- what may be asked ------------------------------------------------------------------------------------------

    def extent(self) -> Extent:
        """What the stream holds now."""
        said = self._asked(f"STREAM.INFO.{self.stream}", {})
        if said["state"].get("num_deleted"):
            said = self._asked(f"STREAM.INFO.{self.stream}", {"deleted_details": True})
        state = said["state"]
        deleted = frozenset(state.get("deleted") or ())
        return Extent(said["created"], state["first_seq"], state["last_seq"], deleted, said["config"], state["bytes"])

    def begin(self, sequence: int) -> int:
        """Read from that sequence on; returns how many messages there are to read now."""
        self.forget()
        config = {
            "durable_name": self.consumer,
            "description": "paritree: how far an index is",
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": sequence,
            "ack_policy": "all",
            "ack_wait": UNACKNOWLEDGED_NS,
            "max_ack_pending": -1,
            "replay_policy": "instant",
            **({"filter_subject": self._subject} if self._subject else {}),
        }
        asked = {"stream_name": self.stream, "config": config}
        said = self._asked(f"CONSUMER.DURABLE.CREATE.{self.stream}.{self.consumer}", asked)
        self._delivered = 0
        return int(said["num_pending"])

    def pull(self, count: int) -> list[Message]:
        """The next ``count`` messages (at least one), which are there to be read."""
        wanted = min(count, PULL_MESSAGES)
        return self._run(self._pulled(wanted), "reading messages")

    def acknowledge(self, reply: str) -> None:
        """This message and all before it are in the index."""
        self._run(self._acknowledged(reply), "acknowledging")

    def forget(self) -> None:
        """Delete the consumer, if it is there."""
        self._asked(f"CONSUMER.DELETE.{self.stream}.{self.consumer}", {}, absent=CONSUMER_NOT_FOUND)

    def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._loop.is_closed():
            return
        if self._client is not None:
            with suppress(SourceError, ConfigError):
                self._run(self._client.close(), "closing")
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- how --------------------------------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, T], doing: str) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(3 * ANSWER_S)
        except (NatsTimeout, FutureTimeout, TimeoutError):
            future.cancel()
            raise self._failed(doing, "the server does not answer", retryable=True) from None
        except NoRespondersError:
            raise self._failed(doing, "JetStream is not enabled there") from None
        except NatsError as error:
            raise self._failed(doing, f"{type(error).__name__}: {error}", retryable=True) from None
        except ssl.SSLError as error:
            raise self._failed(doing, f"TLS: {error.reason or error}") from None
        except OSError as error:
            raise self._failed(doing, error.strerror or type(error).__name__, retryable=True) from None

    def _failed(self, doing: str, why: str, *, retryable: bool = False) -> SourceError:
        return SourceError(
            f"topic {self.stream}: {doing} failed: {why}",
            next_step=f"check the NATS server at {self._server.url} and what this user may do there",
            retryable=retryable,
        )

    async def _connected(self, tls: ssl.SSLContext | None) -> Client:
        async def quietly(_: Exception) -> None:
            """What goes wrong is raised where it is asked for."""

        server, client = self._server, _Client(tls is not None)
        said: dict[str, Any] = {"user": server.user or None, **server.secrets}
        if tls is not None:
            said["tls"] = tls
        said |= {"connect_timeout": int(ANSWER_S), "allow_reconnect": False, "error_cb": quietly}
        said |= {"max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}  # else it tries for minutes all the same
        try:
            await asyncio.wait_for(client.connect(server.url, name="paritree", **said), 2 * ANSWER_S)
        except Exception:
            await client.close()
            raise
        return client

    def _asked(self, what: str, asked: dict[str, Any], *, absent: int = 0) -> dict[str, Any]:
        """An answer of the JetStream API. An error of code ``absent`` is none."""
        said = self._run(self._answered(f"$JS.API.{what}", asked), what.split(".")[0].lower() + " request")
        error = said.get("error")
        if error is None or (absent and error.get("err_code") == absent):
            return said
        if error.get("err_code") == STREAM_NOT_FOUND:
            raise ConfigError(
                f"topic {self.stream}: there is no such stream at {self._server.url}",
                next_step="create it, or correct refresh.DATASET.topic.stream",
            )
        raise self._failed("a request", str(error.get("description")), retryable=error.get("code") == 503)

    async def _answered(self, subject: str, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._client is not None
        reply = await self._client.request(subject, json.dumps(asked).encode(), timeout=ANSWER_S)
        said = json.loads(reply.data)
        return said if isinstance(said, dict) else {}

    async def _pulled(self, count: int) -> list[Message]:
        assert self._client is not None
        inbox = self._client.new_inbox()
        waiting = await self._client.subscribe(inbox)
        try:
            asked = json.dumps({"batch": count, "expires": int(ANSWER_S / 2 * 1e9)}).encode()
            await self._client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self.consumer}", asked, reply=inbox)
            read: list[Message] = []
            while len(read) < count:
                message = await waiting.next_msg(ANSWER_S)
                status = (message.headers or {}).get("Status")
                if status is not None and not message.reply:
                    if status == "100":
                        continue
                    if read:
                        break
                    raise NatsError(f"status {status}: {(message.headers or {}).get('Description', '')}")
                read.append(self._counted(message))
                if read[-1].pending == 0:
                    break
            return read
        finally:
            await waiting.unsubscribe()

    def _counted(self, message: Msg) -> Message:
        """A message, if it is the consumer's next."""
        meta = message.metadata
        self._delivered += 1
        if meta.sequence.consumer != self._delivered or meta.num_delivered != 1:
            raise NatsError(
                f"messages of the consumer {self.consumer} went elsewhere: does another agent use its name?"
            )
        return Message(
            sequence=meta.sequence.stream,
            subject=message.subject,
            data=message.data,
            headers=dict(message.headers or {}),
            stored_at=meta.timestamp.timestamp(),
            pending=meta.num_pending or 0,
            reply=message.reply,
        )

    async def _acknowledged(self, reply: str) -> None:
        assert self._client is not None
        await self._client.request(reply, b"+ACK", timeout=ANSWER_S)
