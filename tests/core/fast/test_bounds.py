"""Kernels stay inside of their buffers: sources that end at an unmapped page, outputs followed by marked bytes."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from paritree.core.digest import DatasetKeys
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile
from paritree.core.types import parse_type

ROOT = Path(__file__).parents[3]
KEYS = DatasetKeys.of(bytes(32), "orders")
MARK = 0xA5

AT_THE_EDGE = r"""
import ctypes, mmap, secrets
import numpy as np
import pyarrow as pa
from paritree.core.digest import DatasetKeys
from paritree.core.fast.digester import CompiledDigester
from paritree.core.profile import Profile
from paritree.core.types import parse_type

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
maps = []

def at_the_edge(content):
    "A buffer of these bytes whose last one is the last before a page that cannot be read."
    pages = -(-len(content) // PAGE) + 1
    area = mmap.mmap(-1, pages * PAGE)
    maps.append(area)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    end = start + (pages - 1) * PAGE
    assert libc.mprotect(ctypes.c_void_p(end), PAGE, 0) == 0, ctypes.get_errno()
    ctypes.memmove(end - len(content), content, len(content))
    return pa.foreign_buffer(end - len(content), len(content))

def moved(array):
    buffers = [None if buffer is None else at_the_edge(buffer.to_pybytes()) for buffer in array.buffers()]
    return pa.Array.from_buffers(array.type, len(array), buffers, offset=array.offset)

def digest(kind, array):
    profile = Profile("orders", ("value",), {"value": parse_type(kind)})
    batch = pa.RecordBatch.from_arrays([array], ["value"])
    return CompiledDigester(profile, DatasetKeys.of(bytes(32), "orders"), secrets.token_bytes).digest(batch)

def trimmed(array):
    "Buffers cut to their last needed byte."
    validity, *rest = array.buffers()
    n = len(array) + array.offset
    validity = None if validity is None else validity.slice(0, (n + 7) // 8)
    if len(rest) == 2:
        width = 8 if array.type in (pa.large_utf8(), pa.large_binary()) else 4
        offsets = rest[0].slice(0, (n + 1) * width)
        last = int(np.frombuffer(offsets, f"i{width}")[-1])
        rest = [offsets, (rest[1] or pa.py_buffer(b"")).slice(0, last)]
    else:
        rest = [rest[0].slice(0, (n * array.type.bit_width + 7) // 8)]
    return pa.Array.from_buffers(array.type, len(array), [validity, *rest], offset=array.offset)

count = 0
INTEGERS = pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.decimal128(5, 0)
ARRAYS = {
    "text": [pa.array(["x" * n], t) for n in range(0, 140) for t in (pa.utf8(), pa.large_binary())]
    + [pa.array(["é" * n], pa.utf8()) for n in range(1, 40)]
    + [pa.array(["ab", None, "c" * n], pa.utf8()) for n in (0, 1, 7, 31, 32, 33)],
    "bytes": [pa.array([b"x" * n], t) for n in (1, 31, 32, 33, 300) for t in (pa.binary(), pa.binary(n))],
    "uuid": [pa.array([b"x" * 16] * n, t) for n in (1, 9) for t in (pa.binary(16), pa.binary())]
    + [pa.array(["00112233-4455-6677-8899-aabbccddeeff"] * n) for n in (1, 3)],
    "int": [pa.array([1, None, 3] * n, t) for n in (1, 3, 9) for t in INTEGERS]
    + [pa.array(["-12", None, "7" * n]) for n in (1, 8, 18)],
    "decimal": [pa.array(["1.5", "0." + "3" * n]) for n in (1, 8, 22)],
    "bool": [pa.array([True, None, False] * n) for n in (1, 3, 9, 100)],
    "float": [pa.array([1.5, None] * n, t) for n in (1, 9) for t in (pa.float32(), pa.float64())],
    "timestamp": [pa.array([1, None] * n, pa.timestamp("ns", "UTC")) for n in (1, 9)],
    "duration": [pa.array([(1, 2, 3000)] * n, pa.month_day_nano_interval()) for n in (1, 9)],
}
for kind, arrays in ARRAYS.items():
    for array in arrays:
        for part in (array, array.slice(1)) if len(array) > 1 else (array,):
            got = digest(kind, moved(trimmed(part)))
            assert got.locators.equals(digest(kind, part).locators)
            count += 1
print(count)
"""


def test_sources_at_the_edge_of_readable_memory() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_EDGE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    assert int(done.stdout) > 400


class Watched:
    """The kernel with marked bytes behind every array that it writes."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.calls = 0

    def __call__(self, program: Any, call: Any, key_state: Any, *written: Any) -> int:
        self.calls += 1
        watched = [np.full(array.nbytes + 512, MARK, np.uint8) for array in written]
        views = []
        for array, area in zip(written, watched, strict=True):
            area[: array.nbytes] = array.reshape(-1).view(np.uint8)
            views.append(area[: array.nbytes].view(array.dtype).reshape(array.shape))
        result = self._kernel(program, call, key_state, *views)
        for array, view, area in zip(written, views, watched, strict=True):
            assert (area[array.nbytes :] == MARK).all()
            array[...] = view
        return int(result)


def columns() -> dict[str, tuple[str, pa.Array]]:
    """Values as long as they get, in every kernel."""
    long = 999_999_999_999_999_999
    return {
        "i": ("int", pa.array([-(1 << 63), None, (1 << 63) - 1] * 100)),
        "d": ("decimal", pa.array(["-0." + "1" * 18, None, f"-{long}"] * 100)),
        "e": (
            "decimal",
            pa.array([-long] * 300, pa.decimal128(22, 0)).cast(pa.decimal128(38, 0)).view(pa.decimal128(38, 22)),
        ),
        "f": ("float", pa.array([1.5, None, float("nan")] * 100)),
        "t": ("text", pa.array(["x" * 31, None, "é" * 400] * 100)),
        "u": ("uuid", pa.array(["00112233-4455-6677-8899-aabbccddeeff", None, "bad"] * 100)),
        "x": ("bytes", pa.array([b"", b"y" * 70_000, None] * 100)),
        "j": ("json", pa.array(['{"a":[1,2,3]}', None, "[]"] * 100)),
        "m": ("duration", pa.array([(1, 2, 3000), None, (0, 0, 1)] * 100, pa.month_day_nano_interval())),
    }


@pytest.mark.parametrize("key", [("i",), ("t", "x", "d"), ("e", "j", "u", "m", "f")])
def test_nothing_is_written_past_an_array(compared: Any, key: tuple[str, ...]) -> None:
    kinds = {name: parse_type(kind) for name, (kind, _) in columns().items()}
    batch = pa.RecordBatch.from_pydict({name: array for name, (_, array) in columns().items()})
    profile = Profile("orders", key, kinds)
    digester = CompiledDigester(profile, KEYS, secrets.token_bytes)
    digester._kernel = watched = Watched(digester._kernel)
    digested = digester.digest(batch)
    assert watched.calls >= 2
    assert len(digested) == len(compared(profile, batch))


def test_locators_exactly_as_long_as_they_can_be() -> None:
    """Nine bytes an int, five of header: the room for locators is used to its end."""
    profile = Profile("orders", ("a", "b"), {"a": parse_type("int"), "b": parse_type("bytes")})
    long = pa.array([b"z" * 65_536] * 9, pa.large_binary())
    batch = pa.RecordBatch.from_pydict({"a": pa.array([-(1 << 63)] * 9), "b": long})
    digester = CompiledDigester(profile, KEYS, secrets.token_bytes)
    digester._kernel = Watched(digester._kernel)
    assert {len(item.as_py()) for item in digester.digest(batch).locators} == {1 + 9 + 5 + 65_536}
