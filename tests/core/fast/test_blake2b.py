"""The vector kernel beside hashlib, at the lengths where blocks begin and end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest

from paritree.core.fast import layout as at
from paritree.core.fast.blake2b import BLOCK_BYTES, IV, compressed, key_state
from paritree.core.fast.plan import canonical_column
from paritree.core.fast.warming import ROWS

KEY = bytes(range(1, 33))
LENGTHS = (1, 2, 63, 64, 127, 128, 129, 255, 256, 257, 1000, 2047, 2048, 2049, 70_000)

OTHER_LANES = """
import sys
from hashlib import blake2b
import llvmlite.binding as llvm, numba, numpy as np

known, llvm.get_host_cpu_features = llvm.get_host_cpu_features, lambda: {"avx512f": sys.argv[1] == "8"}
from paritree.core.fast.vectors import LANES
llvm.get_host_cpu_features = known
from paritree.core.fast.blake2b import key_state
from paritree.core.fast.compiler import compiled, kernel
from paritree.core.fast.hashing import hash_tile
from paritree.core.fast.machinecode import Kernel

@kernel("void(int64[::1], int64[::1], uint64[::1], uint64[:, ::1])")
def hashed(starts, lengths, keyed, digests):
    hash_tile(starts, lengths, len(starts), keyed, digests)

chance = np.random.default_rng(7)
messages = [chance.bytes(n) for n in [*range(1, 300, 7), 1000, 2049, 127, 128, 129]]
room = max(map(len, messages)) + 128
data = np.zeros((len(messages), room), np.uint8)
for row, message in zip(data, messages):
    row[: len(message)] = np.frombuffer(message, np.uint8)
starts = data.ctypes.data + room * np.arange(len(messages), dtype=np.int64)
out = np.empty((len(messages), 2), np.uint64)
Kernel(compiled(hashed))(starts, np.array(list(map(len, messages)), np.int64), key_state(b"key", 16), out)
wrong = sum(row.tobytes() != blake2b(m, key=b"key", digest_size=16).digest() for row, m in zip(out, messages))
print(LANES, len(messages), wrong)
"""
"""Hash with as many lanes as a processor of the other kind would have: LLVM splits or fills vectors as it needs."""


def digests(messages: list[bytes], key: bytes = KEY) -> list[bytes]:
    """Digests by the kernel that hashes rows, each message a row without a header."""
    column = canonical_column(messages, 0)
    call = np.zeros(at.CALL_WORDS, np.int64)
    call[at.ROWS], call[at.OPTIONS] = len(messages), at.HASH
    out = np.empty((len(messages), 2), np.uint64)
    state, flags, nothing = np.zeros(len(messages), np.uint8), np.zeros(1, np.uint8), np.empty(0, np.uint8)
    scratch = np.empty(256 << 10, np.uint8)
    program = column.words.reshape(1, -1)
    keyed = key_state(key, 16)
    assert ROWS.encode_rows(program, call, keyed, scratch, state, flags, out, np.empty(0, np.int64), nothing) == 0
    return [row.tobytes() for row in out]


def expected(messages: list[bytes], key: bytes = KEY) -> list[bytes]:
    return [blake2b(message, key=key, digest_size=16).digest() for message in messages]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("lanes", [1, 3, 8, 9])
def test_equal_to_hashlib(length: int, lanes: int) -> None:
    messages = [os.urandom(length) for _ in range(lanes)]
    assert digests(messages) == expected(messages)


@pytest.mark.parametrize("lanes", [4, 8])
def test_the_lanes_of_every_processor(lanes: int) -> None:
    done = subprocess.run([sys.executable, "-c", OTHER_LANES, str(lanes)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(lanes), "48", "0"]


def test_lengths_mixed_in_one_group_of_lanes() -> None:
    chance = random.Random(5)
    messages = [chance.randbytes(chance.choice((*LENGTHS[:-1], *range(120, 140)))) for _ in range(1500)]
    messages[700] = chance.randbytes(70_000)
    assert digests(messages) == expected(messages)


@pytest.mark.parametrize("key_bytes", [1, 32, 64])
def test_keys_of_other_lengths(key_bytes: int) -> None:
    key = os.urandom(key_bytes)
    assert digests([b"a", b"b" * 200], key) == expected([b"a", b"b" * 200], key)


def test_plain_compression_gives_the_digest_of_nothing() -> None:
    """With no message the key block is the last one; rows are never empty, so only the plain function goes there."""
    words = [IV[0] ^ 0x01010000 ^ 32 << 8 ^ 16, *IV[1:]]
    words = compressed(words, KEY.ljust(BLOCK_BYTES, b"\0"), BLOCK_BYTES, last=True)
    assert b"".join(word.to_bytes(8, "little") for word in words)[:16] == blake2b(b"", key=KEY, digest_size=16).digest()


def test_source_buffers_that_end_with_the_message() -> None:
    """Copies are wide; the last value of a buffer must not be read past its end."""
    for length in range(1, 70):
        message = os.urandom(length)
        array = pa.array([message], pa.large_binary())
        assert digests([array[0].as_py()]) == expected([message])
