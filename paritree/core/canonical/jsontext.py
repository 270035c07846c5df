"""JSON by value: what two engines mean by the same document, whatever their spacing, escapes and number forms."""

from __future__ import annotations

import json
from typing import Any

from paritree.core.canonical.numbers import encode_json_number
from paritree.core.canonical.pack import array_header, map_header
from paritree.core.canonical.text import encode_text
from paritree.core.errors import DeadLetter

DEPTH_MAX = 512


class _Number(str):
    """A JSON number as written."""


def _refuse_constant(name: str) -> Any:
    raise DeadLetter(f"JSON with {name}")


_DECODER = json.JSONDecoder(parse_int=_Number, parse_float=_Number, parse_constant=_refuse_constant)


def encode_json(value: object) -> bytes:
    """Canonical bytes of JSON text. Raises DeadLetter."""
    if not isinstance(value, str):
        raise DeadLetter(f"a {type(value).__name__} where JSON text belongs")
    try:
        document = _DECODER.decode(value)
    except RecursionError:
        raise DeadLetter(f"JSON deeper than {DEPTH_MAX}") from None
    except ValueError:
        raise DeadLetter("malformed JSON") from None
    return _encode(document, 0)


def _encode(node: object, depth: int) -> bytes:
    """One frame a level (no comprehension frames), so that 512 levels fit into Python's stack."""
    if node is None:
        return b"\xc0"
    if node is True:
        return b"\xc3"
    if node is False:
        return b"\xc2"
    if isinstance(node, _Number):
        return encode_json_number(node)
    if isinstance(node, str):
        return encode_text(node)
    if depth >= DEPTH_MAX:
        raise DeadLetter(f"JSON deeper than {DEPTH_MAX}")
    parts: list[bytes] = []
    if isinstance(node, list):
        for item in node:
            parts.append(_encode(item, depth + 1))  # noqa: PERF401
        return array_header(len(parts)) + b"".join(parts)
    if not isinstance(node, dict):
        raise DeadLetter("malformed JSON")
    pairs: list[tuple[bytes, bytes, bytes]] = []
    for key, item in node.items():
        packed = encode_text(key)
        pairs.append((key.encode("utf-8"), packed, _encode(item, depth + 1)))
    pairs.sort()
    for _, packed, encoded in pairs:
        parts.append(packed + encoded)
    return map_header(len(pairs)) + b"".join(parts)
