"""What a replication slot sends: pgoutput, read plainly and by the compiled kernel between guards, which agree."""

from __future__ import annotations

import contextlib
import struct
from typing import Any, Final

import numpy as np
from guarded import Guarded
from parser import Parser

from edge_agent.connectors.postgresql import pgoutput
from edge_agent.connectors.postgresql.changekeys import KERNELS
from paritree.core.errors import SourceError

RELATIONS: Final = np.array([[70_000, 3, 0, 2], [80_000, 2, 1, 0]], np.int64)
"""Relation 70000 has three columns, its key is columns 0 and 2; 80000 has two, its key is columns 1 and 0."""
ROOM: Final = 16
LENGTH: Final = struct.Struct(">H")
GUARDED: Final = Guarded()


def row(*cells: bytes | None) -> bytes:
    sent = [b"n" if cell is None else b"b" + struct.pack(">i", len(cell)) + cell for cell in cells]
    return struct.pack(">H", len(cells)) + b"".join(sent)


BEGIN: Final = b"B" + struct.pack(">qqI", 1000, 0, 5)
COMMIT: Final = b"C" + struct.pack(">bQQq", 0, 1900, 2000, 0)
THREE, TWO = struct.pack(">I", 70_000), struct.pack(">I", 80_000)
RELATION: Final = (
    b"R"
    + THREE
    + b"public\0orders\0d"
    + struct.pack(">H", 2)
    + b"\1id\0"
    + bytes(8)
    + b"\0name\0"
    + struct.pack(">Ii", 25, -1)
)
MESSAGES: Final = (
    (BEGIN, b"I" + THREE + b"N" + row(b"\0\1", b"x", b"\0\2"), COMMIT),
    (BEGIN, b"U" + TWO + b"K" + row(b"\0\1", b"k") + b"N" + row(b"\0\2", None), COMMIT, BEGIN),
    (BEGIN, b"D" + TWO + b"O" + row(b"\0\1", b"k"), b"U" + THREE + b"N" + row(b"a", None, b"c"), COMMIT),
    (RELATION, b"T" + struct.pack(">IB", 1, 0) + THREE, b"M" + bytes(9) + b"paritree\0" + struct.pack(">I", 2) + b"ok"),
    (
        b"O" + bytes(8) + b"origin\0",
        b"Y" + bytes(4) + b"public\0citext\0",
        b"I" + struct.pack(">I", 9) + b"N" + row(b"x"),
    ),
)


def streams() -> list[bytes]:
    """Every message behind its length."""
    return [b"".join(LENGTH.pack(len(one)) + one for one in messages) for messages in MESSAGES]


def parse(data: bytes) -> None:
    GUARDED.begin(at_end=len(data) % 2 == 0)
    at: list[int] = []
    size: list[int] = []
    place = 0
    while place + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, place)
        at.append(place + LENGTH.size)
        size.append(length)  # past the end, too
        place += LENGTH.size + length
    content = GUARDED.holding(data)
    places = np.array(at, np.int32), np.array(size, np.int32)
    plain, fast = (read(reader, content, *places) for reader in (pgoutput.read_keys, KERNELS.read_keys))
    assert plain == fast, "the compiled reader is not the plain one"
    for start, length in zip(at, size, strict=True):
        with contextlib.suppress(SourceError):
            pgoutput.read_other(data[start : start + length])


def read(reader: Any, data: np.ndarray, at: np.ndarray, size: np.ndarray) -> Any:
    state = np.zeros(pgoutput.STATE_WORDS, np.int64)
    key_at, key_size = (GUARDED.zeros((2, ROOM), np.int32) for _ in range(2))
    xids = GUARDED.zeros(ROOM, np.uint32)
    stopped = reader(data, at, size, 0, RELATIONS, state, key_at, key_size, xids)
    keys = int(state[pgoutput.KEYS])
    found = key_at[:, :keys].tolist(), key_size[:, :keys].tolist(), xids[: int(state[pgoutput.XIDS])].tolist()
    return tuple(map(int, stopped)), state.tolist(), found


def warm() -> None:
    for example in streams():
        parse(example)


PARSERS: Final = (Parser("pgoutput", streams, parse, (), prepare=warm),)
