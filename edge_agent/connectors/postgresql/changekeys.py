"""From the slot's messages to the dataset's keys: located bytes of source columns -> a record batch of key columns.

Where every key column is a source column, its bytes are decoded here, as a scan's are. Where one is computed (an
expression, a fold), the server computes it from the bytes that it sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from psycopg import sql

from edge_agent.connectors.changes import RescanNeeded, Span
from edge_agent.connectors.contract import BATCH_ROWS
from edge_agent.connectors.postgresql import lookup, pgoutput
from edge_agent.connectors.postgresql.decode import decode_batches
from edge_agent.connectors.postgresql.encode import array
from edge_agent.connectors.postgresql.identity import key_sources
from edge_agent.connectors.postgresql.pgoutput import SentRelation
from edge_agent.connectors.postgresql.primitives import PLAIN, Fields, Primitives, values
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.tuples import Tuples
from paritree.core.errors import ConfigError, InvariantBroken
from paritree.core.fast.warming import Kernels, are_used
from paritree.core.profile import Binding

EPOCH_S: Final = 946_684_800
"""The beginning of 2000 in UTC, from which PostgreSQL counts, in seconds since 1970."""
KERNELS: Final = Kernels("edge_agent.connectors.postgresql.pgoutput_kernel", "read_keys")


@dataclass(frozen=True, slots=True)
class KeyColumns:
    """How the key of a changed row is made: from ``sources`` (columns of the table), to ``projection``'s columns.

    ``projection`` has the key columns only. ``computed`` says that the server makes the key.
    """

    projection: Projection
    sources: tuple[str, ...]
    computed: bool

    @classmethod
    def of(cls, projection: Projection, binding: Binding, identity: Sequence[str]) -> KeyColumns:
        """The key columns of a binding, for a table whose old rows have the columns ``identity``."""
        sources = key_sources(binding, identity)
        key = replace(
            projection,
            outputs=tuple(output for name in binding.key if (output := projection.output(name)) is not None),
            constants=tuple(column for column in projection.constants if column.name in binding.key),
            names=binding.key,
            where=None,
        )
        return cls(key, sources, any(output.column.source is None for output in key.outputs))

    def demand_covered(self, session: Session) -> None:
        """Raise ConfigError where the key computes with a column that old rows do not have."""
        if self.computed:
            self.computed_batches(session, [[] for _ in self.sources])

    def batches(self, session: Session, fields: Sequence[Fields], use: Primitives) -> Iterator[pa.RecordBatch]:
        """The keys of located source columns, in the order of ``sources``."""
        if self.computed:
            yield from self.computed_batches(session, [list(values(column)) for column in fields])
            return
        place = {name: index for index, name in enumerate(self.sources)}
        chosen = [fields[place[str(output.column.source)]] for output in self.projection.outputs]
        rows = len(fields[0]) if fields else 0
        data = fields[0].data if fields else np.zeros(0, np.uint8)
        at = np.array([column.at for column in chosen], np.int32).reshape(len(chosen), rows)
        size = np.array([column.size for column in chosen], np.int32).reshape(len(chosen), rows)
        yield from decode_batches(self.projection, Tuples(data, at, size), use)

    def computed_batches(self, session: Session, columns: Sequence[list[Any]]) -> list[pa.RecordBatch]:
        """The keys that the server computes from binary values, given column by column."""
        kinds = [self.projection.sources[name].type for name in self.sources]
        if lacking := [name for name, kind in zip(self.sources, kinds, strict=True) if not kind.array_oid]:
            raise ConfigError(
                f"postgresql: the key of {self.projection.relation} cannot be computed from column {lacking[0]}",
                next_step="bind the key to columns, or leave changes out for this dataset",
            )
        params = [
            lookup.BinaryValue(kind.array_oid, array(kind.oid, items))
            for kind, items in zip(kinds, columns, strict=True)
        ]
        names = sql.SQL(", ").join(map(sql.Identifier, self.sources))
        lists = sql.SQL(", ".join(f"pg_catalog.unnest(${number + 1})" for number in range(len(params))))
        rows = sql.SQL("(SELECT * FROM ROWS FROM ({}) AS paritree ({}))").format(lists, names)
        result = lookup.execute(session, self.projection.select(rows), params)
        return [batch for found in lookup.tuples_of(result) for batch in decode_batches(self.projection, found, PLAIN)]

    def empty(self) -> pa.RecordBatch:
        """No keys, in the right columns."""
        none = np.zeros((len(self.projection.outputs), 0), np.int32)
        (batch,) = decode_batches(self.projection, Tuples(np.zeros(0, np.uint8), none, none), PLAIN)
        return batch


@dataclass(slots=True)
class MessageReader:
    """Takes the slot's messages in and hands out the keys that they name, batch by batch.

    ``oids`` are the relations whose changes may come. Afterwards ``committed`` is the end of the last transaction,
    ``changes`` counts rows, ``marks`` holds the contents of the markers that came, ``xids`` the transactions,
    ``span_s`` is when the first and the last of the changes were committed.
    """

    keys: KeyColumns
    oids: frozenset[int]
    use: Primitives
    read_keys: pgoutput.ReadKeys
    marker: str
    marks: set[str] = field(default_factory=set)
    messages: int = 0
    xids: list[NDArray[np.uint32]] = field(default_factory=list)
    _relations: dict[int, list[int]] = field(default_factory=dict)
    _state: NDArray[np.int64] = field(default_factory=lambda: np.zeros(pgoutput.STATE_WORDS, np.int64))

    @property
    def committed(self) -> int:
        return int(self._state[pgoutput.COMMITTED])

    @property
    def changes(self) -> int:
        return int(self._state[pgoutput.CHANGES])

    @property
    def span_s(self) -> Span | None:
        first_us, last_us = (int(self._state[place]) for place in (pgoutput.FIRST_US, pgoutput.LAST_US))
        return (first_us / 1e6 + EPOCH_S, last_us / 1e6 + EPOCH_S) if self._state[pgoutput.DATED] else None

    def read(self, session: Session, tuples: Tuples) -> Iterator[pa.RecordBatch]:
        """The keys of rows of one column, each a message."""
        at, size = (np.ascontiguousarray(places[0]) for places in (tuples.at, tuples.size))
        shape = (len(self.keys.sources), 2 * len(at))
        key_at, key_size = np.empty(shape, np.int32), np.empty(shape, np.int32)
        xids = np.empty(len(at), np.uint32)
        self._state[pgoutput.KEYS] = self._state[pgoutput.XIDS] = 0
        message = 0
        while message < len(at):
            table = np.array(list(self._relations.values()), np.int64).reshape(-1, pgoutput.FIRST_KEY + shape[0])
            message, why = self.read_keys(tuples.data, at, size, message, table, self._state, key_at, key_size, xids)
            if why != pgoutput.END:
                place = int(at[message]) if message < len(at) else 0
                self._other(why, tuples.data[place : place + max(int(size[message]), 0)].tobytes())
                message += 1
        self.messages += len(at)
        self.xids.append(xids[: self._state[pgoutput.XIDS]].copy())
        count = int(self._state[pgoutput.KEYS])
        for first in range(0, count, BATCH_ROWS):
            part = slice(first, min(count, first + BATCH_ROWS))
            fields = [
                Fields(tuples.data, np.ascontiguousarray(places[part]), np.ascontiguousarray(sizes[part]))
                for places, sizes in zip(key_at, key_size, strict=True)
            ]
            yield from self.keys.batches(session, fields, self.use)

    def finish(self) -> None:
        """No message is left. Raises SourceError in the middle of a transaction."""
        if self._state[pgoutput.IN_TRANSACTION]:
            raise pgoutput.malformed_change("they end within a transaction")

    def _other(self, why: int, message: bytes) -> None:
        """Take in what is no change, or refuse what cannot be followed."""
        table = self.keys.projection.relation
        if why == pgoutput.NULL_KEY:
            raise RescanNeeded(f"postgresql: a row of {table} with NULL in its key was written")
        if why == pgoutput.NO_KEY:
            raise RescanNeeded(f"postgresql: the log has not the key of a changed row of {table}")
        if why == pgoutput.STRANGER:
            raise pgoutput.malformed_change("a relation that was not described")
        if why == pgoutput.FULL:
            raise InvariantBroken("there was no room for the keys of a batch of messages")
        if why == pgoutput.MALFORMED:
            raise pgoutput.malformed_change("a message that does not fit its form")
        sent = pgoutput.read_other(message)
        if isinstance(sent, SentRelation):
            self._relations[sent.oid] = [sent.oid, len(sent.columns), *self._places(sent)]
        elif isinstance(sent, pgoutput.SentTruncate):
            raise RescanNeeded(f"postgresql: {table} was emptied (TRUNCATE)")
        elif isinstance(sent, pgoutput.SentMessage) and sent.prefix == self.marker:
            self.marks.add(sent.content.decode("utf-8", "replace"))

    def _places(self, sent: SentRelation) -> list[int]:
        """Where the sources are in the rows of a relation, as it was then."""
        if sent.oid not in self.oids:
            raise RescanNeeded(f"postgresql: changes of {sent.schema}.{sent.name} came, which is not followed")
        known: Mapping[str, int] = {column.name: place for place, column in enumerate(sent.columns)}
        for name in self.keys.sources:
            if name not in known:
                raise RescanNeeded(f"postgresql: {sent.schema}.{sent.name} had no column {name} for some changes")
            if not sent.columns[known[name]].identity:
                raise RescanNeeded(
                    f"postgresql: the replica identity of {sent.schema}.{sent.name} did not have column {name}"
                )
        return [known[name] for name in self.keys.sources]


def key_reader(decoder: str) -> pgoutput.ReadKeys:
    """The plain or the compiled reader, by the option ``decoder``: compiled where other kernels are used already."""
    if decoder == "plain" or (decoder == "auto" and not are_used()):
        return pgoutput.read_keys
    return cast(pgoutput.ReadKeys, KERNELS.read_keys)
