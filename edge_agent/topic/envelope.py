"""What a message of a change topic says: bytes of a foreign producer -> keys, a marker, or why a scan is needed.

``debezium``: a change event, with or without its Connect schema around it::

    {"op": "u", "before": {...} | null, "after": {...} | null, "source": {...}, "ts_ms": ...}

``keys``: the key alone, as an object ``{"id": 1}``, an array in the order of the dataset's key ``[1]``, or the value of
a key of one column ``1``. In both, ``{"paritree_marker": "2026-01-31T12:00:00Z"}`` (or seconds since 1970) is a marker:
its producer says that every change committed before that moment is in the stream before it. PostgreSQL can write one
itself, ``SELECT pg_logical_emit_message(true, 'paritree', now()::text)``, which Debezium hands on as an event.

Nothing is passed over: what is none of this is :class:`Malformed`, and its key unknown.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from paritree.core.errors import DeadLetter
from paritree.core.textual import parse_text
from paritree.core.types import parse_type

MARKER: Final = "paritree_marker"
PREFIX: Final = "paritree"
"""Of logical messages of PostgreSQL that are markers."""
ROW_OPS: Final = frozenset("curd")
INSTANT: Final = parse_type("timestamp")


class Malformed(ValueError):
    """A message that is none: ``reason`` quotes nothing of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Said:
    """What one message says. ``rows`` have the key's fields; ``types`` what the Connect schema says of fields.

    ``marker`` (seconds since 1970): everything committed before it came before this message. ``rescan``: why changes
    alone do not do from here on. ``deleted``: a tombstone may follow.
    """

    rows: tuple[Any, ...] = ()
    marker: float | None = None
    rescan: str = ""
    deleted: bool = False
    types: Mapping[str, tuple[str, int | None]] = field(default_factory=dict)


def read_keys(data: bytes) -> Said:
    """A message of format ``keys``. Raises Malformed."""
    document = _parsed(data)
    if isinstance(document, dict) and MARKER in document:
        return Said(marker=_moment(document[MARKER]))
    if document is None or document in ({}, []):
        raise Malformed("it has no key")
    return Said((document,))


def read_debezium(data: bytes, key: bytes = b"", *, after_delete: bool = False) -> Said:
    """A message of format ``debezium``, with the message's ``key`` where its producer sends one. Raises Malformed."""
    if data in (b"", b"null"):
        if key:
            row, types = _unwrapped(_parsed(key))
            return Said((_fields(row, "key"),), types=types.get("", {}))
        if after_delete:
            return Said()
        raise Malformed("an empty message without a key that does not follow a delete")
    event, types = _unwrapped(_parsed(data))
    if not isinstance(event, dict):
        raise Malformed("it is no object")
    if MARKER in event:
        return Said(marker=_moment(event[MARKER]))
    op = event.get("op")
    if op is None:
        return _without_op(event)
    if op == "t":
        return Said(rescan="the table was emptied (truncate)")
    if op == "m":
        return _logical_message(event)
    if not isinstance(op, str) or op not in ROW_OPS:
        raise Malformed("an operation that is not known")
    return _change(op, event, types)


def _change(op: str, event: Mapping[str, Any], types: Mapping[str, Mapping[str, tuple[str, int | None]]]) -> Said:
    images = [(name, event.get(name)) for name in ("before", "after")]
    rows = tuple(_fields(image, name) for name, image in images if image is not None)
    if not rows or (op in "cur" and event.get("after") is None):
        raise Malformed("a change without the row that it is of")
    if any(row.get(edge) is not None for row in rows for edge in ("_range_start", "_range_end")):
        return Said(rescan="a range of rows was deleted at once")
    return Said(rows, deleted=op == "d", types={**types.get("before", {}), **types.get("after", {})})


def _without_op(event: Mapping[str, Any]) -> Said:
    if isinstance(event.get("ts_ms"), int) and event.keys() <= {"ts_ms", "ts_us", "ts_ns"}:
        return Said()  # a heartbeat
    if event.get("status") in ("BEGIN", "END") and isinstance(event.get("id"), str):
        return Said()  # a transaction's edge
    if "ddl" in event or "tableChanges" in event:
        return Said(rescan="a table's schema was changed")
    raise Malformed("an envelope without an operation")


def _logical_message(event: Mapping[str, Any]) -> Said:
    """What ``pg_logical_emit_message`` wrote: a marker if it is ours, else somebody else's business."""
    message = event.get("message")
    if not isinstance(message, dict) or not isinstance(message.get("prefix"), str):
        raise Malformed("a logical message without a prefix")
    if message["prefix"] != PREFIX:
        return Said()
    content = message.get("content")
    try:
        if isinstance(content, str):
            return Said(marker=_moment(base64.b64decode(content, validate=True).decode()))
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise Malformed("a marker whose content is not text in base64")


def _moment(value: Any) -> float:
    """Seconds since 1970 of a marker."""
    if isinstance(value, str):
        try:
            parsed = parse_text(value, INSTANT)
        except DeadLetter:
            raise Malformed("a marker that is no moment in UTC or with an offset") from None
        assert isinstance(parsed, int)
        seconds = parsed / 1e6
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise Malformed("a marker that is no moment")
    if not 0 < seconds < 1e11:
        raise Malformed("a marker that is no moment of these times")
    return seconds


def _fields(image: Any, name: str) -> dict[str, Any]:
    if not isinstance(image, dict):
        raise Malformed(f"its '{name}' is no object")
    return image


def _unwrapped(document: Any) -> tuple[Any, dict[str, dict[str, tuple[str, int | None]]]]:
    """The payload, and by image (``before``, ``after``, "" for the whole) what the schema calls each field's type."""
    if not isinstance(document, dict) or document.keys() != {"schema", "payload"}:
        return document, {}
    schema = document["schema"]
    if schema is None:
        return document["payload"], {}
    if not isinstance(schema, dict):
        raise Malformed("its 'schema' is no object")
    types = {"": _types(schema)}
    for one in _listed(schema):
        if one.get("field") in ("before", "after"):
            types[one["field"]] = _types(one)
    return document["payload"], types


def _types(schema: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """Field -> its semantic type and, of decimals, the scale."""
    found: dict[str, tuple[str, int | None]] = {}
    for one in _listed(schema):
        name, kind = one.get("field"), one.get("name")
        if isinstance(name, str) and isinstance(kind, str):
            parameters = one.get("parameters")
            scale = parameters.get("scale") if isinstance(parameters, dict) else None
            digits = isinstance(scale, str) and scale.isascii() and scale.isdigit() and len(scale) < 5
            found[name] = kind, int(scale) if digits and scale is not None else None
    return found


def _listed(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    fields = schema.get("fields", [])
    if not isinstance(fields, list) or not all(isinstance(one, dict) for one in fields):
        raise Malformed("its schema's 'fields' are no list of objects")
    return fields


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode(), parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_distinct)
    except Malformed:
        raise
    except UnicodeDecodeError:
        raise Malformed("it is not UTF-8") from None
    except RecursionError:
        raise Malformed("its JSON is nested too deeply") from None
    except (ValueError, ArithmeticError):  # integers of thousands of digits and exponents without end, too
        raise Malformed("it is no JSON") from None


def _no_constant(_: str) -> Any:
    raise Malformed("it is no JSON: a number that is none")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise Malformed("one name occurs twice in an object")
    return made
