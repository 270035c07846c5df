"""Dead letters as they are found: what is kept of a row, sealed where it was read, so that no clear value is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from edge_agent.seal import seal, unseal
from paritree.core import limits
from paritree.core.deadletters import LetterKind
from paritree.core.digest import DatasetKeys
from paritree.core.digester import REJECTS, DeadRow
from paritree.core.errors import PeerError, SourceError
from paritree.core.placed import Placed

VALUE_CHARS_MAX: Final = 2_000
"""Of a longer value the beginning is kept: it is for people, the row itself is still in its table."""
SHORT_CHARS_MAX: Final = 200
SHORT_VALUES_MAX: Final = 50
"""What is kept of a row whose payload is too long all the same: 50 values of 200 characters fit in any encoding."""
_SEAL: Final = b"dead-letter"
_IDENTITY: Final = b"dead-letter-id"


@dataclass(frozen=True, slots=True)
class Found:
    """One dead letter: ``identity`` (16 bytes, keyed) is the same whenever the same row is found.

    ``sealed`` is the payload (:func:`opened`) under the dataset's key of ``key_id``; ``count`` rows have this identity.
    """

    kind: LetterKind
    identity: bytes
    reason: str
    columns: tuple[str, ...]
    keyed: bool
    key_id: bytes
    sealed: bytes
    count: int = 1


def found(
    keys: DatasetKeys,
    kind: LetterKind,
    identity: bytes,
    reason: str,
    payload: Mapping[str, Any],
    *,
    columns: Iterable[str] = (),
    keyed: bool = False,
) -> Found:
    """A letter with its payload (JSON), which is cut where it is too long and then says so."""
    own = identity_of(keys, identity)
    text = json.dumps(payload, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
    if len(text) > limits.LETTER_BYTES_MAX:
        text = json.dumps(_shortened(payload, columns, len(text)), default=str).encode()
    return Found(
        kind,
        own,
        reason,
        tuple(columns)[: limits.LETTER_COLUMNS_MAX],
        keyed,
        keys.key_id,
        seal(keys, own, text, purpose=_SEAL),
    )


def _shortened(payload: Mapping[str, Any], columns: Iterable[str], size: int) -> dict[str, Any]:
    """A payload that is too long: of its values the beginnings of those that did not fit, and that it was cut."""
    values = payload.get("values", {})
    some = {name: cut(values[name], SHORT_CHARS_MAX) for name in list(columns)[:SHORT_VALUES_MAX] if name in values}
    kept = {name: value for name, value in payload.items() if len(str(value)) <= VALUE_CHARS_MAX}
    return {**kept, "values": some, "cut": f"of {size} bytes"}


def opened(keys: DatasetKeys, key_id: bytes, identity: bytes, sealed: bytes) -> dict[str, Any]:
    """The payload. Raises SourceError where it was sealed under another key, or the file was changed."""
    if key_id != keys.key_id:
        raise SourceError(
            f"the dead letter is sealed under another dataset key ({key_id.hex()})",
            next_step="sweep again: rows that still do not fit are sealed under the key of now",
        )
    try:
        payload = json.loads(unseal(keys, identity, sealed, purpose=_SEAL))
    except (PeerError, ValueError):
        raise SourceError("a dead letter cannot be opened: it was changed on disk") from None
    return dict(payload)


def rows_found(
    keys: DatasetKeys, batch: pa.RecordBatch | Placed, dead: Sequence[DeadRow], shard: str, first_row: int = 0
) -> Iterator[Found]:
    """The letters of the dead rows of a batch whose first row is row ``first_row`` of the shard."""
    for one, (decoded, at) in zip(dead, _decoded(batch, dead), strict=True):
        yield _row_found(keys, decoded, at, one, {"shard": shard, "row": first_row + one.row})


def _decoded(batch: pa.RecordBatch | Placed, dead: Sequence[DeadRow]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Where each dead row's values stand: rows that were digested where they lay are decoded, they alone."""
    if isinstance(batch, Placed):
        for decoded in batch.batches(np.array([one.row for one in dead], np.int64)):
            yield from ((decoded, at) for at in range(decoded.num_rows))
    else:
        yield from ((batch, one.row) for one in dead)


def _row_found(keys: DatasetKeys, batch: pa.RecordBatch, at: int, dead: DeadRow, place: Mapping[str, Any]) -> Found:
    values = {name: shown(batch.column(name).slice(at, 1)) for name in batch.schema.names if name != REJECTS}
    if dead.locator is not None:
        identity = key_identity(dead.locator)
    else:
        identity = b"row" + json.dumps([dead.reason, values], default=str).encode()
    payload = {
        **place,
        "key": None if dead.locator is None else dead.locator.hex(),
        "values": {name: cut(value) for name, value in values.items()},
    }
    keyed = dead.locator is not None
    return found(keys, LetterKind.ROW, identity, dead.reason, payload, columns=dead.columns, keyed=keyed)


def key_identity(locator: bytes) -> bytes:
    """What identifies the letter of a row whose key is known: there is one of each key."""
    return b"key" + locator


def identity_of(keys: DatasetKeys, identity: bytes) -> bytes:
    """An identity as it is stored: 16 bytes, keyed."""
    return hashlib.blake2b(identity, key=keys.derive(_IDENTITY), digest_size=16).digest()


def shown(array: pa.Array) -> str | None:
    """The one value of an array, for people; None for null. Never fails, whatever the bytes."""
    try:
        value = array[0].as_py()
    except (ValueError, OverflowError, pa.ArrowException):  # text that is not UTF-8, times outside of Python's range
        try:
            value = array.view(pa.binary())[0].as_py()
        except (ValueError, pa.ArrowException):
            return f"({array.type} that cannot be shown)"
    if value is None:
        return None
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)


def cut(value: str | None, chars_max: int = VALUE_CHARS_MAX) -> str | None:
    """A value, or its beginning and how long it is."""
    if value is None or len(value) <= chars_max:
        return value
    return f"{value[:chars_max]}… ({len(value)} characters)"


def merged(one: Found, other: Found) -> Found:
    """Two rows of one identity."""
    return replace(one, count=one.count + other.count)
