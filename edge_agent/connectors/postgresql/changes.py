"""The changes of a table from a logical slot: peek, hand out the keys, and move the slot on when they are taken in.

A peek begins to read the log at the slot's ``restart_lsn`` each time, so it is given much to read at once; the server
keeps what it hands out in a temporary file meanwhile, and here it streams by. It ends at a transaction's end or at the
end of what is on the disk. How far that was is known without a word from the log: what had been flushed before the
peek was asked for is in it, unless it stopped because it had told enough. A proof for a sweep takes more: a marker is
written into the log (which flushes whatever was committed asynchronously before it) and has to come out of the slot.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from psycopg import sql

from edge_agent.connectors.changes import KEYS_MAX, ChangeBatch, ChangeSource, Lag, Mark, RescanNeeded
from edge_agent.connectors.postgresql import followed, publication, slot, slotadvice
from edge_agent.connectors.postgresql.changekeys import KeyColumns, MessageReader, key_reader
from edge_agent.connectors.postgresql.copy import open_stream
from edge_agent.connectors.postgresql.followed import Part, Shape
from edge_agent.connectors.postgresql.identity import identity
from edge_agent.connectors.postgresql.primitives import Fields, Primitives
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.relation import Relation, resolve
from edge_agent.connectors.postgresql.scan import primitives
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.tuples import TupleReader, Tuples
from paritree.core.errors import InvariantBroken, SourceError
from paritree.core.profile import Binding

PEEK_MESSAGES: Final = 1_000_000
"""Messages after which a peek ends at the next transaction's end: 100 MB or so in a temporary file of the server."""
FORMAT: Final = 1

_PEEK = """
COPY (SELECT data FROM pg_catalog.pg_logical_slot_peek_binary_changes({}, NULL, {}, 'proto_version', '1',
      'publication_names', {}, 'binary', 'true', 'messages', 'true')) TO STDOUT (FORMAT BINARY)
"""
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True, slots=True)
class State:
    """What a mark says: the server, the slot, how far it was read, and the shape that the table had."""

    system: str
    slot: str
    lsn: int
    shape: Shape

    def mark(self) -> Mark:
        """The mark of this state."""
        said = {"format": FORMAT, "system": self.system, "slot": self.slot, "lsn": self.lsn, **self.shape.json()}
        return Mark(f"pg:lsn={slot.lsn_text(self.lsn)}", json.dumps(said))

    @classmethod
    def of(cls, mark: Mark) -> State:
        """The state of a mark. Raises RescanNeeded for one that is not ours."""
        try:
            said: dict[str, Any] = json.loads(mark.state)
            if said["format"] == FORMAT:
                return cls(said["system"], said["slot"], said["lsn"], Shape.of(said))
        except (ValueError, TypeError, KeyError):
            pass
        raise RescanNeeded("postgresql: how far changes were read was kept in another form")


class PostgresqlChanges(ChangeSource):
    """The changes of one binding's table. ``sessions`` lends sessions, ``projected`` describes the table now."""

    def __init__(
        self,
        sessions: Callable[[], AbstractContextManager[Session]],
        projected: Callable[[Session, Binding], Projection],
        binding: Binding,
        name: str,
    ) -> None:
        self.slot = slot.slot_name(binding.dataset, name)
        self._sessions = sessions
        self._projected = projected
        self._binding = binding
        self._acknowledged = 0

    @property
    def name(self) -> str:
        """The name of the slot and of the publication."""
        return self.slot

    def start(self) -> Mark:
        """Publish the table, make the slot anew, and wait until a scan sees all that the slot will not hand out."""
        with self._sessions() as session:
            slot.demand_possible(session)
            projection = self._projected(session, self._binding)
            followed.logged_parts(session, projection.relation, None)
            publication.publish(session, projection, self._binding, self.slot)
            self._key_columns(session, projection).demand_covered(session)
            lsn = slot.create(session, self.slot)
            try:
                slot.await_older(session)
                shape = followed.shape(session, projection.relation, self._binding, self.slot)
            except BaseException:
                slot.drop(session, self.slot)
                raise
            return State(slot.one(session, _SYSTEM), self.slot, lsn, shape).mark()

    def demand_kept(self, since: Mark) -> None:
        """The slot has everything, and the table is the same one."""
        state = State.of(since)
        with self._sessions() as session:
            self._demand_ours(session, state)
            relation = resolve(session, self._binding.table)
            followed.compare(relation, state.shape, followed.shape(session, relation, self._binding, self.slot))

    def changes(self, since: Mark, *, proven: bool, keys_max: int = KEYS_MAX) -> Iterator[ChangeBatch]:
        """See :class:`ChangeSource`. Only the last batch of a peek has a mark."""
        state = State.of(since)
        with self._sessions() as session:
            self._demand_ours(session, state)
            marker = secrets.token_hex(8) if proven else ""
            if proven:
                slot.emit_marker(session, marker)
            relation = resolve(session, self._binding.table)
            shape = followed.shape(session, relation, self._binding, self.slot)
            added = followed.compare(relation, state.shape, shape)
            projection = self._projected(session, self._binding)
            keys = self._key_columns(session, projection)
            for part in added:
                for batch in self._keys_of_part(session, keys, part, keys_max):
                    yield ChangeBatch(batch, None, batch.num_rows)
            ended, seen = False, not proven
            while not ended:
                slot.demand(session, self.slot, state.lsn)
                slot.advance(session, self.slot, state.lsn)
                reached = slot.flushed(session)
                reader = self._reader(session, keys, shape)
                waiting, told = keys.empty(), 0
                for batch in self._peek(session, reader, keys_max):
                    if waiting.num_rows:  # the last batch waits for its mark
                        yield ChangeBatch(waiting, None, reader.changes - told)
                        told = reader.changes
                    waiting = batch
                seen = seen or marker in reader.marks
                ended = reader.messages < PEEK_MESSAGES
                if ended and not seen:
                    raise SourceError(
                        "postgresql: the marker did not come out of the slot: how far it was read is not proven",
                        retryable=True,
                    )
                lsn = max(state.lsn, reader.committed, reached if ended else 0)
                state = State(state.system, self.slot, lsn, shape)
                yield ChangeBatch(waiting, state.mark(), reader.changes - told, span_s=reader.span_s)
                if not ended and self._acknowledged < state.lsn:
                    raise InvariantBroken("more changes were asked for before the last mark was acknowledged")

    def check(self) -> list[str]:
        """See :mod:`edge_agent.connectors.postgresql.slotadvice`."""
        with self._sessions() as session:
            slot.demand_possible(session)
            projection = self._projected(session, self._binding)
            followed.logged_parts(session, projection.relation, None)
            publication.demand_identity(session, projection, self._binding)
            self._key_columns(session, projection).demand_covered(session)
            if not slotadvice.may_publish(session, projection.relation):
                publication.demand_fit(session, projection, self._binding, self.slot)
            return slotadvice.advice(session, self.slot)

    def acknowledge(self, mark: Mark) -> None:
        """Move the slot on to the mark."""
        state = State.of(mark)
        with self._sessions() as session:
            slot.advance(session, self.slot, state.lsn)
        self._acknowledged = state.lsn

    def lag(self) -> Lag:
        """What the server keeps for the slot."""
        with self._sessions() as session:
            return slot.lag(session, self.slot)

    def stop(self) -> None:
        """Drop the slot, and the publication where the role may."""
        with self._sessions() as session:
            slot.drop(session, self.slot)
            publication.unpublish(session, self.slot)

    def close(self) -> None:
        """Nothing to close: sessions are the connector's. The slot stays."""

    def _demand_ours(self, session: Session, state: State) -> None:
        """Raise RescanNeeded for a mark of another server or another name."""
        if state.system != slot.one(session, _SYSTEM):
            raise RescanNeeded("postgresql: this is another server than the one that was followed")
        if state.slot != self.slot:
            raise RescanNeeded(f"postgresql: changes were followed by the slot {state.slot}, now it is {self.slot}")
        slot.demand(session, self.slot, state.lsn)

    def _key_columns(self, session: Session, projection: Projection) -> KeyColumns:
        held = identity(session, projection.relation, list(projection.sources))
        return KeyColumns.of(projection, self._binding, held)

    def _reader(self, session: Session, keys: KeyColumns, shape: Shape) -> MessageReader:
        decoder = session.options.decoder
        oids = frozenset({keys.projection.relation.oid, *(part.oid for part in shape.parts)})
        return MessageReader(keys, oids, self._primitives(session), key_reader(decoder), slot.MARKER)

    def _primitives(self, session: Session) -> Primitives:
        return primitives(session.options.decoder, 0)

    def _peek(self, session: Session, reader: MessageReader, keys_max: int) -> Iterator[pa.RecordBatch]:
        """The keys of one peek, once their changes can be seen, in batches of about ``keys_max``."""
        name = sql.Literal(self.slot)
        query = sql.SQL(_PEEK).format(name, sql.Literal(PEEK_MESSAGES), name)
        waiting = _Batches(keys_max)
        with self._streaming() as other:
            text = query.as_bytes(other.connection)
            stream = open_stream(other, text, doing=f"reading the slot {self.slot}")
            try:
                for tuples in TupleReader(stream, 1, reader.use.locate):
                    for batch in reader.read(session, tuples):
                        waiting.add(batch)
                    if waiting.full:
                        yield self._seen(session, reader, waiting)
            finally:
                stream.close()
        reader.finish()
        if waiting.rows:
            yield self._seen(session, reader, waiting)

    def _seen(self, session: Session, reader: MessageReader, waiting: _Batches) -> pa.RecordBatch:
        """What waits, when every transaction that touched it is seen."""
        xids, reader.xids = reader.xids, []
        slot.await_visible(session, np.concatenate([np.zeros(0, np.uint32), *xids]))
        return waiting.take()

    def _keys_of_part(self, session: Session, keys: KeyColumns, part: Part, keys_max: int) -> Iterator[pa.RecordBatch]:
        """Every key of a partition that came: nothing tells how long it has had its rows."""
        relation = keys.projection.relation
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in keys.sources)
        schema, name = _names(session, part, relation)
        query = sql.SQL("COPY (SELECT {} FROM ONLY {}) TO STDOUT (FORMAT BINARY)").format(
            columns, sql.Identifier(schema, name)
        )
        waiting, use = _Batches(keys_max), self._primitives(session)
        with self._streaming() as other:
            stream = open_stream(other, query.as_bytes(other.connection), doing=f"reading the keys of {part.name}")
            try:
                for tuples in TupleReader(stream, len(keys.sources), use.locate):
                    _demand_keys(tuples, relation)
                    fields = [Fields(tuples.data, *columns) for columns in zip(tuples.at, tuples.size, strict=True)]
                    for batch in keys.batches(session, fields, use):
                        waiting.add(batch)
                    if waiting.full:
                        yield waiting.take()
            finally:
                stream.close()
        if waiting.rows:
            yield waiting.take()

    @contextmanager
    def _streaming(self) -> Iterator[Session]:
        """A session of its own for a stream, beside the one for short statements."""
        with self._sessions() as session:
            if session.client_encoding != "UTF8":
                session.execute(sql.SQL("SET client_encoding = {}").format(sql.Literal(session.client_encoding)))
            yield session
            if session.client_encoding != "UTF8":
                session.execute("SET client_encoding = 'UTF8'")


def _demand_keys(tuples: Tuples, relation: Relation) -> None:
    if (tuples.size < 0).any():
        raise RescanNeeded(f"postgresql: a row of {relation} has NULL in its key")


def _names(session: Session, part: Part, relation: Relation) -> tuple[str, str]:
    query = """
    SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
    """
    row = session.execute(query, (part.oid,)).fetchone()
    if row is None:
        raise RescanNeeded(f"postgresql: {part.name} is no longer a partition of {relation}")
    return row[0], row[1]


class _Batches:
    """Batches of keys that wait to be enough."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._waiting: list[pa.RecordBatch] = []
        self.rows = 0

    @property
    def full(self) -> bool:
        return self.rows >= self._rows_max

    def add(self, batch: pa.RecordBatch) -> None:
        self._waiting.append(batch)
        self.rows += batch.num_rows

    def take(self) -> pa.RecordBatch:
        """All of them as one."""
        if not self._waiting:
            raise InvariantBroken("no keys wait")
        waiting, self._waiting, self.rows = self._waiting, [], 0
        return pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
