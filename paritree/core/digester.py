"""From record batches to digests: the plain digester, row by row. It is the specification of the compiled one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from paritree.core.canonical import NIL, RowEncoder, encoder, shifted_encoder
from paritree.core.canonical.pack import array_header
from paritree.core.carrier import plain_values
from paritree.core.digest import DIGEST_BYTES, DatasetKeys, column_digest
from paritree.core.errors import DeadLetter, InvariantBroken
from paritree.core.profile import Profile

REJECTS = "paritree.rejects"
"""The column in which a connector names values that no carrier can hold (see the connector contract)."""

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class DeadRow:
    """A row that could not be canonicalised. ``locator`` is None where its key could not be read either.

    ``columns`` are those whose values did not fit.
    """

    row: int
    reason: str
    locator: bytes | None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DigestBatch:
    """The digests of a batch's rows, in the batch's order, without the rows whose key could not be read.

    ``key_digests`` and ``row_digests`` have shape (n, 16), uint8. ``locators`` (n large binaries) are the key's
    canonical bytes without the rules that change values: what a look-up needs to find the row again. A dead row with
    a readable key is among the n rows, under a random row digest.
    """

    key_digests: NDArray[np.uint8]
    row_digests: NDArray[np.uint8]
    locators: pa.LargeBinaryArray
    dead: tuple[DeadRow, ...]

    def __len__(self) -> int:
        return len(self.key_digests)


class Digester(Protocol):
    """Turns record batches of one profile into digests."""

    def digest(self, batch: pa.RecordBatch) -> DigestBatch:
        """The digests of every row of the batch. Raises InvariantBroken for a column that is missing."""


@dataclass(frozen=True, slots=True)
class CanonicalRow:
    """One row, canonicalised; ``dead`` is a reason or "". ``values`` are canonical bytes by column.

    ``tolerant`` are the plain values of the columns with a tolerance, which ``values`` has as cells.
    """

    locator: bytes | None
    key_digest: bytes
    row_digest: bytes
    values: Mapping[str, bytes]
    key_bytes: bytes
    dead: str = ""
    dead_columns: tuple[str, ...] = ()
    tolerant: Mapping[str, Any] = field(default_factory=dict)


class PlainDigester:
    """Row by row over plain values, ``msgpack`` and ``hashlib``."""

    def __init__(self, profile: Profile, keys: DatasetKeys, random_bytes: RandomBytes) -> None:
        self._profile = profile
        self._keys = keys
        self._random = random_bytes
        self._encoder = RowEncoder(profile)
        self._locators = {name: encoder(profile.columns[name].bare) for name in profile.key}
        self._ruled = any(profile.columns[name].bare != profile.columns[name] for name in profile.key)
        self._column_keys = {name: keys.column(name) for name in profile.row_columns}
        self._tolerant = profile.tolerant_columns
        self._shifted = {name: (keys.shifted(name), shifted_encoder(profile.columns[name])) for name in self._tolerant}

    def digest(self, batch: pa.RecordBatch) -> DigestBatch:
        """The digests of every row; see :class:`Digester`."""
        dead: list[DeadRow] = []
        rows: list[CanonicalRow] = []
        for index, row in enumerate(self.rows(batch)):
            if row.dead:
                dead.append(DeadRow(index, row.dead, row.locator, row.dead_columns))
            if row.locator is not None:
                rows.append(row)
        return DigestBatch(
            key_digests=packed_digests([row.key_digest for row in rows]),
            row_digests=packed_digests([row.row_digest for row in rows]),
            locators=pa.array([row.locator for row in rows], pa.large_binary()),
            dead=tuple(dead),
        )

    def rows(self, batch: pa.RecordBatch) -> list[CanonicalRow]:
        """Every row of the batch, canonicalised."""
        names = set(batch.schema.names)
        if missing := [name for name in self._encoder.columns if name not in names]:
            raise InvariantBroken(f"the scan left out the column '{missing[0]}'")
        columns = {
            name: plain_values(batch.column(name), self._profile.columns[name]) for name in self._encoder.columns
        }
        if REJECTS in names:
            _apply_rejects(columns, batch.column(REJECTS).to_pylist())
        return [self._row({name: columns[name][i] for name in columns}) for i in range(batch.num_rows)]

    def column_digests(self, row: CanonicalRow) -> tuple[bytes, ...]:
        """The 8-byte column digests of a row that is not dead, in the order of the profile's row columns."""
        return tuple(
            column_digest(self._column_keys[name], row.key_bytes, row.values[name]) for name in self._encoder.columns
        )

    def shifted_digests(self, row: CanonicalRow) -> tuple[bytes, ...]:
        """The 8-byte digests of the cells of a row that is not dead on the shifted grid, column by tolerant column."""
        return tuple(
            column_digest(key, row.key_bytes, encode(row.tolerant[name]))
            for name, (key, encode) in self._shifted.items()
        )

    def _row(self, values: Mapping[str, Any]) -> CanonicalRow:
        packed: dict[str, bytes] = {}
        reasons: dict[str, str] = {}
        for name, value in values.items():
            try:
                packed[name] = self._encoder.value_bytes(name, value)
            except DeadLetter as error:
                reasons[name] = error.message
        try:
            key_bytes = self._encoder.key_bytes(packed)
            locator = self._locator(values) if self._ruled else key_bytes
        except DeadLetter as error:
            null = tuple(name for name in self._profile.key if packed.get(name) == NIL)
            why = "; ".join([*reasons.values(), error.message])
            return CanonicalRow(None, b"", b"", {}, b"", why, (*reasons, *null))
        except KeyError:  # a key column is among the values that did not fit
            return CanonicalRow(None, b"", b"", {}, b"", "; ".join(reasons.values()), tuple(reasons))
        key_digest = self._keys.key_digest(key_bytes)
        if reasons:
            dead, unfit = "; ".join(reasons.values()), tuple(reasons)
            return CanonicalRow(locator, key_digest, self._random(DIGEST_BYTES), {}, key_bytes, dead, unfit)
        row_digest = self._keys.row_digest(self._encoder.row_bytes(packed))
        tolerant = {name: values[name] for name in self._tolerant}
        return CanonicalRow(locator, key_digest, row_digest, packed, key_bytes, tolerant=tolerant)

    def _locator(self, values: Mapping[str, Any]) -> bytes:
        parts = [self._locators[name](values[name]) for name in self._profile.key]
        if NIL in parts and not self._profile.whole_row:
            raise DeadLetter("NULL in a key column")
        return array_header(len(parts)) + b"".join(parts)


def _apply_rejects(columns: dict[str, list[Any]], rejects: Sequence[Any]) -> None:
    for index, named in enumerate(rejects):
        for reject in named or ():
            if reject["column"] in columns:
                columns[reject["column"]][index] = DeadLetter(reject["reason"])


def packed_digests(digests: Sequence[bytes]) -> NDArray[np.uint8]:
    """Digests as an array of shape (n, 16), uint8."""
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
