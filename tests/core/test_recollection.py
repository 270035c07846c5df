"""Asking again by naming an answer: the right entries, and the full form for all else."""

from __future__ import annotations

import random

import pytest

from paritree.core.looktable import marked
from paritree.core.messages import AskAgain, AskDetail, Look
from paritree.core.recollection import Asking, LookAsk, Recollection, told_of

HELD = sorted(random.Random(n).randbytes(16) for n in range(12))
GONE = sorted(random.Random(f"gone {n}").randbytes(16) for n in range(4))
NAMES = [digest[:8] for digest in HELD + GONE]


@pytest.fixture
def known() -> Recollection:
    """A region that was asked for all of it and held the first."""
    recollection = Recollection()
    recollection.note(b"first", NAMES, map(Look, HELD))
    return recollection


def entries(asking: Asking, of: list[bytes]) -> list[bytes]:
    """What the request marks among the entries of an answer."""
    assert isinstance(asking.request, AskAgain)
    flags = marked(asking.request.kept, len(of))
    assert flags is not None
    return [name for name, flag in zip(of, flags.tolist(), strict=True) if flag]


def test_what_the_region_told_is_named_by_its_place_in_the_answer(known: Recollection) -> None:
    all_entries = sorted([*HELD, *(digest[:8] for digest in GONE)])
    some = [HELD[3], GONE[1], HELD[9]]
    (asking,) = known.asking(LookAsk(tuple(some), columns=frozenset([HELD[9]])))
    assert isinstance(asking.request, AskAgain)
    assert asking.request.memory == b"first"
    assert entries(asking, all_entries) == sorted([HELD[3], HELD[9], GONE[1][:8]]) == list(asking.names)
    assert sorted(asking.key_digests) == sorted(some)
    columned = marked(asking.request.columned, len(all_entries))
    assert [all_entries[i] for i in columned.nonzero()[0]] == [HELD[9]]


def test_what_no_answer_was_about_is_asked_in_full(known: Recollection) -> None:
    other = random.Random("other").randbytes(16)
    again, full = known.asking(LookAsk((HELD[0], other)))
    assert isinstance(again.request, AskAgain)
    assert isinstance(full.request, AskDetail)
    assert full.request.key_digests == full.names == (other,)
    assert len(full.request.ks) == 0


def test_a_forgotten_answer_is_not_named_again(known: Recollection) -> None:
    known.forget(b"first")
    (full,) = known.asking(LookAsk((HELD[0], GONE[0])))
    assert isinstance(full.request, AskDetail)
    assert full.request.key_digests == (HELD[0], GONE[0])


def test_a_key_that_can_be_read_as_sealed_is_asked_in_full(known: Recollection) -> None:
    again, full = known.asking(LookAsk((HELD[0], GONE[0]), {GONE[0]: b"sealed", HELD[0]: b"sealed"}))
    assert again.key_digests == (HELD[0],)
    assert isinstance(full.request, AskDetail)
    assert full.request.sealed == {GONE[0]: b"sealed"}


def test_the_newest_answer_about_a_key_is_named(known: Recollection) -> None:
    (asking,) = known.asking(LookAsk((HELD[0], GONE[0])))
    assert isinstance(asking.request, AskAgain)
    known.note_again(asking.request, b"second", [Look(HELD[0], same=True), Look(GONE[0])])
    (asking,) = known.asking(LookAsk((HELD[0], GONE[0], HELD[5])))
    assert isinstance(asking.request, AskAgain)
    assert asking.request.memory == b"second"
    all_entries = sorted([*HELD, GONE[0], *(digest[:8] for digest in GONE[1:])])
    assert entries(asking, all_entries) == sorted([HELD[0], GONE[0], HELD[5]])


def test_a_k_under_which_there_is_still_nothing_is_a_key_that_is_not_there(known: Recollection) -> None:
    (asking,) = known.asking(LookAsk((GONE[0], GONE[1], HELD[0])))
    under = GONE[1][:8] + b"anotherk"
    found = {GONE[0][:8]: [Look(GONE[0][:8], same=True)], GONE[1][:8]: [Look(under)], HELD[0]: []}
    assert told_of(asking, found) == ([Look(GONE[0]), Look(GONE[1])], [HELD[0]])
