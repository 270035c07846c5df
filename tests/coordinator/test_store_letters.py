"""Dead letters in the store, on both engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.store import Store
from coordinator.store import letters as module
from coordinator.store.letters import OWN
from paritree.core.deadletters import Letter, LetterKind, LetterState

Opened = Callable[..., Store]
LETTER = Letter(
    "A" * 16, "orders", LetterKind.ROW, "name: NUL in text", ("name", "é"), True, LetterState.OPEN, 5, 7, "s", 3
)


def test_a_region_s_letters_are_replaced_as_a_whole(opened: Opened) -> None:
    store = opened()
    other = replace(LETTER, id="B" * 16, last_seen_us=9, state=LetterState.DISCARDED, note="ops: known")
    store.replace_letters("eu", "orders", [LETTER, other], 4)
    store.replace_letters("us", "orders", [LETTER], 0)
    assert [(row.region, row.letter) for row in store.letters(region="eu")] == [("eu", other), ("eu", LETTER)]
    assert [row.region for row in store.letters(dataset="orders", discarded=False)] == ["eu", "us"]
    assert [row.letter.id for row in store.letters(ids=["B" * 16])] == ["B" * 16]
    store.replace_letters("eu", "orders", [], 0)
    assert [row.region for row in store.letters()] == ["us"]
    assert [(one.region, one.dataset, one.not_kept) for one in store.letter_lists()] == [
        ("eu", "orders", 0),
        ("us", "orders", 0),
    ]


def test_own_letters_are_counted_bounded_and_ended(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OWN_MAX", 2)
    store = opened()
    ids = [
        store.note_own_letter(LetterKind.MESSAGE, "", b"%d" % (i % 2), "no body", bytes=i, peer="eu/a1")
        for i in range(4)
    ]
    assert len(set(ids)) == 2
    store.note_own_letter(LetterKind.MESSAGE, "", b"third", "no body")
    found = {row.letter.id: row for row in store.letters(region=OWN)}
    assert [found[one].letter.count for one in ids[:2]] == [2, 2]
    assert found[ids[1]].detail == {"bytes": 3, "peer": "eu/a1"}
    assert store.letter_lists()[0].not_kept == 1
    store.discard_own_letters(ids[:1], "ops: a scan of ports")
    store.note_own_letter(LetterKind.MESSAGE, "", b"0", "no body")
    assert [row.letter.id for row in store.letters(discarded=False)] == ids[1:2]
    assert store.end_own_letters([*ids[:1], "C" * 16]) == ids[:1]


def test_a_job_that_fails_again_is_open_again(opened: Opened) -> None:
    store = opened()
    own = store.note_own_letter(LetterKind.JOB, "orders", b"job-1", "all regions are away", sweep_id="s1")
    store.discard_own_letters([own], "ops: maintenance")
    assert store.note_own_letter(LetterKind.JOB, "orders", b"job-1", "again", sweep_id="s2") == own
    (row,) = store.letters(dataset="orders")
    assert (row.letter.state, row.letter.reason, row.letter.count) == (LetterState.OPEN, "again", 2)


def test_what_operators_did_is_kept(opened: Opened) -> None:
    store = opened()
    act = {"operator": "ops", "action": "discard", "region": "eu", "dataset": "orders", "reason": "tests", "ids": ["A"]}
    store.log_letter_act(**act)  # type: ignore[arg-type]
    (logged,) = store.letter_acts()
    assert {name: logged[name] for name in act} == act
    assert logged["at"].tzinfo is not None
