"""Columns with a tolerance: what may be declared, what a value's cell is, and which values share one."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from paritree.core.canonical import encode, shifted_encoder
from paritree.core.errors import ConfigError, DeadLetter, InvariantBroken
from paritree.core.profile import Profile
from paritree.core.tolerance import DIGITS_MAX, parse_tolerance
from paritree.core.types import LogicalType, parse_type

ONE_TEXT = {"0.1": "0.1", ".10": "0.1", "1e-1": "0.1", "+0.10E0": "0.1", "1": "1", "01.": "1", "100": "100"} | {
    "1.5e3": "1500",
    "1e1099": "1" + "0" * 1099,
    "1e-1100": "0." + "0" * 1099 + "1",
}
NOT_ONE = (
    "",
    "0",
    "0.0",
    "-1",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    ".",
    "e5",
    "1_0",
    "٣",
    "0x1",
    "1 2",
    "1e",
    "1,5",
    "-0",
)


def tolerant(tolerance: Any, name: str = "decimal", **rules: Any) -> LogicalType:
    return parse_type({"type": name, "tolerance": tolerance, **rules}, "file: columns.c")


def cells(value: Any, kind: LogicalType) -> tuple[bytes, bytes]:
    return encode(value, kind), shifted_encoder(kind)(value)


def numbers(value: Any, kind: LogicalType) -> tuple[int, int]:
    """The cells of both grids, as MessagePack reads them."""
    one, other = map(msgpack.unpackb, cells(value, kind))
    return one, other


def exact(value: float | Decimal, tolerance: str, *, shift: int) -> int:
    return math.floor((Fraction(value) + shift * Fraction(tolerance)) / (2 * Fraction(tolerance)))


# --- what may be declared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("declared", "text"), ONE_TEXT.items(), ids=lambda text: text[:12])
def test_a_tolerance_has_one_text(declared: str, text: str) -> None:
    assert parse_tolerance(declared, "c") == text
    assert parse_tolerance(text, "c") == text
    assert Fraction(text) == Fraction(declared)


@pytest.mark.parametrize(
    ("declared", "text"), [(1, "1"), (0.1, "0.1"), (1e-7, "0.0000001"), (2.5e3, "2500"), (Decimal("0.010"), "0.01")]
)
def test_a_number_is_what_its_text_says(declared: Any, text: str) -> None:
    assert parse_tolerance(declared, "c") == text


@pytest.mark.parametrize("declared", [*NOT_ONE, 0, 0.0, -0.5, math.nan, math.inf, Decimal("NaN"), True, [], None])
def test_what_is_no_tolerance_is_refused(declared: Any) -> None:
    with pytest.raises(ConfigError, match=r"^file: columns\.c: a tolerance"):
        parse_tolerance(declared, "file: columns.c")


@pytest.mark.parametrize("declared", [f"1e{DIGITS_MAX}", f"1e-{DIGITS_MAX + 1}", "1e99999", "1e-99999"])
def test_a_tolerance_of_too_many_digits_is_refused(declared: str) -> None:
    for said in (declared, 10**5_000):
        with pytest.raises(ConfigError, match=f"at most {DIGITS_MAX} digits"):
            parse_tolerance(said, "c")


def test_a_number_that_a_float_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 15 digits") as caught:
        parse_tolerance(0.1234567890123456, "c")
    assert 'tolerance = "0.1234567890123456"' in caught.value.next_step
    assert parse_tolerance("0.1234567890123456", "c") == "0.1234567890123456"


@pytest.mark.parametrize(
    "declared",
    [
        *({"type": name, "tolerance": "1"} for name in ("int", "text", "bool", "date", "timestamp", "json", "uuid")),
        {"type": "list", "of": "float", "tolerance": "1"},
        {"type": "list", "of": {"type": "float", "tolerance": "1"}},
        {"type": "map", "key": {"type": "decimal", "tolerance": "1"}, "value": "int"},
        {"type": "struct", "fields": {"x": {"type": "float", "tolerance": "1"}}},
        {"type": "list", "of": {"type": "list", "of": {"type": "float", "tolerance": "1"}}},
    ],
    ids=str,
)
def test_only_whole_columns_of_floats_and_decimals_have_one(declared: Any) -> None:
    with pytest.raises(ConfigError, match="a tolerance is for"):
        parse_type(declared, "c")


@pytest.mark.parametrize("rules", [{"precision": "ms"}, {"rules": ["nfc"]}, {"scale": -1}, {"rounding": "up"}], ids=str)
def test_other_rules_stay_as_strict_beside_it(rules: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tolerant("1", "decimal", **rules)


def test_an_int_is_told_to_be_a_decimal() -> None:
    with pytest.raises(ConfigError) as caught:
        tolerant("1", "int")
    assert caught.value.next_step == 'write type = "decimal" with it'


def test_a_key_has_none() -> None:
    with pytest.raises(ConfigError, match="key column 'c' has a tolerance"):
        Profile("d", ("c",), {"c": tolerant("1")})


def test_the_tolerance_is_part_of_the_type_and_of_the_profile_id() -> None:
    def profile_id(kind: LogicalType) -> bytes:
        return Profile("d", ("id",), {"id": parse_type("int"), "c": kind}).profile_id

    kind = tolerant("0.10")
    assert kind.spec() == {"type": "decimal", "tolerance": "0.1"}
    assert parse_type(kind.spec()) == kind
    assert kind.bare == parse_type("decimal")
    assert profile_id(kind) == profile_id(tolerant(0.1))
    assert len({profile_id(k) for k in (kind, kind.bare, tolerant("0.2"), tolerant("0.1", "float"))}) == 4


# --- what a cell is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cell", "shifted"),
    [
        *(("0", 0, 0), ("0.099", 0, 0), ("0.1", 0, 1), ("0.199", 0, 1), ("0.2", 1, 1), ("0.3", 1, 2)),
        *(("-0.001", -1, 0), ("-0.1", -1, 0), ("-0.101", -1, -1), ("-0.2", -1, -1), ("-0.201", -2, -1)),
        ("1e20", 5 * 10**20, 5 * 10**20),
    ],
)
def test_cells_are_half_open_and_two_tolerances_wide(value: str, cell: int, shifted: int) -> None:
    kind = tolerant("0.1")
    assert cells(value, kind) == (encode(cell, parse_type("int")), encode(shifted, parse_type("int")))


def test_cells_beyond_64_bits_are_written_as_ints_are() -> None:
    kind = tolerant("0.5")
    for cell in (2**64 - 1, 2**64, -(2**63), -(2**63) - 1):
        assert encode(cell, kind) == encode(cell, parse_type("int"))
    assert encode(2**64, kind)[0] == 0xC7


def test_no_cell_is_too_large() -> None:
    longest = "9" * 131_072
    fine = "0." + "0" * 1_099 + "1"
    packed = encode(longest, tolerant(fine))
    digits = packed[6:].decode()
    assert packed[:6] == b"\xc9" + len(digits).to_bytes(4, "big") + b"\x01"
    assert digits == "4" + "9" * 131_071 + "5" + "0" * 1_099
    largest = 1.7976931348623157e308
    for value in (largest, -largest, 5e-324, -5e-324):
        cell = encode(value, tolerant("1e-300", "float"))
        assert msgpack.unpackb(cell, ext_hook=lambda _, data: int(data)) == exact(value, "1e-300", shift=0)


@pytest.mark.parametrize("name", ["float", "decimal"])
def test_what_is_no_number_has_cells_of_its_own(name: str) -> None:
    kind = tolerant("1e-3", name)
    texts = {math.nan: b"\xc7\x03\x01NaN", math.inf: b"\xd7\x01Infinity", -math.inf: b"\xc7\x09\x01-Infinity"}
    for value, packed in texts.items():
        given_as = value if name == "float" else str(value)
        assert cells(given_as, kind) == (packed, packed)
    assert cells(None, kind) == (b"\xc0", b"\xc0")


def test_what_does_not_fit_the_type_is_a_dead_letter_as_without_a_tolerance() -> None:
    for name, value in (
        *(("decimal", "1" * 131_073), ("decimal", "1e-16384"), ("decimal", "x"), ("decimal", True)),
        *(("float", 2**53 + 1), ("float", "1"), ("float", True), ("float", DeadLetter("said by the connector"))),
    ):
        for encoder in (encode, lambda value, kind: shifted_encoder(kind)(value)):
            with pytest.raises(DeadLetter) as caught:
                encoder(value, tolerant("1000", name))
            with pytest.raises(DeadLetter) as plain:
                encode(value, parse_type(name))
            assert caught.value.message == plain.value.message


def test_a_type_without_a_tolerance_has_no_shifted_grid() -> None:
    with pytest.raises(InvariantBroken):
        shifted_encoder(parse_type("float"))


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
TOLERANCES = st.decimals(min_value="1e-400", max_value="1e400", allow_nan=False).filter(lambda t: t > 0).map(str)


@given(value=FLOATS | DECIMALS, tolerance=TOLERANCES)
@example(value=0.3, tolerance="0.1")  # the float is below three tenths
@example(value=-0.0, tolerance="0.1")
def test_cells_are_those_of_exact_arithmetic(value: float | Decimal, tolerance: str) -> None:
    kind = tolerant(tolerance, "float" if isinstance(value, float) else "decimal")
    for encoder, shift in ((encode, 0), (lambda value, kind: shifted_encoder(kind)(value), 1)):
        assert encoder(value, kind) == encode(exact(value, kind.tolerance or "", shift=shift), parse_type("int"))


# --- rounding ---------------------------------------------------------------------------------------------------------


def test_rounding_comes_before_the_cell() -> None:
    kind = tolerant("0.05", scale=1)
    assert [numbers(v, kind)[0] for v in ("0.04", "0.05", "0.06", "0.14", "0.15")] == [0, 0, 1, 1, 2]
    floor = tolerant("0.05", scale=1, rounding="floor")
    assert [numbers(v, floor)[0] for v in ("0.04", "0.05", "0.099", "0.1")] == [0, 0, 0, 1]
    assert cells("0.149", floor) == cells("0.1", floor)


def test_the_guarantee_is_about_rounded_values() -> None:
    """0.14 and 0.16 are within 0.05, but rounded to 0.1 and 0.2 they are 2t apart."""
    assert not agree(["0.14", "0.16"], tolerant("0.05", scale=1))
    assert agree(["0.14", "0.16"], tolerant("0.05"))


# --- which values share a cell ----------------------------------------------------------------------------------------


def agree(values: list[Any], kind: LogicalType) -> bool:
    """Whether all share a cell of one grid."""
    grids = zip(*(cells(value, kind) for value in values), strict=True)
    return any(len(set(grid)) == 1 for grid in grids)


def test_at_below_and_above_t_and_2t() -> None:
    """Wherever the first value lies: within t always, from 2t on never, in between by where the borders are."""
    kind = tolerant("0.1")
    between: set[bool] = set()
    for start in (Decimal(n) / 100 for n in range(-45, 46)):
        for apart, expected in (("0", True), ("0.0999", True), ("0.1", True), ("0.2", False), ("0.2001", False)):
            assert agree([start, start + Decimal(apart)], kind) is expected, (start, apart)
            assert agree([start, start + Decimal(apart) / 2, start + Decimal(apart)], kind) is expected, (start, apart)
        between |= {agree([start, start + Decimal(apart)], kind) for apart in ("0.1001", "0.15", "0.1999")}
    assert between == {True, False}


POSITIONS = st.decimals(-1000, 1000, places=6)
SHARES = st.lists(st.fractions(0, 1, max_denominator=64), min_size=2, max_size=5)


@given(start=POSITIONS, shares=SHARES, tolerance=st.sampled_from(("0.000001", "0.1", "0.3", "7", "1000")))
def test_values_within_t_of_one_another_agree_however_many(start: Decimal, shares: list[Any], tolerance: str) -> None:
    values = [Decimal(str(float(start))) + Decimal(str(float(share * Fraction(tolerance)))) for share in shares]
    apart = max(values) - min(values)
    kind = tolerant(tolerance)
    if apart <= Decimal(tolerance):
        assert agree(values, kind)
    if agree(values, kind):
        assert apart < 2 * Decimal(tolerance)


@given(one=FLOATS, ulps=st.lists(st.integers(0, 40), min_size=1, max_size=2), share=st.integers(10, 30))
def test_floats_at_the_borders(one: float, ulps: list[int], share: int) -> None:
    """Floats some units of their last place apart and a tolerance of about that size: nothing is rounded on the way."""
    tolerance = format(Decimal(math.ulp(one)) * share, "f")
    near = [one, *(one + count * math.ulp(one) for count in ulps)]
    assume(all(map(math.isfinite, near)))
    apart = max(map(Fraction, near)) - min(map(Fraction, near))
    shared = agree(near, tolerant(tolerance, "float"))
    if apart <= Fraction(tolerance):
        assert shared
    if apart >= 2 * Fraction(tolerance):
        assert not shared


def test_agreement_of_pairs_is_not_agreement_of_all() -> None:
    """The counterexample of CANONICAL.md: the pairs are 0.7 and 0.9 apart, all three 1.6, which is above t = 1."""
    kind = tolerant("1")
    one, two, three = "0.5", "1.2", "2.1"
    assert agree([one, two], kind)
    assert agree([two, three], kind)
    assert not agree([one, three], kind)
    assert not agree([one, two, three], kind)
