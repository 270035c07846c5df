"""Buckets as people write them: ``2024-05``, ``acme``, ``17``, ``null``; the way there and back is exact.

A value that could be taken for something else stands as JSON: the text ``null`` as ``"null"``, several columns as an
array. Outside of the regions a bucket has its id instead.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from msgpack import packb, unpackb

from paritree.core.canonical import encode
from paritree.core.display import key_to_json
from paritree.core.errors import ConfigError, DeadLetter
from paritree.core.limits import BUCKET_BYTES_MAX
from paritree.core.scope import DEPTHS, INFINITIES, NULL, Cut
from paritree.core.textual import parse_text
from paritree.core.types import LogicalType

NULL_LABEL: Final = "null"
_DATE: Final = re.compile(r"([0-9]{4}|[+-][0-9]{4,6})(?:-([0-9]{2}))?(?:-([0-9]{2}))?")
_FORMS: Final = {"year": "2024", "month": "2024-05", "day": "2024-05-17"}


def label(cut: Cut, content: bytes) -> str:
    """How people write the bucket of those bytes."""
    if cut.scope.kind == "value":
        values = list(key_to_json(content, cut.profile).values())
        return _written(values[0]) if len(values) == 1 else json.dumps(values, ensure_ascii=False)
    if content == NULL:
        return NULL_LABEL
    parts = unpackb(content)
    if cut.scope.kind == "hash" or isinstance(parts[0], str):
        return str(parts[0])
    year, *rest = parts
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    return "-".join([shown, *(f"{part:02d}" for part in rest)])


def _written(value: Any) -> str:
    if value is None:
        return NULL_LABEL
    if isinstance(value, str) and value and value != NULL_LABEL and value[0] not in '"[' and value.isprintable():
        return value
    return json.dumps(value, ensure_ascii=False)


def content(cut: Cut, text: str) -> bytes:
    """The bytes of the bucket that people write so. Raises ConfigError."""
    scope = cut.scope
    if scope.kind == "value":
        return _values(cut, text)
    if text == NULL_LABEL:
        return NULL
    if scope.kind == "hash":
        if not text.isascii() or not text.isdecimal() or int(text) >= scope.buckets:
            raise _no_bucket(cut, text, f"a number from 0 to {scope.buckets - 1}, or {NULL_LABEL}")
        return bytes(packb([int(text)]))
    if text in INFINITIES.values():
        return bytes(packb([text]))
    match = _DATE.fullmatch(text)
    parts = [int(part) for part in match.groups() if part is not None] if match else []
    if len(parts) != DEPTHS[scope.kind] or not _exists(parts):
        raise _no_bucket(cut, text, f"a {scope.kind} such as {_FORMS[scope.kind]}, infinity, -infinity or {NULL_LABEL}")
    return bytes(packb(parts))


def _exists(parts: Sequence[int]) -> bool:
    year, month, day = (*parts, 1, 1)[:3]
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+05d}"
    try:
        parse_text(f"{shown}-{month:02d}-{day:02d}", LogicalType("date"))
    except DeadLetter:
        return False
    return True


def _values(cut: Cut, text: str) -> bytes:
    columns = cut.scope.columns
    given: Any = text
    if len(columns) > 1 or text == NULL_LABEL or text.startswith(('"', "[")):
        try:
            given = json.loads(text)
        except ValueError:
            given = text
    values = given if isinstance(given, list) else [given]
    if len(values) != len(columns):
        raise _no_bucket(cut, text, f"a JSON array of {', '.join(columns)}")
    try:
        return cut.bucket([_packed(value, kind) for value, kind in zip(values, cut.types, strict=True)])
    except DeadLetter as error:
        kinds = ", ".join(map(str, cut.types))
        raise _no_bucket(cut, text, f"a value of {kinds}, or {NULL_LABEL}") from error


def _packed(value: Any, kind: LogicalType) -> bytes:
    """Canonical bytes of a JSON value; its text is read as the type."""
    if value is None:
        return encode(None, kind)
    if isinstance(value, bool):
        value = "true" if value else "false"
    text = value if isinstance(value, str) else str(value)
    return encode(text if kind.name in ("text", "int") else parse_text(text, kind), kind)


def _no_bucket(cut: Cut, text: str, wanted: str) -> ConfigError:
    return ConfigError(f"'{text:.80}' is no bucket of scope {cut.scope.name}", next_step=f"write {wanted}")


def id_text(bucket_id: bytes) -> str:
    """A bucket's id as people pass it on: RFC 4648 base32 without padding."""
    return base64.b32encode(bucket_id).decode("ascii").rstrip("=")


def id_bytes(text: str) -> bytes:
    """The id that the text is. Raises ConfigError."""
    written = text.strip().upper()
    try:
        found = base64.b32decode(written + "=" * (-len(written) % 8))
    except ValueError:
        found = b""
    if not 0 < len(found) <= BUCKET_BYTES_MAX or id_text(found) != written:
        raise ConfigError(
            f"'{text:.80}' is no bucket id",
            next_step="'paritree agent buckets DATASET SCOPE' in one of its regions says the ids",
        )
    return found
