"""What the plugin ``pgoutput`` says (PostgreSQL documentation, "Logical Replication Message Formats", version 1).

A message a row of the slot's changes: Begin, Relation, Insert, Update, Delete, Commit and some more. Only the keys of
changed rows matter here, and where a transaction ends. :func:`read_keys` takes the messages that come in masses and
stops at every other one; it is the specification of the compiled ``pgoutput_kernel.read_keys``. Values are asked for in
binary form, so that a key's bytes are those that COPY BINARY would send.

Every length is checked against the end of its message, and every message has to end where its content does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.connectors.postgresql.tuples import Bytes, Places, malformed
from paritree.core.errors import SourceError

Words = NDArray[np.int64]

END, OTHER, FULL, STRANGER, NULL_KEY, NO_KEY, MALFORMED = range(7)
"""Why reading stopped: no message is left, one that is not read here, no room, a relation that is not known, a key
with NULL, an old row without its key (or a key that was not sent), not pgoutput."""

IN_TRANSACTION, COMMITTED, KEYS, XIDS, CHANGES, DATED, FIRST_US, LAST_US, STATE_WORDS = range(9)
"""Places in the state: 1 between Begin and Commit, the end of the last commit (LSN), the keys and the transactions
written to the output so far, the changes read so far, those of them that are committed, and when the first and the last
of these were (microseconds since 2000)."""

OID, COLUMNS, FIRST_KEY = range(3)
"""Places in a row that describes a relation: its object identifier, its number of columns, then where its keys are."""


class Malformed(Exception):
    """The message is not what the protocol says."""


class ReadKeys(Protocol):
    """Take the keys out of the messages from number ``first`` on: message m is ``data[at[m] : at[m] + size[m]]``.

    ``relations`` describes the known relations, shape (r, 2 + k). Key column c of the next key goes to ``key_at[c]``
    and ``key_size[c]``, both (k, room), the transaction of each Begin to ``xids``; a message needs room for two keys
    or one transaction. ``state`` goes on from call to call. Returns the number of the message at which it stopped
    and why; nothing of that message is in the output.
    """

    def __call__(
        self,
        data: Bytes,
        at: Places,
        size: Places,
        first: int,
        relations: Words,
        state: Words,
        key_at: NDArray[np.int32],
        key_size: NDArray[np.int32],
        xids: NDArray[np.uint32],
    ) -> tuple[int, int]: ...


class Reader:
    """One message, from its first byte to its last. Raises Malformed where it ends too early."""

    def __init__(self, data: memoryview, place: int, end: int) -> None:
        self._data = data
        self.place = place
        self.end = end

    def take(self, count: int) -> int:
        """The place of the next ``count`` bytes, which are then behind."""
        if count < 0 or count > self.end - self.place:
            raise Malformed("it ends too early")
        place = self.place
        self.place += count
        return place

    def number(self, count: int, *, signed: bool = False) -> int:
        """The next big-endian integer."""
        place = self.take(count)
        return int.from_bytes(self._data[place : place + count], "big", signed=signed)

    def text(self) -> str:
        """The next text, which ends with a zero byte."""
        rest = bytes(self._data[self.place : self.end])
        length = rest.find(b"\0")
        if length < 0:
            raise Malformed("a text without its end")
        self.place += length + 1
        return rest[:length].decode("utf-8", "replace")

    def raw(self, count: int) -> bytes:
        """The next bytes."""
        place = self.take(count)
        return bytes(self._data[place : place + count])

    def bytes_of(self, cell: Cell) -> bytes:
        """The value of a column."""
        _, place, size = cell
        return bytes(self._data[place : place + size])

    def close(self) -> None:
        """Nothing may be left."""
        if self.place != self.end:
            raise Malformed("it goes on behind its end")


Cell = tuple[str, int, int]
"""A column of a row: its kind (n: NULL, u: unchanged and not sent, t: text, b: binary), place and size."""


def read_keys(
    data: Bytes,
    at: Places,
    size: Places,
    first: int,
    relations: Words,
    state: Words,
    key_at: NDArray[np.int32],
    key_size: NDArray[np.int32],
    xids: NDArray[np.uint32],
) -> tuple[int, int]:
    """The plain implementation of :class:`ReadKeys`."""
    out = _Output(relations, state, key_at, key_size, xids)
    for message in range(first, len(at)):
        place, length = int(at[message]), int(size[message])
        if place < 0 or length < 1 or place + length > len(data):
            return message, MALFORMED
        try:
            why = out.message(Reader(data.data, place, place + length))
        except Malformed:
            return message, MALFORMED
        if why is not None:
            return message, why
    return len(at), END


@dataclass(slots=True)
class _Output:
    relations: Words
    state: Words
    key_at: NDArray[np.int32]
    key_size: NDArray[np.int32]
    xids: NDArray[np.uint32]

    def message(self, reader: Reader) -> int | None:
        """Take one message in; why it cannot be, else None."""
        match chr(reader.number(1)):
            case "B":
                return self._begin(reader)
            case "C":
                self._commit(reader)
                return None
            case "I" | "U" | "D" as kind:
                return self._change(kind, reader)
            case _:
                return OTHER

    def _begin(self, reader: Reader) -> int | None:
        reader.take(16)  # the commit's LSN, its time
        xid = reader.number(4)
        reader.close()
        if self.state[IN_TRANSACTION]:
            raise Malformed("a transaction in a transaction")
        if self.state[XIDS] >= len(self.xids):
            return FULL
        self.xids[self.state[XIDS]] = xid
        self.state[XIDS] += 1
        self.state[IN_TRANSACTION] = 1
        return None

    def _commit(self, reader: Reader) -> None:
        reader.take(9)  # flags, the commit's LSN
        end = reader.number(8)
        at_us = reader.number(8, signed=True)
        reader.close()
        if not self.state[IN_TRANSACTION] or end >= 1 << 63:
            raise Malformed("a commit without a transaction")
        self.state[IN_TRANSACTION], self.state[COMMITTED] = 0, end
        if self.state[CHANGES] > self.state[DATED]:
            first = self.state[DATED] == 0
            self.state[FIRST_US] = at_us if first else min(at_us, self.state[FIRST_US])
            self.state[LAST_US] = at_us if first else max(at_us, self.state[LAST_US])
            self.state[DATED] = self.state[CHANGES]

    def _change(self, kind: str, reader: Reader) -> int | None:
        if not self.state[IN_TRANSACTION]:
            raise Malformed("a change outside of a transaction")
        oid = reader.number(4)
        relation = next((row for row in self.relations if row[OID] == oid), None)
        if relation is None:
            return STRANGER
        if self.state[KEYS] + 2 > self.key_at.shape[1]:
            return FULL
        old: list[Cell] | None = None
        new: list[Cell] | None = None
        part = chr(reader.number(1))
        identity = part
        if kind != "I" and part in "KO":
            old = _row(reader, int(relation[COLUMNS]))
            part = chr(reader.number(1)) if kind == "U" else ""
        if kind != "D":
            if part != "N":
                raise Malformed("a change without its row")
            new = _row(reader, int(relation[COLUMNS]))
        elif old is None:
            raise Malformed("a deletion without its row")
        reader.close()
        places = [int(place) for place in relation[FIRST_KEY:]]
        before = None if old is None else [old[place] for place in places]
        after = None if new is None else [new[place] for place in places]
        return self._keys(reader, before, after, NULL_KEY if identity == "O" else NO_KEY)

    def _keys(self, reader: Reader, before: list[Cell] | None, after: list[Cell] | None, no_old: int) -> int | None:
        """Write the old key where it is another one, and the new one. ``no_old`` says what NULL means in the old."""
        for column in range(self.key_at.shape[0]):
            if before is not None and (why := _problem(before[column], no_old)) is not None:
                return why
            if after is not None:
                if after[column][0] == "u" and before is not None:  # not sent again: as it was
                    after[column] = before[column]
                if (why := _problem(after[column], NULL_KEY)) is not None:
                    return why
        found = [key for key in (before, after) if key is not None]
        if len(found) == 2 and all(reader.bytes_of(a) == reader.bytes_of(b) for a, b in zip(*found, strict=True)):
            del found[0]
        for key in found:
            for column, (_, place, size) in enumerate(key):
                self.key_at[column, self.state[KEYS]] = place
                self.key_size[column, self.state[KEYS]] = size
            self.state[KEYS] += 1
        self.state[CHANGES] += 1
        return None


def _problem(cell: Cell, if_null: int) -> int | None:
    """Why a cell cannot be part of a key."""
    match cell[0]:
        case "b":
            return None
        case "u":
            return NO_KEY
        case "n":
            return if_null
        case _:
            raise Malformed("a key as text")


def _row(reader: Reader, columns: int) -> list[Cell]:
    if reader.number(2) != columns:
        raise Malformed("a row of another number of columns than its relation")
    cells: list[Cell] = []
    for _ in range(columns):
        kind = chr(reader.number(1))
        if kind in "nu":
            cells.append((kind, reader.place, -1))
        elif kind in "tb":
            size = reader.number(4, signed=True)
            cells.append((kind, reader.take(size), size))
        else:
            raise Malformed("a column of an unknown kind")
    return cells


@dataclass(frozen=True, slots=True)
class SentColumn:
    """A column as a Relation message describes it; ``identity`` says that old rows have it."""

    name: str
    type_oid: int
    modifier: int
    identity: bool


@dataclass(frozen=True, slots=True)
class SentRelation:
    """A relation as it was when its next changes were made; ``identity`` is pg_class.relreplident."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[SentColumn, ...]


@dataclass(frozen=True, slots=True)
class SentTruncate:
    """Relations that were emptied."""

    oids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What somebody wrote into the log with pg_logical_emit_message."""

    prefix: str
    content: bytes


Sent = SentRelation | SentTruncate | SentMessage | None


def read_other(message: bytes) -> Sent:
    """A message that :func:`read_keys` stopped at; None for one that says nothing of keys. Raises SourceError."""
    reader = Reader(memoryview(message), 0, len(message))
    try:
        match chr(reader.number(1)):
            case "R":
                sent: Sent = _relation(reader)
            case "T":
                count = reader.number(4)
                reader.take(1)  # CASCADE, RESTART IDENTITY
                sent = SentTruncate(tuple(reader.number(4) for _ in range(min(count, reader.end))))
            case "M":
                reader.take(9)  # flags, LSN
                prefix = reader.text()
                sent = SentMessage(prefix, reader.raw(reader.number(4)))
            case "O":
                reader.take(8)
                reader.text()
                sent = None
            case "Y":
                reader.take(4)
                reader.text()
                reader.text()
                sent = None
            case kind:
                raise Malformed(f"a message of kind {kind!r}")
        reader.close()
    except Malformed as error:
        raise malformed_change(str(error)) from error
    return sent


def _relation(reader: Reader) -> SentRelation:
    oid, schema, name = reader.number(4), reader.text(), reader.text()
    identity = chr(reader.number(1))
    columns: list[SentColumn] = []
    for _ in range(reader.number(2)):
        is_part = bool(reader.number(1) & 1)
        columns.append(SentColumn(reader.text(), reader.number(4), reader.number(4, signed=True), is_part))
    return SentRelation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def malformed_change(what: str) -> SourceError:
    """The error for messages that are not what the protocol says."""
    return malformed(f"among the changes: {what}")
