"""A key finer than a microsecond would not be found again: a dead letter in both digesters, never "missing"."""

from __future__ import annotations

import pyarrow as pa
import pytest

from paritree.core.profile import Profile
from paritree.core.types import parse_type


@pytest.mark.parametrize("written", ["timestamp", "timestamp(ms)", "datetime", "time", "time(s)"])
def test_text_keys(compared, written: str) -> None:
    zone = "Z" if written.startswith("timestamp") else ""
    day = "" if written.startswith("time") and not zone else "2020-01-01 "
    texts = [
        f"{day}10:00:00{fraction}{zone}" for fraction in ("", ".5", ".000001", ".0000010", ".0000015", ".123456789")
    ]
    profile = Profile("d", ("k",), {"k": parse_type(written), "v": parse_type("int")})
    found = compared(profile, pa.RecordBatch.from_pydict({"k": texts, "v": list(range(6))}))
    assert [row.row for row in found.dead] == [4, 5]
    assert all(row.locator is None and "finer than a microsecond" in row.reason for row in found.dead)
    assert len(found) == 4


@pytest.mark.parametrize("carrier", [pa.timestamp("ns", "UTC"), pa.timestamp("ns")])
def test_arrow_keys(compared, carrier: pa.DataType) -> None:
    kind = "timestamp(ms)" if carrier.tz else "datetime"
    profile = Profile("d", ("k",), {"k": parse_type(kind)})
    ticks = pa.array([0, 1_000, 1_001, -1, None], pa.int64()).cast(carrier)
    found = compared(profile, pa.RecordBatch.from_pydict({"k": ticks}))
    assert [row.row for row in found.dead] == [2, 3, 4]
    assert len(found) == 2


def test_other_columns_may_be_finer(compared) -> None:
    profile = Profile("d", ("k",), {"k": parse_type("int"), "at": parse_type("timestamp(us)")})
    at = pa.array([1, 1_999], pa.int64()).cast(pa.timestamp("ns", "UTC"))
    found = compared(profile, pa.RecordBatch.from_pydict({"k": [1, 2], "at": at}))
    assert found.dead == ()


def test_keys_inside_of_lists(compared) -> None:
    profile = Profile("d", ("k",), {"k": parse_type("list<timestamp(us)>")})
    inner = pa.array([1_000, 1_001], pa.int64()).cast(pa.timestamp("ns", "UTC"))
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), inner)
    found = compared(profile, pa.RecordBatch.from_pydict({"k": lists}))
    assert [row.row for row in found.dead] == [1]
