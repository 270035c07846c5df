"""Detail requests and looks <-> their generated messages, which come from the codec: none is imported here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from paritree.core import messages as m
from paritree.core.copies import FOLDED_BYTES
from paritree.core.looktable import LookTable, Picked
from paritree.wire import validity
from paritree.wire.packing import pack_u64, split, unique, unpack_u64
from paritree.wire.validity import Malformed

_TABLE: Final = (
    "names",
    "plain",
    "tails",
    "digests",
    "halves",
    "versions",
    "same",
    "columned",
    "columns",
    "fields",
    "width",
    "whole",
)


def put_detail_ask(out: Any, ask: m.AskDetail) -> None:
    """Write a request for details."""
    out.ks, out.key_digests = pack_u64(ask.ks), b"".join(ask.key_digests)
    out.columns, out.seal, out.sampled = ask.columns, ask.seal, ask.sampled
    out.versions, out.halves = ask.versions, ask.halves
    _put_picked(out, ask.picked)
    for key_digest, ciphertext in ask.sealed.items():
        out.sealed.add(key_digest=key_digest, ciphertext=ciphertext)


def get_detail_ask(ask: Any) -> m.AskDetail:
    """Read a request for details. Raises Malformed."""
    return m.AskDetail(
        unpack_u64("detail.ks", ask.ks),
        split("detail.key_digests", ask.key_digests, validity.KEY_DIGEST_BYTES),
        unique("detail.sealed", ((s.key_digest, s.ciphertext) for s in ask.sealed)),
        ask.columns,
        ask.seal,
        _get_picked(ask),
        ask.sampled,
        ask.versions,
        ask.halves,
    )


def put_again(out: Any, ask: m.AskAgain) -> None:
    """Write a request to look again."""
    out.memory, out.kept, out.columned, out.unread = ask.memory, ask.kept, ask.columned, not ask.read
    _put_picked(out, ask.picked)


def get_again(ask: Any) -> m.AskAgain:
    """Read a request to look again."""
    return m.AskAgain(ask.memory, ask.kept, ask.columned, _get_picked(ask), not ask.unread)


def _put_picked(out: Any, picked: Picked | None) -> None:
    if picked is not None:
        out.picked.alone, out.picked.together, out.picked.width = picked.alone, picked.together, picked.width
        out.picked.located = picked.located


def _get_picked(ask: Any) -> Picked | None:
    if not ask.HasField("picked"):
        return None
    return Picked(ask.picked.alone, ask.picked.together, ask.picked.width, ask.picked.located)


def put_details(out: Any, details: m.Details) -> None:
    """Write details, without their header."""
    out.memory, out.forgotten = details.memory, details.forgotten
    if details.table is not None:
        out.table.SetInParent()
        for name in _TABLE:
            setattr(out.table, name, getattr(details.table, name))
    for look in details.looks:
        _put_look(out.looks.add(), look)


def get_details(details: Any, header: m.Header) -> m.Details:
    """Read details. Raises Malformed."""
    table = LookTable(*(getattr(details.table, name) for name in _TABLE)) if details.HasField("table") else None
    looks = tuple(_get_look(look) for look in details.looks)
    return m.Details(header, looks, table, details.memory, details.forgotten)


def _put_look(out: Any, look: m.Look) -> None:
    if look.same:
        raise Malformed("look.same is said by a table")
    out.key_digest, out.dead, out.sealed = look.key_digest, look.dead, look.sealed
    (out.indexed, out.indexed_copies), out.columns = _unfolded(look.indexed), b"".join(look.columns)
    out.shifted = b"".join(look.shifted)
    out.merged.extend(look.merged)
    if look.indexed and look.fresh == look.indexed:  # nearly always: 16 bytes of about 60 less
        out.unchanged = True
    else:
        out.fresh, out.fresh_copies = _unfolded(look.fresh)
    if look.version is not None:
        out.version, out.whole = look.version, look.whole


def _unfolded(digests: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The listed digests, and the folded ones."""
    listed = b"".join(digest for digest in digests if len(digest) != FOLDED_BYTES)
    return listed, b"".join(digest for digest in digests if len(digest) == FOLDED_BYTES)


def _told(field: str, listed: bytes, copies: bytes) -> tuple[bytes, ...]:
    digests = split(field, listed, validity.ROW_DIGEST_BYTES)
    return tuple(sorted((*digests, *split(f"{field}_copies", copies, FOLDED_BYTES)))) if copies else digests


def _get_look(look: Any) -> m.Look:
    if len(look.key_digest) != validity.KEY_DIGEST_BYTES:  # half a million empty looks fit into one message
        raise Malformed(f"look.key_digest is not {validity.KEY_DIGEST_BYTES} bytes")
    if look.unchanged and (look.fresh or look.fresh_copies):
        raise Malformed("look.fresh is there and said to be unchanged")
    if look.whole and not look.HasField("version"):
        raise Malformed("look.whole is said of no version")
    indexed = _told("look.indexed", look.indexed, look.indexed_copies)
    return m.Look(
        key_digest=look.key_digest,
        indexed=indexed,
        fresh=indexed if look.unchanged else _told("look.fresh", look.fresh, look.fresh_copies),
        dead=look.dead,
        columns=split("look.columns", look.columns, validity.COLUMN_DIGEST_BYTES),
        version=look.version if look.HasField("version") else None,
        sealed=look.sealed,
        shifted=split("look.shifted", look.shifted, validity.COLUMN_DIGEST_BYTES),
        merged=tuple(look.merged),
        whole=look.whole,
    )
