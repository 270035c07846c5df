"""Cut a relation into shards over one exported snapshot, and hold that snapshot and the locks it needs.

Tables are cut into ranges of blocks (ctid), each physical part for itself: the table, every leaf partition, every
inheriting table. Views, foreign tables, other table access methods, servers before version 14 (which would read the
whole table for every ctid range) and partitions that the role may only read through their parent are cut by key.

The order matters. Locks first: a TRUNCATE, VACUUM FULL or CLUSTER that runs between snapshot and lock, or between two
shards, shows an old snapshot an empty or doubled table. Then the snapshot, then the parts and their sizes: what is
visible to the snapshot lies in the blocks that existed then, and the last range of each part is open all the same.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from psycopg import sql

from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.postgresql.keyranges import key_ranges
from edge_agent.connectors.postgresql.projection import Projection, column_of
from edge_agent.connectors.postgresql.relation import Relation, physical_parts, reads_foreign
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import SourceError

ROWS_PER_BLOCK: Final = 60
"""A guess for a table that was never analysed."""
CTID_VERSION_MIN: Final = 140_000
"""TID range scans exist since version 14."""
ATTEMPTS_MAX: Final = 5
"""Tries to lock a set of partitions that does not change meanwhile."""

_POINT = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::text
"""
_LSN = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::text
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a shard: rows of one relation, by blocks or by key. All of it is plain data.

    ``only`` leaves out the relation's own children. Blocks ``first`` up to but not including ``last`` (None: to the
    end), or keys from ``low`` up to but not including ``high`` (text of the key's type, None: unbounded, with NULL keys
    in the range without ``low``).
    """

    oid: int
    schema: str
    name: str
    only: bool
    first: int | None = None
    last: int | None = None
    low: str | None = None
    high: str | None = None

    @property
    def source(self) -> sql.Composed:
        """The FROM item."""
        only = sql.SQL("ONLY ") if self.only else sql.SQL("")
        return only + sql.Identifier(self.schema, self.name)

    def condition(self, projection: Projection, key: str | None) -> sql.Composable | None:
        """The WHERE condition; None for all rows. ``key`` is the logical column that key ranges are about."""
        if self.first is not None:
            return self._blocks(column_of(projection.relation, "ctid"))
        output = projection.output(key) if key is not None else None
        if output is None or (self.low is None and self.high is None):
            return None
        kind = sql.Identifier(output.type.schema, output.type.typname)
        bounds = [
            output.expression + sql.SQL(f" {sign} {{}}::{{}}").format(sql.Literal(bound), kind)
            for sign, bound in ((">=", self.low), ("<", self.high))
            if bound is not None
        ]
        if self.low is None:
            bounds = [sql.SQL("({} OR {} IS NULL)").format(bounds[0], output.expression)]
        return sql.SQL(" AND ").join(bounds)

    def _blocks(self, ctid: sql.Composable) -> sql.Composable:
        tids = [sql.SQL("{} >= {}::pg_catalog.tid").format(ctid, sql.Literal(f"({self.first},0)"))]
        if self.last is not None:
            tids.append(sql.SQL("{} < {}::pg_catalog.tid").format(ctid, sql.Literal(f"({self.last},0)")))
        return sql.SQL(" AND ").join(tids)

    def __str__(self) -> str:
        if self.first is not None:
            return f"{self.schema}.{self.name} blocks {self.first}..{'' if self.last is None else self.last}"
        return f"{self.schema}.{self.name}"


class PostgresqlPlan(Plan):
    """Shards over the snapshot that its own connection holds, idle in a transaction, until ``close``."""

    def __init__(self, session: Session, shards: tuple[Shard, ...], position: Position) -> None:
        self._session = session
        self._position = position
        self.shards = shards

    def position(self) -> Position:
        """``pg:snapshot=xmin:xmax:running lsn=...``: a point, or not where a foreign table is read.

        The log position was read just before the snapshot was taken.
        """
        return self._position

    def close(self) -> None:
        self._session.close()


def plan(session: Session, projection: Projection, key: Sequence[str], shard_rows: int) -> PostgresqlPlan:
    """The plan on a session that it keeps and closes. Raises ConfigError or SourceError, then the session is closed."""
    try:
        relation = projection.relation
        lsn = _one(session, _LSN)
        snapshot, seen, parts = _hold(session, relation)
        pieces, ranged = _pieces(session, projection, parts, key, shard_rows)
        shards = tuple(
            Shard(
                number,
                "; ".join([str(group[0][0]), *([f"and {len(group) - 1} more"] if len(group) > 1 else [])]),
                {"snapshot": snapshot, "key": ranged, "pieces": [vars_of(piece) for piece, _ in group]},
                sum(rows for _, rows in group),
            )
            for number, group in enumerate(_packed(pieces, shard_rows))
        )
        point = not reads_foreign(session, relation)
        return PostgresqlPlan(session, shards, Position(f"pg:snapshot={seen} lsn={lsn}", point))
    except BaseException:
        session.close()
        raise


def vars_of(piece: Piece) -> Mapping[str, Any]:
    """A piece as the mapping that a shard carries."""
    return {name: getattr(piece, name) for name in Piece.__slots__ if getattr(piece, name) is not None}


def _one(session: Session, query: str) -> str:
    row = session.execute(query).fetchone()
    return str(row[0]) if row else ""


def _hold(session: Session, relation: Relation) -> tuple[str, str, list[Relation]]:
    """Lock the relation with all its parts, then take and export the snapshot: its id, what it sees, the parts."""
    for _ in range(ATTEMPTS_MAX):
        before = {part.oid for part in physical_parts(session, relation)}
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        doing = f"locking {relation} against truncation and rewriting"
        if relation.kind in ("r", "p", "v"):
            session.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(relation.identifier), doing=doing)
        else:  # LOCK does not take it, but reading it locks it just the same
            session.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(relation.identifier), doing=doing)
        row = session.execute(_POINT).fetchone()
        parts = physical_parts(session, relation)
        # A partition attached between the list and the lock has no lock yet; one replaced is another relation.
        if row is not None and {part.oid for part in parts} == before and _is_still(session, relation):
            return row[0], row[1], parts
        session.execute("ROLLBACK")
    raise SourceError(f"postgresql: the partitions of {relation} keep changing", retryable=True)


def _is_still(session: Session, relation: Relation) -> bool:
    name = relation.identifier.as_string(session.connection)
    query = sql.SQL("SELECT {}::pg_catalog.regclass::pg_catalog.oid = {}").format(name, relation.oid)
    row = session.execute(query).fetchone()
    return bool(row and row[0])


def _pieces(
    session: Session, projection: Projection, parts: list[Relation], key: Sequence[str], shard_rows: int
) -> tuple[list[tuple[Piece, int]], str | None]:
    """(piece, estimated rows) of the whole relation, and the key column where pieces are key ranges."""
    relation = projection.relation
    by_blocks = relation.kind in ("r", "p", "m") and session.server_version >= CTID_VERSION_MIN
    if not by_blocks or any(part.kind != "f" and not (part.heap and part.readable) for part in parts):
        column, bounds, rows = key_ranges(session, projection, key, shard_rows)
        edges = [None, *bounds, None]
        share = math.ceil(rows / (len(edges) - 1))
        whole = (relation.oid, relation.schema, relation.name, False)
        ranges = itertools.pairwise(edges)
        return [(Piece(*whole, low=low, high=high), share) for low, high in ranges], column
    block_bytes = int(_one(session, "SELECT pg_catalog.current_setting('block_size')"))
    pieces: list[tuple[Piece, int]] = []
    for part in parts:
        if part.kind == "f":
            pieces.append((Piece(part.oid, part.schema, part.name, True), max(int(part.rows), 0)))
        else:
            row = session.execute("SELECT pg_catalog.pg_relation_size(%s::oid)", (part.oid,)).fetchone()
            pieces += _block_ranges(part, (row[0] if row else 0) // block_bytes, shard_rows)
    # Without any part (a partitioned table without partitions) the relation itself has no rows of its own.
    return pieces or [(Piece(relation.oid, relation.schema, relation.name, True), 0)], None


def _block_ranges(part: Relation, blocks: int, shard_rows: int) -> Iterator[tuple[Piece, int]]:
    density = part.rows / part.pages if part.rows > 0 and part.pages > 0 else ROWS_PER_BLOCK
    step = max(1, round(max(1, shard_rows) / density))
    starts = range(0, max(1, blocks), step)
    for first in starts:
        last = None if first == starts[-1] else first + step
        rows = round((min(first + step, blocks) - first) * density)
        yield Piece(part.oid, part.schema, part.name, True, first=first, last=last), rows


def _packed(pieces: list[tuple[Piece, int]], shard_rows: int) -> list[list[tuple[Piece, int]]]:
    """Neighbouring small pieces (partitions) together, up to about ``shard_rows`` rows a group."""
    groups: list[list[tuple[Piece, int]]] = []
    room = 0
    for piece, rows in pieces:
        if not groups or rows > room:
            groups.append([])
            room = shard_rows
        groups[-1].append((piece, rows))
        room -= rows
    return groups
