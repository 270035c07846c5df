"""What makes a message of the stream well-formed. Pure checks on domain values, the same before sending and after
receiving: the codec turns :class:`Malformed` into InvariantBroken (our mistake) or PeerError (the other side's).

Nothing here allocates in proportion to a number that a message claims; only to the bytes that it really has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sized

import numpy as np
from numpy.typing import NDArray

from paritree.core import copies, limits
from paritree.core import messages as m
from paritree.core.deadletters import ID_CHARS
from paritree.core.looktable import Picked
from paritree.core.sketch import PROBE_CELLS, TABLES, Probe
from paritree.wire.frames import Cancel, Notice, Welcome

SWEEP_ID_CHARS_MAX = 64
PROFILE_ID_BYTES = 16
KEY_ID_BYTES = 8
SCOPE_ID_BYTES = 8
KEY_DIGEST_BYTES = 16
ROW_DIGEST_BYTES = 16
COLUMN_DIGEST_BYTES = 8
MEMORY_BYTES = 16
DISCLOSURES = frozenset({"nothing", "tokens", "keys"})
U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1


class Malformed(Exception):
    """A field that does not fit; the text names the field and never contains its content."""


def check_hello(hello: m.Hello) -> None:
    """Raises Malformed."""
    _number("hello.protocol", hello.protocol, U32_MAX)
    for name, text in (("region", hello.region), ("agent", hello.agent), ("instance", hello.instance)):
        _name(f"hello.{name}", text)
    _at_most("hello.datasets", hello.datasets, limits.HELLO_DATASETS_MAX)
    for offer in hello.datasets:
        _identity("offer", offer.dataset, offer.profile_id, offer.canonical_version)
        _digest("offer.key_id", offer.key_id, KEY_ID_BYTES)
    if len({offer.dataset for offer in hello.datasets}) != len(hello.datasets):
        raise Malformed("hello.datasets names a dataset twice")


def check_welcome(welcome: Welcome) -> None:
    """Raises Malformed."""
    _number("welcome.protocol", welcome.protocol, U32_MAX)
    _name("welcome.coordinator", welcome.coordinator)
    _at_most("welcome.watched", welcome.watched, limits.HELLO_DATASETS_MAX)
    for dataset in welcome.watched:
        _name("welcome.watched", dataset)


def check_notice(notice: Notice) -> None:
    """Raises Malformed."""
    _name("notice.dataset", notice.dataset)
    _number("notice.keys", notice.keys, U64_MAX)
    if not 0 <= notice.first_us <= notice.last_us <= limits.TIME_US_MAX:
        raise Malformed("notice.first_us and last_us are no span of time")
    text("notice.position", notice.position, limits.POSITION_CHARS_MAX)


def check_exchange(message: m.Request | m.Reply | Cancel) -> None:
    """The number and the sweep of an exchange. Raises Malformed."""
    _number("exchange", message.exchange, U64_MAX)
    _name("sweep_id", message.sweep_id, SWEEP_ID_CHARS_MAX)


def check_request(request: m.Request) -> None:
    """Raises Malformed."""
    check_exchange(request)
    _number("request.fence", request.fence, U64_MAX)
    if not 0.0 < request.timeout_s <= limits.TIMEOUT_S_MAX:
        raise Malformed(f"request.timeout_s is not between 0 and {limits.TIMEOUT_S_MAX:g}")
    body = request.body
    match body:
        case m.Begin():
            _identity("begin", body.dataset, body.profile_id, body.canonical_version)
            _bucket("begin", body.scope, body.bucket)
            _seconds("begin.max_age_s", body.freshness.max_age_s or 0.0)
        case m.AskRoot():
            _identity("root", body.dataset, body.profile_id, body.canonical_version)
            _seconds("root.max_age_s", body.max_age_s)
        case m.AskChildren():
            _nodes("children", body.bits, body.prefixes)
            if not body.bits < body.to_bits <= limits.LEAF_BITS_MAX:
                raise Malformed(f"children.to_bits is not between bits and {limits.LEAF_BITS_MAX}")
            if len(body.prefixes) << (body.to_bits - body.bits) > limits.DESCENDANTS_A_REQUEST_MAX:
                raise Malformed(f"children asks for more than {limits.DESCENDANTS_A_REQUEST_MAX} sums")
        case m.AskLists():
            _nodes("lists", body.bits, body.prefixes)
            if np.any(body.prefixes[1:] <= body.prefixes[:-1]):
                raise Malformed("lists.prefixes are not ascending")
        case m.AskSketch():
            _nodes("sketch", body.bits, body.prefixes)
            if np.any(body.prefixes[1:] <= body.prefixes[:-1]):
                raise Malformed("sketch.prefixes are not ascending")
            _number("sketch.salt", body.salt, U64_MAX)
            if not 1 <= body.cells <= limits.SKETCH_CELLS_MAX:
                raise Malformed(f"sketch.cells is not between 1 and {limits.SKETCH_CELLS_MAX}")
        case m.AskDetail():
            _array("detail.ks", body.ks, np.uint64)
            _at_most("detail.ks", body.ks, limits.KEYS_A_DETAIL_MAX)
            _digests("detail.key_digests", body.key_digests, KEY_DIGEST_BYTES)
            _digests("detail.sealed", body.sealed, KEY_DIGEST_BYTES)
            _number("detail.sampled", body.sampled, U32_MAX)
            _picked("detail.picked", body.picked)
        case m.AskAgain():
            _digest("again.memory", body.memory, MEMORY_BYTES)
            for name, bitmap in (("kept", body.kept), ("columned", body.columned)):
                _at_most(f"again.{name}", bitmap, limits.ENTRIES_MAX // 8)
            _picked("again.picked", body.picked)
        case m.AskReveal():
            _digests("reveal.key_digests", body.key_digests, KEY_DIGEST_BYTES)
            _at_most("reveal.key_digests", body.key_digests, limits.KEYS_A_DETAIL_MAX)
            text("reveal.purpose", body.purpose)
        case m.AskLetters():
            check_letters_ask(body)
        case m.AskKeep():
            _nodes("keep", body.bits, np.array([body.prefix], np.uint64))
        case m.End():
            pass


def check_reply(reply: m.Reply) -> None:
    """Raises Malformed."""
    check_exchange(reply)
    _number("reply.part", reply.part, U32_MAX)
    body = reply.body
    match body:
        case m.Progress():
            _number("progress.shards_done", body.shards_done, U32_MAX)
            _number("progress.shards_total", body.shards_total, U32_MAX)
            _number("progress.rows", body.rows, U64_MAX)
        case m.Refusal():
            text("refusal.message", body.message)
            _seconds("refusal.retry_after_s", body.retry_after_s)
        case m.Ended():
            pass
        case m.Letters():
            check_letters(body)
        case _:
            check_header(body.header)
            if body.header.sweep_id != reply.sweep_id:
                raise Malformed("header.sweep_id is of another sweep")
            _check_content(body)


def check_header(header: m.Header) -> None:
    """Raises Malformed."""
    _identity("header", header.dataset, header.profile_id, header.canonical_version)
    _digest("header.key_id", header.key_id, KEY_ID_BYTES)
    _name("header.sweep_id", header.sweep_id, SWEEP_ID_CHARS_MAX)
    text("header.position", header.position, limits.POSITION_CHARS_MAX)
    _bucket("header", header.scope, header.bucket)
    _digest("header.scope_id", header.scope_id, SCOPE_ID_BYTES if header.scope else 0)


def _check_content(body: m.Headed) -> None:
    match body:
        case m.Ready():
            _ready(body)
        case m.Rooted():
            for name, value in (("rows", body.rows), ("root_r", body.root_r), ("root_r2", body.root_r2)):
                _number(f"rooted.{name}", value, U64_MAX)
            _seconds("rooted.age_s", body.age_s)
            text("rooted.doubt", body.doubt)
        case m.Children():
            _array("children.sums", body.sums, np.uint64)
            _array("children.counts", body.counts, np.uint64)
        case m.Sketched():
            _array("sketched.sums", body.sums, np.uint64)
        case m.Lists():
            _array("lists.counts", body.counts, np.uint32)
            for name, rows in (("k", body.k), ("r", body.r), ("r2", body.r2)):
                _array(f"lists.{name}", rows, np.uint64)
            if not int(body.counts.sum(dtype=np.uint64)) == len(body.k) == len(body.r) == len(body.r2):
                raise Malformed("lists.counts do not add up to the rows")
        case m.Details():
            _details(body)
        case m.Revealed():
            _digests("revealed.keys", body.keys, KEY_DIGEST_BYTES)
            text("revealed.refused", body.refused)
        case m.Kept():
            _name("kept.name", body.name)
            _number("kept.keys", body.keys, U64_MAX)


def check_letters_ask(ask: m.AskLetters) -> None:
    """Raises Malformed."""
    text("letters.dataset", ask.dataset, limits.NAME_CHARS_MAX)
    _letter_ids("letters.ids", ask.ids)
    text("letters.reason", ask.reason)
    text("letters.operator", ask.operator, limits.NAME_CHARS_MAX)


def check_letters(body: m.Letters) -> None:
    """Raises Malformed."""
    _at_most("letters.letters", body.letters, limits.LETTERS_MAX)
    _number("letters.not_kept", body.not_kept, U64_MAX)
    _letter_ids("letters.cleared", body.cleared)
    _letter_ids("letters.unknown", body.unknown)
    for letter in body.letters:
        _letter_ids("letter.id", (letter.id,))
        text("letter.dataset", letter.dataset, limits.NAME_CHARS_MAX)
        text("letter.reason", letter.reason)
        text("letter.note", letter.note)
        text("letter.sweep_id", letter.sweep_id, SWEEP_ID_CHARS_MAX)
        _at_most("letter.columns", letter.columns, limits.LETTER_COLUMNS_MAX)
        for column in letter.columns:
            text("letter.columns", column, limits.NAME_CHARS_MAX)
        for name, micros in (("first_seen_us", letter.first_seen_us), ("last_seen_us", letter.last_seen_us)):
            if not 0 <= micros <= limits.TIME_US_MAX:
                raise Malformed(f"letter.{name} is no time")
        _number("letter.count", letter.count, U64_MAX)


def _letter_ids(field: str, ids: tuple[str, ...]) -> None:
    _at_most(field, ids, limits.LETTERS_MAX)
    for one in ids:
        if len(one) != ID_CHARS or not one.isascii() or not one.isalnum():
            raise Malformed(f"{field} is no id of a letter")


def _ready(ready: m.Ready) -> None:
    _name("ready.engine", ready.engine)
    for name, value in (("rows", ready.rows), ("root_r", ready.root_r), ("root_r2", ready.root_r2)):
        _number(f"ready.{name}", value, U64_MAX)
    _probe(ready.probe)
    _seconds("ready.scan_s", ready.scan_s)
    _seconds("ready.age_s", ready.age_s)
    _number("ready.duplicate_keys", ready.duplicate_keys, U64_MAX)
    if ready.disclosure not in DISCLOSURES:
        raise Malformed("ready.disclosure is unknown")
    for name, sentences in (("notes", ready.notes), ("faults", ready.faults)):
        _at_most(f"ready.{name}", sentences, limits.NOTES_MAX)
        for sentence in sentences:
            text(f"ready.{name}", sentence, limits.POSITION_CHARS_MAX)
    _number("dead.keyed", ready.dead.keyed, U64_MAX)
    _number("dead.keyless", ready.dead.keyless, U64_MAX)
    _at_most("dead.reasons", ready.dead.reasons, limits.REASONS_LISTED + 1)  # the last one is "other"
    for reason, count in ready.dead.reasons.items():
        text("dead.reasons", reason)
        _number("dead.reasons", count, U64_MAX)


def _probe(probe: Probe) -> None:
    shape = (TABLES, PROBE_CELLS)
    if probe.sketch.sums.shape != (*shape, 3) or probe.sketch.sums.dtype != np.uint64 or probe.sketch.salt:
        raise Malformed("ready.probe is not the words of a probe")
    if probe.pulls.shape != (*shape, 2) or probe.pulls.dtype != np.int16:
        raise Malformed("ready.pulls are not those of a probe")


def _details(details: m.Details) -> None:
    for look in details.looks:
        _look(look)
    if details.table is not None and (problem := details.table.problem()):
        raise Malformed(f"details.table: {problem}")
    if details.memory:
        _digest("details.memory", details.memory, MEMORY_BYTES)


def _picked(field: str, picked: Picked | None) -> None:
    if picked is None:
        return
    for name, bitmap in (("alone", picked.alone), ("together", picked.together)):
        _at_most(f"{field}.{name}", bitmap, limits.COLUMNS_MAX // 8)
    if not 1 <= picked.width <= COLUMN_DIGEST_BYTES:
        raise Malformed(f"{field}.width is not between 1 and {COLUMN_DIGEST_BYTES}")


def _look(look: m.Look) -> None:
    _digest("look.key_digest", look.key_digest, KEY_DIGEST_BYTES)
    for name, digests in (("indexed", look.indexed), ("fresh", look.fresh)):
        if wrong := copies.problem(digests):
            raise Malformed(f"look.{name} {wrong}")
    _digests("look.columns", look.columns, COLUMN_DIGEST_BYTES)
    _digests("look.shifted", look.shifted, COLUMN_DIGEST_BYTES)
    text("look.dead", look.dead)
    _at_most("look.merged", look.merged, limits.MERGED_MAX)
    for rule in look.merged:
        text("look.merged", rule)
    if look.version is not None and not -(2**63) <= look.version < 2**63:
        raise Malformed("look.version is not an int64")


def text(field: str, value: str, chars_max: int = limits.REASON_CHARS_MAX) -> None:
    """A text for people: short, and without control characters that a terminal would obey. Raises Malformed."""
    if len(value) > chars_max:
        raise Malformed(f"{field} is longer than {chars_max} characters")
    if not value.isprintable():
        raise Malformed(f"{field} has control characters")


def _name(field: str, value: str, chars_max: int = limits.NAME_CHARS_MAX) -> None:
    if not value:
        raise Malformed(f"{field} is empty")
    text(field, value, chars_max)


def _identity(field: str, dataset: str, profile_id: bytes, canonical_version: int) -> None:
    _name(f"{field}.dataset", dataset)
    _digest(f"{field}.profile_id", profile_id, PROFILE_ID_BYTES)
    _number(f"{field}.canonical_version", canonical_version, U32_MAX)


def _bucket(field: str, scope: str, bucket: bytes) -> None:
    """Both or neither."""
    text(f"{field}.scope", scope, limits.NAME_CHARS_MAX)
    if bool(scope) != bool(bucket) or len(bucket) > limits.BUCKET_BYTES_MAX:
        raise Malformed(f"{field}.bucket is not one of a scope, of at most {limits.BUCKET_BYTES_MAX} bytes")


def _nodes(field: str, bits: int, prefixes: NDArray[np.uint64]) -> None:
    _number(f"{field}.bits", bits, limits.LEAF_BITS_MAX)
    _array(f"{field}.prefixes", prefixes, np.uint64)
    _at_most(f"{field}.prefixes", prefixes, limits.NODES_A_REQUEST_MAX)
    if len(prefixes) and int(prefixes.max()) >> bits:
        raise Malformed(f"{field}.prefixes are not below 2^bits")


def _number(field: str, value: int, maximum: int) -> None:
    if not 0 <= value <= maximum:
        raise Malformed(f"{field} is not between 0 and {maximum}")


def _seconds(field: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0.0):
        raise Malformed(f"{field} is not a number of seconds")


def _at_most(field: str, values: Sized, maximum: int) -> None:
    if len(values) > maximum:
        raise Malformed(f"{field} has more than {maximum} entries")


def _digest(field: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise Malformed(f"{field} is not {size} bytes")


def _digests(field: str, values: Iterable[bytes], size: int) -> None:
    for value in values:
        _digest(field, value, size)


def _array(field: str, values: NDArray[np.unsignedinteger], dtype: type[np.unsignedinteger]) -> None:
    if values.ndim != 1 or values.dtype != dtype:
        raise Malformed(f"{field} is not a flat array of {np.dtype(dtype).name}")
