"""Domain messages <-> protobuf bytes of the agent stream. The one module that imports its generated messages.

Encoding raises InvariantBroken for a message that the other side would have to refuse; decoding raises PeerError, and
nothing else, for any bytes. Arrays are little-endian on the wire; decoded ones are read-only views in native order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from google.protobuf.message import DecodeError, Message

from paritree.core import messages as m
from paritree.core.errors import InvariantBroken, PeerError
from paritree.core.limits import HELLO_DATASETS_MAX, MESSAGE_BYTES_MAX
from paritree.wire import validity
from paritree.wire.frames import Cancel, FromAgent, ToAgent, Welcome
from paritree.wire.packing import (
    pack_probe,
    pack_u32,
    pack_u64,
    presentable,
    refusal_code,
    split,
    unique,
    unpack_probe,
    unpack_u32,
    unpack_u64,
)
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
            _put_hello(out.hello, message)
        else:
            reply = presentable(message)
            validity.check_reply(reply)
            _put_reply(out.reply, reply)
    return _serialized(out)


def decode_from_agent(data: bytes) -> FromAgent:
    """Raises PeerError."""
    with _receiving():
        message = pb.AgentMessage.FromString(data)
        match message.WhichOneof("body"):
            case "hello":
                hello = _get_hello(message.hello)
                validity.check_hello(hello)
                return hello
            case "reply":
                reply = _get_reply(message.reply)
                validity.check_reply(reply)
                return reply
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
            case m.Request():
                validity.check_request(message)
                _put_request(out.request, message)
            case Cancel():
                validity.check_exchange(message)
                out.cancel.exchange, out.cancel.sweep_id = message.exchange, message.sweep_id
    return _serialized(out)


def decode_to_agent(data: bytes) -> ToAgent:
    """Raises PeerError."""
    with _receiving():
        message = pb.CoordinatorMessage.FromString(data)
        match message.WhichOneof("body"):
            case "welcome":
                welcome = Welcome(message.welcome.coordinator, message.welcome.protocol)
                validity.check_welcome(welcome)
                return welcome
            case "request":
                request = _get_request(message.request)
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
    match body:
        case m.Begin() | m.AskChildren() | m.AskLists() | m.AskSketch() | m.AskDetail() | m.AskReveal() | m.End():
            request = pb.Request()
            _put_request_body(request, body)
            return request
        case _:
            reply = pb.Reply()
            _put_reply_body(reply, body)
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


def _unreadable(reason: str) -> PeerError:
    return PeerError(f"a message cannot be read: {reason}", next_step="run the same paritree version on both sides")


def _serialized(message: Message) -> bytes:
    data = message.SerializeToString(deterministic=True)
    if len(data) > MESSAGE_BYTES_MAX:
        raise InvariantBroken(f"a message of {len(data)} bytes is larger than {MESSAGE_BYTES_MAX}")
    return data


# --- hello and requests ---------------------------------------------------------------------------------------------


def _put_hello(out: pb.Hello, hello: m.Hello) -> None:
    out.protocol, out.region, out.agent, out.instance = hello.protocol, hello.region, hello.agent, hello.instance
    for offer in hello.datasets:
        out.datasets.add(
            dataset=offer.dataset,
            profile_id=offer.profile_id,
            canonical_version=offer.canonical_version,
            key_id=offer.key_id,
        )


def _get_hello(hello: pb.Hello) -> m.Hello:
    if len(hello.datasets) > HELLO_DATASETS_MAX:
        raise Malformed(f"hello.datasets has more than {HELLO_DATASETS_MAX} entries")
    offers = tuple(m.DatasetOffer(o.dataset, o.profile_id, o.canonical_version, o.key_id) for o in hello.datasets)
    return m.Hello(hello.region, hello.agent, hello.instance, offers, hello.protocol)


def _put_request(out: pb.Request, request: m.Request) -> None:
    out.exchange, out.sweep_id, out.timeout_s = request.exchange, request.sweep_id, request.timeout_s
    _put_request_body(out, request.body)


def _put_request_body(out: pb.Request, body: m.RequestBody) -> None:
    match body:
        case m.Begin():
            out.begin.dataset, out.begin.profile_id = body.dataset, body.profile_id
            out.begin.canonical_version = body.canonical_version
        case m.AskChildren():
            out.children.bits, out.children.to_bits = body.bits, body.to_bits
            out.children.prefixes = pack_u64(body.prefixes)
        case m.AskLists():
            out.lists.bits, out.lists.prefixes = body.bits, pack_u64(body.prefixes)
        case m.AskSketch():
            out.sketch.cells, out.sketch.salt, out.sketch.bits = body.cells, body.salt, body.bits
            out.sketch.prefixes = pack_u64(body.prefixes)
        case m.AskDetail():
            out.detail.ks, out.detail.key_digests = pack_u64(body.ks), b"".join(body.key_digests)
            out.detail.columns, out.detail.seal = body.columns, body.seal
            for key_digest, ciphertext in body.sealed.items():
                out.detail.sealed.add(key_digest=key_digest, ciphertext=ciphertext)
        case m.AskReveal():
            out.reveal.key_digests, out.reveal.purpose = b"".join(body.key_digests), body.purpose
        case m.End():
            out.end.SetInParent()


def _get_request(request: pb.Request) -> m.Request:
    return m.Request(request.exchange, request.sweep_id, _get_request_body(request), request.timeout_s)


def _get_request_body(request: pb.Request) -> m.RequestBody:
    match request.WhichOneof("body"):
        case "begin":
            begin = request.begin
            return m.Begin(begin.dataset, begin.profile_id, begin.canonical_version)
        case "children":
            children = request.children
            return m.AskChildren(children.bits, children.to_bits, unpack_u64("children.prefixes", children.prefixes))
        case "lists":
            return m.AskLists(request.lists.bits, unpack_u64("lists.prefixes", request.lists.prefixes))
        case "sketch":
            sketch = request.sketch
            prefixes = unpack_u64("sketch.prefixes", sketch.prefixes)
            return m.AskSketch(sketch.cells, sketch.salt, sketch.bits, prefixes)
        case "detail":
            detail = request.detail
            return m.AskDetail(
                unpack_u64("detail.ks", detail.ks),
                split("detail.key_digests", detail.key_digests, validity.KEY_DIGEST_BYTES),
                unique("detail.sealed", ((s.key_digest, s.ciphertext) for s in detail.sealed)),
                detail.columns,
                detail.seal,
            )
        case "reveal":
            digests = split("reveal.key_digests", request.reveal.key_digests, validity.KEY_DIGEST_BYTES)
            return m.AskReveal(digests, request.reveal.purpose)
        case "end":
            return m.End()
        case _:
            raise Malformed("the request has no body that this version knows")


# --- replies --------------------------------------------------------------------------------------------------------


def _put_reply(out: pb.Reply, reply: m.Reply) -> None:
    out.exchange, out.sweep_id, out.part, out.last = reply.exchange, reply.sweep_id, reply.part, reply.last
    _put_reply_body(out, reply.body)


def _put_reply_body(out: pb.Reply, body: m.ReplyBody) -> None:
    match body:
        case m.Progress():
            out.progress.SetInParent()
            out.progress.shards_done, out.progress.shards_total = body.shards_done, body.shards_total
            out.progress.rows = body.rows
        case m.Refusal():
            out.refusal.code, out.refusal.message, out.refusal.retryable = body.code, body.message, body.retryable
        case m.Ended():
            out.ended.SetInParent()
        case m.Ready():
            _put_ready(out.ready, body)
        case m.Children():
            _put_header(out.children.header, body.header)
            out.children.sums = pack_u64(body.sums)
        case m.Sketched():
            _put_header(out.sketched.header, body.header)
            out.sketched.sums = pack_u64(body.sums)
        case m.Lists():
            _put_header(out.lists.header, body.header)
            out.lists.counts = pack_u32(body.counts)
            out.lists.k, out.lists.r, out.lists.r2 = pack_u64(body.k), pack_u64(body.r), pack_u64(body.r2)
        case m.Details():
            _put_header(out.details.header, body.header)
            for look in body.looks:
                _put_look(out.details.looks.add(), look)
        case m.Revealed():
            _put_header(out.revealed.header, body.header)
            out.revealed.refused = body.refused
            for key_digest, text in body.keys.items():
                out.revealed.keys.add(key_digest=key_digest, json=text)


def _get_reply(reply: pb.Reply) -> m.Reply:
    return m.Reply(reply.exchange, reply.sweep_id, reply.part, reply.last, _get_reply_body(reply))


def _get_reply_body(reply: pb.Reply) -> m.ReplyBody:
    match reply.WhichOneof("body"):
        case "progress":
            return m.Progress(reply.progress.shards_done, reply.progress.shards_total, reply.progress.rows)
        case "ready":
            return _get_ready(reply.ready)
        case "children":
            return m.Children(_get_header(reply.children.header), unpack_u64("children.sums", reply.children.sums))
        case "sketched":
            return m.Sketched(_get_header(reply.sketched.header), unpack_u64("sketched.sums", reply.sketched.sums))
        case "lists":
            lists = reply.lists
            k, r, r2 = unpack_u64("lists.k", lists.k), unpack_u64("lists.r", lists.r), unpack_u64("lists.r2", lists.r2)
            return m.Lists(_get_header(lists.header), unpack_u32("lists.counts", lists.counts), k, r, r2)
        case "details":
            looks = tuple(_get_look(look) for look in reply.details.looks)
            return m.Details(_get_header(reply.details.header), looks)
        case "revealed":
            keys = unique("revealed.keys", ((k.key_digest, k.json) for k in reply.revealed.keys))
            return m.Revealed(_get_header(reply.revealed.header), keys, reply.revealed.refused)
        case "refusal":
            code = refusal_code(reply.refusal.code)
            return m.Refusal(code, reply.refusal.message, reply.refusal.retryable)
        case "ended":
            return m.Ended()
        case _:
            raise Malformed("the reply has no body that this version knows")


def _put_header(out: pb.Header, header: m.Header) -> None:
    out.dataset, out.profile_id, out.canonical_version = header.dataset, header.profile_id, header.canonical_version
    out.key_id, out.sweep_id, out.position = header.key_id, header.sweep_id, header.position


def _get_header(header: pb.Header) -> m.Header:
    h = header
    return m.Header(h.dataset, h.profile_id, h.canonical_version, h.key_id, h.sweep_id, h.position)


def _put_ready(out: pb.Ready, ready: m.Ready) -> None:
    _put_header(out.header, ready.header)
    out.engine, out.rows, out.root_r, out.root_r2 = ready.engine, ready.rows, ready.root_r, ready.root_r2
    (out.probe, out.pulls), out.point = pack_probe(ready.probe), ready.point
    out.scan_s, out.age_s = ready.scan_s, ready.age_s
    out.duplicate_keys = ready.duplicate_keys
    out.dead.keyed, out.dead.keyless = ready.dead.keyed, ready.dead.keyless
    out.dead.reasons.update(ready.dead.reasons)
    out.disclosure, out.sealed_keys = ready.disclosure, ready.sealed_keys
    out.notes.extend(ready.notes)


def _get_ready(ready: pb.Ready) -> m.Ready:
    return m.Ready(
        header=_get_header(ready.header),
        engine=ready.engine,
        rows=ready.rows,
        root_r=ready.root_r,
        root_r2=ready.root_r2,
        probe=unpack_probe(ready.probe, ready.pulls),
        point=ready.point,
        scan_s=ready.scan_s,
        age_s=ready.age_s,
        duplicate_keys=ready.duplicate_keys,
        dead=m.DeadLetters(ready.dead.keyed, ready.dead.keyless, dict(ready.dead.reasons)),
        disclosure=ready.disclosure,
        sealed_keys=ready.sealed_keys,
        notes=tuple(ready.notes),
    )


def _put_look(out: pb.Look, look: m.Look) -> None:
    out.key_digest, out.dead, out.sealed = look.key_digest, look.dead, look.sealed
    out.indexed, out.columns = b"".join(look.indexed), b"".join(look.columns)
    if look.indexed and look.fresh == look.indexed:  # nearly always: 16 bytes of about 60 less
        out.unchanged = True
    else:
        out.fresh = b"".join(look.fresh)
    if look.version is not None:
        out.version = look.version


def _get_look(look: pb.Look) -> m.Look:
    if len(look.key_digest) != validity.KEY_DIGEST_BYTES:  # half a million empty looks fit into one message
        raise Malformed(f"look.key_digest is not {validity.KEY_DIGEST_BYTES} bytes")
    if look.unchanged and look.fresh:
        raise Malformed("look.fresh is there and said to be unchanged")
    indexed = split("look.indexed", look.indexed, validity.ROW_DIGEST_BYTES)
    return m.Look(
        key_digest=look.key_digest,
        indexed=indexed,
        fresh=indexed if look.unchanged else split("look.fresh", look.fresh, validity.ROW_DIGEST_BYTES),
        dead=look.dead,
        columns=split("look.columns", look.columns, validity.COLUMN_DIGEST_BYTES),
        version=look.version if look.HasField("version") else None,
        sealed=look.sealed,
    )
