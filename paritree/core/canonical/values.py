"""The canonical bytes of one value of any logical type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

from paritree.core.canonical.cells import cell_encoder
from paritree.core.canonical.jsontext import encode_json
from paritree.core.canonical.numbers import encode_decimal, encode_float, encode_int
from paritree.core.canonical.pack import array_header, map_header
from paritree.core.canonical.text import encode_bytes, encode_inet, encode_text, encode_uuid
from paritree.core.canonical.times import encode_date, encode_duration, encode_time
from paritree.core.errors import DeadLetter
from paritree.core.types import LogicalType

Encoder = Callable[[object], bytes]
NIL = b"\xc0"


def encode(value: object, kind: LogicalType) -> bytes:
    """Canonical bytes of a plain value. Raises DeadLetter where the value does not fit the type."""
    return encoder(kind)(value)


@cache
def encoder(kind: LogicalType) -> Encoder:
    """The function that encodes plain values of that type. None becomes nil; a DeadLetter given is raised."""
    return _of_any(_inner(kind))


@cache
def shifted_encoder(kind: LogicalType) -> Encoder:
    """As :func:`encoder`, for the shifted grid of a type with a tolerance. Raises InvariantBroken without one."""
    return _of_any(cell_encoder(kind, shifted=True))


def _of_any(inner: Encoder) -> Encoder:

    def encode_value(value: object) -> bytes:
        if value is None:
            return NIL
        if isinstance(value, DeadLetter):
            raise DeadLetter(value.message)  # a new one: raising the same again would grow its traceback
        return inner(value)

    return encode_value


def _inner(kind: LogicalType) -> Encoder:
    if kind.tolerance is not None:
        return cell_encoder(kind)
    match kind.name:
        case "decimal":
            return lambda value: encode_decimal(value, kind.scale, kind.rounding_mode)
        case "text":
            return lambda value: encode_text(value, kind.rules)
        case "time" | "timestamp" | "datetime":
            return lambda value: encode_time(value, kind)
        case "list":
            return _list_encoder(kind)
        case "set":
            return _set_encoder(kind)
        case "map":
            return _map_encoder(kind)
        case "struct":
            return _struct_encoder(kind)
        case _:
            return _SIMPLE[kind.name]


def _encode_bool(value: object) -> bytes:
    if not isinstance(value, bool):
        raise DeadLetter(f"a {type(value).__name__} where a bool belongs")
    return b"\xc3" if value else b"\xc2"


_SIMPLE: Mapping[str, Encoder] = {
    "bool": _encode_bool,
    "int": encode_int,
    "float": encode_float,
    "bytes": encode_bytes,
    "date": encode_date,
    "uuid": encode_uuid,
    "duration": encode_duration,
    "inet": encode_inet,
    "json": encode_json,
}


def _items(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise DeadLetter(f"a {type(value).__name__} where a {what} belongs")
    return value


def _list_encoder(kind: LogicalType) -> Encoder:
    element = encoder(kind.of[0])

    def encode_list(value: object) -> bytes:
        items = [element(item) for item in _items(value, "list")]
        return array_header(len(items)) + b"".join(items)

    return encode_list


def _set_encoder(kind: LogicalType) -> Encoder:
    element = encoder(kind.of[0])

    def encode_set(value: object) -> bytes:
        items = sorted({element(item) for item in _items(value, "set")})
        return array_header(len(items)) + b"".join(items)

    return encode_set


def _map_encoder(kind: LogicalType) -> Encoder:
    key_encoder, value_encoder = encoder(kind.of[0]), encoder(kind.of[1])

    def encode_map(value: object) -> bytes:
        pairs: dict[bytes, bytes] = {}
        for pair in _items(value, "map"):
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise DeadLetter("a map is given as pairs")
            key, item = pair
            packed = key_encoder(key)
            if packed == NIL:
                raise DeadLetter("map with a null key")
            if packed in pairs:
                raise DeadLetter("map with equal keys after canonicalisation")
            pairs[packed] = value_encoder(item)
        return map_header(len(pairs)) + b"".join(key + pairs[key] for key in sorted(pairs))

    return encode_map


def _struct_encoder(kind: LogicalType) -> Encoder:
    fields = [(name, encode_text(name), encoder(field)) for name, field in kind.fields]
    declared = frozenset(name for name, _ in kind.fields)

    def encode_struct(value: object) -> bytes:
        if not isinstance(value, Mapping):
            raise DeadLetter(f"a {type(value).__name__} where a struct belongs")
        if any(name not in declared for name in value):
            raise DeadLetter("struct with an undeclared field")
        body = b"".join(packed + field(value.get(name)) for name, packed, field in fields)
        return map_header(len(fields)) + body

    return encode_struct


def empty_bytes(kind: LogicalType) -> bytes | None:
    """The bytes that ``empty_collection = "null"`` turns into nil at the top level, or None for other types."""
    match kind.name:
        case "list" | "set":
            return b"\x90"
        case "map":
            return b"\x80"
        case "struct":
            return encode({}, kind)
        case _:
            return None
