"""Columns with a tolerance: the vectorised cells are the plain encoder's, in every carrier, at every border."""

from __future__ import annotations

import math
import secrets
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core.canonical import encode
from paritree.core.carrier import plain_values
from paritree.core.digest import DatasetKeys
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.fast.cells import cells_of
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile
from paritree.core.types import LogicalType, parse_type

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1
TOLERANCES = ("0.005", "0.1", "0.3", "0.5", "1", "7", "1e-9", "33.33", "1000000", "1e-30", "1e30")
FLOATS = st.floats() | st.floats(-1000, 1000) | st.integers(-5000, 5000).map(lambda n: n / 100)
SCALED = st.integers(INT64_MIN, INT64_MAX) | st.integers(-(10**6), 10**6)
NUMBER_TEXTS = st.one_of(
    st.builds(
        lambda n, f, tail: f"{n / 10**f:.{f}f}{tail}", SCALED, st.integers(0, 9), st.sampled_from(("", "0", "00"))
    ),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ("NaN", "-Infinity", "inf", "", "x", "1e5", "+1", ".5", "5.", " 1", "-0", "-0.0000000", "٣", "1\n")
    ),
)


def tolerant(name: str, tolerance: str, **rules: Any) -> LogicalType:
    return parse_type({"type": name, "tolerance": tolerance, **rules})


def plain_cells(array: pa.Array, kind: LogicalType) -> list[bytes | None]:
    found: list[bytes | None] = []
    for value in plain_values(array, kind):
        try:
            found.append(encode(value, kind))
        except DeadLetter:
            found.append(None)
    return found


def assert_equal_to_plain(array: pa.Array, kind: LogicalType) -> int | None:
    """Every decided cell has the plain encoder's bytes. The number of decided ones; None without a vectorised way."""
    found = cells_of(array, kind)
    if found is None:
        return None
    assert found.numbers.type == pa.int64()
    assert len(found.numbers) == len(found.undecided) == len(array)
    cells = [encode(number, parse_type("int")) for number in found.numbers.to_pylist()]
    plain = plain_cells(array, kind)
    for row, undecided in enumerate(found.undecided.tolist()):
        assert undecided or cells[row] == plain[row], (array[row], kind.tolerance)
    return len(array) - int(found.undecided.sum())


def near_borders(tolerance: str) -> st.SearchStrategy[float]:
    """The floats next to a border of some cell, and on it where there is one."""

    def at(cell: int, steps: int) -> float:
        value = float(Fraction(tolerance) * cell)
        for _ in range(abs(steps)):
            value = math.nextafter(value, math.inf if steps > 0 else -math.inf)
        return value

    return st.builds(at, st.integers(-(10**6), 10**6) | st.integers(-3, 3), st.integers(-2, 2))


@given(data=st.data(), tolerance=st.sampled_from(TOLERANCES), carrier=st.sampled_from((pa.float64(), pa.float32())))
def test_floats(data: st.DataObject, tolerance: str, carrier: pa.DataType) -> None:
    values = data.draw(st.lists(st.none() | FLOATS | near_borders(tolerance), max_size=40))
    assert_equal_to_plain(pa.array(values, carrier), tolerant("float", tolerance))


@given(
    values=st.lists(st.none() | SCALED, max_size=30),
    scale=st.integers(0, 18),
    tolerance=st.sampled_from(TOLERANCES),
    to=st.none() | st.integers(0, 4),
    rounding=st.sampled_from(("floor", "truncate", "half_up", "half_even")),
)
def test_decimals(values: list[int | None], scale: int, tolerance: str, to: int | None, rounding: str) -> None:
    rules = {"rounding": rounding} | ({} if to is None else {"scale": to})
    kind = tolerant("decimal", tolerance, **rules)
    scaled = [None if v is None else Decimal(v).scaleb(-scale) for v in values]
    assert_equal_to_plain(pa.array(scaled, pa.decimal128(38, scale)), kind)
    assert_equal_to_plain(pa.array(values, pa.int64()), kind)
    assert_equal_to_plain(pa.array([None if v is None else f"{v:f}" for v in scaled], pa.utf8()), kind)


@given(values=st.lists(st.none() | NUMBER_TEXTS, max_size=30), tolerance=st.sampled_from(TOLERANCES))
def test_texts(values: list[str | None], tolerance: str) -> None:
    for carrier in (pa.utf8(), pa.large_utf8()):
        assert_equal_to_plain(pa.array(values, carrier), tolerant("decimal", tolerance))


INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())


@pytest.mark.parametrize("carrier", INTEGERS, ids=str)
@pytest.mark.parametrize("name", ["float", "decimal"])
def test_integers_at_their_limits(carrier: pa.DataType, name: str) -> None:
    bits, signed = carrier.bit_width, not pa.types.is_unsigned_integer(carrier)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    near = [value for edge in (low, 0, 1 << 53, high) for value in (edge - 1, edge, edge + 1) if low <= value <= high]
    for tolerance in TOLERANCES:
        decided = assert_equal_to_plain(pa.array([*near, None], carrier), tolerant(name, tolerance))
        assert decided is None or decided > 0


MOSTLY: list[tuple[str, pa.Array]] = [
    ("float", pa.array([n / 100 for n in range(-500, 500)])),
    ("float", pa.array([n * 0.1 for n in range(-500, 500)], pa.float32())),
    ("decimal", pa.array([f"{n / 100:.2f}" for n in range(-500, 500)])),
    ("decimal", pa.array([Decimal(n) / 100 for n in range(-500, 500)], pa.decimal128(12, 2))),
    ("decimal", pa.array(range(-500, 500))),
    ("decimal", pa.array(["1.5", "-2.25"]).dictionary_encode()),
    ("float", pc.run_end_encode(pa.array([1.5, 1.5, -2.25]))),
]


@pytest.mark.parametrize(("name", "array"), MOSTLY, ids=lambda value: str(getattr(value, "type", value)))
@pytest.mark.parametrize("tolerance", ["0.005", "0.1", "1", "20"])
def test_usual_values_are_decided_on_borders_too(name: str, array: pa.Array, tolerance: str) -> None:
    assert assert_equal_to_plain(array, tolerant(name, tolerance)) == len(array)


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_the_smallest_floats(tolerance: str) -> None:
    """Their quotients underflow to zeros of either sign."""
    tiny = [sign * steps * 5e-324 for sign in (1, -1) for steps in (0, 1, 2, 3)]
    decided = assert_equal_to_plain(pa.array([*tiny, 2.0**-1022, -(2.0**-1022)]), tolerant("float", tolerance))
    assert decided is None or decided == 10


def test_slices_have_the_cells_of_their_rows() -> None:
    for name, array in MOSTLY[:5]:
        holed = pc.if_else(pa.array([n % 7 != 0 for n in range(len(array))]), array, pa.scalar(None, array.type))
        whole = cells_of(holed, tolerant(name, "0.1"))
        part = cells_of(holed.slice(13, 99), tolerant(name, "0.1"))
        assert whole is not None
        assert part is not None
        assert part.numbers.equals(whole.numbers.slice(13, 99))
        assert cells_of(holed.slice(13, 0), tolerant(name, "0.1")) is not None


def test_carriers_without_a_vectorised_way() -> None:
    assert cells_of(pa.array([Decimal("1.5")], pa.decimal256(60, 7)), tolerant("decimal", "1")) is None
    assert cells_of(pa.array([Decimal("1.5")], pa.decimal128(38, 30)), tolerant("decimal", "1")) is None
    assert cells_of(pa.array([1.5]), tolerant("float", "1e300")) is None


def test_offsets_that_go_back_are_an_error() -> None:
    numbers = np.array([0, 4, 2], np.int32)
    texts = pa.Array.from_buffers(pa.utf8(), 2, [None, pa.py_buffer(numbers), pa.py_buffer(b"1234")])
    profile = Profile("d", ("id",), {"id": parse_type("int"), "x": tolerant("decimal", "1")})
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), texts], ["id", "x"])
    with pytest.raises(InvariantBroken, match="'x': Arrow offsets go back"):
        CompiledDigester(profile, DatasetKeys.of(bytes(32), "d"), secrets.token_bytes).digest(batch)


@settings(max_examples=60)
@given(
    floats=st.lists(st.none() | FLOATS, min_size=1, max_size=20),
    texts=st.lists(st.none() | NUMBER_TEXTS, min_size=20, max_size=20),
    tolerance=st.sampled_from(TOLERANCES),
)
def test_digests_are_those_of_the_plain_digester(
    compared: Any, floats: list[Any], texts: list[Any], tolerance: str
) -> None:
    """Rows with cells that are decided, that are not, and that are dead letters, beside columns of other types."""
    kinds = {"id": "int", "f": tolerant("float", tolerance), "d": tolerant("decimal", tolerance, scale=3), "n": "text"}
    profile = Profile("d", ("id",), {name: parse_type(kind) for name, kind in kinds.items()})
    columns = {
        "id": pa.array(range(len(floats))),
        "f": pa.array(floats, pa.float64()),
        "d": pa.array(texts[: len(floats)], pa.utf8()),
        "n": pa.array(["note"] * len(floats)),
    }
    assert len(compared(profile, pa.RecordBatch.from_pydict(columns))) == len(floats)
