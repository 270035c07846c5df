"""The descent against regions that are plain lists of rows: found = planted, within its bytes, for 2 to 5 regions."""

from __future__ import annotations

import random

import numpy as np
import pytest
from descending import Region, Rows, bytes_allowed, check, expected, found, make_tables, run
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core import limits, pairs, planner
from paritree.core.decode import Decoded
from paritree.core.descent import INCOMPLETE, UNLISTED, Answer, Ask, Descent, Outcome
from paritree.core.errors import InvariantBroken
from paritree.core.listing import RowList
from paritree.core.messages import AskChildren, AskDetail, AskLists, AskSketch, Look
from paritree.core.planner import Form
from paritree.core.sketch import Sketch


# Derandomised: one sketch in a thousand does not decode, and takes one round more.
@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 32),
    st.integers(2, 5),
    st.sampled_from([0, 1, 3, 17, 300, 5000]),
    st.sampled_from([0, 1, 2, 10, 200, 700]),
)
def test_found_is_planted(seed, regions, rows, changes):
    check(make_tables(random.Random(seed), regions, rows, changes), salt=seed)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 3))
def test_edges_of_the_key_space_and_crowded_prefixes(seed, regions):
    """Keys at both ends of the key space and thousands under one prefix: half-open ranges lose none."""
    rng = random.Random(seed)
    crowded = [rng.getrandbits(40) | 0xABCDEF << 40 for _ in range(400)]
    edges = [0, 1, (1 << 64) - 1, (1 << 64) - 2, 1 << 63, (1 << 63) - 1, 1 << 52, (1 << 52) - 1]
    rows = [(k, rng.getrandbits(64), rng.getrandbits(64)) for k in [*crowded, *edges]]
    check({f"r{i}": [row for row in rows if rng.random() < 0.9] for i in range(regions)})


def drifted(rng: random.Random, regions: int, rows: int, share: float, kind: str = "mixed") -> dict[str, Rows]:
    """In every region but the first, that share of the rows is changed, missing, doubled, or beside an extra one."""
    base = [(rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64)) for _ in range(rows)]
    tables = {"r0": base}
    for i in range(1, regions):
        table: list[Rows] = [[row] for row in base]
        for at in rng.sample(range(rows), round(share * rows)):
            other = (base[at][0], rng.getrandbits(64), rng.getrandbits(64))
            added = (rng.getrandbits(64), rng.getrandbits(64), rng.getrandbits(64))
            ways = {"changed": [other], "missing": [], "extra": [base[at], added], "doubled": [base[at]] * 2}
            table[at] = ways[kind if kind in ways else rng.choice(list(ways))]
        tables[f"r{i}"] = [row for some in table for row in some]
    return tables


CURVE = (0, 1, 2, 5, 10, 15, 20, 25, 29, 35, 40, 45, 50, 60, 75, 90, 100)


@pytest.mark.parametrize("kind", ["changed", "missing", "extra", "doubled", "mixed"])
@pytest.mark.parametrize(("regions", "rows"), [(2, 60), (2, 1500), (3, 700), (5, 300), (8, 150)])
def test_the_whole_curve_stays_below_the_bound(regions, rows, kind):
    """Any number of differences of any kind, on both sides, costs a region at most 2 × 24 bytes × rows + 16 KiB."""
    for percent in CURVE:
        rng = random.Random(percent * 10 + regions)
        tables = drifted(rng, regions, rows, percent / 100, kind)
        if rng.random() < 0.5:  # what is missing on one side is extra on the other
            tables = dict(reversed(tables.items()))
        check(tables)


@pytest.mark.parametrize(("regions", "rows"), [(2, 1500), (3, 400)])
@pytest.mark.parametrize("complete", [False, True])
def test_sketches_that_never_decode_still_stay_below_the_bound(monkeypatch, regions, rows, complete):
    """Neither where they do not come clean, nor where they seem to and miss a key."""
    honest = pairs.decode

    def failing(sketches):
        decoded = honest(sketches)
        return decoded if len(sketches) < 2 else Decoded(dict(list(decoded.deltas.items())[1:]), complete)

    monkeypatch.setattr(pairs, "decode", failing)
    for percent in CURVE:
        check(drifted(random.Random(percent), regions, rows, percent / 100), rounds_max=8)


@pytest.mark.parametrize("percent", [0, 1, 10, 29, 50, 100])
def test_a_larger_table_stays_below_the_bound(percent):
    check(drifted(random.Random(percent), 2, 9000, percent / 100, "mixed"))


def test_equal_regions_cost_one_round():
    rows = make_tables(random.Random(1), 1, 70_000, 0)["r0"]
    outcome, descent, _ = run({"a": Region(rows), "b": Region(rows[::-1])})
    assert outcome == Outcome((), {}, 1)
    assert descent.rounds == 1


@pytest.mark.parametrize(("changes", "rounds", "forms"), [(100, 2, []), (1000, 3, [Form.SKETCH])])
def test_two_rounds_for_few_differences_three_for_more(changes, rounds, forms):
    descent = check(make_tables(random.Random(2), 2, 60_000, changes))
    assert descent.rounds == rounds
    assert descent.forms == forms


def test_where_most_differs_everything_is_listed_at_once():
    descent = check(drifted(random.Random(3), 2, 5000, 0.8))
    assert (descent.forms, descent.rounds) == ([Form.LIST], 3)


def test_one_far_off_region_leaves_the_others_alone():
    rng = random.Random(4)
    tables = drifted(rng, 2, 8000, 0.1)
    tables["r2"] = tables["r0"][5:]
    outcome, descent, cost = run({name: Region(rows) for name, rows in tables.items()})
    assert found(outcome) == expected(tables)
    assert (descent.forms, descent.rounds) == ([Form.SKETCH], 3)
    assert cost.bytes["r2"] < 16_384 < cost.bytes["r1"]


@pytest.mark.parametrize("regions", [2, 3])
@pytest.mark.parametrize(("rows", "changes"), [(3000, 800), (70_000, 900)])
def test_sketches_that_do_not_decode_are_followed_by_lists(monkeypatch, regions, rows, changes):
    monkeypatch.setattr(planner, "size_for", lambda differences: 32)
    descent = check(make_tables(random.Random(5), regions, rows, changes), rounds_max=7)
    assert descent.forms == [Form.SKETCH, Form.SKETCH, Form.TREE if rows > 60_000 else Form.LIST]


@pytest.mark.parametrize("regions", [2, 3])
def test_a_sketch_that_is_a_little_too_small_is_completed_by_half_of_one(monkeypatch, regions):
    """As where the estimate is far too low: one round more, solved from both sketches, neither of which would do."""
    sized, asked = planner.size_for, []

    def at_first_too_small(keys):
        asked.append(keys)
        return sized(keys * 0.6 if len(asked) == 1 else keys)

    monkeypatch.setattr(planner, "size_for", at_first_too_small)
    descent = check(make_tables(random.Random(5), regions, 70_000, 1500 * (regions - 1)), rounds_max=4)
    assert (descent.forms, descent.rounds) == ([Form.SKETCH, Form.SKETCH], 4)
    assert asked == [asked[0], asked[0] / 2]


@pytest.mark.parametrize("what", ["too small", "lies"])
def test_every_sketch_has_a_salt_of_its_own(monkeypatch, what):
    """With the salt of the first, one of half its size tells nothing that the first has not told."""
    if what == "too small":
        monkeypatch.setattr(planner, "size_for", lambda keys: 64)
    else:
        honest = pairs.decode
        monkeypatch.setattr(pairs, "decode", lambda s: Decoded(dict(list(honest(s).deltas.items())[1:]), len(s) > 1))
    asked: list[AskSketch] = []

    def note(name: str, ask: Ask, answer: Answer) -> Answer:
        if isinstance(ask, AskSketch) and name == "r0":
            asked.append(ask)
        return answer

    run({n: Region(t) for n, t in make_tables(random.Random(5), 2, 9_000, 900).items()}, note)
    salts = [0, *(ask.salt for ask in asked)]  # the probe's is 0
    assert len(set(salts)) == len(salts) == 3


def test_a_wrong_decoding_is_asked_again_with_another_salt(monkeypatch):
    """Every first decoding lies: it misses a key and says that it is complete. Nothing is reported from it."""
    honest, lies = pairs.decode, []

    def lying(sketches):
        decoded = honest(sketches)
        if len(sketches) < 2:
            lies.append(1)
            return Decoded(dict(list(decoded.deltas.items())[1:]), True)
        return decoded

    monkeypatch.setattr(pairs, "decode", lying)
    descent = check(make_tables(random.Random(6), 3, 3000, 90), rounds_max=4)
    assert lies
    assert descent.forms == [Form.SKETCH]


def test_a_decoder_that_always_lies_ends_in_lists(monkeypatch):
    honest = pairs.decode
    monkeypatch.setattr(pairs, "decode", lambda s: Decoded(dict(list(honest(s).deltas.items())[1:]), True))
    descent = check(make_tables(random.Random(7), 2, 3000, 90), rounds_max=6)
    assert descent.forms[0] is Form.SKETCH
    assert descent.forms[1] in (Form.LIST, Form.TREE)


def test_only_r2_differs_is_never_equal():
    """Equal Σr with another Σr′ (a collision of the first half) must not pass as equal."""
    rows = make_tables(random.Random(3), 1, 1000, 0)["r0"]
    other = [(rows[0][0], rows[0][1], rows[0][2] ^ 1), *rows[1:]]
    outcome, _, cost = run({"a": Region(rows), "b": Region(other)})
    assert outcome.broken == {"b": f"{INCOMPLETE}: all keys"} or found(outcome) == expected({"a": rows, "b": other})
    assert max(cost.bytes.values()) <= bytes_allowed({"a": rows})


def wrong_sums(answer: Answer) -> Answer:
    wrong = answer.copy()
    wrong[0] += np.uint64(1)
    return wrong


def wrong_cell(answer: Answer) -> Answer:
    return Sketch(answer.salt, wrong_sums(answer.sums))


TAMPERED = {
    "children": (AskChildren, wrong_sums, "its children do not add up to their parent: all keys"),
    "lists": (
        AskLists,
        lambda a: RowList(a.k[1:], a.r[1:], a.r2[1:]),
        "its rows do not add up to their leaf: the keys below 00c (12 bits)",
    ),
    "list elsewhere": (
        AskLists,
        lambda a: RowList(a.k ^ np.uint64(1 << 63), a.r, a.r2),
        "its rows do not add up to their leaf: all keys",
    ),
    "sketch": (AskSketch, wrong_cell, "its sketch does not add up to its root: all keys"),
    "lost look": (AskDetail, lambda looks: looks[1:], f"{UNLISTED}: the keys below 00c (12 bits)"),
    "a row of no weight": (
        AskDetail,
        lambda looks: (Look(looks[0].key_digest, (bytes(16), *looks[0].indexed)), *looks[1:]),
        UNLISTED,
    ),
    "other look": (
        AskDetail,
        lambda looks: (Look(b"x" * 16, (b"y" * 16,)), *looks),
        "it showed keys that it was not asked for",
    ),
    "other half": (AskDetail, lambda looks: (Look(looks[0].key_digest, (b"y" * 8,)), *looks[1:]), UNLISTED),
    "other rows": (AskDetail, lambda looks: (Look(looks[0].key_digest, (b"y" * 16,)), *looks[1:]), UNLISTED),
    "other first half": (
        AskDetail,
        lambda looks: (Look(looks[0].key_digest, (b"y" * 8 + looks[0].indexed[0][-8:],)), *looks[1:]),
        UNLISTED,
    ),
}


@pytest.mark.parametrize("what", list(TAMPERED))
def test_answers_that_do_not_add_up_are_named(monkeypatch, what):
    asked, change, reason = TAMPERED[what]
    if asked in (AskChildren, AskLists) or what == "other first half":  # sketches have told how Σr differs already
        monkeypatch.setattr(planner, "size_for", lambda differences: 32)
    tables = make_tables(random.Random(4), 2, 70_000, 400)

    def tamper(name: str, ask: Ask, answer: Answer) -> Answer:
        return change(answer) if name == "r1" and isinstance(ask, asked) else answer

    outcome, _, cost = run({name: Region(t) for name, t in tables.items()}, tamper)
    assert list(outcome.broken) == ["r1"]
    assert outcome.broken["r1"].startswith(reason)
    assert (outcome.ks, outcome.looks) == ((), {})
    assert max(cost.bytes.values()) <= bytes_allowed(tables)


@pytest.mark.parametrize("kind", [AskChildren, AskLists, AskSketch, AskDetail])
def test_an_answer_to_another_question_is_our_mistake(monkeypatch, kind):
    if kind in (AskChildren, AskLists):
        monkeypatch.setattr(planner, "size_for", lambda differences: 32)
    tables = make_tables(random.Random(4), 2, 70_000, 400)

    def tamper(name: str, ask: Ask, answer: Answer) -> Answer:
        return [1] if isinstance(ask, kind) else answer

    with pytest.raises(InvariantBroken):
        run({name: Region(t) for name, t in tables.items()}, tamper)


def test_one_of_three_that_lies_is_the_one_that_is_named():
    tables = make_tables(random.Random(8), 3, 3000, 60)
    for liar in tables:

        def tamper(name: str, ask: Ask, answer: Answer, liar: str = liar) -> Answer:
            return answer[1:] if name == liar and isinstance(ask, AskDetail) else answer

        outcome, _, _ = run({name: Region(t) for name, t in tables.items()}, tamper)
        assert set(outcome.broken) == {liar}


def test_one_region_is_no_descent():
    with pytest.raises(InvariantBroken):
        Descent({"a": Region([]).ready()})


def test_a_liar_whose_root_is_that_of_another_is_told_by_what_the_other_listed():
    tables = make_tables(random.Random(4), 2, 3000, 200)
    tables["twin"] = list(tables["r1"])

    def tamper(name: str, ask: Ask, answer: Answer) -> Answer:
        return answer[1:] if name == "twin" and isinstance(ask, AskDetail) else answer

    outcome, _, _ = run({name: Region(t) for name, t in tables.items()}, tamper)
    assert list(outcome.broken) == ["twin"]


def crowded(tables: dict[str, Rows]) -> tuple[str, ...]:
    """The regions that are left to a sample; nobody is asked for details then."""

    def tamper(name: str, ask: Ask, answer: Answer) -> Answer:
        assert not isinstance(ask, AskDetail)
        return answer

    outcome, _, cost = run({name: Region(rows) for name, rows in tables.items()}, tamper)
    assert (outcome.ks, outcome.looks, outcome.broken) == ((), {}, {})
    assert max(cost.bytes.values()) <= bytes_allowed(tables)
    return outcome.crowded


@pytest.mark.parametrize("rows", [200, 2000])
def test_more_keys_than_can_be_looked_at_are_left_to_a_sample(monkeypatch, rows):
    """However they were found: by the probe, by a sketch or in lists."""
    monkeypatch.setattr(limits, "SUSPECTS_MAX", 50)
    rng = random.Random(10)
    far = drifted(rng, 2, rows, 0.6)
    assert crowded(far) == ("r1",)
    near = [(k, rng.getrandbits(64), r2) for k, _, r2 in far["r0"][:5]] + far["r0"][5:]
    assert crowded({"r0": far["r0"], "near": near, "far": far["r1"]}) == ("far",)


@pytest.mark.parametrize(("rows", "listed"), [(3000, 2000), (70_000, 3000), (70_000, 500)])
def test_lists_that_would_not_fit_are_left_to_a_sample(monkeypatch, rows, listed):
    monkeypatch.setattr(planner, "size_for", lambda differences: 32)
    monkeypatch.setattr(limits, "LISTED_ROWS_MAX", listed)
    assert len(crowded(make_tables(random.Random(5), 2, rows, 900))) == 1
