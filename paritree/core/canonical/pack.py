"""The few MessagePack primitives the canonical form is made of, typed; everything is in its shortest form."""

from __future__ import annotations

from typing import cast

import msgpack

_PACKER = msgpack.Packer()


def pack(value: bool | int | str | bytes) -> bytes:
    """A bool, int, str or bytes."""
    return cast(bytes, msgpack.packb(value))


def ext(code: int, payload: bytes) -> bytes:
    """An extension value, fixext where the length allows."""
    return cast(bytes, msgpack.packb(msgpack.ExtType(code, payload)))


def array_header(length: int) -> bytes:
    return cast(bytes, _PACKER.pack_array_header(length))


def map_header(length: int) -> bytes:
    return cast(bytes, _PACKER.pack_map_header(length))
