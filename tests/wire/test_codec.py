"""Messages and their bytes: round trips, golden bytes, and what hostile bytes may do (nothing)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wire_samples import HEADER, U64, decode, encode, samples
from wire_strategies import from_agent, plain, reply_bodies, request_bodies, to_agent

from paritree.core import limits
from paritree.core import messages as m
from paritree.core.errors import InvariantBroken, PeerError
from paritree.wire import codec
from paritree.wire.v1 import agent_pb2 as pb

GOLDEN = Path(__file__).with_name("golden-v3.json")
SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(from_agent)
def test_what_an_agent_says_comes_back_equal(message: Any) -> None:
    assert plain(codec.decode_from_agent(codec.encode_from_agent(message))) == plain(message)


@SLOW
@given(to_agent)
def test_what_a_coordinator_says_comes_back_equal(message: Any) -> None:
    assert plain(codec.decode_to_agent(codec.encode_to_agent(message))) == plain(message)


@SLOW
@given(st.one_of(request_bodies, reply_bodies), st.integers(0, 2**64 - 1))
def test_the_envelope_is_no_larger_than_allowed_for(body: Any, number: int) -> None:
    sweep_id = body.header.sweep_id if hasattr(body, "header") else "f" * 64
    if isinstance(body, m.RequestBody):
        whole = codec.encode_to_agent(m.Request(number, sweep_id, body, 3600.5))
    else:
        whole = codec.encode_from_agent(m.Reply(number, sweep_id, 2**32 - 1, True, body))
    assert codec.body_bytes(body) <= len(whole) <= codec.body_bytes(body) + codec.ENVELOPE_BYTES_MAX


@SLOW
@given(request_bodies, request_bodies)
def test_fingerprints_tell_requests_apart(one: Any, other: Any) -> None:
    assert (codec.fingerprint(one) == codec.fingerprint(other)) == (plain(one) == plain(other))


def shown(data: bytes) -> str:
    """Short messages in full, long ones by their digest."""
    return data.hex() if len(data) < 2_000 else f"blake2b-16 {hashlib.blake2b(data, digest_size=16).hexdigest()}"


def test_the_bytes_are_those_of_version_3() -> None:
    """A change of these bytes is a change of the protocol: add fields, or raise PROTOCOL_VERSION."""
    golden = json.loads(GOLDEN.read_text())
    assert golden["protocol"] == m.PROTOCOL_VERSION
    assert {name: shown(encode(message)) for name, message in samples().items()} == golden["messages"]
    for message in samples().values():
        assert plain(decode(message, encode(message))) == plain(message)


def test_arrays_are_little_endian_whatever_the_order_in_memory() -> None:
    big = np.array([1, 2], ">u8").astype(">u8")
    assert big.tobytes() != big.astype("<u8").tobytes()
    data = codec.encode_from_agent(m.Reply(0, "s", 0, True, m.Children(replace(HEADER, sweep_id="s"), U64)))
    assert U64.astype("<u8").tobytes() in data
    decoded = codec.decode_from_agent(data)
    assert isinstance(decoded, m.Reply)
    assert isinstance(decoded.body, m.Children)
    assert decoded.body.sums.dtype == np.uint64
    assert not decoded.body.sums.flags.writeable


def test_a_view_with_gaps_is_sent_as_what_it_shows() -> None:
    every_second = np.arange(8, dtype=np.uint64)[::2]
    decoded = codec.decode_from_agent(
        codec.encode_from_agent(m.Reply(0, "s-1", 0, True, m.Children(HEADER, every_second)))
    )
    assert decoded.body.sums.tolist() == [0, 2, 4, 6]  # type: ignore[union-attr]


@pytest.mark.parametrize("name", samples())
def test_mutated_messages_are_read_or_refused(name: str) -> None:
    """Prefixes, changed bytes (all in short messages) and random changes give a valid message or PeerError."""
    message, rng = samples()[name], random.Random(name)
    good = encode(message)
    places = [
        *range(min(len(good), 600)),
        *range(600, len(good) - 600, 97),
        *range(max(600, len(good) - 600), len(good)),
    ]
    tries = [good[:cut] for cut in places]
    tries += [good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :] for at in places]
    tries += [_shuffled(good, rng) for _ in range(250)]
    refused: list[str] = []
    for data in tries:
        try:
            read = decode(message, data)
            assert plain(decode(read, encode(read))) == plain(read)
        except PeerError as error:
            refused.append(error.message)
    assert len(refused) > len(tries) // 20
    assert max(map(len, refused)) < 200  # nothing of what was received is repeated


def _shuffled(good: bytes, rng: random.Random) -> bytes:
    data = bytearray(good)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif choice == 1:
            del data[at : at + rng.randrange(1, 9)]
        elif choice == 2:
            data[at:at] = data[rng.randrange(len(data) + 1) :][:16]
        elif data:
            data[rng.randrange(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(data)


@SLOW
@given(st.binary(max_size=400))
def test_random_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (codec.decode_from_agent, codec.decode_to_agent):
        with contextlib.suppress(PeerError):
            read(data)


def reply(**body: Any) -> bytes:
    return pb.AgentMessage(reply=pb.Reply(exchange=1, sweep_id="s-1", last=True, **body)).SerializeToString()


def asked(**body: Any) -> bytes:
    request = pb.Request(**{"exchange": 1, "sweep_id": "s-1", "timeout_s": 1.0, **body})
    return pb.CoordinatorMessage(request=request).SerializeToString()


H = pb.Header(dataset="d", profile_id=b"p" * 16, canonical_version=1, key_id=b"k" * 8, sweep_id="s-1")
OTHER_SWEEP = pb.Header(dataset="d", profile_id=b"p" * 16, canonical_version=1, key_id=b"k" * 8, sweep_id="s-2")
READY: dict[str, Any] = {
    "header": H,
    "engine": "e",
    "probe": bytes(4 * 96 * 24),
    "pulls": bytes(4 * 96 * 4),
    "disclosure": "tokens",
}
P8 = bytes(8)


def table(**fields: Any) -> bytes:
    """Details with a table of those fields."""
    return reply(details=pb.Details(header=H, table=pb.LookTable(**{"width": 8, **fields})))


def noticed(**fields: Any) -> bytes:
    return pb.AgentMessage(notice=pb.Notice(**fields)).SerializeToString()


HOSTILE_REPLIES: dict[str, tuple[bytes, str]] = {
    "no body": (reply(), "no body"),
    "empty message": (b"", "no body"),
    "a notice of nothing": (noticed(), "dataset is empty"),
    "a notice that ends before it begins": (noticed(dataset="o", first_us=2, last_us=1), "no span of time"),
    "a notice from after the year 9999": (noticed(dataset="o", last_us=2**63), "no span of time"),
    "a notice at a place with a bell": (noticed(dataset="o", position="\a"), "control characters"),
    "a notice at too long a place": (noticed(dataset="o", position="p" * 4_097), "longer than 4096"),
    "a root of no age": (reply(rooted=pb.Rooted(header=H, age_s=float("nan"))), "age_s is not a number"),
    "a long doubt": (reply(rooted=pb.Rooted(header=H, doubt="d" * 301)), "longer than 300"),
    "no sweep": (
        pb.AgentMessage(reply=pb.Reply(ended=pb.Ended())).SerializeToString(),
        "sweep_id is empty",
    ),
    "long sweep": (
        pb.AgentMessage(reply=pb.Reply(ended=pb.Ended(), sweep_id="s" * 65)).SerializeToString(),
        "longer than 64",
    ),
    "control characters": (
        pb.AgentMessage(reply=pb.Reply(ended=pb.Ended(), sweep_id="a\x1b[2J")).SerializeToString(),
        "control characters",
    ),
    "another sweep": (reply(children=pb.Children(header=OTHER_SWEEP)), "another sweep"),
    "no header": (reply(children=pb.Children()), "header.dataset is empty"),
    "short profile": (reply(children=pb.Children(header=pb.Header(dataset="d"))), "profile_id is not 16"),
    "sums of 7 bytes": (reply(children=pb.Children(header=H, sums=bytes(7))), "multiple of 8"),
    "counts of 3 bytes": (reply(lists=pb.Lists(header=H, counts=bytes(3))), "multiple of 4"),
    "too few rows": (reply(lists=pb.Lists(header=H, counts=b"\2\0\0\0", k=P8, r=P8, r2=P8)), "do not add up"),
    "too many rows": (reply(lists=pb.Lists(header=H, k=P8, r=P8, r2=P8)), "do not add up"),
    "uneven rows": (reply(lists=pb.Lists(header=H, counts=b"\1\0\0\0", k=P8, r=P8)), "do not add up"),
    "huge counts": (reply(lists=pb.Lists(header=H, counts=b"\xff" * 4000, k=P8, r=P8, r2=P8)), "do not add up"),
    "counts that wrap": (reply(lists=pb.Lists(header=H, counts=b"\xff" * 4 + b"\1\0\0\0")), "do not add up"),
    "a small probe": (reply(ready=pb.Ready(**{**READY, "probe": bytes(4 * 95 * 24)})), "size of a probe"),
    "a large probe": (reply(ready=pb.Ready(**{**READY, "probe": bytes(4 * 96 * 24 + 1)})), "size of a probe"),
    "no pulls": (reply(ready=pb.Ready(**{**READY, "pulls": b""})), "size of a probe"),
    "a sketch of 9 bytes": (reply(sketched=pb.Sketched(header=H, sums=bytes(9))), "multiple of 8"),
    "unknown disclosure": (reply(ready=pb.Ready(**{**READY, "disclosure": "all"})), "disclosure is unknown"),
    "no number of seconds": (reply(ready=pb.Ready(**READY, scan_s=float("nan"))), "not a number of seconds"),
    "negative age": (reply(ready=pb.Ready(**READY, age_s=-1.0)), "not a number of seconds"),
    "too many reasons": (
        reply(ready=pb.Ready(**READY, dead=pb.DeadLetters(reasons={str(n): 1 for n in range(52)}))),
        "more than 51 entries",
    ),
    "too many notes": (reply(ready=pb.Ready(**READY, notes=["n"] * 257)), "more than 256 entries"),
    "long note": (reply(ready=pb.Ready(**READY, notes=["n" * 4097])), "longer than 4096"),
    "no engine": (reply(ready=pb.Ready(**{**READY, "engine": ""})), "engine is empty"),
    "short key digest": (reply(details=pb.Details(header=H, looks=[pb.Look(key_digest=b"x" * 15)])), "not 16 bytes"),
    "many empty looks": (reply(details=pb.Details(header=H, looks=[pb.Look()] * 300_000)), "not 16 bytes"),
    "row digests of 17 bytes": (
        reply(details=pb.Details(header=H, looks=[pb.Look(key_digest=b"x" * 16, fresh=b"y" * 17)])),
        "multiple of 16",
    ),
    "fresh and unchanged": (
        reply(details=pb.Details(header=H, looks=[pb.Look(key_digest=b"x" * 16, fresh=b"y" * 16, unchanged=True)])),
        "said to be unchanged",
    ),
    "unsorted row digests": (
        reply(details=pb.Details(header=H, looks=[pb.Look(key_digest=b"x" * 16, indexed=b"b" * 16 + b"a" * 16)])),
        "not sorted",
    ),
    "column digests of 9 bytes": (
        reply(details=pb.Details(header=H, looks=[pb.Look(key_digest=b"x" * 16, columns=b"y" * 9)])),
        "multiple of 8",
    ),
    "more names than a table has": (table(names=16_385), "more than 16384 names"),
    "a short bitmap": (table(names=9, plain=b"\1"), "a bit a name"),
    "bits beyond the names": (table(names=3, same=b"\x08"), "a bit a name"),
    "plain and the same": (table(names=1, plain=b"\1", same=b"\1", tails=P8, digests=P8 * 2), "contradict"),
    "columns of nothing": (table(names=1, columned=b"\1"), "contradict"),
    "too few tails": (table(names=2, plain=b"\3", tails=P8, digests=P8 * 4), "tails"),
    "whole digests for halves": (table(names=1, plain=b"\1", tails=P8, digests=P8 * 2, halves=True), "digests"),
    "half a version": (table(names=1, plain=b"\1", tails=P8, digests=P8 * 2, versions=b"1234"), "versions"),
    "whole without a version": (table(names=1, plain=b"\1", tails=P8, digests=P8 * 2, whole=b"\1"), "left out"),
    "whole of nothing": (table(names=1, whole=b"\1"), "contradict"),
    "wide column digests": (table(names=1, width=9), "1 to 8 bytes"),
    "too many column digests": (table(names=1, same=b"\1", columned=b"\1", columns=P8, fields=2**31), "marked rows"),
    "a short memory": (reply(details=pb.Details(header=H, memory=b"m")), "memory is not 16 bytes"),
    "a key revealed twice": (
        reply(revealed=pb.Revealed(header=H, keys=[pb.RevealedKey(key_digest=b"x" * 16, json="1")] * 2)),
        "twice",
    ),
    "unknown refusal": (reply(refusal=pb.Refusal(code="weather" * 1000)), "refusal.code is unknown"),
    "busy for no time": (reply(refusal=pb.Refusal(code="busy", retry_after_s=float("nan"))), "retry_after_s"),
    "long refusal": (reply(refusal=pb.Refusal(code="busy", message="m" * 301)), "longer than 300"),
    "hello without a region": (pb.AgentMessage(hello=pb.Hello(agent="a", instance="i")).SerializeToString(), "region"),
    "hello with a dataset twice": (
        pb.AgentMessage(
            hello=pb.Hello(
                region="r",
                agent="a",
                instance="i",
                datasets=[pb.DatasetOffer(dataset="d", profile_id=b"p" * 16, key_id=b"k" * 8)] * 2,
            )
        ).SerializeToString(),
        "names a dataset twice",
    ),
    "hello with too many datasets": (
        pb.AgentMessage(
            hello=pb.Hello(region="r", agent="a", instance="i", datasets=[pb.DatasetOffer()] * 10_001)
        ).SerializeToString(),
        "more than 10000 entries",
    ),
}
HOSTILE_REQUESTS: dict[str, tuple[bytes, str]] = {
    "no body": (asked(), "no body"),
    "no time": (asked(end=pb.End(), timeout_s=0.0), "timeout_s"),
    "endless time": (asked(end=pb.End(), timeout_s=float("inf")), "timeout_s"),
    "no number": (asked(end=pb.End(), timeout_s=float("nan")), "timeout_s"),
    "prefix outside of its bits": (
        asked(lists=pb.AskLists(bits=3, prefixes=b"\x08" + bytes(7))),
        "not below 2^bits",
    ),
    "too deep": (asked(lists=pb.AskLists(bits=41)), "between 0 and 40"),
    "descending prefixes": (asked(lists=pb.AskLists(bits=3, prefixes=b"\x02" + bytes(7) + bytes(8))), "ascending"),
    "one prefix twice": (asked(lists=pb.AskLists(bits=3, prefixes=bytes(16))), "ascending"),
    "too many prefixes": (asked(lists=pb.AskLists(bits=40, prefixes=bytes(8 * 65_537))), "more than 65536"),
    "children upwards": (asked(children=pb.AskChildren(bits=4, to_bits=4)), "to_bits"),
    "too many children": (
        asked(children=pb.AskChildren(bits=1, to_bits=40, prefixes=bytes(8))),
        "asks for more than 134217728 sums",
    ),
    "no cells": (asked(sketch=pb.AskSketch(prefixes=P8)), "cells is not between 1 and"),
    "too many cells": (asked(sketch=pb.AskSketch(cells=(1 << 20) + 1, prefixes=P8)), "cells is not between 1 and"),
    "sketch of one node twice": (asked(sketch=pb.AskSketch(cells=96, bits=3, prefixes=bytes(16))), "ascending"),
    "sketch outside of its bits": (asked(sketch=pb.AskSketch(cells=9, prefixes=b"\1" + bytes(7))), "not below 2^bits"),
    "too many keys": (asked(detail=pb.AskDetail(ks=bytes(8 * 16_385))), "more than 16384"),
    "key digests of 15 bytes": (asked(detail=pb.AskDetail(key_digests=bytes(15))), "multiple of 16"),
    "a key sealed twice": (
        asked(detail=pb.AskDetail(sealed=[pb.SealedKey(key_digest=b"x" * 16, ciphertext=b"c")] * 2)),
        "twice",
    ),
    "no memory": (asked(again=pb.AskAgain(kept=b"\1")), "memory is not 16 bytes"),
    "too many entries": (asked(again=pb.AskAgain(memory=b"m" * 16, kept=bytes(8_193))), "more than 8192 entries"),
    "no width": (asked(detail=pb.AskDetail(picked=pb.Picked())), "width is not between 1 and 8"),
    "too many columns": (asked(detail=pb.AskDetail(picked=pb.Picked(width=8, alone=bytes(8_193)))), "more than 8192"),
    "long purpose": (asked(reveal=pb.AskReveal(purpose="p" * 301)), "longer than 300"),
    "nameless coordinator": (
        pb.CoordinatorMessage(welcome=pb.Welcome(protocol=1)).SerializeToString(),
        "coordinator is empty",
    ),
    "a watched dataset without a name": (
        pb.CoordinatorMessage(welcome=pb.Welcome(protocol=3, coordinator="c", watched=[""])).SerializeToString(),
        "watched is empty",
    ),
    "a root of no age": (
        asked(root=pb.AskRoot(dataset="o", profile_id=bytes(16), max_age_s=float("nan"))),
        "max_age_s is not a number",
    ),
    "cancel without a sweep": (pb.CoordinatorMessage(cancel=pb.Cancel(exchange=1)).SerializeToString(), "sweep_id"),
}


@pytest.mark.parametrize("case", HOSTILE_REPLIES)
def test_a_hostile_reply_is_refused(case: str) -> None:
    data, reason = HOSTILE_REPLIES[case]
    assert len(data) <= limits.MESSAGE_BYTES_MAX
    tracemalloc.start()
    try:
        with pytest.raises(PeerError, match="a message cannot be read") as caught:
            codec.decode_from_agent(data)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert reason in caught.value.message


@pytest.mark.parametrize("case", HOSTILE_REQUESTS)
def test_a_hostile_request_is_refused(case: str) -> None:
    data, reason = HOSTILE_REQUESTS[case]
    with pytest.raises(PeerError, match="a message cannot be read") as caught:
        codec.decode_to_agent(data)
    assert reason in caught.value.message


UNSENDABLE: dict[str, Any] = {
    "another dtype": m.Reply(0, "s-1", 0, True, m.Children(HEADER, U64.astype(np.int64))),  # type: ignore[arg-type]
    "another shape": m.Reply(0, "s-1", 0, True, m.Children(HEADER, U64.reshape(3, 1))),
    "too large": m.Reply(0, "s-1", 0, True, m.Children(HEADER, np.zeros(1 << 17, np.uint64))),
    "another sweep": m.Reply(0, "s-2", 0, True, m.Children(HEADER, U64)),
    "a lone surrogate": m.Reply(0, "s-1", 0, True, m.Revealed(HEADER, {b"d" * 16: "\ud800"})),
    "negative rows": m.Reply(0, "s-1", 0, True, m.Progress(0, 0, -1)),
    "a list too long": m.Request(0, "s-1", m.AskLists(3, np.array([9], np.uint64)), 1.0),
    "no time": m.Request(0, "s-1", m.End(), 0.0),
    "nameless": m.Hello("", "a", "i", ()),
}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_what_the_other_side_would_refuse_is_not_sent(case: str) -> None:
    with pytest.raises(InvariantBroken):
        encode(UNSENDABLE[case])


def test_fits_draws_the_line_where_the_codec_does() -> None:
    sums = (limits.MESSAGE_BYTES_MAX - codec.ENVELOPE_BYTES_MAX - 128) // 8
    fitting, large = m.Children(HEADER, np.zeros(sums, np.uint64)), m.Children(HEADER, np.zeros(1 << 17, np.uint64))
    assert codec.fits(fitting)
    assert len(codec.encode_from_agent(m.Reply(2**64 - 1, "s-1", 2**32 - 1, True, fitting))) <= limits.MESSAGE_BYTES_MAX
    assert not codec.fits(large)


def test_texts_for_people_are_cut_and_put_on_one_line() -> None:
    message = m.Refusal(m.RefusalCode.SOURCE, "line one\n  line two\x1b[2J " + "x" * 400)
    decoded = codec.decode_from_agent(codec.encode_from_agent(m.Reply(0, "s-1", 0, True, message)))
    text = decoded.body.message  # type: ignore[union-attr]
    assert text.startswith("line one line two [2J x")
    assert len(text) == limits.REASON_CHARS_MAX
    assert text.endswith("…")
    dead = m.DeadLetters(2, 0, {"a\nb": 1, "a b": 2})
    ready = samples()["ready"]
    sent = replace(ready, body=replace(ready.body, dead=dead))
    decoded = codec.decode_from_agent(codec.encode_from_agent(sent))
    assert decoded.body.dead.reasons == {"a b": 3}  # type: ignore[union-attr]
