"""Buckets: the same in every carrier, written and read back exactly, and never narrower than what a source is asked."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.canonical import encode
from paritree.core.canonical.times import INT64_MAX, INT64_MIN
from paritree.core.carrier import plain_values
from paritree.core.digester import REJECTS
from paritree.core.errors import ConfigError
from paritree.core.profile import Profile
from paritree.core.scope import NULL, Bucket, Cut, Scope
from paritree.core.scope_labels import content, label
from paritree.core.sieve import UNREADABLE, inside, sifted, tally
from paritree.core.types import parse_type

HASH_KEY = bytes(range(32))
COLUMNS: dict[str, Any] = {
    "id": "int",
    "at": "timestamp",
    "local": "datetime(ms)",
    "rounded": {"type": "timestamp", "precision": "s", "rounding": "half_up"},
    "day": "date",
    "tenant": {"type": "text", "rules": ["rtrim", "casefold"]},
    "plain": "text",
    "owner": "uuid",
    "paid": "bool",
    "price": "decimal",
}
PROFILE = Profile("orders", ("id",), {name: parse_type(kind) for name, kind in COLUMNS.items()})
MAY = 1_714_521_600_000_000
"""2024-05-01 in microseconds."""


def cut(kind: str, *columns: str, buckets: int = 0) -> Cut:
    scope = Scope("s", kind, columns, buckets)
    scope.check(PROFILE, "agent.toml: scopes.orders.s")
    return Cut.of(scope, PROFILE, HASH_KEY)


def batch(**columns: Any) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns)


def kept(by: Cut, text: str, rows: pa.RecordBatch) -> list[bool]:
    return inside(Bucket(by, content(by, text)), rows).tolist()


def labels(by: Cut, rows: pa.RecordBatch) -> dict[str, int]:
    return {label(by, found) if found else "?": count for found, count in sorted(tally(by, rows).items())}


CARRIERS = [pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"), pa.timestamp("ms", "UTC"), pa.int64(), pa.utf8()]


@pytest.mark.parametrize("carrier", CARRIERS, ids=str)
def test_months_begin_at_midnight_in_utc_in_every_carrier(carrier: pa.DataType) -> None:
    micros = [MAY - 1_000, MAY, MAY + 31 * 86_400_000_000 - 1_000, MAY + 31 * 86_400_000_000, None, -1_000]
    array = pa.array(micros, pa.int64())
    if carrier == pa.utf8():
        zone = dt.timezone(dt.timedelta(hours=5))
        base = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        array = pa.array(
            [None if m is None else (base + dt.timedelta(microseconds=m)).astimezone(zone).isoformat() for m in micros]
        )
    elif carrier != pa.int64():
        array = array.cast(pa.timestamp("us", "UTC")).cast(carrier)
    rows = batch(at=array)
    by = cut("month", "at")
    assert kept(by, "2024-05", rows) == [False, True, True, False, False, False]
    assert kept(by, "null", rows) == [False, False, False, False, True, False]
    assert labels(by, rows) == {"2024-04": 1, "2024-05": 2, "2024-06": 1, "null": 1, "1969-12": 1}


def test_infinite_times_have_buckets_of_their_own() -> None:
    rows = batch(at=pa.array([INT64_MAX, INT64_MIN, MAY], pa.int64()))
    by = cut("day", "at")
    assert labels(by, rows) == {"-infinity": 1, "2024-05-01": 1, "infinity": 1}
    assert kept(by, "infinity", rows) == [True, False, False]
    assert Bucket(by, content(by, "infinity")).conditions() == ()


def test_what_looks_like_an_infinity_of_arrow_is_no_value_and_stays() -> None:
    rows = batch(at=pa.array([INT64_MAX, MAY], pa.int64()).cast(pa.timestamp("us", "UTC")))
    assert kept(cut("year", "at"), "1999", rows) == [True, False]


def test_rounding_up_carries_a_time_into_the_next_month_and_the_source_is_asked_for_it() -> None:
    by = cut("month", "rounded")
    rows = batch(rounded=pa.array([MAY - 500_000, MAY - 500_001], pa.int64()))
    assert kept(by, "2024-05", rows) == [True, False]
    (asked,) = Bucket(by, content(by, "2024-05")).conditions()
    assert asked.low == MAY - 1_000_000


def test_dates_and_local_times() -> None:
    days = pa.array([19_843, 19_844, None, INT64_MAX], pa.int64())  # 2024-04-30, 2024-05-01
    assert labels(cut("month", "day"), batch(day=days)) == {"2024-04": 1, "2024-05": 1, "null": 1, "infinity": 1}
    assert labels(cut("year", "day"), batch(day=days.slice(0, 2).cast(pa.int32()).cast(pa.date32()))) == {"2024": 2}
    local = pa.array(["2024-05-01 00:00:00", "2024-04-30T23:59:59.9999"])
    assert labels(cut("day", "local"), batch(local=local)) == {"2024-04-30": 1, "2024-05-01": 1}


@pytest.mark.parametrize("dictionary", [False, True])
def test_values_are_compared_by_their_rules(dictionary: bool) -> None:
    array = pa.array(["ACME", "acme ", "beta", None, ""])
    rows = batch(tenant=array.dictionary_encode() if dictionary else array)
    by = cut("value", "tenant")
    assert kept(by, "Acme", rows) == [True, True, False, False, False]
    assert kept(by, "null", rows) == [False, False, False, True, False]
    assert labels(by, rows) == {"acme": 2, "beta": 1, "null": 1, '""': 1}
    assert Bucket(by, content(by, "acme")).conditions() == (), "a source does not know the rules"
    assert Bucket(by, content(by, "null")).conditions()[0].null


def test_several_columns() -> None:
    by = cut("value", "plain", "paid")
    rows = batch(plain=["a", "a", None], paid=[True, None, None])
    assert labels(by, rows) == {'["a", true]': 1, '["a", null]': 1, "[null, null]": 1}
    asked = Bucket(by, content(by, '["a", null]')).conditions()
    assert [(c.column, c.equals, c.null) for c in asked] == [("plain", "a", False), ("paid", None, True)]


def test_hashes_spread_and_are_the_same_in_every_carrier() -> None:
    by = cut("hash", "id", buckets=4)
    numbers = tally(by, batch(id=pa.array(range(1_000), pa.int64())))
    assert len(numbers) == 4
    assert min(numbers.values()) > 200
    assert tally(by, batch(id=[str(n) for n in range(1_000)])) == numbers
    assert tally(by, batch(id=pa.array([None, None], pa.int64()))) == {NULL: 2}
    other = Cut(by.scope, by.types, bytes(32))
    assert tally(other, batch(id=pa.array(range(1_000), pa.int64()))) != numbers


def test_rows_that_cannot_be_read_stay_in_every_bucket() -> None:
    rejects = pa.array(
        [None, [{"column": "at", "reason": "x"}], [{"column": "id", "reason": "x"}]],
        pa.list_(pa.struct([("column", pa.utf8()), ("reason", pa.utf8())])),
    )
    rows = batch(at=pa.array([0, None, None], pa.int64()), **{REJECTS: rejects})
    by = cut("month", "at")
    assert kept(by, "2024-05", rows) == [False, True, False]
    assert kept(by, "null", rows) == [False, True, True]
    assert tally(by, rows)[UNREADABLE] == 1
    bad = batch(plain=["x\0", "y"], at=["nonsense", "2024-05-01T00:00:00Z"])
    assert kept(by, "1999-01", bad) == [True, False]
    assert kept(cut("value", "plain"), "z", bad) == [True, False]
    assert [found.num_rows for found in sifted(Bucket(by, content(by, "1999-01")), iter([bad, bad.slice(1)]))] == [1]


@given(st.integers(-(10**17), 10**17), st.sampled_from(["year", "month", "day"]), st.sampled_from(["at", "rounded"]))
def test_a_bucket_s_span_label_and_condition_hold_its_times(micros: int, kind: str, column: str) -> None:
    by = cut(kind, column)
    bucket = Bucket(by, by.bucket([encode(micros, by.types[0])]))
    span, (asked,) = bucket.span(), bucket.conditions()
    assert span is not None
    canonical = int.from_bytes(encode(micros, by.types[0])[-8:], "big", signed=True)
    assert span[0] <= canonical < span[1]
    assert asked.low is not None
    assert asked.high is not None
    assert asked.low <= micros < asked.high
    assert content(by, label(by, bucket.content)) == bucket.content
    rows = batch(**{column: pa.array([micros, span[0], span[1] - 1_000_000, span[1]], pa.int64())})
    assert inside(bucket, rows).tolist() == [True, True, True, False]


VALUES = st.one_of(
    st.none(),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0")),
    st.sampled_from(["null", '"']),
)


@given(
    VALUES,
    st.one_of(st.none(), st.integers(-(10**30), 10**30)),
    st.one_of(st.none(), st.binary(min_size=16, max_size=16)),
)
def test_labels_of_values_read_back(text: str | None, number: int | None, owner: bytes | None) -> None:
    for columns, values in ((["plain"], [text]), (["id"], [number]), (["plain", "id", "owner"], [text, number, owner])):
        by = cut("value", *columns)
        found = by.bucket([encode(v, k) for v, k in zip(values, by.types, strict=True)])
        assert content(by, label(by, found)) == found


@given(st.lists(st.one_of(st.none(), st.integers(INT64_MIN, INT64_MAX)), max_size=20))
def test_fast_and_slow_ways_agree(ticks: list[int | None]) -> None:
    by = cut("month", "at")
    fast = batch(at=pa.array(ticks, pa.int64()))
    numbers = [by.bucket([encode(v, by.types[0])]) for v in plain_values(fast.column("at"), by.types[0])]
    counted = tally(by, fast)
    assert counted == {found: numbers.count(found) for found in set(numbers)}
    for found in set(numbers):
        assert np.flatnonzero(inside(Bucket(by, found), fast)).tolist() == [
            i for i, n in enumerate(numbers) if n == found
        ]


@pytest.mark.parametrize(
    ("kind", "columns", "buckets", "words"),
    [
        ("week", ("at",), 0, "no kind 'week'"),
        ("month", ("at", "day"), 0, "one column"),
        ("month", ("plain",), 0, "'plain' is text"),
        ("value", ("price",), 0, "'price' is decimal"),
        ("value", ("att",), 0, "does not compare a column 'att'"),
        ("value", (), 0, "has columns"),
        ("value", ("id", "id"), 0, "each once"),
        ("hash", ("id",), 0, "buckets"),
        ("value", ("id",), 4, "buckets"),
        ("hash", ("id",), 1 << 17, "buckets"),
    ],
)
def test_scopes_that_cut_nothing(kind: str, columns: tuple[str, ...], buckets: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Scope("s", kind, columns, buckets).check(PROFILE, "agent.toml: scopes.orders.s")


@pytest.mark.parametrize(
    ("by", "text"),
    [
        (cut("month", "at"), "2024-13"),
        (cut("month", "at"), "2024"),
        (cut("month", "at"), "2024-05-01"),
        (cut("day", "at"), "2023-02-29"),
        (cut("hash", "id", buckets=4), "4"),
        (cut("hash", "id", buckets=4), "-1"),
        (cut("value", "id"), "x"),
        (cut("value", "owner"), "123"),
        (cut("value", "plain", "id"), "a"),
        (cut("value", "plain"), '["a", "b"]'),
    ],
)
def test_labels_of_no_bucket(by: Cut, text: str) -> None:
    with pytest.raises(ConfigError, match="is no bucket of scope s"):
        content(by, text)


def test_definitions_differ_with_name_kind_columns_types_and_buckets() -> None:
    scopes = [
        Scope("a", "value", ("plain",)),
        Scope("b", "value", ("plain",)),
        Scope("a", "value", ("tenant",)),
        Scope("a", "hash", ("plain",), 2),
        Scope("a", "hash", ("plain",), 3),
        Scope("a", "month", ("at",)),
        Scope("a", "month", ("rounded",)),
    ]
    assert len({scope.definition(PROFILE) for scope in scopes}) == len(scopes)
    assert "hash_key" not in repr(cut("value", "id"))
