"""From valid examples to inputs that are nearly valid: the same seed gives the same input, always."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from typing import Final

INPUT_BYTES_MAX: Final = 64 << 10
NUMBERS: Final = (0, 1, 2, 7, 8, 127, 128, 255, 256, 65_535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40)
FORMS: Final = (">i", "<i", ">h", "<h", ">q", "<q", ">B")

Mutation = Callable[[bytearray, random.Random], None]


class Mutator:
    """Makes inputs out of ``examples``. ``tokens`` are pieces that mean something to the parser, lines for a text."""

    def __init__(self, examples: Sequence[bytes], tokens: Sequence[bytes] = (), *, lines: bool = False) -> None:
        self._examples = [example for example in examples if len(example) <= INPUT_BYTES_MAX]
        self._tokens = tokens
        self._mutations: list[Mutation] = [_flip, _flip, _byte, _number, _number, _cut, _drop, _repeat, self._splice]
        if tokens:
            self._mutations += [self._token] * 3
        if lines:
            self._mutations += [_swap_lines, _drop_line, self._other_line, self._other_line]

    def made(self, rng: random.Random) -> bytes:
        """One input: an example with one to five changes; now and then an untouched one, or noise."""
        chance = rng.random()
        if chance < 0.01:
            return rng.randbytes(rng.randrange(200))
        data = bytearray(rng.choice(self._examples))
        if chance < 0.03:
            return bytes(data)
        for _ in range(1 + int(rng.random() ** 3 * 5)):
            rng.choice(self._mutations)(data, rng)
        return bytes(data[:INPUT_BYTES_MAX])

    def _splice(self, data: bytearray, rng: random.Random) -> None:
        other = rng.choice(self._examples)
        at, there = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
        if rng.random() < 0.5:
            data[at:] = other[there:]
        else:
            data[at:at] = other[there : there + rng.randrange(1, 64)]

    def _token(self, data: bytearray, rng: random.Random) -> None:
        at = rng.randrange(len(data) + 1)
        old = rng.choice(self._tokens)
        found = data.find(old, at)
        new = rng.choice(self._tokens)
        if found >= 0:
            data[found : found + len(old)] = new
        else:
            data[at : at + rng.choice((0, len(new)))] = new

    def _other_line(self, data: bytearray, rng: random.Random) -> None:
        lines = data.split(b"\n")
        other = rng.choice(self._examples).split(b"\n")
        at = rng.randrange(len(lines))
        lines[at : at + rng.randrange(2)] = [rng.choice(other)]
        data[:] = b"\n".join(lines)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random) -> None:
    """Overwrite what may be a length or a count."""
    form = rng.choice(FORMS)
    size = struct.calcsize(form)
    if len(data) < size:
        return
    at = rng.randrange(len(data) - size + 1)
    number = rng.choice((*NUMBERS, len(data), len(data) - at - size, rng.randrange(1 << 16)))
    if rng.random() < 0.3:  # a little more or less than what is there
        number = int.from_bytes(data[at : at + size], "big" if form[0] == ">" else "little") + rng.choice(
            (-2, -1, 1, 2)
        )
    data[at : at + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "big" if form[0] == ">" else "little")


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.randrange(1, 16)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.randrange(1, 64)]
    data[at:at] = piece * rng.choice((1, 1, 2, 20))


def _swap_lines(data: bytearray, rng: random.Random) -> None:
    lines = data.split(b"\n")
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    data[:] = b"\n".join(lines)


def _drop_line(data: bytearray, rng: random.Random) -> None:
    lines = data.split(b"\n")
    del lines[rng.randrange(len(lines))]
    data[:] = b"\n".join(lines)
