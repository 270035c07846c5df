"""Dead letters of an agent: kept, sealed, bounded, tried again, discarded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_agent.letters.store import FILE
from paritree.core import limits
from paritree.core.deadletters import LetterKind, LetterState
from paritree.core.errors import ConfigError, PeerError, SourceError

GOOD = [(i, f"name {i}", "1.50") for i in range(1, 6)]


def spoilt(*ids: int, keyless: int = 0) -> list[tuple[Any, ...]]:
    """The good rows, those of ``ids`` with a NUL in their name, and some without a key."""
    rows = [(i, f"secret\0{i}" if i in ids else name, amount) for i, name, amount in GOOD]
    return rows + [(None, f"no key {n}", "2") for n in range(keyless)]


def test_rows_that_do_not_fit_are_kept_without_a_clear_value_on_disk(kept: Any) -> None:
    kept.put(spoilt(2, 4, keyless=1))
    dead = kept.sweep("s1")
    assert (dead.keyed, dead.keyless) == (2, 1)
    letters = kept.ask("list").letters
    assert [letter.keyed for letter in letters].count(True) == 2
    assert {letter.columns for letter in letters} == {("name",), ("id",)}
    assert {letter.kind for letter in letters} == {LetterKind.ROW}
    assert {(letter.sweep_id, letter.count, letter.state) for letter in letters} == {("s1", 1, LetterState.OPEN)}
    for file in kept.spool.glob(f"{FILE}*"):
        content = file.read_bytes()
        assert b"secret" not in content
        assert b"no key" not in content
        assert file.stat().st_mode & 0o077 == 0
    assert not list(kept.spool.rglob("*.letters*")), "what the tasks left is in the store"


def test_the_same_row_is_the_same_letter_in_every_sweep(kept: Any) -> None:
    kept.put(spoilt(2, keyless=2))
    kept.sweep("s1")
    first = {letter.id: letter for letter in kept.ask("list").letters}
    kept.sweep("s2")
    second = {letter.id: letter for letter in kept.ask("list").letters}
    assert first.keys() == second.keys()
    assert len(first) == 3
    for letter in second.values():
        assert letter.count == 2 * first[letter.id].count
        assert letter.first_seen_us == first[letter.id].first_seen_us < letter.last_seen_us
        assert letter.sweep_id == "s2"


def test_a_sweep_ends_the_letters_of_rows_that_are_good_or_gone(kept: Any) -> None:
    kept.put(spoilt(2, 4, keyless=1))
    kept.sweep("s1")
    kept.put(spoilt(4))
    assert kept.sweep("s2").total == 1
    (left,) = kept.ask("list").letters
    assert left.keyed


def test_a_clock_that_is_set_back_during_a_scan_ends_none_of_its_letters(
    kept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = 1_000_000_000
    monkeypatch.setattr(kept.desk.store, "_clock", lambda: now_us)
    kept.put(spoilt(2, 4))
    kept.sweep("s1")

    def set_back(_shard: Any) -> None:
        nonlocal now_us
        now_us = 500_000_000

    now_us += 10
    kept.put(spoilt(4))
    kept.store.before_shard = set_back
    kept.sweep("s2")
    (left,) = kept.ask("list").letters
    assert (left.keyed, left.sweep_id) == (True, "s2")


def fail(shard: Any) -> None:
    """The source cannot read the second shard, and a retry would not help."""
    if shard.number == 1:
        raise SourceError("a page of the table is damaged")


def test_a_failed_sweep_ends_nothing_and_names_the_part_that_cannot_be_read(kept: Any) -> None:
    kept.put(spoilt(1))
    kept.sweep("s1")
    (row,) = kept.ask("list").letters
    kept.put(GOOD)
    kept.store.before_shard = fail
    with pytest.raises(SourceError, match="damaged"):
        kept.sweep("s2")
    letters = {letter.kind: letter for letter in kept.ask("list").letters}
    assert letters.keys() == {LetterKind.ROW, LetterKind.ROWS}
    assert letters[LetterKind.ROW] == row
    (shown,) = kept.desk.open([letters[LetterKind.ROWS].id], operator="", purpose="")
    assert shown.content["payload"]["shard"] == "rows from 2"
    assert kept.ask("replay", letters[LetterKind.ROWS].id).cleared == (), "still damaged"
    kept.store.before_shard = None
    assert set(kept.ask("replay").cleared) == {row.id, letters[LetterKind.ROWS].id}
    assert kept.ask("list").letters == ()


def test_a_source_that_is_away_is_no_letter(kept: Any) -> None:
    def away(_: Any) -> None:
        raise SourceError("the server is away", retryable=True)

    kept.put(GOOD)
    kept.store.before_shard = away
    with pytest.raises(SourceError, match="away"):
        kept.sweep("s1")
    assert kept.ask("list").letters == ()


def test_replay_reads_rows_again_by_key(kept: Any) -> None:
    kept.put(spoilt(2, 4))
    kept.sweep("s1")
    kept.put(spoilt(4))
    answer = kept.ask("replay")
    assert len(answer.cleared) == 1
    (left,) = answer.letters
    assert left.count == 2, "seen once more"
    assert left.sweep_id.startswith("replay-")
    kept.put(GOOD)
    assert kept.ask("replay", left.id).cleared == (left.id,)
    assert kept.ask("list").letters == ()


def test_replay_of_a_row_without_a_key_reads_the_table(kept: Any) -> None:
    kept.put(spoilt(keyless=1))
    kept.sweep("s1")
    (letter,) = kept.ask("list").letters
    assert kept.ask("replay").letters[0].count == 2
    kept.put(GOOD)
    assert kept.ask("replay").cleared == (letter.id,)
    assert not list((kept.spool / "replays").rglob("*"))


def test_a_deleted_row_has_no_letter_after_a_replay(kept: Any) -> None:
    kept.put(spoilt(2))
    kept.sweep("s1")
    kept.put([row for row in GOOD if row[0] != 2])
    assert len(kept.ask("replay").cleared) == 1


def test_discarding_needs_a_reason_forgets_the_payload_and_is_no_pardon(kept: Any) -> None:
    kept.put(spoilt(2))
    kept.sweep("s1")
    (letter,) = kept.ask("list").letters
    with pytest.raises(PeerError, match="for a reason"):
        kept.ask("discard", letter.id)
    (after,) = kept.ask("discard", letter.id, reason="a test row").letters
    assert (after.state, after.note) == (LetterState.DISCARDED, "ops: a test row")
    assert kept.sweep("s2").total == 1, "the row still counts"
    (again,) = kept.ask("list").letters
    assert (again.state, again.count) == (LetterState.DISCARDED, 2)
    assert kept.desk.open([letter.id], operator="ops", purpose="why")[0].content["payload"] is None
    kept.put(GOOD)
    assert kept.ask("replay", letter.id).cleared == (letter.id,), "without its payload it is found by reading the table"
    log = [json.loads(line) for line in (kept.spool / "letters.log").read_text().splitlines()]
    assert [entry["action"] for entry in log] == ["discard", "show", "replay"]
    assert log[0]["reason"] == "a test row"


def test_a_discarded_row_that_fails_in_another_way_is_open_again(kept: Any) -> None:
    kept.put(spoilt(2))
    kept.sweep("s1")
    (letter,) = kept.ask("list").letters
    kept.ask("discard", letter.id, reason="known")
    kept.put([(i, name, "no number" if i == 2 else amount) for i, name, amount in GOOD])
    kept.sweep("s2")
    (again,) = kept.ask("list").letters
    assert again.id == letter.id
    assert (again.state, again.columns) == (LetterState.OPEN, ("amount",))


def test_showing_opens_the_payload_and_is_logged_first(kept: Any) -> None:
    kept.put(spoilt(2, keyless=1))
    kept.sweep("s1")
    shown = kept.desk.open([letter.id for letter in kept.ask("list").letters], operator="ops", purpose="ticket 7")
    by_key = {one.letter.keyed: one.content["payload"] for one in shown}
    assert by_key[True]["key"] == {"id": 2}
    assert by_key[True]["values"] == {"id": "2", "name": "secret\0" + "2", "amount": "1.50"}
    assert by_key[False]["values"]["name"] == "no key 0"
    assert by_key[True]["shard"]
    (logged,) = (kept.spool / "letters.log").read_text().splitlines()
    assert json.loads(logged)["reason"] == "ticket 7"
    assert "secret" not in logged


def test_letters_are_bounded_and_the_rest_is_counted(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LETTERS_MAX", 3)
    kept.put(spoilt(1, 2, 3, 4, 5))
    assert kept.sweep("s1").total == 5
    answer = kept.ask("list")
    assert (len(answer.letters), answer.not_kept) == (3, 2)
    kept.put(spoilt(4, 5))
    kept.sweep("s2")
    kept.sweep("s3")
    answer = kept.ask("list")
    assert (len(answer.letters), answer.not_kept) == (2, 0), "room is made by those that ended"


def test_the_bytes_of_payloads_are_bounded(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put([(i, "x" * 1_500 + "\0", "1") for i in range(4)])
    monkeypatch.setattr(limits, "LETTERS_BYTES_MAX", 4_000)
    kept.sweep("s1")
    answer = kept.ask("list")
    assert (len(answer.letters), answer.not_kept) == (2, 2)


def test_a_damaged_store_stops_the_sweep_instead_of_losing_letters(kept: Any) -> None:
    kept.spool.mkdir()
    (kept.spool / FILE).write_bytes(b"this is no database" * 100)
    kept.put(spoilt(2))
    with pytest.raises(SourceError, match="cannot be used"):
        kept.sweep("s1")


def test_unreadable_messages_are_kept_by_reason(kept: Any) -> None:
    for data in (b"\xff" * 40_000, b"\xff" * 40_000, b"other"):
        kept.desk.unreadable(data, "a message cannot be read: it is not protobuf of this schema")
    letters = kept.ask("list", dataset="").letters
    assert sorted(letter.count for letter in letters) == [1, 2]
    assert {letter.kind for letter in letters} == {LetterKind.MESSAGE}
    opened = kept.desk.open([letter.id for letter in letters], operator="", purpose="")
    assert {one.content["payload"]["bytes"] for one in opened} == {40_000, 5}
    assert len(kept.ask("replay", dataset="").cleared) == 2


def test_what_is_not_there_is_said(kept: Any) -> None:
    assert kept.ask("replay", "A" * 16).unknown == ("A" * 16,)
    with pytest.raises(ConfigError, match="no dataset"):
        kept.ask("list", dataset="others")
    assert not (kept.spool / "letters.log").exists()


def test_a_spool_without_letters_has_no_file(kept: Any, tmp_path: Path) -> None:
    assert kept.ask("list").letters == ()
    assert not (kept.spool / FILE).exists()
