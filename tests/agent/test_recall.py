"""What an agent remembers of its looks: never a wrong "the same", and never more than it may keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent import recall
from edge_agent.recall import Recall
from paritree.core.messages import Look

KEY = b"k" * 16
LOOK = Look(KEY, (b"i" * 16,), (b"f" * 16,), "", (b"c" * 8, b"d" * 8), 5, b"", (b"s" * 8,))


def test_a_look_is_remembered_as_it_was_told() -> None:
    memory = Recall()
    answer = memory.answer(memory.remember([KEY[:8], b"12345678"], [LOOK]))
    assert answer is not None
    assert answer.entries == (b"12345678", KEY)
    assert answer.looks[KEY].look(KEY) == replace(LOOK, indexed=())


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"indexed": ()}, True),
        ({"columns": ()}, True),
        ({"sealed": b"x"}, True),
        ({"fresh": ()}, False),
        ({"fresh": (b"f" * 16, b"f" * 16)}, False),
        ({"version": 6}, False),
        ({"version": None}, False),
        ({"merged": ("casefold",)}, True),
        ({"dead": "NaN"}, False),
        ({"shifted": (b"t" * 8,)}, False),
    ],
)
def test_the_same_is_what_rows_versions_and_cells_say(change: dict[str, object], is_same: bool) -> None:
    memory = Recall()
    answer = memory.answer(memory.remember([KEY[:8]], [LOOK]))
    assert answer is not None
    assert answer.looks[KEY].holds(replace(LOOK, **change)) is is_same


def test_an_answer_does_not_change_when_the_key_is_looked_at_again() -> None:
    memory = Recall()
    first = memory.remember([KEY[:8], b"12345678"], [LOOK])
    before = memory.answer(first)
    assert before is not None
    found = Look(b"12345678" + b"x" * 8)
    second = memory.remember((), [replace(LOOK, version=6), found], before)
    assert first != second
    assert memory.answer(first) == before
    after = memory.answer(second)
    assert after is not None
    assert after.entries == (found.key_digest, KEY)
    assert after.looks[KEY].version == 6
    assert not after.looks[KEY].holds(LOOK)


def test_the_oldest_answers_are_forgotten_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "ENTRIES_KEPT_MAX", 10)
    memory = Recall()
    tokens = [memory.remember([n.to_bytes(8, "big") for n in range(4)], []) for _ in range(4)]
    assert [memory.answer(token) is None for token in tokens] == [True, True, False, False]
    assert memory.answer(memory.remember([n.to_bytes(8, "big") for n in range(11)], [])) is None
    assert memory.answer(b"never given out!") is None
