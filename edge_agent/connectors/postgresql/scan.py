"""The rows of one shard, in the transaction that imports the plan's snapshot: COPY BINARY, located, decoded."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pyarrow as pa
from psycopg import sql

from edge_agent.connectors.contract import Shard
from edge_agent.connectors.postgresql.copy import open_stream
from edge_agent.connectors.postgresql.decode import decode_batches
from edge_agent.connectors.postgresql.errors import snapshot_error
from edge_agent.connectors.postgresql.placing import placed
from edge_agent.connectors.postgresql.primitives import PLAIN, Primitives
from edge_agent.connectors.postgresql.projection import Projection
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.shards import Piece
from edge_agent.connectors.postgresql.tuples import TupleReader, Tuples, Waits
from paritree.core.errors import ParitreeError, SourceError
from paritree.core.fast.warming import are_used
from paritree.core.placed import Placed

FAST_ROWS_MIN = 20_000
"""Below it, loading the compiled primitives, or even compiling them, costs more than they save."""


def primitives(choice: str, rows: int) -> Primitives:
    """The primitives for a shard of about that many rows, by the option ``decoder``."""
    if choice == "plain" or (choice == "auto" and rows < FAST_ROWS_MIN and not are_used()):
        return PLAIN
    from edge_agent.connectors.postgresql.fast import FAST

    return FAST


def scan(session: Session, projection: Projection, shard: Shard, waits: Waits) -> Iterator[pa.RecordBatch]:
    """The shard's rows as record batches. Raises SourceError or ConfigError; the session is then not used again."""
    use = primitives(session.options.decoder, shard.rows_estimate)
    for tuples in scan_tuples(session, projection, shard, use, waits):
        yield from decode_batches(projection, tuples, use)


def scan_placed(session: Session, projection: Projection, shard: Shard, waits: Waits) -> Iterator[Placed]:
    """As :func:`scan`, in COPY's own bytes."""
    use = primitives(session.options.decoder, shard.rows_estimate)
    for tuples in scan_tuples(session, projection, shard, use, waits):
        yield placed(projection, tuples, use)


def scan_tuples(
    session: Session, projection: Projection, shard: Shard, use: Primitives, waits: Waits
) -> Iterator[Tuples]:
    """The shard's rows, located only: field c of :class:`Tuples` is ``projection.outputs[c]``."""
    pieces = [Piece(**piece) for piece in shard.range["pieces"]]
    queries = [
        sql.SQL("COPY ({}) TO STDOUT (FORMAT BINARY)")
        .format(projection.select(piece.source, piece.condition(projection, shard.range["key"])))
        .as_bytes(session.connection)
        for piece in pieces
    ]
    _enter(session, str(shard.range["snapshot"]))
    for piece in pieces:
        _demand_same(session, piece)
    if session.client_encoding != "UTF8":
        session.execute(sql.SQL("SET LOCAL client_encoding = {}").format(sql.Literal(session.client_encoding)))
    for piece, query in zip(pieces, queries, strict=True):
        stream = open_stream(session, query, doing=f"scanning {piece}")
        try:
            yield from TupleReader(stream, len(projection.outputs), use.locate, waits=waits)
        finally:
            stream.close()
    session.execute("COMMIT")


def _enter(session: Session, snapshot: str) -> None:
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)), doing="joining the plan")
    except ParitreeError as error:
        cause = error.__cause__
        state = cause.sqlstate if isinstance(cause, psycopg.Error) else None
        raise snapshot_error(error, state or "", snapshot) from cause


def _demand_same(session: Session, piece: Piece) -> None:
    """A renamed schema could put another table in the place of the one that is locked."""
    name = sql.Identifier(piece.schema, piece.name).as_string(session.connection)
    row = session.execute(
        sql.SQL("SELECT pg_catalog.to_regclass({})::pg_catalog.oid::int8").format(sql.Literal(name))
    ).fetchone()
    if row is None or row[0] != piece.oid:
        raise SourceError(f"postgresql: {piece} is no longer the table that was planned", next_step="plan again")
