"""One message of each kind, and its bytes on the stream."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from paritree.core import messages as m
from paritree.core.copies import folded
from paritree.core.deadletters import Letter, LetterAction, LetterKind, LetterState
from paritree.core.looktable import LookTable, Picked
from paritree.core.sketch import probe_of
from paritree.wire import codec
from paritree.wire.frames import Cancel, Notice, Welcome

HEADER = m.Header("orders", bytes(range(16)), 1, bytes(range(8)), "s-1", "lsn 0/16B3748")
U64 = np.array([1, 2**63, 2**64 - 1], np.uint64)
PICKED = Picked(b"\x02", b"\x05", 3)
LOCATED = Picked(b"\x02", b"\x05", 3, located=True)
PROBE = probe_of(U64, U64[::-1])
LETTER = Letter(
    *("A" * 16, "orders", LetterKind.ROW, "name: NUL in text", ("name",), True, LetterState.DISCARDED, 1, 2, "s-1", 3),
    note="ops: a test row",
)


def asks() -> dict[str, Any]:
    """One request of each kind."""
    return {
        "begin": m.Begin("orders", bytes(range(16)), 1),
        "begin_young": m.Begin("orders", bytes(range(16)), 1, freshness=m.Freshness(0.5, False)),
        "begin_bucket": m.Begin("orders", bytes(range(16)), 1, "month", b"b" * 32),
        "ask_children": m.AskChildren(12, 20, np.array([5, 4095], np.uint64)),
        "ask_children_counted": m.AskChildren(0, 12, np.array([0], np.uint64), counts=True),
        "ask_lists": m.AskLists(20, np.array([0, 2**20 - 1], np.uint64)),
        "ask_sketch": m.AskSketch(192, 2**64 - 1, 4, np.array([5, 15], np.uint64)),
        "ask_detail": m.AskDetail(U64, (b"d" * 16,), {b"d" * 16: b"cipher"}, True, True),
        "ask_detail_in_columns": m.AskDetail(U64, columns=True, picked=PICKED, sampled=2, versions=True, halves=True),
        "ask_again": m.AskAgain(b"m" * 16, b"\x05", b"\x04", PICKED, False),
        "ask_again_located": m.AskAgain(b"m" * 16, b"\x05", b"\x04", LOCATED),
        "ask_reveal": m.AskReveal((b"d" * 16,), "audit 7"),
        "ask_letters": m.AskLetters("orders", LetterAction.DISCARD, ("A" * 16,), "a test row", "ops"),
        "ask_keep": m.AskKeep(12, 4095),
        "ask_root": m.AskRoot("orders", bytes(range(16)), 1, 2.5),
        "end": m.End(),
        "rest": m.End(keep=True),
    }


def samples() -> dict[str, Any]:
    """One message of each kind."""
    columns = (b"c" * 8, b"e" * 8)
    look = m.Look(b"d" * 16, (b"a" * 16, b"b" * 16), (b"f" * 16,), "", columns, -5, b"sealed", (b"g" * 8,))
    bodies: dict[str, Any] = {
        "progress": m.Progress(1, 2, 300),
        "ready": m.Ready(
            HEADER,
            "postgresql",
            3,
            2**64 - 1,
            5,
            PROBE,
            True,
            1.5,
            0.25,
            2,
            m.DeadLetters(1, 2, {"NUL in text": 3}),
            "keys",
            True,
            ("a note",),
        ),
        "ready_in_doubt": m.Ready(HEADER, "sqlite", 0, 0, 0, PROBE, False, 0.0, 3.5, faults=("a flipped byte",)),
        "rooted": m.Rooted(HEADER, 3, 2**64 - 1, 5, 0.25, True),
        "rooted_in_doubt": m.Rooted(HEADER, 0, 0, 0, 3.5, False, "a flipped byte"),
        "children": m.Children(HEADER, U64),
        "children_counted": m.Children(HEADER, U64, U64[::-1]),
        "sketched": m.Sketched(HEADER, U64),
        "lists": m.Lists(HEADER, np.array([1, 0, 2], np.uint32), U64, U64, U64),
        "details": m.Details(
            HEADER, (look, m.Look(b"e" * 16, (b"a" * 16,), (b"a" * 16,)), m.Look(b"f" * 16, dead="NaN"))
        ),
        "looks_in_columns": m.Details(HEADER, (), _table(), b"m" * 16),
        "looks_again": m.Details(
            HEADER, (), LookTable(9, same=b"\xfe\x01", columned=b"\x02\x00", columns=b"c" * 6, fields=2, width=3)
        ),
        "versions_of_whole_rows": m.Details(
            HEADER,
            (m.Look(b"d" * 16, (b"a" * 16,), version=7, whole=True),),
            LookTable(1, b"\1", b"t" * 8, b"d" * 16, versions=b"v" * 8, whole=b"\1"),
        ),
        "forgotten": m.Details(HEADER, (), forgotten=True),
        "revealed": m.Revealed(HEADER, {b"d" * 16: '{"id": 37}'}, "the rest is not granted"),
        "letters": m.Letters(
            (LETTER, Letter("B" * 16, "", LetterKind.MESSAGE, "no body")), 3, ("C" * 16,), ("D" * 16,)
        ),
        **endings(),
    }
    return {
        "hello": m.Hello("eu", "a1", "i1", (m.DatasetOffer("orders", bytes(range(16)), 1, bytes(range(8))),)),
        "hello_of_a_warm_index": m.Hello("eu", "a1", "i1", (m.DatasetOffer("o", b"p" * 16, 1, b"k" * 8, True, True),)),
        "welcome": Welcome("c1"),
        "welcome_of_a_watch": Welcome("c1", watched=("orders", "users")),
        "notice": Notice("orders", 3, 1, 2, "lsn 0/16B3748"),
        "notice_without_times": Notice("orders", 2**64 - 1),
        "cancel": Cancel(7, "s-1"),
        **{name: m.Reply(7, "s-1", 0, True, body) for name, body in bodies.items()},
        **{name: m.Request(7, "s-1", body, 60.0) for name, body in asks().items()},
        "fenced_end": m.Request(7, "s-1", m.End(), 60.0, 2**63),
    }


def endings() -> dict[str, Any]:
    """What ends an exchange, and answers about buckets and copies."""
    return {
        "refusal": m.Refusal(m.RefusalCode.SOURCE, "the database is away", True),
        "busy": m.Refusal(m.RefusalCode.BUSY, "this agent has too much to do", True, 2.5),
        "fenced": m.Refusal(m.RefusalCode.FENCED, "another coordinator drives this sweep"),
        "kept": m.Kept(HEADER, "s-1-all.ndjson", 812),
        "ended": m.Ended(),
        "children_of_a_bucket": m.Children(replace(HEADER, scope="month", scope_id=b"i" * 8, bucket=b"b" * 32), U64),
        "merged_look": m.Details(HEADER, (m.Look(b"d" * 16, (b"a" * 16, b"b" * 16), merged=("name: casefold",)),)),
        "copies": m.Details(HEADER, (m.Look(b"d" * 16, folded([b"a" * 16] * 70_000), folded([b"a" * 16] * 3)),)),
        "unknown_bucket": m.Refusal(m.RefusalCode.UNKNOWN_BUCKET, "no bucket of this dataset has that id"),
    }


def _table() -> LookTable:
    """Three names: plain, absent, plain."""
    versions = np.array([7, -5], "<i8").tobytes()
    return LookTable(
        3, b"\x05", b"t" * 16, b"d" * 16, halves=True, versions=versions, columned=b"\x04", columns=b"c" * 8, fields=1
    )


def encode(message: Any) -> bytes:
    return codec.encode_from_agent(message) if is_from_agent(message) else codec.encode_to_agent(message)


def decode(message: Any, data: bytes) -> Any:
    return codec.decode_from_agent(data) if is_from_agent(message) else codec.decode_to_agent(data)


def is_from_agent(message: Any) -> bool:
    return isinstance(message, m.Hello | m.Reply | Notice)
