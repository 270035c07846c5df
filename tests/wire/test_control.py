"""The bytes of the Control service: what goes in comes out; anything else is the peer's error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.budget import Budget
from paritree.core.deadletters import LetterAction
from paritree.core.errors import InvariantBroken, PeerError
from paritree.core.limits import MESSAGE_BYTES_MAX
from paritree.wire import control as wire

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
ORDERS = st.builds(
    wire.SweepOrder,
    TEXT,
    st.lists(TEXT, max_size=4).map(tuple),
    TEXT,
    TEXT,
    st.none() | st.floats(allow_nan=False),
    U32,
    st.builds(Budget, st.none() | st.floats(allow_nan=False), *[st.none() | U64] * 3),
)
SECONDS = st.floats(allow_nan=False)
PROGRESS = st.builds(wire.SweepProgress, TEXT, TEXT, U32, U32, U64, SECONDS, st.none() | SECONDS)
PIECES = st.builds(wire.JsonPiece, TEXT, st.booleans())
LETTERS = st.builds(
    *(wire.LettersOrder, st.sampled_from(LetterAction), TEXT, TEXT, st.lists(TEXT, max_size=3).map(tuple), TEXT),
    st.booleans(),
    U32,
)
EVENTS = st.builds(wire.SweepEvent, TEXT, PROGRESS | PIECES)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
DECODERS = [
    wire.decode_sweep,
    wire.decode_event,
    wire.decode_piece,
    wire.decode_status,
    wire.decode_findings,
    wire.decode_steer,
    wire.decode_letters,
]


@given(LETTERS)
def test_what_is_asked_of_letters_comes_out(order: wire.LettersOrder) -> None:
    assert wire.decode_letters(wire.encode_letters(order)) == order


@given(ORDERS, EVENTS, PIECES, TEXT, st.builds(wire.FindingsOrder, TEXT, TEXT, U32, U32))
def test_what_goes_in_comes_out(
    order: wire.SweepOrder, event: wire.SweepEvent, piece: wire.JsonPiece, dataset: str, page: wire.FindingsOrder
) -> None:
    assert wire.decode_sweep(wire.encode_sweep(order)) == order
    assert wire.decode_event(wire.encode_event(event)) == event
    assert wire.decode_piece(wire.encode_piece(piece)) == piece
    assert wire.decode_status(wire.encode_status(wire.StatusOrder(dataset))) == wire.StatusOrder(dataset)
    assert wire.decode_findings(wire.encode_findings(page)) == page
    steer = wire.SteerOrder(dataset, "pause")
    assert wire.decode_steer(wire.encode_steer(steer)) == steer


@given(st.binary(max_size=200), st.sampled_from(DECODERS))
def test_any_bytes_are_read_or_refused(data: bytes, decode: Callable[[bytes], Any]) -> None:
    try:
        decode(data)
    except PeerError as error:
        assert error.next_step  # noqa: PT017 - the point is that nothing else is ever raised


@given(st.dictionaries(st.text(), JSON))
def test_documents_come_back_from_their_pieces(document: dict[str, Any]) -> None:
    pieces = list(wire.pieces(document))
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert wire.joined(piece.text for piece in pieces) == document


def test_large_documents_come_in_pieces_that_fit() -> None:
    document = {"findings": ["ключ 😀 \ud800" * 1_000] * 100}
    pieces = list(wire.pieces(document))
    assert len(pieces) > 3
    for piece in pieces:
        assert len(wire.encode_event(wire.SweepEvent("s" * 64, piece))) <= MESSAGE_BYTES_MAX
    assert wire.joined(piece.text for piece in pieces) == document


def test_what_no_message_can_hold_is_our_own_mistake() -> None:
    for send in (
        lambda: wire.encode_sweep(wire.SweepOrder("orders", limit=-1)),
        lambda: wire.encode_sweep(wire.SweepOrder("lone \ud800")),
        lambda: wire.encode_event(wire.SweepEvent("s", wire.SweepProgress("eu", "scan", rows=2**64))),
        lambda: list(wire.pieces({"scan_s": float("nan")})),
        lambda: list(wire.pieces({"key": b"raw"})),
    ):
        with pytest.raises(InvariantBroken):
            send()


def test_pieces_that_are_no_document() -> None:
    with pytest.raises(PeerError, match=r"not JSON"):
        wire.joined(['{"a": ', "1"])
    assert json.loads("1") == wire.joined(["1"])
