"""Regions with columns of a tolerance, from rows through digests and looks to findings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from hashlib import blake2b
from itertools import combinations
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.agreement import Agreement
from paritree.core.digest import DatasetKeys
from paritree.core.digester import PlainDigester
from paritree.core.findings import Finding, Kind, judge
from paritree.core.looks import Looks, Wait
from paritree.core.messages import Look
from paritree.core.profile import Profile
from paritree.core.suspects import Fate, Suspect
from paritree.core.types import parse_type

KINDS = {
    "id": "int",
    "amount": {"type": "decimal", "tolerance": "0.1"},
    "weight": {"type": "decimal", "tolerance": "2"},
    "note": "text",
}
PROFILE = Profile("d", ("id",), {name: parse_type(kind) for name, kind in KINDS.items()})
DIGESTER = PlainDigester(PROFILE, DatasetKeys.of(bytes(32), "d"), bytes)
AGREEMENT = Agreement.of(PROFILE)
Row = Mapping[str, Any]


def row(amount: Any = "1", weight: Any = "10", note: str = "n") -> Row:
    return {"amount": amount, "weight": weight, "note": note}


def look(*rows: Row) -> Look:
    """What a region that holds these rows under one key shows."""
    columns = {name: pa.array([r[name] for r in rows], pa.utf8()) for name in ("amount", "weight", "note")}
    batch = pa.RecordBatch.from_pydict({"id": pa.array([1] * len(rows), pa.int64()), **columns})
    seen = DIGESTER.rows(batch)
    [key_digest] = {r.key_digest for r in seen} or {DIGESTER.rows(_batch_of_one())[0].key_digest}
    fresh = tuple(sorted(r.row_digest for r in seen))
    if len(seen) != 1:
        return Look(key_digest, fresh, fresh)
    shown = {"columns": DIGESTER.column_digests(seen[0]), "shifted": DIGESTER.shifted_digests(seen[0])}
    return Look(key_digest, fresh, fresh, **shown)


def _batch_of_one() -> pa.RecordBatch:
    texts = {name: pa.array(["1"]) for name in ("amount", "weight", "note")}
    return pa.RecordBatch.from_pydict({"id": pa.array([1]), **texts})


def looked(*seen: Mapping[str, Look]) -> Suspect:
    """The suspect after these looks, one after the other without a pause."""
    first, *others = seen
    looks = Looks(list(first), [int.from_bytes(look().key_digest[:8], "big")], 0.0, AGREEMENT)
    lacking = looks.receive_first({name: [shown] if shown.fresh else [] for name, shown in first.items()})
    looks.receive_lacking({name: [first[name]] for name in lacking}, 0.0)
    for number, shown in enumerate(others, 1):
        asks = looks.again(float(number))
        assert not isinstance(asks, Wait)
        assert all(ask.columns for ask in asks.values()), "shifted cells may move while row digests rest"
        looks.receive_again({name: [shown[name]] for name in first}, float(number))
    [suspect] = looks.suspects.values()
    return suspect


def finding(**regions: Look) -> Finding:
    """What two looks at the same rows find, or three where a region lacks them."""
    lacking = any(not shown.fresh for shown in regions.values())
    suspect = looked(*[regions] * (3 if lacking else 2))
    assert suspect.fate is Fate.CONFIRMED
    [found] = judge([suspect], {}, AGREEMENT).findings
    return found


def amounts(*values: Any) -> dict[str, Look]:
    return {name: look(row(value)) for name, value in zip("abcdefgh", values, strict=False)}


def test_shifted_digests_are_those_of_the_canonical_form() -> None:
    [seen] = DIGESTER.rows(_batch_of_one())
    keys = DatasetKeys.of(bytes(32), "d")
    cells = {"amount": b"\x05", "weight": b"\x00"}  # floor((1 + 0.1) / 0.2), floor((1 + 2) / 4)
    assert DIGESTER.shifted_digests(seen) == tuple(
        blake2b(b"\x91\x01" + cell, key=keys.derive(b"shifted:" + name.encode()), digest_size=8).digest()
        for name, cell in cells.items()
    )


@pytest.mark.parametrize("regions", [2, 3])
@given(start=st.decimals(-5, 5, places=2), data=st.data())
def test_regions_within_t_are_never_a_finding_and_those_2t_apart_always(
    regions: int, start: Decimal, data: st.DataObject
) -> None:
    more = data.draw(st.lists(st.integers(0, 25), min_size=regions - 1, max_size=regions - 1), label="hundredths")
    values = [start, *(start + Decimal(n) / 100 for n in more)]
    suspect = looked(amounts(*map(str, values)))
    apart = max(values) - min(values)
    if apart <= Decimal("0.1"):
        assert suspect.fate in (Fate.HEALED, Fate.WITHIN_TOLERANCE)
    if apart >= Decimal("0.2"):
        assert suspect.fate is Fate.OPEN
        for one, other in combinations(range(regions), 2):
            if abs(values[one] - values[other]) >= Decimal("0.2"):
                assert not any({"abc"[one], "abc"[other]} <= set(group) for group in AGREEMENT.groups(suspect))
    if suspect.fate is Fate.OPEN:
        assert AGREEMENT.differing_columns(suspect) == ["amount"]
        assert len(AGREEMENT.groups(suspect)) > 1


def test_one_look_settles_what_is_within_tolerance() -> None:
    suspect = looked(amounts("0.19", "0.21"))
    assert len(set(suspect.versions.values())) == 2
    assert suspect.fate is Fate.WITHIN_TOLERANCE
    judged = judge([suspect], {}, AGREEMENT)
    assert (judged.findings, judged.unknown, judged.unsettled) == ((), (), ())
    assert (judged.within_tolerance, judged.healed) == (1, 0)


def test_columns_are_judged_one_by_one() -> None:
    """Amount shares a cell of the shifted grid only, weight one of the first grid only; the note is exact."""
    one, other = row("0.19", "1.5"), row("0.21", "2.5")
    assert looked({"a": look(one), "b": look(other)}).fate is Fate.WITHIN_TOLERANCE
    found = finding(a=look(one), b=look({**other, "note": "another"}))
    assert (found.kind, found.columns, found.groups) == (Kind.DIFFERENT, ("note",), (("a",), ("b",)))
    assert finding(a=look(one), b=look({**other, "weight": "7"})).columns == ("weight",)


def test_all_regions_must_share_a_cell_of_the_same_grid() -> None:
    found = finding(**amounts("0.05", "0.12", "0.21"))
    assert found.columns == ("amount",)
    assert found.groups == (("a", "b"), ("c",))
    assert finding(**amounts("0.21", "0.12", "0.05")).groups == (("b", "c"), ("a",))


def test_regions_with_equal_row_digests_stay_together_and_sets_of_them_join() -> None:
    """0.05 and 0.12 share a cell; 0.12 and 0.21 one of the shifted grid, as 0.12 and 0.29 do."""
    assert finding(**amounts("0.05", "0.12", "0.21", "0.21")).groups == (("a", "b"), ("c", "d"))
    assert finding(**amounts("0.05", "0.12", "0.21", "0.21", "0.29")).groups == (("c", "d", "e"), ("a", "b"))
    assert finding(**amounts("0.41", "0.12", "0.21", "0.29")).groups == (("b", "c", "d"), ("a",))


def test_two_that_agree_and_one_without_the_row() -> None:
    found = finding(a=look(row("0.19")), b=look(row("0.21")), c=look())
    assert (found.kind, found.groups, found.missing_in) == (Kind.MISSING, (("a", "b"),), ("c",))
    assert found.columns == ()


def test_a_third_region_that_differs_elsewhere() -> None:
    found = finding(a=look(row("0.19")), b=look(row("0.21")), c=look(row("0.20", note="x")))
    assert (found.kind, found.groups, found.columns) == (Kind.DIFFERENT, (("a", "b"), ("c",)), ("note",))


@pytest.mark.parametrize(("one", "other"), [(None, "0"), ("NaN", "0"), ("NaN", None), ("Infinity", "-Infinity")])
def test_what_is_no_number_agrees_with_itself_only(one: Any, other: Any) -> None:
    assert looked(amounts(one, one)).fate is Fate.HEALED
    assert finding(**amounts(one, other)).columns == ("amount",)


def test_keys_that_occur_more_than_once_are_compared_by_row_digests() -> None:
    near = {"a": look(row("0.19"), row("0.19")), "b": look(row("0.21"), row("0.21"))}
    assert finding(**near).kind is Kind.DUPLICATE
    assert looked({"a": look(row("0.1"), row("1")), "b": look(row("1.01"), row("0.11"))}).fate is Fate.HEALED
    assert finding(a=look(row("0.19"), row("0.19")), b=look(row("0.19"))).kind is Kind.DUPLICATE


def test_a_row_that_comes_within_tolerance_later() -> None:
    suspect = looked(amounts("0.19", "0.41"), amounts("0.19", "0.29"), amounts("0.19", "0.29"))
    assert suspect.fate is Fate.WITHIN_TOLERANCE


def test_a_shifted_cell_that_moves_under_a_resting_row_digest() -> None:
    """0.09 and 0.11 have one row digest; with 0.21 only the second agrees: cells of an earlier look would lie."""
    before, after = amounts("0.21", "0.09"), amounts("0.21", "0.11")
    assert before["b"].fresh == after["b"].fresh
    assert looked(before, after).fate is Fate.WITHIN_TOLERANCE
    moved = looked(amounts("0.41", "0.09"), amounts("0.41", "0.11"))
    assert moved.fate is Fate.OPEN, "it changed between the looks"
    assert looked(*[amounts("0.41", "0.11")] * 2).fate is Fate.CONFIRMED


@pytest.mark.parametrize("lost", ["columns", "shifted"])
def test_without_every_digest_nothing_agrees(lost: str) -> None:
    shown = amounts("0.19", "0.21")
    for wrong in ((), getattr(shown["b"], lost)[:-1], getattr(shown["b"], lost) * 2):
        cut = {**shown, "b": replace(shown["b"], **{lost: wrong})}
        suspect = looked(cut, cut)
        assert suspect.fate is Fate.CONFIRMED
        assert AGREEMENT.groups(suspect) == [["a"], ["b"]]
    none = {name: replace(each, **{lost: ()}) for name, each in shown.items()}
    assert finding(**none).columns == (("amount",) if lost == "shifted" else ())


def test_digests_of_one_row_say_nothing_of_two() -> None:
    shown = amounts("0.19", "0.21")
    two = replace(shown["b"], fresh=look(row("0.21"), row("9")).fresh)
    assert looked({"a": shown["a"], "b": two}).fate is Fate.OPEN


def test_without_a_tolerance_agreement_is_equality() -> None:
    exact = Agreement(("amount", "id", "note", "weight"))
    suspect = looked(amounts("0.19", "0.21", "0.19"))
    assert not exact.holds(suspect)
    assert exact.groups(suspect) == suspect.groups == [["a", "c"], ["b"]]
    assert exact.differing_columns(suspect) == ["amount"]
