"""Answers in parts: none is larger than a message, nothing gets lost, and what fits into none is said."""

from __future__ import annotations

import pytest

from edge_agent.parts import reveal_parts
from edge_agent.telling import detail_parts
from paritree.core import limits
from paritree.core.messages import Details, Header, Look, Revealed
from paritree.core.shown import Telling, sendable
from paritree.wire import codec

HEADER = Header("orders", bytes(16), 1, bytes(8), "s1", "position")


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def telling(looks: list[Look]) -> Telling:
    """Those looks as the answer to a request that named their keys in full."""
    return Telling([look.key_digest for look in looks], {look.key_digest: sendable(look) for look in looks})


@pytest.mark.parametrize("text_bytes", [1, 100, 70_000, 1_000_000])
def test_clear_keys_fit_into_messages(text_bytes: int) -> None:
    count = max(3, 3_000_000 // (text_bytes + 60))
    keys = {digest(number): f"é{'x' * (text_bytes - 2)}" if text_bytes > 1 else "7" for number in range(count)}
    parts = list(reveal_parts(HEADER, keys))
    assert len(parts) > 1
    assert all(codec.fits(part) for part in parts)
    together: dict[bytes, str] = {}
    for part in parts:
        assert isinstance(part, Revealed)
        assert not part.refused
        assert not together.keys() & part.keys.keys()
        together |= part.keys
    assert together == keys


def test_a_clear_key_larger_than_a_message_stays_and_is_told() -> None:
    keys = {digest(1): "a", digest(2): "x" * (limits.MESSAGE_BYTES_MAX + 1), digest(3): "c"}
    parts = [part for part in reveal_parts(HEADER, keys) if isinstance(part, Revealed)]
    assert all(codec.fits(part) for part in parts)
    assert [key for part in parts for key in part.keys] == [digest(1), digest(3)]
    assert "1 keys are too long" in parts[-1].refused


def test_no_clear_keys_are_an_answer_too() -> None:
    assert list(reveal_parts(HEADER, {})) == [Revealed(HEADER, {}, "")]


def test_a_sealed_key_larger_than_a_message_is_left_out() -> None:
    looks = [
        Look(digest(1), (digest(9),), (digest(9),), sealed=b"s" * 600_000),
        Look(digest(2), (digest(8),), (digest(8),), columns=(bytes(8),) * 40, sealed=b"s" * limits.MESSAGE_BYTES_MAX),
        Look(digest(3), sealed=b"s" * 600_000),
    ]
    parts = list(detail_parts(HEADER, telling(looks)))
    assert all(codec.fits(part) for part in parts)
    found = [look for part in parts if isinstance(part, Details) for look in part.looks]
    assert [look.key_digest for look in found] == [digest(1), digest(2), digest(3)]
    assert found[0] == looks[0]
    assert found[1].sealed == b""
    assert found[1].fresh == looks[1].fresh
    assert found[1].columns == looks[1].columns


def test_a_key_with_more_rows_than_a_message_holds_is_a_dead_letter() -> None:
    rows = tuple(digest(number) for number in range(70_000))
    (part,) = detail_parts(HEADER, telling([Look(digest(1), rows, rows)]))
    assert codec.fits(part)
    assert isinstance(part, Details)
    (look,) = part.looks
    assert look.key_digest == digest(1)
    assert look.fresh == ()
    assert "70000 rows" in look.dead
