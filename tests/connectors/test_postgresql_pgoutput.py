"""The slot's messages: what the plain reader makes of them, and that the compiled one makes the same of anything."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.connectors.postgresql import pgoutput
from edge_agent.connectors.postgresql.changekeys import KERNELS
from edge_agent.connectors.postgresql.pgoutput import (
    CHANGES,
    COMMITTED,
    DATED,
    END,
    FIRST_US,
    FULL,
    IN_TRANSACTION,
    KEYS,
    LAST_US,
    MALFORMED,
    NO_KEY,
    NULL_KEY,
    OTHER,
    STATE_WORDS,
    STRANGER,
    XIDS,
)
from paritree.core.errors import SourceError

KEY_PARTS = 2
RELATIONS = np.array([[70_000, 3, 0, 2], [80_000, 2, 1, 0]], np.int64)
"""Relation 70000 has three columns, its key is columns 0 and 2; 80000 has two, its key is columns 1 and 0."""


def begin(xid: int = 5) -> bytes:
    return b"B" + struct.pack(">qqI", 1000, 0, xid)


def commit(end: int = 2000, at_us: int = 0) -> bytes:
    return b"C" + struct.pack(">bQQq", 0, 1900, end, at_us)


def row(*values: bytes | str) -> bytes:
    """A row of columns: bytes are sent as they are, text is a kind of its own (n, u) or, with more, a text value."""
    cells = [
        value.encode()
        if value in ("n", "u")
        else b"t" + struct.pack(">i", len(value)) + value.encode()
        if isinstance(value, str)
        else b"b" + struct.pack(">i", len(value)) + value
        for value in values
    ]
    return struct.pack(">H", len(values)) + b"".join(cells)


def change(kind: str, oid: int, **rows: bytes) -> bytes:
    return kind.encode() + struct.pack(">I", oid) + b"".join(part.encode() + said for part, said in rows.items())


@dataclass
class Read:
    """What a reader made of messages."""

    stopped: tuple[int, int]
    state: list[int]
    keys: list[tuple[bytes, ...]]
    xids: list[int]


def read(
    reader: pgoutput.ReadKeys,
    messages: list[bytes],
    room: int = 64,
    at: list[int] | None = None,
    size: list[int] | None = None,
    first: int = 0,
) -> Read:
    """Let a reader read; ``at`` and ``size`` replace the true places of the messages."""
    sizes = [len(message) for message in messages]
    places = [sum(sizes[:number]) for number in range(len(sizes))]
    data = np.frombuffer(bytearray(b"".join(messages)), np.uint8)
    state = np.zeros(STATE_WORDS, np.int64)
    key_at, key_size = np.zeros((2, KEY_PARTS, room), np.int32)
    xids = np.zeros(room, np.uint32)
    stopped = reader(
        data,
        np.array(places if at is None else at, np.int32),
        np.array(sizes if size is None else size, np.int32),
        first,
        RELATIONS,
        state,
        key_at,
        key_size,
        xids,
    )
    keys = [
        tuple(bytes(data[a : a + s]) for a, s in zip(key_at[:, key], key_size[:, key], strict=True))
        for key in range(state[KEYS])
    ]
    return Read((int(stopped[0]), int(stopped[1])), state.tolist(), keys, xids[: state[XIDS]].tolist())


READERS = {"plain": pgoutput.read_keys, "compiled": KERNELS.read_keys}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> pgoutput.ReadKeys:
    return READERS[request.param]


def test_every_kind_of_change_names_its_keys(reader: pgoutput.ReadKeys) -> None:
    told = read(
        reader,
        [
            begin(7),
            change("I", 70_000, N=row(b"a", b"x", b"1")),
            change("U", 70_000, N=row(b"b", "n", b"2")),
            change("U", 70_000, K=row(b"c", "n", b"3"), N=row(b"d", "u", b"3")),
            change("U", 70_000, O=row(b"e", b"old", b"4"), N=row(b"e", b"new", b"4")),
            change("D", 80_000, K=row(b"f", b"5")),
            change("D", 70_000, O=row(b"", b"", b"6")),
            commit(2001),
            begin(8),
        ],
    )
    assert told.stopped == (9, END)
    assert told.keys == [
        *((b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"3"), (b"e", b"4")),
        *((b"5", b"f"), (b"", b"6")),
    ]
    assert told.xids == [7, 8]
    assert (told.state[COMMITTED], told.state[CHANGES], told.state[IN_TRANSACTION]) == (2001, 6, 1)


def test_when_changes_were_committed_is_read_of_transactions_that_changed_something(reader: pgoutput.ReadKeys) -> None:
    one = change("I", 70_000, N=row(b"a", b"x", b"1"))
    told = read(
        reader, [begin(), commit(1, 5), begin(), one, commit(2, -30), begin(), one, commit(3, -40), begin(), one]
    )
    assert [told.state[place] for place in (DATED, FIRST_US, LAST_US)] == [2, -40, -30]
    later = read(
        reader, [begin(), one, one, commit(1, 2**60), begin(), one, commit(2, 2**60 + 1), begin(), commit(3, 7)]
    )
    assert [later.state[place] for place in (DATED, FIRST_US, LAST_US)] == [3, 2**60, 2**60 + 1]


def test_an_unchanged_key_that_was_not_sent_is_taken_from_the_old_row(reader: pgoutput.ReadKeys) -> None:
    told = read(reader, [begin(), change("U", 70_000, K=row(b"long", "n", b"1"), N=row("u", b"", b"2"))])
    assert told.keys == [(b"long", b"1"), (b"long", b"2")]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (change("I", 70_000, N=row("n", b"", b"1")), NULL_KEY),
        (change("D", 70_000, O=row(b"a", b"", "n")), NULL_KEY),
        (change("D", 70_000, K=row(b"a", b"", "n")), NO_KEY),
        (change("U", 70_000, N=row("u", b"", b"1")), NO_KEY),
        (change("I", 70_000, N=row(b"a", b"", "text")), MALFORMED),
        (change("I", 90_000, N=row(b"a", b"", b"1")), STRANGER),
        (change("I", 70_000, N=row(b"a", b"")), MALFORMED),
        (change("I", 70_000, K=row(b"a", b"", b"1")), MALFORMED),
        (change("D", 70_000, N=row(b"a", b"", b"1")), MALFORMED),
        (change("U", 70_000, K=row(b"a", b"", b"1")), MALFORMED),
        (change("I", 70_000, N=row(b"a", b"", b"1")) + b"\0", MALFORMED),
        (begin(), MALFORMED),
        (commit()[:-1], MALFORMED),
        (commit(1 << 63), MALFORMED),
        (b"T" + bytes(9), OTHER),
        (b"?", OTHER),
        (b"", MALFORMED),
    ],
)
def test_what_is_not_taken_in_changes_nothing(reader: pgoutput.ReadKeys, message: bytes, why: int) -> None:
    told = read(reader, [begin(), message, commit()])
    assert told.stopped == (1, why)
    assert (told.keys, told.state[CHANGES], told.state[IN_TRANSACTION]) == ([], 0, 1)


@pytest.mark.parametrize("message", [commit(), change("I", 70_000, N=row(b"a", b"", b"1"))])
def test_outside_of_a_transaction_only_begin_comes(reader: pgoutput.ReadKeys, message: bytes) -> None:
    assert read(reader, [message]).stopped == (0, MALFORMED)


def test_keys_that_have_no_room_are_not_written(reader: pgoutput.ReadKeys) -> None:
    messages = [begin(), *[change("I", 80_000, N=row(b"a", b"b"))] * 3]
    assert read(reader, messages, room=3).stopped == (3, FULL)
    assert read(reader, messages, room=0).stopped == (0, FULL)


def test_every_cut_of_a_message_is_malformed(reader: pgoutput.ReadKeys) -> None:
    whole = change("U", 70_000, K=row(b"a", "n", b"1"), N=row(b"bc", "u", b"1"))
    for length in range(1, len(whole)):
        # what is cut off lies right behind it in the same memory
        assert read(reader, [begin(), whole], at=[0, 21], size=[21, length]).stopped == (1, MALFORMED), length


values = st.one_of(st.binary(max_size=4), st.sampled_from(["n", "u", "txt"]))
rows = st.lists(values, min_size=2, max_size=3).map(lambda cells: row(*cells))
changes = st.builds(
    lambda kind, oid, parts: change(kind, oid, **dict(parts)),
    st.sampled_from("IUD"),
    st.sampled_from([70_000, 80_000, 90_000]),
    st.lists(st.tuples(st.sampled_from("KON"), rows), max_size=2),
)
messages = st.one_of(changes, changes, changes, st.just(begin()), st.just(commit()), st.binary(max_size=40))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_compiled_reader_makes_the_same_of_anything(data: st.DataObject) -> None:
    said = data.draw(st.lists(messages, min_size=1, max_size=8).map(lambda some: [begin(), *some]))
    broken = [bytearray(message) for message in said]
    for _ in range(data.draw(st.integers(0, 3))):
        message = data.draw(st.sampled_from(broken))
        if message:
            place = data.draw(st.integers(0, len(message) - 1))
            message[place] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255, ord("N"), ord("b"), ord("u")]))
    said = [bytes(message) for message in broken]
    at = size = None
    if data.draw(st.booleans()):
        numbers = st.lists(st.integers(-3, 200) | st.sampled_from([2**31 - 1]), min_size=len(said), max_size=len(said))
        at, size = data.draw(numbers), data.draw(numbers)
    room, first = data.draw(st.sampled_from([0, 2, 3, 64])), data.draw(st.integers(0, len(said)))
    plain, fast = (read(reader, said, room, at, size, first) for reader in READERS.values())
    assert plain == fast


def test_messages_that_come_seldom_are_read() -> None:
    relation = b"R" + struct.pack(">I", 9) + b"shop\0orders\0d" + struct.pack(">H", 1)
    assert pgoutput.read_other(relation + b"\1id\0" + struct.pack(">Ii", 20, -1)) == pgoutput.SentRelation(
        9, "shop", "orders", "d", (pgoutput.SentColumn("id", 20, -1, True),)
    )
    assert pgoutput.read_other(b"T" + struct.pack(">IbII", 2, 0, 5, 6)) == pgoutput.SentTruncate((5, 6))
    said = b"M" + struct.pack(">bq", 1, 0) + b"paritree\0" + struct.pack(">I", 2) + b"hi"
    assert pgoutput.read_other(said) == pgoutput.SentMessage("paritree", b"hi")
    assert pgoutput.read_other(b"O" + bytes(8) + b"node\0") is None
    assert pgoutput.read_other(b"Y" + bytes(4) + b"shop\0color\0") is None


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([b"R", b"T", b"M", b"O", b"Y", b"?"]), st.binary(max_size=60))
def test_anything_else_is_read_or_refused(kind: bytes, rest: bytes) -> None:
    with suppress(SourceError):
        pgoutput.read_other(kind + rest)
