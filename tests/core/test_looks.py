"""What becomes of suspects, look by look."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paritree.core import limits
from paritree.core.agreement import Agreement
from paritree.core.columnplan import ColumnPlan
from paritree.core.errors import InvariantBroken
from paritree.core.looks import Looks, Wait, first_asks
from paritree.core.looktable import Picked, marked
from paritree.core.messages import Look
from paritree.core.suspects import Fate, Suspect

KEY = b"key-digest-bytes"
K = int.from_bytes(KEY[:8], "big")
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def look(*fresh: bytes, dead: str = "", columns: tuple[bytes, ...] = (), sealed: bytes = b"") -> Look:
    return Look(KEY, fresh, tuple(sorted(fresh)), dead, columns, None, sealed)


def first(looks: Looks, now: float, **seen: Look | None) -> None:
    """The first look: a region with None lacks the key, and is then asked for it by digest: still absent."""
    lacking = looks.receive_first({name: [seen[name]] if seen[name] else [] for name in looks.regions})
    assert set(lacking) == {name for name in looks.regions if seen[name] is None}
    looks.receive_lacking({name: [look()] for name in lacking}, now)


def again(looks: Looks, now: float, **seen: Look) -> None:
    asks = looks.again(now)
    assert not isinstance(asks, Wait)
    assert set(asks) == set(looks.regions)
    looks.receive_again({name: [seen[name]] for name in looks.regions}, now)


def suspect(looks: Looks):
    [only] = looks.suspects.values()
    return only


def make(lag_max_s: float = 2.0, regions: tuple[str, ...] = ("eu", "us")) -> Looks:
    return Looks(regions, [K], lag_max_s)


def differing_columns(suspect: Suspect, names: list[str]) -> list[str]:
    return Agreement(tuple(names)).differing_columns(suspect)


def test_equal_in_one_look_is_healed():
    looks = make()
    first(looks, 10.0, eu=look(A), us=look(A))
    assert suspect(looks).fate is Fate.HEALED
    assert looks.again(11.0) == {}


def test_two_equal_looks_confirm_not_before_lag_max():
    looks = make(lag_max_s=2.0)
    first(looks, 10.0, eu=look(A), us=look(B))
    assert looks.again(11.9) == Wait(12.0)
    again(looks, 12.0, eu=look(A), us=look(B))
    assert suspect(looks).fate is Fate.CONFIRMED
    assert suspect(looks).groups == [["eu"], ["us"]]


def test_lag_max_zero_takes_the_second_look_at_once():
    looks = make(lag_max_s=0.0)
    first(looks, 10.0, eu=look(A), us=look(B))
    again(looks, 10.0, eu=look(A), us=look(B))
    assert suspect(looks).fate is Fate.CONFIRMED


def test_a_missing_key_is_confirmed_as_missing():
    looks = make()
    first(looks, 10.0, eu=look(A), us=None)
    again(looks, 12.0, eu=look(A), us=look())
    assert suspect(looks).fate is Fate.OPEN, "it has to be there still after it was missed"
    again(looks, 12.0, eu=look(A), us=look())
    assert suspect(looks).fate is Fate.CONFIRMED
    assert suspect(looks).missing_in == ["us"]
    assert suspect(looks).groups == [["eu"]]


def test_a_key_that_is_gone_after_it_was_missed_is_no_loss():
    """us was read last in the second look: by then the copy had come, and the deletion after it too."""
    looks = make()
    first(looks, 10.0, eu=look(A), us=None)
    again(looks, 12.0, eu=look(A), us=look())
    again(looks, 12.0, eu=look(), us=look())
    assert suspect(looks).fate is Fate.HEALED


def test_a_key_that_is_missed_before_it_is_seen_is_missed_anew():
    """eu was read first, before the key was made there, us last, after it was copied: eu is asked once more."""
    looks = make()
    lacking = looks.receive_first({"eu": [look()], "us": [look(A)]})
    assert set(lacking) == {"eu"}
    looks.receive_lacking({"eu": [look(A)]}, 10.0)
    assert suspect(looks).fate is Fate.HEALED


def test_the_closing_look_waits_for_nothing_and_asks_for_nothing_else():
    looks = Looks(("eu", "us"), [K, 7], 2.0)
    other = replace(look(B), key_digest=bytes(7) + b"\x07" + b"x" * 8)
    there = replace(other, fresh=(C,))
    looks.receive_first({"eu": [look(A), other], "us": [there]})
    looks.receive_lacking({"us": [look()]}, 10.0)
    looks.again(12.0)
    looks.receive_again({"eu": [look(A), other], "us": [look(), replace(other, fresh=(A,))]}, 12.0)
    asks = looks.again(12.0)
    assert not isinstance(asks, Wait)
    assert {ask.key_digests for ask in asks.values()} == {(KEY,)}
    looks.receive_again({"eu": [look(A)], "us": [look()]}, 12.0)
    assert looks.suspects[KEY].fate is Fate.CONFIRMED
    assert looks.again(12.0) == Wait(14.0)


def test_an_answer_that_came_too_early_confirms_nothing():
    looks = make(lag_max_s=2.0)
    first(looks, 10.0, eu=look(A), us=look(B))
    looks.receive_again({"eu": [look(A)], "us": [look(B)]}, 11.0)
    assert suspect(looks).fate is Fate.OPEN
    again(looks, 13.0, eu=look(A), us=look(B))
    assert suspect(looks).fate is Fate.CONFIRMED


def test_a_change_between_looks_starts_anew_and_can_heal():
    looks = make()
    first(looks, 10.0, eu=look(A), us=look(B))
    again(looks, 12.0, eu=look(A), us=look(C))
    assert suspect(looks).fate is Fate.OPEN
    again(looks, 14.0, eu=look(A), us=look(A))
    assert suspect(looks).fate is Fate.HEALED


def test_what_never_rests_is_unsettled():
    looks = make(lag_max_s=1.0)
    first(looks, 0.0, eu=look(A), us=look(B))
    for number in range(1, limits.LOOKS_MAX):
        assert suspect(looks).fate is Fate.OPEN
        again(looks, float(number), eu=look(A), us=look(bytes([number]) * 16))
    assert suspect(looks).fate is Fate.UNSETTLED


def test_a_dead_letter_is_unknown():
    looks = make()
    first(looks, 0.0, eu=look(A), us=look(dead="note: text with NUL"))
    assert suspect(looks).fate is Fate.UNKNOWN
    assert "us" in suspect(looks).reason
    assert "NUL" in suspect(looks).reason


def test_equal_multisets_are_equal():
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A, A), us=look(A, A))
    assert suspect(looks).fate is Fate.HEALED


@pytest.mark.parametrize("other", [(A,), (A, B), (A, A, A)])
def test_unequal_multisets_are_confirmed_with_their_counts(other):
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A, A), us=look(*other))
    again(looks, 0.0, eu=look(A, A), us=look(*other))
    assert suspect(looks).fate is Fate.CONFIRMED
    assert suspect(looks).counts == {"eu": 2, "us": len(other)}


def test_gone_everywhere_is_healed():
    looks = make()
    first(looks, 0.0, eu=look(), us=None)
    assert suspect(looks).fate is Fate.HEALED


def test_sealed_keys_travel_to_the_region_that_lacks_them():
    looks = make()
    asks = first_asks([K], looks.regions, ("eu",))
    assert (asks["eu"].seal, asks["us"].seal) == (True, False)
    lacking = looks.receive_first({"eu": [look(A, sealed=b"cipher")], "us": []})
    assert lacking["us"].key_digests == (KEY,)
    assert dict(lacking["us"].sealed) == {KEY: b"cipher"}


def test_a_k_that_nobody_shows_is_kept_apart():
    looks = make()
    assert looks.receive_first({"eu": [], "us": []}) == {}
    looks.receive_lacking({}, 1.0)
    assert looks.unexplained == {K}


def test_a_region_that_does_not_answer_is_an_error_not_an_absence():
    looks = make()
    with pytest.raises(InvariantBroken):
        looks.receive_first({"eu": [look(A)]})


def test_differing_columns_compare_regions_with_one_row():
    looks = make(regions=("eu", "us", "ap"), lag_max_s=0.0)
    one, two = (b"1" * 8, b"x" * 8), (b"1" * 8, b"y" * 8)
    first(looks, 0.0, eu=look(A, columns=one), us=look(B, columns=two), ap=None)
    assert differing_columns(suspect(looks), ["id", "amount"]) == ["amount"]


def columns_asked(looks: Looks, now: float) -> bool:
    asks = looks.again(now)
    assert not isinstance(asks, Wait)
    [asked] = {ask.columns for ask in asks.values()}
    return asked


def test_columns_are_not_asked_again_of_rows_that_rest():
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A, columns=(b"1" * 8,)), us=look(B, columns=(b"2" * 8,)))
    assert not columns_asked(looks, 0.0)
    again(looks, 0.0, eu=look(A), us=look(B))
    assert suspect(looks).fate is Fate.CONFIRMED
    assert differing_columns(suspect(looks), ["amount"]) == ["amount"]


def test_columns_of_a_row_that_changed_are_asked_anew():
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A, columns=(b"1" * 8, b"0" * 8)), us=look(B, columns=(b"2" * 8, b"0" * 8)))
    again(looks, 0.0, eu=look(A), us=look(C))
    assert suspect(looks).fate is Fate.OPEN
    assert columns_asked(looks, 0.0)
    again(looks, 0.0, eu=look(A, columns=(b"1" * 8, b"0" * 8)), us=look(C, columns=(b"1" * 8, b"3" * 8)))
    assert suspect(looks).fate is Fate.CONFIRMED
    assert differing_columns(suspect(looks), ["id", "amount"]) == ["amount"]


def both(looks: Looks, now: float, eu: Look, us: Look) -> Fate:
    """One more look of two regions; what becomes of the suspect."""
    again(looks, now, eu=eu, us=us)
    return suspect(looks).fate


def test_what_is_the_same_keeps_versions_columns_and_cells():
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A, columns=(b"1" * 8,)), us=look(B, columns=(b"2" * 8,)))
    assert both(looks, 0.0, Look(KEY, same=True), Look(KEY, same=True)) is Fate.CONFIRMED
    assert suspect(looks).versions == {"eu": (A,), "us": (B,)}
    assert differing_columns(suspect(looks), ["amount"]) == ["amount"]


def test_a_missing_key_that_is_the_same_is_still_missing():
    looks = make(lag_max_s=0.0)
    first(looks, 0.0, eu=look(A), us=None)
    assert both(looks, 0.0, Look(KEY, same=True), Look(KEY)) is Fate.OPEN
    assert both(looks, 0.0, Look(KEY, same=True), Look(KEY)) is Fate.CONFIRMED
    assert suspect(looks).missing_in == ["us"]


def test_a_write_that_leaves_the_digests_alone_delays_the_finding():
    looks = make(lag_max_s=0.0)
    written = [replace(look(A), version=at, whole=True) for at in (5, 6, 6)]
    first(looks, 0.0, eu=written[0], us=look(B))
    assert both(looks, 0.0, written[1], Look(KEY, same=True)) is Fate.OPEN
    assert both(looks, 0.0, written[2], Look(KEY, same=True)) is Fate.CONFIRMED


@pytest.mark.parametrize(
    ("us", "fate"),
    [
        (replace(look(B), version=5, whole=True), Fate.CONFIRMED),
        (replace(look(B), version=5), Fate.OPEN),
        (replace(look(B), version=6, whole=True), Fate.OPEN),
        (look(B), Fate.OPEN),
        (replace(look(B, C), version=5, whole=True), Fate.OPEN),
        (replace(look(A), version=5, whole=True), Fate.HEALED),
        (None, Fate.OPEN),
    ],
)
def test_different_rows_of_one_write_are_confirmed_at_once(us: Look | None, fate: Fate):
    looks = make(lag_max_s=2.0)
    first(looks, 0.0, eu=replace(look(A), version=5, whole=True), us=us)
    assert suspect(looks).fate is fate


def test_one_version_of_all_but_one_region_is_no_proof():
    looks = make(lag_max_s=2.0, regions=("eu", "us", "ap"))
    seen = {"eu": (A, 5), "us": (B, 5), "ap": (A, 4)}
    first(looks, 0.0, **{name: replace(look(d), version=at, whole=True) for name, (d, at) in seen.items()})
    assert suspect(looks).fate is Fate.OPEN


def test_part_of_a_row_of_one_version_is_no_proof():
    looks = make(lag_max_s=2.0)
    first(looks, 0.0, eu=replace(look(A), version=5), us=replace(look(B), version=5))
    assert suspect(looks).fate is Fate.OPEN


PLAN = ColumnPlan(5, frozenset([1]))
"""Of five columns the second is the key."""


def many(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Two suspects are many, and one is the sample."""
    monkeypatch.setattr("paritree.core.columnplan.FEW_KEYS", 1)
    monkeypatch.setattr("paritree.core.columnplan.SAMPLE_KEYS", 1)
    return Looks(("eu", "us"), [K, OTHER_K], 0.0, plan=PLAN)


OTHER = b"other-key-digest"
OTHER_K = int.from_bytes(OTHER[:8], "big")


def spread(*sent: bytes, picked: Picked | None) -> tuple[bytes, ...]:
    return PLAN.row.spread(sent, picked)[0]


def test_of_many_keys_a_sample_says_which_columns_are_asked_one_by_one(monkeypatch: pytest.MonkeyPatch):
    looks = many(monkeypatch)
    asks = first_asks([K, OTHER_K], looks.regions, (), PLAN)
    assert asks["eu"].sampled == 1
    sample = [spread(*(bytes([i]) * 8 for i in (1, n, 3, 4)), picked=asks["eu"].picked) for n in (2, 9)]
    looks.receive_first(
        {
            "eu": [look(A, columns=sample[0]), replace(look(A), key_digest=OTHER)],
            "us": [look(B, columns=sample[1]), replace(look(B), key_digest=OTHER)],
        }
    )
    looks.receive_lacking({}, 0.0)
    asks = looks.again(0.0)
    assert not isinstance(asks, Wait)
    [ask] = {id(ask): ask for ask in asks.values()}.values()
    assert ask.columns == {OTHER}
    assert ask.picked == PLAN.all()  # one key is few


def told_apart(monkeypatch: pytest.MonkeyPatch, *, sums: tuple[bytes, bytes]) -> Looks:
    """Two regions whose third column differs, and of the rest only the sum is known."""
    looks = many(monkeypatch)
    one, two = look(A), look(B)
    looks.receive_first({"eu": [one], "us": [two]})
    looks.receive_lacking({}, 0.0)
    monkeypatch.setattr(Looks, "_differing", lambda *_: ({2}, 0.0))
    monkeypatch.setattr("paritree.core.columnplan.FEW_KEYS", 0)
    asks = looks.again(0.0)
    assert not isinstance(asks, Wait)
    picked = asks["eu"].picked
    assert picked is not None
    assert marked(picked.alone, 5).tolist() == [False, False, True, False, False]
    assert marked(picked.together, 5).tolist() == [True, False, False, True, True]
    columns = [spread(digest, total, picked=picked) for digest, total in zip((b"3" * 8, b"4" * 8), sums, strict=True)]
    looks.receive_again({n: [Look(KEY, same=True, columns=c)] for n, c in zip(("eu", "us"), columns, strict=True)}, 0.0)
    assert suspect(looks).fate is Fate.CONFIRMED
    return looks


def test_equal_sums_are_equal_columns(monkeypatch: pytest.MonkeyPatch):
    looks = told_apart(monkeypatch, sums=(b"s" * 8, b"s" * 8))
    assert looks.columns() == {}
    assert differing_columns(suspect(looks), ["a", "b", "c", "d", "e"]) == ["c"]


def test_sums_that_differ_are_taken_apart(monkeypatch: pytest.MonkeyPatch):
    looks = told_apart(monkeypatch, sums=(b"s" * 8, b"t" * 8))
    asks = looks.columns()
    assert set(asks) == {"eu", "us"}
    assert asks["eu"].columns == {KEY}
    assert not asks["eu"].read
    monkeypatch.undo()
    columns = [
        spread(*(d * 8 for d in digests), picked=PLAN.all())
        for digests in ((b"1", b"3", b"5", b"6"), (b"1", b"4", b"5", b"7"))
    ]
    looks.receive_columns({n: [Look(KEY, same=True, columns=c)] for n, c in zip(("eu", "us"), columns, strict=True)})
    assert looks.columns() == {}
    assert differing_columns(suspect(looks), ["a", "b", "c", "d", "e"]) == ["c", "e"]


def test_columns_of_a_row_that_is_not_the_confirmed_one_are_not_taken(monkeypatch: pytest.MonkeyPatch):
    looks = told_apart(monkeypatch, sums=(b"s" * 8, b"t" * 8))
    before = dict(suspect(looks).columns)
    looks.receive_columns({"eu": [Look(KEY, fresh=(C,), columns=(b"x" * 8,) * 5)], "us": []})
    assert suspect(looks).columns == before
