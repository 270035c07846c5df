"""Hello and requests <-> their generated messages: a part of ``wire.codec``, which checks what is put and got."""

from __future__ import annotations

from paritree.core import messages as m
from paritree.core.limits import HELLO_DATASETS_MAX
from paritree.wire import validity
from paritree.wire.details import get_again, get_detail_ask, put_again, put_detail_ask
from paritree.wire.letters import get_letters_ask, put_letters_ask
from paritree.wire.packing import pack_u64, split, unpack_u64
from paritree.wire.v1 import agent_pb2 as pb
from paritree.wire.validity import Malformed


def put_hello(out: pb.Hello, hello: m.Hello) -> None:
    """Write a Hello."""
    out.protocol, out.region, out.agent, out.instance = hello.protocol, hello.region, hello.agent, hello.instance
    for offer in hello.datasets:
        out.datasets.add(
            dataset=offer.dataset,
            profile_id=offer.profile_id,
            canonical_version=offer.canonical_version,
            key_id=offer.key_id,
            tells=offer.tells,
            rooted=offer.rooted,
        )


def get_hello(hello: pb.Hello) -> m.Hello:
    """Read a Hello. Raises Malformed."""
    if len(hello.datasets) > HELLO_DATASETS_MAX:
        raise Malformed(f"hello.datasets has more than {HELLO_DATASETS_MAX} entries")
    offers = tuple(
        m.DatasetOffer(o.dataset, o.profile_id, o.canonical_version, o.key_id, o.tells, o.rooted)
        for o in hello.datasets
    )
    return m.Hello(hello.region, hello.agent, hello.instance, offers, hello.protocol)


def put_request(out: pb.Request, request: m.Request) -> None:
    """Write a request."""
    out.exchange, out.sweep_id, out.timeout_s = request.exchange, request.sweep_id, request.timeout_s
    out.fence = request.fence
    put_request_body(out, request.body)


def put_request_body(out: pb.Request, body: m.RequestBody) -> None:
    """Write a request's body."""
    match body:
        case m.Begin():
            out.begin.dataset, out.begin.profile_id = body.dataset, body.profile_id
            out.begin.canonical_version = body.canonical_version
            out.begin.scope, out.begin.bucket = body.scope, body.bucket
            if body.freshness.max_age_s is not None:
                out.begin.max_age_s = body.freshness.max_age_s
            out.begin.no_rescan = not body.freshness.rescan
        case m.AskChildren():
            out.children.bits, out.children.to_bits = body.bits, body.to_bits
            out.children.prefixes, out.children.counts = pack_u64(body.prefixes), body.counts
        case m.AskLists():
            out.lists.bits, out.lists.prefixes = body.bits, pack_u64(body.prefixes)
        case m.AskSketch():
            out.sketch.cells, out.sketch.salt, out.sketch.bits = body.cells, body.salt, body.bits
            out.sketch.prefixes = pack_u64(body.prefixes)
        case m.AskDetail():
            put_detail_ask(out.detail, body)
        case m.AskAgain():
            put_again(out.again, body)
        case m.AskReveal():
            out.reveal.key_digests, out.reveal.purpose = b"".join(body.key_digests), body.purpose
        case m.AskLetters():
            put_letters_ask(out.letters, body)
        case m.AskKeep():
            out.keep.bits, out.keep.prefix = body.bits, body.prefix
        case m.AskRoot():
            out.root.dataset, out.root.profile_id = body.dataset, body.profile_id
            out.root.canonical_version, out.root.max_age_s = body.canonical_version, body.max_age_s
        case m.End():
            out.end.SetInParent()
            out.end.keep = body.keep


def get_request(request: pb.Request) -> m.Request:
    """Read a request. Raises Malformed."""
    return m.Request(request.exchange, request.sweep_id, _get_request_body(request), request.timeout_s, request.fence)


def _get_request_body(request: pb.Request) -> m.RequestBody:
    match request.WhichOneof("body"):
        case "begin":
            begin = request.begin
            freshness = m.Freshness(begin.max_age_s if begin.HasField("max_age_s") else None, not begin.no_rescan)
            of = begin.dataset, begin.profile_id, begin.canonical_version, begin.scope, begin.bucket
            return m.Begin(*of, freshness)
        case "children":
            children = request.children
            prefixes = unpack_u64("children.prefixes", children.prefixes)
            return m.AskChildren(children.bits, children.to_bits, prefixes, children.counts)
        case "lists":
            return m.AskLists(request.lists.bits, unpack_u64("lists.prefixes", request.lists.prefixes))
        case "sketch":
            sketch = request.sketch
            prefixes = unpack_u64("sketch.prefixes", sketch.prefixes)
            return m.AskSketch(sketch.cells, sketch.salt, sketch.bits, prefixes)
        case "detail":
            return get_detail_ask(request.detail)
        case "again":
            return get_again(request.again)
        case "reveal":
            digests = split("reveal.key_digests", request.reveal.key_digests, validity.KEY_DIGEST_BYTES)
            return m.AskReveal(digests, request.reveal.purpose)
        case "letters":
            return get_letters_ask(request.letters)
        case "keep":
            return m.AskKeep(request.keep.bits, request.keep.prefix)
        case "root":
            root = request.root
            return m.AskRoot(root.dataset, root.profile_id, root.canonical_version, root.max_age_s)
        case "end":
            return m.End(request.end.keep)
        case _:
            raise Malformed("the request has no body that this version knows")
