"""What an agent keeps on disk over a wrong key, a full book and a clock that was ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_agent.index.rest import RestKey
from edge_agent.kept import NAME, Done, Kept
from edge_agent.letters.found import found
from edge_agent.letters.store import LetterStore
from edge_agent.letters.sweep import SweepLetters
from edge_agent.tokens import TokenBook
from paritree.core.deadletters import LetterKind
from paritree.core.digest import DatasetKeys, token

KEYS = DatasetKeys.of(bytes(32), "orders")
DAY_US = 86_400_000_000


def test_progress_under_another_key_is_left_alone(tmp_path: Path) -> None:
    """Started once with a wrong at_rest_key, an agent must not destroy how far the scan was."""
    right, wrong = RestKey(bytes(32)), RestKey(bytes([1]) * 32)
    kept = Kept.open(tmp_path, b"i" * 16, b"request", 1, right)
    kept.note_done(Done(0, 0, 0, 1.0, 5, b"c" * 8, 0, 0, {}))
    before = (tmp_path / NAME).read_bytes()
    assert Kept.read(tmp_path, wrong) is None
    assert (tmp_path / NAME).read_bytes() == before
    again = Kept.read(tmp_path, right)
    assert again is not None
    assert len(again.done) == 1


def test_a_token_is_known_however_often_the_book_was_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.tokens.BOOK_BYTES_MAX", 10_000)
    book = TokenBook(tmp_path / "tokens")
    one = b"\x01" * 16
    for sweep in range(10):
        others = {(sweep * 1_000 + n).to_bytes(16, "little"): b"other" for n in range(1, 300)}
        book.add({one: b"locator", **others})  # looked at in every sweep
        assert book.find([token(one)]) == {token(one): b"locator"}, sweep


def letters_of(store: LetterStore, sweep_id: str) -> SweepLetters:
    profile: Any = type("P", (), {"dataset": "orders"})()
    return SweepLetters(store, profile, KEYS, sweep_id)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_letter_ends_with_the_next_scan_although_the_clock_was_ahead(tmp_path: Path, restarted: bool) -> None:
    now = [10 * DAY_US]
    store = LetterStore(tmp_path / "letters.db", "eu", clock=lambda: now[0])
    now[0] += DAY_US  # for a moment, until NTP sets it right
    store.take("orders", "s-1", [found(KEYS, LetterKind.ROW, b"key1", "NUL in text", {}, keyed=True)])
    now[0] -= DAY_US - 60_000_000
    if restarted:
        store = LetterStore(tmp_path / "letters.db", "eu", clock=lambda: now[0])
    letters_of(store, "s-2").scanned()  # a whole scan that did not find it
    assert store.letters("orders") == []
