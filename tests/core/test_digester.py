"""The plain digester: rows to digests, and what becomes of rows that do not fit."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paritree.core.digest import DatasetKeys, column_digest
from paritree.core.digester import REJECTS, DigestBatch, PlainDigester
from paritree.core.display import key_values
from paritree.core.errors import InvariantBroken
from paritree.core.profile import Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(32), "d")
REJECTS_TYPE = pa.list_(pa.struct([("column", pa.utf8()), ("reason", pa.utf8())]))


def profile_of(key: Sequence[str] = ("id",), empty: str = "keep", **kinds: Any) -> Profile:
    return Profile("d", tuple(key), {name: parse_type(kind) for name, kind in kinds.items()}, empty)


PROFILE = profile_of(id="int", name="text", at="date")


def batch(columns: Mapping[str, Any], types: Mapping[str, Any] | None = None) -> pa.RecordBatch:
    arrays = {n: v if isinstance(v, pa.Array) else pa.array(v, (types or {}).get(n)) for n, v in columns.items()}
    return pa.RecordBatch.from_pydict(arrays)


def digester(profile: Profile = PROFILE) -> PlainDigester:
    counter = itertools.count(1)
    return PlainDigester(profile, KEYS, lambda size: next(counter).to_bytes(size, "big"))


def digests(found: DigestBatch) -> list[tuple[bytes, bytes]]:
    return [(k.tobytes(), r.tobytes()) for k, r in zip(found.key_digests, found.row_digests, strict=True)]


def keyed(data: bytes, purpose: bytes) -> bytes:
    return hashlib.blake2b(data, key=KEYS.derive(purpose), digest_size=16).digest()


def test_digests_are_those_of_the_bytes_in_their_order() -> None:
    found = digester().digest(batch({"name": ["é", None], "at": pa.array([1, -1], pa.date32()), "id": [7, -1]}))
    rows = [
        (7, b"\x93\xd7\x02" + (1).to_bytes(8, "big") + b"\x07\xa2\xc3\xa9"),
        (-1, b"\x93\xd7\x02" + b"\xff" * 9 + b"\xc0"),
    ]
    expected = [(keyed(msgpack.packb([key]), b"key"), keyed(row, b"row")) for key, row in rows]
    assert digests(found) == expected
    assert found.locators.to_pylist() == [b"\x91\x07", b"\x91\xff"]
    assert found.dead == ()
    assert len(found) == 2
    assert found.key_digests.shape == (2, 16)
    assert found.key_digests.dtype == np.uint8


def test_surplus_columns_and_the_order_of_columns_and_rows_change_nothing() -> None:
    one = digester().digest(batch({"id": [1, 2], "name": ["a", "b"], "at": pa.array([1, 2], pa.date32())}))
    turned = batch({"x": [0, 0], "at": pa.array([2, 1], pa.date32()), "name": ["b", "a"], "id": [2, 1]})
    assert digests(one) == digests(digester().digest(turned))[::-1]


def test_an_empty_batch() -> None:
    found = digester().digest(
        batch({"id": pa.array([], pa.int64()), "name": pa.array([], pa.utf8()), "at": pa.nulls(0)})
    )
    assert found.key_digests.shape == found.row_digests.shape == (0, 16)
    assert found.locators.to_pylist() == []


def test_a_dead_row_with_a_key_enters_under_a_random_digest() -> None:
    found = digester().digest(
        batch({"id": [1, 2, 3], "name": [b"a", b"\xff", b"\xff"], "at": ["1970-01-01", "x", None]})
    )
    assert [(dead.row, dead.reason) for dead in found.dead] == [
        (1, "at: not a date (YYYY-MM-DD); name: text that is not UTF-8"),
        (2, "name: text that is not UTF-8"),
    ]
    assert [dead.locator for dead in found.dead] == [b"\x91\x02", b"\x91\x03"]
    assert [row for _, row in digests(found)[1:]] == [(1).to_bytes(16, "big"), (2).to_bytes(16, "big")]
    assert [key for key, _ in digests(found)] == [keyed(msgpack.packb([n]), b"key") for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("int", None, "id: NULL in a key column"),
        ("text", "a\0b", "id: text with NUL"),
        ("json", "null", "id: NULL in a key"),
    ],
)
def test_a_dead_row_without_a_key_enters_nowhere(kind: str, value: Any, reason: str) -> None:
    found = digester(profile_of(id=kind)).digest(batch({"id": [value]}, {"id": pa.utf8()}))
    assert len(found) == 0
    (dead,) = found.dead
    assert (dead.row, dead.locator) == (0, None)
    assert dead.reason.startswith(reason)


def test_rejects_make_dead_rows_and_never_nulls() -> None:
    named = [None, [{"column": "name", "reason": "malformed"}], [{"column": "id", "reason": "storage class"}], []]
    columns = {"id": [1, 2, None, 4], "name": [None] * 4, "at": pa.nulls(4), REJECTS: pa.array(named, REJECTS_TYPE)}
    found = digester().digest(batch(columns, {"name": pa.utf8()}))
    assert [(d.row, d.reason, d.locator) for d in found.dead] == [
        (1, "name: malformed", b"\x91\x02"),
        (2, "id: storage class", None),
    ]
    assert len(found) == 3
    clean = digester().digest(batch({"id": [4], "name": [None], "at": pa.nulls(1)}, {"name": pa.utf8()}))
    assert digests(found)[2] == digests(clean)[0]


def test_the_locator_is_the_key_without_the_rules_that_change_values() -> None:
    name = {"type": "text", "rules": ["rtrim", "casefold"]}
    profile = profile_of(("name", "at"), name=name, at="timestamp(ms)")
    found = digester(profile).digest(batch({"name": ["Ann  "], "at": pa.array([1_500], pa.int64())}))
    (locator,) = found.locators.to_pylist()
    assert key_values(locator, profile) == ("Ann  ", 1_500)
    assert digests(found)[0][0] == keyed(b"\x92\xa3ann\xd7\x04" + (1_000).to_bytes(8, "big"), b"key")


def test_equal_keys_under_the_rules_have_one_digest_and_locators_of_their_own() -> None:
    profile = profile_of(id={"type": "text", "rules": ["casefold"]})
    found = digester(profile).digest(batch({"id": ["A", "a"]}))
    assert digests(found)[0] == digests(found)[1]
    assert len(set(found.locators.to_pylist())) == 2


def test_empty_collections_as_null() -> None:
    rows = {"id": [1, 1], "c": pa.array([[], None], pa.list_(pa.int64()))}
    kept = digests(digester(profile_of(id="int", c="list<int>")).digest(batch(rows)))
    nulled = digests(digester(profile_of(empty="null", id="int", c="list<int>")).digest(batch(rows)))
    assert kept[0] != kept[1] == nulled[0] == nulled[1]


def test_a_missing_column_stops_the_scan() -> None:
    with pytest.raises(InvariantBroken, match="'at'"):
        digester().digest(batch({"id": [1], "name": ["x"]}))


def test_column_digests_are_in_row_order_and_bound_to_the_key() -> None:
    plain = digester()
    rows = plain.rows(batch({"id": [1, 2], "name": ["a", "a"], "at": pa.nulls(2)}))
    one, other = (plain.column_digests(row) for row in rows)
    for index, name in enumerate(("at", "id", "name")):
        value = {"at": b"\xc0", "id": b"\x01", "name": b"\xa1a"}[name]
        assert one[index] == column_digest(KEYS.column(name), b"\x91\x01", value)
        assert one[index] != other[index]


@given(st.lists(st.tuples(st.integers(-5, 5), st.sampled_from(["a", "b", None])), max_size=8), st.integers(0, 8))
def test_batches_of_any_cut_give_the_same_digests(rows: list[tuple[int, str | None]], cut: int) -> None:
    profile = profile_of(id="int", name="text")
    whole = batch({"id": [k for k, _ in rows], "name": [n for _, n in rows]}, {"id": pa.int64(), "name": pa.utf8()})
    parts = [whole.slice(0, cut), whole.slice(cut)] if cut < len(rows) else [whole]
    together = [pair for part in parts for pair in digests(digester(profile).digest(part))]
    assert together == digests(digester(profile).digest(whole))


def test_a_dead_row_names_the_columns_that_did_not_fit() -> None:
    """An unfit key column beside a null one is no error of ours, whichever comes first."""
    profile = Profile("orders", ("a", "b"), {n: parse_type("text") for n in ("a", "b", "c")})
    nul, fine = "x\0", "y"
    rows = {"a": [nul, None, None, fine, fine], "b": [None, nul, fine, fine, fine], "c": [fine, fine, nul, nul, fine]}
    batch = pa.RecordBatch.from_pydict({name: pa.array(values, pa.utf8()) for name, values in rows.items()})
    digested = PlainDigester(profile, KEYS, bytes).digest(batch)
    assert [set(dead.columns) for dead in digested.dead] == [{"a"}, {"b", "a"}, {"c", "a"}, {"c"}]
    assert [dead.locator is None for dead in digested.dead] == [True, True, True, False]
