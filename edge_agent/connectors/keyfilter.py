"""Which rows of a batch have one of the keys asked for: exact for every key type, because it compares canonical bytes.

For sources without an index of their own, and after a query that may return more than was asked (a caseless collation,
a rounded literal): a row must come back once, so every look-up of these connectors ends here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from edge_agent.connectors.spellings import SPELLINGS
from paritree.core import compute as pc
from paritree.core.canonical import encode
from paritree.core.carrier import plain_values
from paritree.core.errors import DeadLetter
from paritree.core.profile import Binding
from paritree.core.types import LogicalType

Key = tuple[Any, ...]


def askable(keys: Sequence[Key]) -> list[Key]:
    """The keys without those that have a NULL part: such a key never matches."""
    return [key for key in keys if all(part is not None for part in key)]


def token(value: object, kind: LogicalType) -> bytes | None:
    """Bytes that are equal for equal values of the type (rules apart); None for a value that the type cannot hold."""
    try:
        if isinstance(value, str) and kind.name == "text":
            return value.encode()  # a NUL is no canonical text, but a row that has one can be looked up
        return encode(value, kind.bare)
    except (DeadLetter, UnicodeEncodeError):
        return None


class KeyFilter:
    """The rows of batches whose key is among ``keys`` (plain values in the order of ``binding.key``)."""

    def __init__(self, binding: Binding, keys: Sequence[Key]) -> None:
        self._names = binding.key
        self._types = [column.type.bare for column in binding.key_columns]
        asked = askable(keys)
        tokens = {tuple(token(part, kind) for part, kind in zip(key, self._types, strict=True)) for key in asked}
        self._keys = {key for key in tokens if None not in key}
        self._parts = [[key[index] for key in asked] for index in range(len(self._names))]
        self._sets: dict[tuple[int, pa.DataType], pa.Array | None] = {}

    def matching(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The matching rows of each batch; batches without any are left out."""
        for batch in batches:
            if (found := self.filter(batch)).num_rows:
                yield found

    def filter(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of one batch whose key was asked for."""
        batch = self._coarse(batch)
        if not batch.num_rows:
            return batch
        columns = [
            [token(value, kind) if value is not None else None for value in plain_values(batch.column(name), kind)]
            for name, kind in zip(self._names, self._types, strict=True)
        ]
        return batch.filter(pa.array([key in self._keys for key in zip(*columns, strict=True)], pa.bool_()))

    def _coarse(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Drop most rows with vectorised comparisons, where a carrier has one form for each value."""
        for index, name in enumerate(self._names):
            column = batch.column(name)
            asked = self._asked(index, column.type)
            if asked is not None and batch.num_rows:
                batch = batch.filter(_may_be(column, asked, self._types[index]))
        return batch

    def _asked(self, index: int, carrier: pa.DataType) -> pa.Array | None:
        if (index, carrier) not in self._sets:
            self._sets[index, carrier] = _value_set(self._parts[index], self._types[index], carrier)
        return self._sets[index, carrier]


def _may_be(column: pa.Array, asked: pa.Array, kind: LogicalType) -> pa.Array:
    """False where the value is certainly not among those asked for."""
    spelling = SPELLINGS.get(kind.name)
    if spelling is None or not _is_text(column.type):
        return pc.is_in(column, value_set=asked)
    head = column if spelling.width is None else pc.utf8_slice_codeunits(column, 0, spelling.width)
    unusual = pc.invert(pc.match_substring_regex(column, spelling.form))
    return pc.or_kleene(pc.is_in(head, value_set=asked), unusual)


def _is_text(carrier: pa.DataType) -> bool:
    return bool(pa.types.is_string(carrier) or pa.types.is_large_string(carrier))


def _value_set(parts: Sequence[Any], kind: LogicalType, carrier: pa.DataType) -> pa.Array | None:
    """The values asked for (or the heads of their texts) as the carrier holds them; None where none can be said."""
    if kind.name == "int" and pa.types.is_integer(carrier):
        bits = carrier.bit_width - pa.types.is_signed_integer(carrier)
        low = -(1 << bits) if pa.types.is_signed_integer(carrier) else 0
        return pa.array([part for part in parts if type(part) is int and low <= part < 1 << bits], carrier)
    if kind.name in SPELLINGS and _is_text(carrier):
        heads = [SPELLINGS[kind.name].heads(part) for part in parts]
        return None if None in heads else pa.array([text for texts in heads if texts for text in texts], carrier)
    if kind.name == "text" and _is_text(carrier):
        return pa.array([part for part in parts if isinstance(part, str) and token(part, kind) is not None], carrier)
    if kind.name == "bytes" and (pa.types.is_binary(carrier) or pa.types.is_large_binary(carrier)):
        return pa.array([part for part in parts if isinstance(part, bytes)], carrier)
    return None
