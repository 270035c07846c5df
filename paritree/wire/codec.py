"""Domain messages <-> protobuf bytes of the agent stream.

With its two parts, ``requests`` and ``replies``, the only code that knows the generated messages.

Encoding raises InvariantBroken for a message that the other side would have to refuse; decoding raises Unreadable, and
nothing else, for any bytes. Arrays are little-endian on the wire; decoded ones are read-only views in native order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.message import DecodeError, Message

from paritree.core import messages as m
from paritree.core.errors import InvariantBroken, Unreadable
from paritree.core.limits import MESSAGE_BYTES_MAX
from paritree.wire import validity
from paritree.wire.frames import Cancel, FromAgent, Notice, ToAgent, Welcome
from paritree.wire.packing import presentable
from paritree.wire.replies import get_reply, put_reply, put_reply_body
from paritree.wire.requests import get_hello, get_request, put_hello, put_request, put_request_body
from paritree.wire.v1 import agent_pb2 as pb
from paritree.wire.validity import Malformed

SERVICE: Final = pb.DESCRIPTOR.services_by_name["AgentLink"].full_name
ATTACH: Final = f"/{SERVICE}/Attach"
"""The gRPC path of the stream."""
ENVELOPE_BYTES_MAX: Final = 384
"""Upper bound of exchange, sweep id (64 characters), part, timeout and the tags and lengths around a body."""


def encode_from_agent(message: FromAgent) -> bytes:
    """Raises InvariantBroken when a field does not fit or the message is larger than a message may be."""
    out = pb.AgentMessage()
    with _sending():
        if isinstance(message, m.Hello):
            validity.check_hello(message)
            put_hello(out.hello, message)
        elif isinstance(message, Notice):
            validity.check_notice(message)
            told = out.notice
            told.dataset, told.keys, told.position = message.dataset, message.keys, message.position
            told.first_us, told.last_us = message.first_us, message.last_us
        else:
            reply = presentable(message)
            validity.check_reply(reply)
            put_reply(out.reply, reply)
    return _serialized(out)


def decode_from_agent(data: bytes) -> FromAgent:
    """Raises Unreadable, a PeerError."""
    with _receiving():
        message = pb.AgentMessage.FromString(data)
        match message.WhichOneof("body"):
            case "hello":
                hello = get_hello(message.hello)
                validity.check_hello(hello)
                return hello
            case "reply":
                reply = get_reply(message.reply)
                validity.check_reply(reply)
                return reply
            case "notice":
                n = message.notice
                notice = Notice(n.dataset, n.keys, n.first_us, n.last_us, n.position)
                validity.check_notice(notice)
                return notice
            case _:
                raise Malformed("the message has no body that this version knows")


def encode_to_agent(message: ToAgent) -> bytes:
    """Raises InvariantBroken when a field does not fit or the message is larger than a message may be."""
    out = pb.CoordinatorMessage()
    with _sending():
        match message:
            case Welcome():
                validity.check_welcome(message)
                out.welcome.protocol, out.welcome.coordinator = message.protocol, message.coordinator
                out.welcome.watched.extend(message.watched)
            case m.Request():
                validity.check_request(message)
                put_request(out.request, message)
            case Cancel():
                validity.check_exchange(message)
                out.cancel.exchange, out.cancel.sweep_id = message.exchange, message.sweep_id
    return _serialized(out)


def decode_to_agent(data: bytes) -> ToAgent:
    """Raises Unreadable, a PeerError."""
    with _receiving():
        message = pb.CoordinatorMessage.FromString(data)
        match message.WhichOneof("body"):
            case "welcome":
                said = message.welcome
                welcome = Welcome(said.coordinator, said.protocol, tuple(said.watched))
                validity.check_welcome(welcome)
                return welcome
            case "request":
                request = get_request(message.request)
                validity.check_request(request)
                return request
            case "cancel":
                cancel = Cancel(message.cancel.exchange, message.cancel.sweep_id)
                validity.check_exchange(cancel)
                return cancel
            case _:
                raise Malformed("the message has no body that this version knows")


def body_bytes(body: m.RequestBody | m.ReplyBody) -> int:
    """Serialized size of a body alone, in bytes."""
    with _sending():
        return _body_message(body).ByteSize()


def fits(body: m.RequestBody | m.ReplyBody) -> bool:
    """True when the body goes into one message, whatever its exchange and sweep."""
    return body_bytes(body) + ENVELOPE_BYTES_MAX <= MESSAGE_BYTES_MAX


def fingerprint(body: m.RequestBody) -> bytes:
    """16 bytes that equal requests share, whatever their exchange number."""
    with _sending():
        content = _body_message(body).SerializeToString(deterministic=True)
    return hashlib.blake2b(content, digest_size=16).digest()


def _body_message(body: m.RequestBody | m.ReplyBody) -> Message:
    if isinstance(body, m.RequestBody):
        request = pb.Request()
        put_request_body(request, body)
        return request
    reply = pb.Reply()
    put_reply_body(reply, body)
    return reply


@contextmanager
def _sending() -> Iterator[None]:
    try:
        yield
    except (Malformed, ValueError, TypeError) as error:  # protobuf raises the latter two for what does not fit a field
        raise InvariantBroken(f"a message cannot be sent: {error}") from error


@contextmanager
def _receiving() -> Iterator[None]:
    try:
        yield
    except Malformed as error:
        raise _unreadable(str(error)) from error
    except (DecodeError, ValueError) as error:  # their text may hold what was received
        raise _unreadable("it is not protobuf of this schema") from error


def _unreadable(reason: str) -> Unreadable:
    return Unreadable(f"a message cannot be read: {reason}", next_step="run the same paritree version on both sides")


def _serialized(message: Message) -> bytes:
    data = message.SerializeToString(deterministic=True)
    if len(data) > MESSAGE_BYTES_MAX:
        raise InvariantBroken(f"a message of {len(data)} bytes is larger than {MESSAGE_BYTES_MAX}")
    return data
