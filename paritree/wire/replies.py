"""Replies <-> their generated messages: a part of ``wire.codec``, which checks what is put and got."""

from __future__ import annotations

from paritree.core import messages as m
from paritree.wire.details import get_details, put_details
from paritree.wire.letters import get_letters, put_letters
from paritree.wire.packing import (
    pack_probe,
    pack_u32,
    pack_u64,
    refusal_code,
    unique,
    unpack_probe,
    unpack_u32,
    unpack_u64,
)
from paritree.wire.v1 import agent_pb2 as pb
from paritree.wire.validity import Malformed


def put_reply(out: pb.Reply, reply: m.Reply) -> None:
    """Write a reply."""
    out.exchange, out.sweep_id, out.part, out.last = reply.exchange, reply.sweep_id, reply.part, reply.last
    put_reply_body(out, reply.body)


def put_reply_body(out: pb.Reply, body: m.ReplyBody) -> None:
    """Write a reply's body."""
    match body:
        case m.Progress():
            out.progress.SetInParent()
            out.progress.shards_done, out.progress.shards_total = body.shards_done, body.shards_total
            out.progress.rows = body.rows
        case m.Refusal():
            out.refusal.code, out.refusal.message, out.refusal.retryable = body.code, body.message, body.retryable
            out.refusal.retry_after_s = body.retry_after_s
        case m.Ended():
            out.ended.SetInParent()
        case m.Ready():
            _put_ready(out.ready, body)
        case m.Rooted():
            _put_header(out.rooted.header, body.header)
            out.rooted.rows, out.rooted.root_r, out.rooted.root_r2 = body.rows, body.root_r, body.root_r2
            out.rooted.age_s, out.rooted.point, out.rooted.doubt = body.age_s, body.point, body.doubt
        case m.Children():
            _put_header(out.children.header, body.header)
            out.children.sums, out.children.counts = pack_u64(body.sums), pack_u64(body.counts)
        case m.Sketched():
            _put_header(out.sketched.header, body.header)
            out.sketched.sums = pack_u64(body.sums)
        case m.Lists():
            _put_header(out.lists.header, body.header)
            out.lists.counts = pack_u32(body.counts)
            out.lists.k, out.lists.r, out.lists.r2 = pack_u64(body.k), pack_u64(body.r), pack_u64(body.r2)
        case m.Details():
            _put_header(out.details.header, body.header)
            put_details(out.details, body)
        case m.Revealed():
            _put_header(out.revealed.header, body.header)
            out.revealed.refused = body.refused
            for key_digest, text in body.keys.items():
                out.revealed.keys.add(key_digest=key_digest, json=text)
        case m.Kept():
            _put_header(out.kept.header, body.header)
            out.kept.name, out.kept.keys = body.name, body.keys
        case m.Letters():
            put_letters(out.letters, body)


def get_reply(reply: pb.Reply) -> m.Reply:
    """Read a reply. Raises Malformed."""
    return m.Reply(reply.exchange, reply.sweep_id, reply.part, reply.last, _get_reply_body(reply))


def _get_reply_body(reply: pb.Reply) -> m.ReplyBody:
    match reply.WhichOneof("body"):
        case "progress":
            return m.Progress(reply.progress.shards_done, reply.progress.shards_total, reply.progress.rows)
        case "ready":
            return _get_ready(reply.ready)
        case "rooted":
            root = reply.rooted
            of = _get_header(root.header), root.rows, root.root_r, root.root_r2
            return m.Rooted(*of, root.age_s, root.point, root.doubt)
        case "children":
            sums = unpack_u64("children.sums", reply.children.sums)
            counts = unpack_u64("children.counts", reply.children.counts)
            return m.Children(_get_header(reply.children.header), sums, counts)
        case "sketched":
            return m.Sketched(_get_header(reply.sketched.header), unpack_u64("sketched.sums", reply.sketched.sums))
        case "lists":
            lists = reply.lists
            k, r, r2 = unpack_u64("lists.k", lists.k), unpack_u64("lists.r", lists.r), unpack_u64("lists.r2", lists.r2)
            return m.Lists(_get_header(lists.header), unpack_u32("lists.counts", lists.counts), k, r, r2)
        case "details":
            return get_details(reply.details, _get_header(reply.details.header))
        case "revealed":
            keys = unique("revealed.keys", ((k.key_digest, k.json) for k in reply.revealed.keys))
            return m.Revealed(_get_header(reply.revealed.header), keys, reply.revealed.refused)
        case "kept":
            return m.Kept(_get_header(reply.kept.header), reply.kept.name, reply.kept.keys)
        case "letters":
            return get_letters(reply.letters)
        case "refusal":
            refusal = reply.refusal
            return m.Refusal(refusal_code(refusal.code), refusal.message, refusal.retryable, refusal.retry_after_s)
        case "ended":
            return m.Ended()
        case _:
            raise Malformed("the reply has no body that this version knows")


def _put_header(out: pb.Header, header: m.Header) -> None:
    out.dataset, out.profile_id, out.canonical_version = header.dataset, header.profile_id, header.canonical_version
    out.key_id, out.sweep_id, out.position = header.key_id, header.sweep_id, header.position
    out.scope, out.scope_id, out.bucket = header.scope, header.scope_id, header.bucket


def _get_header(header: pb.Header) -> m.Header:
    h = header
    comparable = h.dataset, h.profile_id, h.canonical_version, h.key_id
    return m.Header(*comparable, h.sweep_id, h.position, h.scope, h.scope_id, h.bucket)


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
    out.faults.extend(ready.faults)


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
        faults=tuple(ready.faults),
    )
