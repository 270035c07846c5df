"""Arrow arrays whose buffers contradict each other end in an error, never in a read outside a buffer."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paritree.core.digest import DatasetKeys
from paritree.core.errors import InvariantBroken
from paritree.core.fast.digester import CompiledDigester
from paritree.core.fast.plan import address_of
from paritree.core.profile import Profile
from paritree.core.types import parse_type

KEYS = DatasetKeys.of(bytes(32), "orders")
DATA = b"abcdefghij"


def digest(kind: pa.DataType, offsets: list[int], logical: str, key: str = "id", first: int = 0) -> Any:
    """Digest spans whose offsets become these after Arrow has looked at them."""
    numbers = np.zeros(len(offsets), np.int64 if kind in (pa.large_utf8(), pa.large_binary()) else np.int32)
    buffers = [None, pa.py_buffer(numbers), pa.py_buffer(DATA)]
    rows = len(offsets) - 1 - first
    array = pa.Array.from_buffers(kind, rows, buffers, offset=first)
    batch = pa.RecordBatch.from_arrays([pa.array(range(rows)), array], ["id", "value"])
    numbers[:] = offsets
    profile = Profile("orders", (key,), {"id": parse_type("int"), "value": parse_type(logical)})
    return CompiledDigester(profile, KEYS, secrets.token_bytes).digest(batch)


def sound(offsets: list[int]) -> bool:
    return offsets == sorted(offsets) and offsets[0] >= 0 and offsets[-1] <= len(DATA)


@settings(deadline=None, max_examples=300)
@given(
    offsets=st.lists(st.integers(-2, 12) | st.sampled_from((-(1 << 31), (1 << 31) - 1)), min_size=2, max_size=6),
    kind=st.sampled_from((pa.utf8(), pa.large_utf8(), pa.binary(), pa.large_binary())),
    logical=st.sampled_from(("text", "bytes", "uuid", "int", "decimal", "json", "date")),
    key=st.sampled_from(("id", "value")),
)
def test_offsets(offsets: list[int], kind: pa.DataType, logical: str, key: str) -> None:
    """With a kernel or without one."""
    carried = pa.binary() if logical == "bytes" else pa.utf8() if logical not in ("text", "uuid") else kind
    if sound(offsets):
        digest(carried, offsets, logical, key)
        return
    with pytest.raises(InvariantBroken, match="offsets"):
        digest(carried, offsets, logical, key)


def test_offsets_inside_nested_values() -> None:
    numbers = np.array([0, 2, 4], np.int32)
    texts = pa.Array.from_buffers(pa.utf8(), 2, [None, pa.py_buffer(numbers), pa.py_buffer(DATA)])
    columns = {
        "list<text>": pa.ListArray.from_arrays([0, 1, 2], texts),
        "struct{a: text}": pa.StructArray.from_arrays([texts], ["a"]),
    }
    for kind, array in columns.items():
        profile = Profile("orders", ("id",), {"id": parse_type("int"), "value": parse_type(kind)})
        batch = pa.RecordBatch.from_pydict({"id": pa.array([1, 2]), "value": array})
        numbers[:] = (0, 2, 4)
        assert len(CompiledDigester(profile, KEYS, secrets.token_bytes).digest(batch)) == 2
        numbers[:] = (0, 9, 4)
        with pytest.raises(InvariantBroken, match="offsets"):
            CompiledDigester(profile, KEYS, secrets.token_bytes).digest(batch)


@pytest.mark.parametrize("kind", [pa.utf8(), pa.large_utf8()])
def test_offsets_before_and_after_a_slice_do_not_matter(kind: pa.DataType) -> None:
    assert len(digest(kind, [99, 1, 3, 10], "text", first=1)) == 2


def test_offsets_past_64_bits_of_sum() -> None:
    with pytest.raises(InvariantBroken, match="offsets"):
        digest(pa.large_utf8(), [0, (1 << 63) - 1, -(1 << 63), 5], "text")


@pytest.mark.parametrize("buffer", [None, pa.py_buffer(b""), pa.py_buffer(b"12345678")])
def test_buffers_shorter_than_their_array(buffer: pa.Buffer | None) -> None:
    with pytest.raises(InvariantBroken, match="shorter"):
        address_of(buffer, items=9, bits=8)
