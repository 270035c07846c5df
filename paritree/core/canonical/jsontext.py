"""JSON by value: what two engines mean by the same document, whatever their spacing, escapes and number forms.

Read in one pass without recursion, so that the depth limit is exact and does not depend on how much of Python's stack
the caller has used. The strings are read by the standard library.
"""

from __future__ import annotations

import json
import re

from paritree.core.canonical.numbers import encode_json_number
from paritree.core.canonical.pack import array_header, map_header
from paritree.core.canonical.text import encode_text
from paritree.core.errors import DeadLetter

DEPTH_MAX = 512
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"-?[A-Za-z]+")
_WORDS = {"null": b"\xc0", "true": b"\xc3", "false": b"\xc2"}
_NO_JSON_NUMBERS = frozenset({"NaN", "Infinity", "-Infinity"})
_STRINGS = json.JSONDecoder()


class _Array:
    """An array whose end has not been read."""

    end = "]"

    def __init__(self) -> None:
        self.items: list[bytes] = []

    def add(self, value: bytes) -> None:
        self.items.append(value)

    def encoded(self) -> bytes:
        return array_header(len(self.items)) + b"".join(self.items)


class _Object:
    """An object whose end has not been read: a member's UTF-8 name -> its canonical bytes; the last duplicate wins."""

    end = "}"

    def __init__(self) -> None:
        self.members: dict[bytes, bytes] = {}
        self.name = ""

    def add(self, value: bytes) -> None:
        packed = encode_text(self.name)
        self.members[self.name.encode()] = packed + value

    def encoded(self) -> bytes:
        return map_header(len(self.members)) + b"".join(self.members[name] for name in sorted(self.members))


def encode_json(value: object) -> bytes:
    """Canonical bytes of JSON text. Raises DeadLetter, also for what a later duplicate of a name would hide."""
    if not isinstance(value, str):
        raise DeadLetter(f"a {type(value).__name__} where JSON text belongs")
    stack: list[_Array | _Object] = []
    at = _skip(value, 0)
    while True:
        mark = value[at : at + 1]
        if mark in ("[", "{"):
            at = _open(stack, mark, value, at)
            if value[at] != stack[-1].end:
                continue
            done, at = stack.pop().encoded(), at + 1
        else:
            done, at = _scalar(value, mark, at)
        at = _skip(value, at)
        while stack and value[at : at + 1] != ",":
            done, at = _close(stack, done, value, at)
        if not stack:
            break
        stack[-1].add(done)
        at = _next(stack[-1], value, at + 1)
    if at != len(value):
        raise _malformed()
    return done


def _open(stack: list[_Array | _Object], mark: str, text: str, at: int) -> int:
    """Enter a container; returns where its first value or its end is."""
    if len(stack) >= DEPTH_MAX:
        raise DeadLetter(f"JSON deeper than {DEPTH_MAX}")
    container: _Array | _Object = _Array() if mark == "[" else _Object()
    stack.append(container)
    inside = _skip(text, at + 1)
    if text[inside : inside + 1] == container.end:
        return inside
    return _next(container, text, inside)


def _next(container: _Array | _Object, text: str, at: int) -> int:
    """Where the container's next value is, behind its name in an object."""
    at = _skip(text, at)
    if isinstance(container, _Object):
        container.name, at = _string(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise _malformed()
        at = _skip(text, at + 1)
    if at >= len(text) or text[at] in "]}":
        raise _malformed()
    return at


def _close(stack: list[_Array | _Object], done: bytes, text: str, at: int) -> tuple[bytes, int]:
    if text[at : at + 1] != stack[-1].end:
        raise _malformed()
    stack[-1].add(done)
    return stack.pop().encoded(), _skip(text, at + 1)


def _scalar(text: str, mark: str, at: int) -> tuple[bytes, int]:
    if mark == '"':
        string, at = _string(text, at)
        return encode_text(string), at
    if number := _NUMBER.match(text, at):
        return encode_json_number(number[0]), number.end()
    word = _WORD.match(text, at)
    if word is None or word[0] not in _WORDS:
        if word is not None and word[0] in _NO_JSON_NUMBERS:
            raise DeadLetter(f"JSON with {word[0]}")
        raise _malformed()
    return _WORDS[word[0]], word.end()


def _string(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise _malformed()
    try:
        string, end = _STRINGS.raw_decode(text, at)
    except ValueError:
        raise _malformed() from None
    return str(string), end


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _malformed() -> DeadLetter:
    return DeadLetter("malformed JSON")
