"""Looks in columns: what a region puts in, the coordinator takes out; nothing else passes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core import limits
from paritree.core.looktable import Picked, packed
from paritree.core.messages import Details, Header, Look
from paritree.core.shown import K_BYTES, SUM_BYTES, Misfit, Row, Telling, entries_of, looks_of, tables

HEADER = Header("orders", bytes(16), 1, bytes(8), "s1", "position")
ROW = Row(3, 1)
ALL = Picked(packed([True] * 4))
AT_ENDS = packed([True, False, False, True])


def digest(number: int, size: int = 16) -> bytes:
    return random.Random(f"{number} {size}").randbytes(size)


def columned(number: int) -> dict[str, tuple[bytes, ...]]:
    return {"columns": tuple(digest(number + i, 8) for i in range(3)), "shifted": (digest(number + 9, 8),)}


def parts_of(telling: Telling) -> list[Details]:
    return [Details(HEADER, tuple(looks), table) for table, looks in tables(telling)]


@st.composite
def tellings(draw: st.DrawFn) -> tuple[Telling, dict[bytes, list[Look]]]:
    """A first look at some ks, and what the coordinator is to take out of it, halves apart."""
    chance = random.Random(draw(st.integers(0, 1 << 32)))
    picked = draw(
        st.sampled_from(
            [None, ALL, *(Picked(AT_ENDS, packed([False, True, True, False]), 3, sums) for sums in (False, True))]
        )
    )
    names, looks, out, wanted = [], {}, {}, set()
    for _ in range(draw(st.integers(0, 20))):
        k = chance.randbytes(K_BYTES)
        names.append(k)
        out[k] = []
        columns = chance.random() < 0.5
        if columns:
            wanted.add(k)
        for _ in range(chance.choice([0, 1, 1, 1, 2])):
            rows = tuple(sorted(chance.randbytes(16) for _ in range(chance.choice([1, 1, 1, 2]))))
            version = chance.choice([None, 7, -7])
            seen = Look(k + chance.randbytes(8), rows, rows, version=version, whole=version == 7)
            if chance.random() < 0.1:
                seen = replace(seen, merged=("casefold",))
            if chance.random() < 0.3:
                seen = replace(seen, fresh=(chance.randbytes(16),), dead=chance.choice(["", "NaN"]))
            if columns and len(seen.fresh) == 1:
                seen = replace(seen, **columned(chance.randrange(9)))
            looks[seen.key_digest] = seen
            sent = [*seen.columns, *seen.shifted]
            spread = ROW.spread(_cut(sent, picked), picked) if sent else ((), ())
            out[k].append(replace(seen, columns=spread[0], shifted=spread[1]))
    return Telling(names, looks, columned=frozenset(wanted), picked=picked, versions=True), out


def _cut(digests: list[bytes], picked: Picked | None) -> list[bytes]:
    if picked is None or picked is ALL:
        return digests
    total = (int.from_bytes(digests[1], "little") + int.from_bytes(digests[2], "little")) % 2**64
    sums = [total]
    if picked.located:
        sums.append((2 * int.from_bytes(digests[1], "little") + 3 * int.from_bytes(digests[2], "little")) % 2**64)
    return [digests[0][:3], digests[3][:3], *(one.to_bytes(8, "little")[:3] for one in sums)]


@settings(deadline=None, max_examples=150)
@given(tellings())
def test_what_is_told_is_what_is_taken_out(made: tuple[Telling, dict[bytes, list[Look]]]) -> None:
    telling, out = made
    taken = looks_of(telling.names, parts_of(telling), ROW, telling.picked)
    key = lambda look: look.key_digest  # noqa: E731
    assert {name: sorted(looks, key=key) for name, looks in taken.items()} == {
        name: sorted(looks, key=key) for name, looks in out.items()
    }


def test_an_answer_of_many_keys_comes_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PART_BYTES_MAX", 2_000)
    looks = {digest(i): Look(digest(i), (digest(-i),), (digest(-i),), **columned(i)) for i in range(200)}
    names = [key_digest[:8] for key_digest in looks]
    telling = Telling(names, looks, columned=frozenset(names), picked=ALL)
    parts = parts_of(telling)
    assert len(parts) > 5
    assert {d: [seen] for d, seen in zip(names, looks.values(), strict=True)} == looks_of(names, parts, ROW, ALL)


def test_a_plain_row_without_columns_takes_24_bytes_and_half_of_it_16() -> None:
    looks = {digest(i): Look(digest(i), (digest(-i),), (digest(-i),)) for i in range(1_000)}
    names = [key_digest[:8] for key_digest in looks]
    for halves, size in ((False, 24), (True, 16)):
        [(table, apart)] = tables(Telling(names, looks, halves=halves))
        assert apart == []
        assert len(table.tails) + len(table.digests) == 1_000 * size
        [part] = parts_of(Telling(names, looks, halves=halves))
        taken = looks_of(names, [part], ROW, None, halves=halves)
        assert taken[names[7]][0].fresh[0] == digest(-7)[8 if halves else 0 :]


def same(names: list[bytes], table_names: list[bytes]) -> list[Details]:
    return parts_of(Telling(table_names, {}, same=frozenset(names)))


def test_a_name_that_is_the_same_says_so_and_no_more() -> None:
    names = [digest(1), digest(2), digest(3)[:8]]
    taken = looks_of(names, same(names[:2], names), ROW, None)
    assert taken == {names[0]: [Look(names[0], same=True)], names[1]: [Look(names[1], same=True)], names[2]: []}


def test_sums_of_column_digests_are_never_taken_for_a_digest() -> None:
    picked = Picked(packed([True, False, False, False]), packed([False, True, True, False]), 8)
    columns, shifted = ROW.spread([digest(1, 8), digest(2, 8)], picked)
    assert columns == (digest(1, 8), digest(2, 8) + bytes(8), digest(2, 8) + bytes(8))
    assert shifted == (b"",)
    assert len(columns[1]) == SUM_BYTES


NAMES = [digest(1)[:8], digest(2)[:8]]
PLAIN = {digest(1): Look(digest(1), (digest(7),), (digest(7),), **columned(1))}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "every key"),
        (parts_of(Telling(NAMES[:1], PLAIN)), "every key"),
        (parts_of(Telling([*NAMES, digest(3)[:8]], PLAIN)), "more keys"),
        (parts_of(Telling(NAMES, PLAIN, halves=True)), "half of the row digests"),
        ([*parts_of(Telling(NAMES, PLAIN)), Details(HEADER, (Look(digest(5)),))], "not asked for"),
        (parts_of(Telling(NAMES, PLAIN, columned=frozenset(NAMES))), "those that were asked for"),
    ],
)
def test_an_answer_about_something_else_is_refused(parts: list[Details], reason: str) -> None:
    picked = Picked(packed([True, False, False, False])) if "asked for" in reason else None
    with pytest.raises(Misfit, match=reason):
        looks_of(NAMES, parts, ROW, picked)


def test_the_entries_of_an_answer_are_the_same_on_both_sides() -> None:
    held, gone = digest(1), digest(2)[:8]
    assert entries_of([held[:8], gone], [Look(held)]) == tuple(sorted([held, gone]))
    assert entries_of([held, gone], [Look(held)]) == tuple(sorted([held, gone]))
