"""Dead letters: what could not be compared, kept in its region until its cause is fixed or somebody discards it.

    row       a value that does not fit its logical type, or a key that cannot be read
    rows      a part of the table that the source could not read
    schema    the table is not the one that was compared before: a column added, dropped or retyped, another key
    message   bytes from the other side that are no message
    job       a sweep that came to no report

An open letter was not looked into. A discarded one was, and stays as it is: its row is still not compared, so it makes
a sweep ``unknown`` just the same. Only a row that can be read again, by a sweep or by a replay, ends its letter.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ID_BYTES: Final = 10
ID_CHARS: Final = 16


class LetterKind(StrEnum):
    """What could not be read."""

    ROW = "row"
    ROWS = "rows"
    SCHEMA = "schema"
    MESSAGE = "message"
    JOB = "job"


class LetterState(StrEnum):
    """Whether somebody has looked into it."""

    OPEN = "open"
    DISCARDED = "discarded"


class LetterAction(StrEnum):
    """What may be asked of letters."""

    LIST = "list"
    REPLAY = "replay"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it may leave its region: no key and no value.

    ``id`` is opaque: 16 characters of base32, the same for the same row in every sweep. ``dataset`` is "" for messages.
    ``columns`` are the columns that did not fit; ``keyed`` tells whether the row's key could be read. Times are
    microseconds since 1970 UTC. ``sweep_id`` is the sweep that saw it last, ``count`` how often it was seen. ``note``
    says why it was discarded, and by whom.
    """

    id: str
    dataset: str
    kind: LetterKind
    reason: str
    columns: tuple[str, ...] = ()
    keyed: bool = False
    state: LetterState = LetterState.OPEN
    first_seen_us: int = 0
    last_seen_us: int = 0
    sweep_id: str = ""
    count: int = 1
    note: str = ""


def letter_id(*parts: str | bytes) -> str:
    """The id of what these parts name together; each part is framed by its length."""
    hashed = hashlib.blake2b(digest_size=ID_BYTES, person=b"paritree-letter")
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8, "big") + data)
    return base64.b32encode(hashed.digest()).decode("ascii")
