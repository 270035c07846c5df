"""The few MessagePack primitives the canonical form is made of, typed; everything is in its shortest form."""

from __future__ import annotations

import struct
from typing import cast

import msgpack

from paritree.core.errors import DeadLetter

_FIXEXT = {1: b"\xd4", 2: b"\xd5", 4: b"\xd6", 8: b"\xd7", 16: b"\xd8"}


def pack(value: bool | int | str | bytes) -> bytes:
    """A bool, int, str or bytes. Raises DeadLetter for a lone surrogate, and for what needs a header above 32 bits."""
    try:
        return cast(bytes, msgpack.packb(value))
    except UnicodeEncodeError:
        raise DeadLetter("text with a lone surrogate") from None
    except ValueError:
        raise DeadLetter("a value of 4 GiB or more") from None


def ext(code: int, payload: bytes) -> bytes:
    """An extension value, fixext where the length allows; by hand, as ``ExtType`` costs four times as much."""
    size = len(payload)
    head = _FIXEXT.get(size)
    if head is None:
        if size < 1 << 8:
            head = struct.pack(">BB", 0xC7, size)
        elif size < 1 << 16:
            head = struct.pack(">BH", 0xC8, size)
        else:
            head = struct.pack(">BI", 0xC9, size)
    return head + bytes((code,)) + payload


def array_header(length: int) -> bytes:
    """Built by hand: a ``Packer`` that threads share is not safe, and one a call is slow."""
    return _header(length, 0x90, b"\xdc", b"\xdd")


def map_header(length: int) -> bytes:
    return _header(length, 0x80, b"\xde", b"\xdf")


def _header(length: int, fix: int, head16: bytes, head32: bytes) -> bytes:
    if length < 16:
        return bytes((fix | length,))
    if length < 1 << 16:
        return head16 + struct.pack(">H", length)
    return head32 + struct.pack(">I", length)
