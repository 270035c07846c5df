"""The stream between agents and coordinator, operators' requests, sketches, and keys that other agents have sealed."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from parser import Parser
from wire_samples import U64, encode, is_from_agent, samples

from coordinator.asking import RegionLost
from coordinator.exchanges import nodes_answer
from edge_agent.seal import seal, unseal
from paritree.core import messages as m
from paritree.core.deadletters import LetterAction
from paritree.core.decode import decode
from paritree.core.digest import DatasetKeys
from paritree.core.display import key_to_json, key_values
from paritree.core.errors import InvariantBroken, PeerError, Unreadable
from paritree.core.limits import MESSAGE_BYTES_MAX
from paritree.core.profile import Profile
from paritree.core.sketch import PROBE_CELLS, TABLES, WORDS, Sketch, empty_sketch, sketch_of
from paritree.core.types import parse_type
from paritree.wire import codec, control
from paritree.wire.answer import AnswerCheck

LENGTH: Final = struct.Struct(">I")


def from_agents() -> list[bytes]:
    return [encode(message) for message in samples().values() if is_from_agent(message)]


def to_agents() -> list[bytes]:
    return [encode(message) for message in samples().values() if not is_from_agent(message)]


def from_agent(data: bytes) -> None:
    codec.decode_from_agent(data)


def to_agent(data: bytes) -> None:
    codec.decode_to_agent(data)


def nested(fields: Sequence[int], content: bytes) -> bytes:
    """Content inside of messages inside of each other, the outermost field first."""
    for number in reversed(fields):
        length, size = b"", len(content)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        tag = number << 3 | 2
        tags = bytes([tag]) if tag < 128 else bytes([tag & 127 | 128, tag >> 7])
        content = tags + length + bytes([size]) + content
    return content


def wild_from_agents() -> list[bytes]:
    """As many empty entries as a message has room for, in everything that is repeated."""
    many = (MESSAGE_BYTES_MAX - 64) // 2
    repeated = ((1, 5), (2, 14, 2), (2, 15, 2), (2, 19, 1), (2, 19, 3), (2, 11, 16), (2, 11, 13, 3))
    return [
        nested(path[:-1], bytes([path[-1] << 3 | 2, 0] if path[-1] < 16 else [0x82, 1, 0]) * many) for path in repeated
    ]


def wild_to_agents() -> list[bytes]:
    many = (MESSAGE_BYTES_MAX - 64) // 2
    return [nested((2, 13), bytes([3 << 3 | 2, 0]) * many), nested((2, 17), bytes([3 << 3 | 2, 0]) * many)]


# --- operators --------------------------------------------------------------------------------------------------------

DECODERS: Final = (
    control.decode_sweep,
    control.decode_event,
    control.decode_piece,
    control.decode_status,
    control.decode_findings,
    control.decode_steer,
    control.decode_letters,
)


def operators() -> list[bytes]:
    """Behind the number of its decoder."""
    pieces = list(control.pieces({"report": 1, "verdict": "equal", "findings": [{"key": {"id": 1}}]}))
    bodies = [
        control.encode_sweep(control.SweepOrder("orders", ("eu", "us"), "job", "audit", 2.5, 100)),
        control.encode_event(control.SweepEvent("s1", control.SweepProgress("eu", "scan", 1, 2, 300, 1.5, 2.5))),
        control.encode_piece(pieces[0]),
        control.encode_status(control.StatusOrder("orders")),
        control.encode_findings(control.FindingsOrder("s1", "orders", 10, 20)),
        control.encode_steer(control.SteerOrder("s1", "pause")),
        control.encode_letters(control.LettersOrder(LetterAction.DISCARD, "orders", "eu", ("A" * 16,), "why", True, 5)),
    ]
    return [bytes([number]) + body for number, body in enumerate(bodies)]


def parse_operators(data: bytes) -> None:
    number = data[0] if data else 0
    decoded = DECODERS[number % len(DECODERS)](data[1:])
    if isinstance(decoded, control.JsonPiece):
        control.joined([decoded.text])


# --- whole answers ----------------------------------------------------------------------------------------------------

QUESTIONS: Final = (
    m.AskChildren(2, 3, np.array([1, 3], np.uint64)),
    m.AskSketch(2, 5, 0, np.zeros(1, np.uint64)),
    m.AskLists(0, np.zeros(1, np.uint64)),
    m.AskLetters("orders", LetterAction.LIST),
)


def answers() -> list[bytes]:
    """The number of the question, then every part behind its length."""
    header = samples()["children"].body.header
    words = np.arange(2 * TABLES * WORDS, dtype=np.uint64)
    bodies: list[list[m.ReplyBody]] = [
        [m.Progress(1, 2, 3), m.Children(header, U64[:1]), m.Children(header, U64)],
        [m.Sketched(header, words[:5]), m.Sketched(header, words[5:])],
        [m.Lists(header, np.array([3], np.uint32), U64, U64, U64)],
        [samples()["letters"].body],
    ]
    made = []
    for question, parts in enumerate(bodies):
        replies = [m.Reply(7, "s-1", n, n == len(parts) - 1, body) for n, body in enumerate(parts)]
        encoded = [codec.encode_from_agent(reply) for reply in replies]
        made.append(bytes([question]) + b"".join(LENGTH.pack(len(part)) + part for part in encoded))
    return made


def parse_answers(data: bytes) -> None:
    question = QUESTIONS[(data[0] if data else 0) % len(QUESTIONS)]
    check = AnswerCheck(m.Request(7, "s-1", question, 60.0))
    parts: list[m.ReplyBody] = []
    at = 1
    while at + LENGTH.size <= len(data):
        (size,) = LENGTH.unpack_from(data, at)
        message = codec.decode_from_agent(data[at + LENGTH.size : at + LENGTH.size + size])
        at += LENGTH.size + min(size, len(data))
        if isinstance(message, m.Reply):
            body = check.accept(message)
            if body is not None and not isinstance(body, m.Progress | m.Refusal):
                parts.append(body)
    if check.complete and parts and not isinstance(question, m.AskLetters):
        nodes_answer("eu", question, parts)


# --- sketches ---------------------------------------------------------------------------------------------------------


def sketches() -> list[bytes]:
    """A probe of zeros beside words: differences that solve, and some that are too many."""
    rng = np.random.default_rng(1)
    made = []
    for cells, keys in ((1, 0), (2, 1), (16, 10), (16, 60), (PROBE_CELLS, 100)):
        k, r = (rng.integers(0, 1 << 64, keys, np.uint64) for _ in range(2))
        made.append(sketch_of(k, r, cells, 5).sums.astype("<u8").tobytes())
    return made


def parse_sketches(data: bytes) -> None:
    cells = len(data) // (8 * TABLES * WORDS)
    if not cells:
        return
    words = np.frombuffer(data, "<u8", cells * TABLES * WORDS).astype(np.uint64)
    decoded = decode([empty_sketch(4, 0), Sketch(5, words.reshape(TABLES, cells, WORDS))])
    assert len(decoded.deltas) <= TABLES * (cells + 4)


# --- keys -------------------------------------------------------------------------------------------------------------

KINDS: Final = {
    "a": "int",
    "b": "decimal(2)",
    "c": "text",
    "d": "timestamp",
    "e": "list<struct{x: int, y: json}>",
    "f": "map<text, inet>",
    "g": "duration",
    "h": "uuid",
}
PROFILE: Final = Profile("orders", tuple(KINDS), {name: parse_type(kind) for name, kind in KINDS.items()})
KEYS: Final = DatasetKeys.of(bytes(32), "orders")


def locators() -> list[bytes]:
    """Keys of one profile as a region seals them; the sealed form itself is the last."""
    from paritree.core.canonical import RowEncoder

    encoder = RowEncoder(PROFILE)
    rows = [
        [1, "1.50", "x", 0, [{"x": 1, "y": '{"a": [1.5, null]}'}], [("k", "::1")], (1, 2, 3), bytes(16)],
        [-(1 << 70), "0", "é" * 40, 1 << 62, [], [], (0, 0, 0), b"u" * 16],
    ]
    made = []
    for row in rows:
        packed = {name: encoder.value_bytes(name, value) for name, value in zip(KINDS, row, strict=True)}
        made.append(encoder.key_bytes(packed))
    return [*made, seal(KEYS, b"d" * 16, made[0])]


def parse_locators(data: bytes) -> None:
    """What is sealed cannot be forged, so both are tried: the seal on any bytes, the key behind it on any bytes."""
    with contextlib.suppress(PeerError):
        unseal(KEYS, b"d" * 16, data)
    values = key_values(data, PROFILE)
    assert len(values) == len(KINDS)
    key_to_json(data, PROFILE)


def _every(names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(name.encode() for name in names)


PARSERS: Final = (
    Parser("messages-from-agents", from_agents, from_agent, (Unreadable,), wild=wild_from_agents),
    Parser("messages-to-agents", to_agents, to_agent, (Unreadable,), wild=wild_to_agents),
    Parser("operators", operators, parse_operators, (PeerError,), tokens=_every(("orders", "list", "pause", "s1"))),
    Parser("answers", answers, parse_answers, (PeerError, RegionLost)),
    Parser("sketches", sketches, parse_sketches, ()),
    Parser("locators", locators, parse_locators, (InvariantBroken,)),
)
