"""Rows without a key of their own: every column is the key, nulls are values, and equal rows are copies of one row."""

from __future__ import annotations

import pyarrow as pa

from paritree.core.display import key_to_json
from paritree.core.profile import Profile
from paritree.core.types import parse_type

COLUMNS = {
    "at": parse_type("timestamp(ms)"),
    "name": parse_type({"type": "text", "rules": ["rtrim", "casefold"]}),
    "price": parse_type("decimal"),
    "tags": parse_type("list<int>"),
    "weight": parse_type("float"),
}


def batch(**columns: list[object]) -> pa.RecordBatch:
    types = {"at": pa.timestamp("ns", "UTC"), "weight": pa.float64(), "tags": pa.list_(pa.int64())}
    arrays = {name: pa.array(columns[name], types.get(name, pa.utf8())) for name in COLUMNS}
    return pa.RecordBatch.from_pydict(arrays)


def test_nulls_copies_and_fine_times_are_rows_like_others(compared) -> None:
    profile = Profile.keyless("d", COLUMNS)
    found = compared(
        profile,
        batch(
            at=[1_000_001, None, None, 1_999_999, None],
            name=["a", None, None, "A ", "b"],
            price=["1.10", None, None, "1.1", None],
            tags=[[1], None, None, [1], []],
            weight=[0.0, None, None, -0.0, None],
        ),
    )
    assert found.dead == ()
    digests = [row.tobytes() for row in found.key_digests]
    assert digests[1] == digests[2]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3
    assert key_to_json(found.locators[3].as_py(), profile)["name"] == "A "
    assert set(key_to_json(found.locators[1].as_py(), profile).values()) == {None}


def test_a_value_that_does_not_fit_is_a_dead_letter_without_a_key(compared) -> None:
    profile = Profile.keyless("d", {"name": parse_type("text"), "n": parse_type("int")})
    found = compared(profile, pa.RecordBatch.from_pydict({"name": ["a\0", "a", None], "n": [1, None, None]}))
    assert [(row.row, row.locator) for row in found.dead] == [(0, None)]
    assert len(found) == 2


def test_the_key_is_the_row_whatever_the_order_of_the_columns() -> None:
    turned = Profile.keyless("d", dict(reversed(COLUMNS.items())))
    assert turned.profile_id == Profile.keyless("d", COLUMNS).profile_id
    listed = Profile("d", turned.key, COLUMNS)
    assert listed.profile_id != turned.profile_id
    assert listed.lookup_key == turned.key
