"""Whole batches: sizes at which tiles and buffers end, rows for which the kernels hand over, threads."""

from __future__ import annotations

import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from paritree.core.digest import DatasetKeys
from paritree.core.digester import REJECTS
from paritree.core.errors import InvariantBroken
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(32), "orders")


def profile(key: str = "id", **columns: Any) -> Profile:
    return Profile("orders", tuple(key.split(",")), {name: parse_type(kind) for name, kind in columns.items()})


def orders(rows: int, seed: int = 1) -> tuple[Profile, pa.RecordBatch]:
    """The ten columns of the bench table, with nulls."""
    chance = np.random.default_rng(seed)

    def some(values: Any, share: float = 0.1) -> Any:
        return pa.array(values, mask=chance.random(rows) < share)

    unscaled = chance.integers(-(10**11), 10**11, rows)
    both = np.stack([unscaled, unscaled >> 63], axis=1)
    words = np.array(["new", "paid", "shipped", "zurück", ""], object)[chance.integers(0, 5, rows)]
    notes = [None if i % 7 == 0 else "note " + "x" * (i * i % 90) for i in range(rows)]
    arrays = {
        "id": pa.array(np.arange(rows) * 3 - 5),
        "customer": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), rows, [None, pa.py_buffer(chance.bytes(16 * rows))]
        ),
        "status": some(words),
        "amount": pa.Array.from_buffers(pa.decimal128(12, 2), rows, [None, pa.py_buffer(both)]),
        "qty": pa.array(chance.integers(-200, 200, rows).astype(np.int32)),
        "paid": some(chance.random(rows) < 0.5),
        "weight": some(chance.standard_normal(rows)),
        "note": pa.array(notes, pa.utf8()),
        "created_at": some(1_577_836_800_000_000 + chance.integers(0, 10**14, rows)),
        "updated_at": some(1_577_836_800_000_000 + chance.integers(0, 10**14, rows), 0.9),
    }
    kinds = ("int", "uuid", "text", "decimal", "int", "bool", "float", "text", "timestamp", "timestamp")
    return profile(**dict(zip(arrays, kinds, strict=True))), pa.RecordBatch.from_pydict(arrays)


@pytest.mark.parametrize("rows", [0, 1, 255, 256, 257, 1000])
def test_sizes(compared: Any, rows: int) -> None:
    assert len(compared(*orders(rows))) == rows


def test_65537_rows(compared: Any) -> None:
    assert len(compared(*orders(65_537))) == 65_537


def test_slices_give_the_digests_of_their_rows() -> None:
    table, batch = orders(5_000)
    digester = CompiledDigester(table, KEYS, secrets.token_bytes)
    whole = digester.digest(batch)
    for start, length in ((0, 1), (1, 255), (3, 2_000), (4_999, 1), (7, 0)):
        part = digester.digest(batch.slice(start, length))
        assert np.array_equal(part.key_digests, whole.key_digests[start : start + length])
        assert np.array_equal(part.row_digests, whole.row_digests[start : start + length])
        assert part.locators.equals(whole.locators.slice(start, length))


def test_long_strings_and_rows_beyond_the_scratch_space(compared: Any) -> None:
    sizes = [0, 31, 32, 255, 256, 65_535, 65_536, 70_000, 3, 1_000_000, 5, 131_000, 131_072, 1]
    texts = pa.array(["é" + "a" * size for size in sizes] * 3)
    table = profile("id,text", id="int", text="text", raw="bytes")
    batch = pa.RecordBatch.from_pydict(
        {"id": pa.array(range(len(texts))), "text": texts, "raw": texts.cast(pa.large_binary())}
    )
    assert not compared(table, batch).dead


def test_numbers_that_kernels_hand_over(compared: Any) -> None:
    numbers = [
        "1" * 1000,
        "-0." + "1" * 1000,
        "1e5",
        "NaN",
        "12.50",
        None,
        "9" * 18,
        "9" * 19,
        "0." + "0" * 30 + "1",
        "x",
        "7",
    ] * 40
    table = profile(id="int", a="decimal", b={"type": "decimal", "scale": 1}, c="int")
    arrays = {
        "id": pa.array(range(len(numbers))),
        "a": pa.array(numbers),
        "b": pa.array(numbers),
        "c": pa.array(numbers),
    }
    digested = compared(table, pa.RecordBatch.from_pydict(arrays))
    assert len(digested) == len(numbers)
    assert {row.row % 11 for row in digested.dead} == {1, 3, 4, 8, 9}


def test_scales_beyond_every_buffer(compared: Any) -> None:
    """The digits after the point are many, but the number of digits that count is small."""
    numbers = [f"0.{'0' * zeros}1" for zeros in (20, 21, 22, 23, 60, 200, 9_999, 1_000_000)] * 8
    numbers += ["1." + "0" * zeros for zeros in (21, 22, 23, 1_000)]
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(len(numbers))), "a": pa.array(numbers)})
    compared(profile(id="int", a="decimal"), batch)


@pytest.mark.parametrize("scale", [0, 1, 7, 8, 15, 16, 18, 19, 22])
@pytest.mark.parametrize("rounding", ["floor", "truncate", "half_up", "half_even"])
def test_decimals_of_every_length(compared: Any, scale: int, rounding: str) -> None:
    chance = np.random.default_rng(scale)
    magnitudes = [int(n) % 10 ** (1 + i % 18) for i, n in enumerate(chance.integers(0, 10**18, 400))]
    halves = [5 * 10**i for i in range(18)] + [25 * 10**i for i in range(17)] + [10**i - 1 for i in range(19)]
    unscaled = [sign * n for sign in (1, -1) for n in (*magnitudes, *halves)]
    values = pa.array(
        [Decimal((int(n < 0), tuple(map(int, str(abs(n)))), -scale)) for n in unscaled], pa.decimal128(38, scale)
    )
    kinds = {f"to{to}": {"type": "decimal", "scale": to, "rounding": rounding} for to in (0, 1, 6, 17)}
    columns = {"free": values, **dict.fromkeys(kinds, values)}
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(len(values))), **columns})
    assert not compared(profile(id="int", free="decimal", **kinds), batch).dead


EXTREMES = (-(1 << 63), -(1 << 63) + 1, (1 << 63) - 1, (1 << 63) - 2, -1, 0, 1, -500, 500, 1_500, -1_500, 2_500, 10**15)
EXTREMES += (
    -(1 << 63) // 1_000,
    (1 << 63) // 1_000,
    (1 << 63) // 10**6,
    86_400,
    86_400_000,
    86_400_000_000,
    86_399_999_999_999,
)


@pytest.mark.parametrize("name", ["timestamp", "datetime", "time"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "int64"])
def test_times_at_their_limits(compared: Any, name: str, unit: str) -> None:
    """Every precision and rounding at once; rows that do not fit are dead in some columns only."""
    ticks = np.array([*EXTREMES, *np.arange(-3_000, 3_000, 250), *(np.arange(-5, 5) * 500_000_000)])
    array = pa.array(ticks)
    if name != "time" and unit != "int64":
        array = array.view(pa.timestamp(unit, "UTC" if name == "timestamp" else None))
    elif unit in ("us", "ns"):
        array = array.view(pa.time64(unit))
    elif unit in ("s", "ms"):
        array = pa.array(ticks[abs(ticks) < 1 << 31].astype(np.int32)).view(pa.time32(unit))
    for precision in ("us", "ms", "s"):
        for rounding in ("floor", "truncate", "half_up", "half_even"):
            kind = {"type": name, "precision": precision, "rounding": rounding}
            batch = pa.RecordBatch.from_pydict({"id": pa.array(range(len(array))), "at": array})
            compared(profile(id="int", at=kind), batch)


@pytest.mark.parametrize(
    "rules", [(), ("nfc",), ("rtrim",), ("casefold",), ("nfc", "casefold"), ("nfc", "rtrim", "casefold")]
)
@pytest.mark.parametrize("carrier", [pa.utf8(), pa.large_utf8(), pa.binary()])
def test_text_rules(compared: Any, rules: tuple[str, ...], carrier: pa.DataType) -> None:
    texts = [
        "",
        " ",
        "a  ",
        "Ab Z[`{@",
        "É",
        "e\u0301",
        "\u0340",
        "ǅ",
        "ß",
        "İ",
        "각",
        "\u1100\u1161\u11a8",
        "ﬀ",
        "ñ  ",
        "\u212b",
    ]
    texts += (
        ["x" * n + "É  " for n in (29, 30, 31, 32, 60)]
        + ["A" * n for n in (31, 32, 33, 64, 65, 255, 256)]
        + ["a\u0315\u0300", "😀 "]
    )
    array = pa.array([text.encode() for text in texts], pa.binary()).cast(carrier)
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(len(texts))), "text": array})
    for key in ("id", "text"):
        assert not compared(profile(key, id="int", text={"type": "text", "rules": list(rules)}), batch).dead


def test_nanoseconds_in_a_key(compared: Any) -> None:
    ticks = pa.array([0, 1_000, 1_001, -1, None] * 2).view(pa.timestamp("ns", "UTC"))
    table = profile("at", at={"type": "timestamp", "precision": "s"}, note="text")
    for array in (ticks, ticks.dictionary_encode(), pc.run_end_encode(ticks)):
        batch = pa.RecordBatch.from_pydict({"at": array, "note": pa.array(["x"] * 10)})
        assert len(compared(table, batch)) == 4


def test_dead_rows_and_null_keys(compared: Any) -> None:
    table = profile("id,name", id="int", name={"type": "text", "rules": ["casefold"]}, note="text")
    names = pa.array(["A", None, "b\0", "É", "Straße", "x", None, "Z"])
    ids = pa.array([1, 2, 3, None, 5, 6, None, 8])
    notes = pa.array(["", "a", "b", "c", "d", "e\0", "f\0", None])
    digested = compared(table, pa.RecordBatch.from_pydict({"id": ids, "name": names, "note": notes}))
    assert [row.row for row in digested.dead] == [1, 2, 3, 5, 6]
    assert [row.locator is None for row in digested.dead] == [True, True, True, False, True]
    assert len(digested) == 4


def test_rejects(compared: Any) -> None:
    """A value that no carrier holds is null in its column; only its row is dead, and only where the column counts."""
    named = [None, [], [("note", "bad")], [("id", "bad")], [("other", "bad")], [("note", "a"), ("id", "b")], None] * 60
    rejects = [None if row is None else [{"column": c, "reason": r} for c, r in row] for row in named]
    kind = pa.list_(pa.struct([("column", pa.utf8()), ("reason", pa.utf8())]))
    columns = {"id": pa.array(range(420)), "note": pa.nulls(420, pa.utf8()), REJECTS: pa.array(rejects, kind)}
    digested = compared(profile(id="int", note="text"), pa.RecordBatch.from_pydict(columns))
    assert [row.row % 7 for row in digested.dead] == [2, 3, 5] * 60
    assert len(digested) == 420 - 120


def test_every_row_dead(compared: Any) -> None:
    table = profile(id="int", note="text")
    batch = pa.RecordBatch.from_pydict({"id": pa.nulls(300, pa.int64()), "note": pa.array(["\0"] * 300)})
    assert len(compared(table, batch)) == 0


def test_empty_collections(compared: Any) -> None:
    tags = pa.array([[], None, ["a"], [None]] * 70, pa.list_(pa.utf8()))
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(280)), "tags": tags})
    columns = {"id": parse_type("int"), "tags": parse_type("set<text>")}
    kept = compared(Profile("orders", ("id",), columns), batch)
    nulled = compared(Profile("orders", ("id",), columns, empty_collection="null"), batch)
    assert np.array_equal(kept.row_digests[1:4], nulled.row_digests[1:4])
    assert not np.array_equal(kept.row_digests[0], nulled.row_digests[0])


def test_two_byte_strings_as_text(compared: Any) -> None:
    """All of them, alone and where a word of eight bytes is looked at."""
    pairs = [bytes(pair) for pair in product(range(256), repeat=2)]
    table = profile(id="int", text="text")
    for prefix in (b"", b"0123456"):
        some = pairs if prefix else pairs[::7]
        batch = pa.RecordBatch.from_pydict(
            {"id": pa.array(range(len(some))), "text": pa.array([prefix + p for p in some], pa.binary())}
        )
        compared(table, batch)


def test_three_and_four_byte_strings_as_text(compared: Any) -> None:
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)
    starts = (0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)
    strings = [bytes(s) for s in product(starts, edges, edges)] + [
        bytes(s) for s in product(starts[6:], edges, edges, edges[2:])
    ]
    batch = pa.RecordBatch.from_pydict({"id": pa.array(range(len(strings))), "text": pa.array(strings, pa.binary())})
    compared(profile(id="int", text="text"), batch)


def test_below_u0300_every_text_is_in_normal_form_c() -> None:
    """What the kernel takes for granted under the rule nfc, for every pair of neighbours."""
    characters = [chr(code) for code in range(0x300)]
    for first in characters:
        assert unicodedata.is_normalized("NFC", "".join(first + second for second in characters))


def test_one_digester_in_several_threads() -> None:
    table, batch = orders(20_000)
    digester = CompiledDigester(table, KEYS, secrets.token_bytes)
    expected = digester.digest(batch)
    with ThreadPoolExecutor(4) as pool:
        for digested in pool.map(digester.digest, [batch] * 8):
            assert np.array_equal(digested.row_digests, expected.row_digests)
            assert digested.locators.equals(expected.locators)


def test_a_missing_column_is_a_mistake() -> None:
    digester = CompiledDigester(profile(id="int", note="text"), KEYS, secrets.token_bytes)
    with pytest.raises(InvariantBroken, match="left out the column 'note'"):
        digester.digest(pa.RecordBatch.from_pydict({"id": pa.array([1])}))
