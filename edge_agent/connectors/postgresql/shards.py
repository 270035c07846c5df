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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from psycopg import sql

from edge_agent.connectors.contract import Plan, Position, Shard
from edge_agent.connectors.postgresql.keyranges import key_ranges
from edge_agent.connectors.postgresql.projection import Projection, column_of
from edge_agent.connectors.postgresql.relation import Relation, physical_parts, reads_foreign
from edge_agent.connectors.postgresql.schema import planned
from edge_agent.connectors.postgresql.session import Session
from paritree.core.errors import InvariantBroken, SourceError

ROWS_PER_BLOCK: Final = 60
"""A guess for a table that was never analysed."""
CTID_VERSION_MIN: Final = 140_000
"""TID range scans exist since version 14."""
TRANSACTIONS_MAX: Final = 1 << 31
"""Identifiers further apart than this cannot be told from older ones: 32 bits of them stand in a row, and they wrap."""
BUCKET_COST_MAX: Final = 0.5
"""What one statement for a bucket may cost, by the planner's estimate, of what reading everything does; else the blocks
are read in ranges, each for the bucket."""
ATTEMPTS_MAX: Final = 5
"""Tries to lock a set of partitions that does not change meanwhile."""

_POINT = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.txid_current_snapshot()::text
"""
_LSN = """
SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
            ELSE pg_catalog.pg_current_wal_lsn() END::text
"""

_FILES = """
SELECT part, pg_catalog.pg_relation_filenode(part) FROM pg_catalog.unnest(%s::oid[]) AS part
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a shard: rows of one relation, by blocks or by key. All of it is plain data.

    ``only`` leaves out the relation's own children. Blocks ``first`` up to but not including ``last`` (None: to the
    end), or keys from ``low`` up to but not including ``high`` (text of the key's type, None: unbounded, with NULL keys
    in the range without ``low``). ``written_from`` and ``written_width`` choose, of blocks, the rows written by a
    transaction of that range of identifiers (32 bits, and they wrap).
    """

    oid: int
    schema: str
    name: str
    only: bool
    first: int | None = None
    last: int | None = None
    low: str | None = None
    high: str | None = None
    written_from: int | None = None
    written_width: int | None = None

    @property
    def source(self) -> sql.Composed:
        """The FROM item."""
        only = sql.SQL("ONLY ") if self.only else sql.SQL("")
        return only + sql.Identifier(self.schema, self.name)

    def condition(self, projection: Projection, key: str | None) -> sql.Composable | None:
        """The WHERE condition; None for all rows. ``key`` is the logical column that key ranges are about."""
        if self.first is not None:
            return self._blocks(projection)
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

    def _blocks(self, projection: Projection) -> sql.Composable:
        ctid = column_of(projection.relation, "ctid")
        tids = [sql.SQL("{} >= {}::pg_catalog.tid").format(ctid, sql.Literal(f"({self.first},0)"))]
        if self.last is not None:
            tids.append(sql.SQL("{} < {}::pg_catalog.tid").format(ctid, sql.Literal(f"({self.last},0)")))
        if self.written_from is not None:
            xmin = column_of(projection.relation, "xmin")
            written = "(({}::pg_catalog.text::pg_catalog.int8 - {}) & 4294967295) < {}"
            tids.append(sql.SQL(written).format(xmin, sql.Literal(self.written_from), sql.Literal(self.written_width)))
        return sql.SQL(" AND ").join(tids)

    def __str__(self) -> str:
        if self.first is not None:
            return f"{self.schema}.{self.name} blocks {self.first}..{'' if self.last is None else self.last}"
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class Held:
    """What a plan's transaction holds: its exported snapshot, what that sees, the parts it locked, each with its file.

    ``seen`` is ``xmin:xmax:running`` as PostgreSQL writes a snapshot, with transaction identifiers of 64 bits.
    """

    snapshot: str
    seen: str
    lsn: str
    parts: tuple[Relation, ...]
    files: frozenset[tuple[int, int | None]]

    @property
    def horizon(self) -> tuple[int, int]:
        """What all lower transactions are seen by, and what no higher one is."""
        return horizon(self.seen)


def horizon(seen: str) -> tuple[int, int]:
    """xmin and xmax of a snapshot as PostgreSQL writes it."""
    low, high = seen.split(":")[:2]
    return int(low), int(high)


class PastPlan(Plan):
    """A plan of another process, whose snapshot is gone."""

    def __init__(self, seen: str, lsn: str, shards: tuple[Shard, ...]) -> None:
        self._position = Position(f"pg:snapshot={seen} lsn={lsn}", point=True)
        self.horizon = horizon(seen)
        self.shards = shards

    def position(self) -> Position:
        return self._position

    def close(self) -> None:
        """Nothing is held."""


class PostgresqlPlan(Plan):
    """Shards over the snapshot that its own connection holds, idle in a transaction, until ``close``."""

    def __init__(self, session: Session, held: Held, shards: tuple[Shard, ...], again: Again) -> None:
        self._session = session
        self._held = held
        self._again = again
        self.shards = shards

    def position(self) -> Position:
        """``pg:snapshot=xmin:xmax:running lsn=...``: a point, or not where a foreign table is read.

        The log position was read just before the snapshot was taken.
        """
        return Position(f"pg:snapshot={self._held.seen} lsn={self._held.lsn}", self._again.point)

    @property
    def horizon(self) -> tuple[int, int]:
        """What its snapshot sees; see :class:`Held`."""
        return self._held.horizon

    def renewed(self) -> PostgresqlPlan:
        """The same shards in a snapshot of a new session, which has its locks before this plan loses them.

        So nothing can empty or rewrite the table in between. Should this plan's session have been lost, the files tell.
        """
        session = self._again.open()
        try:
            held = _hold(session, self._again.relation)
            if held.files != self._held.files:
                raise SourceError(
                    f"postgresql: {self._again.relation} was rewritten or truncated, or has other partitions now",
                    next_step="sweep again",
                    retryable=True,
                )
            shards = tuple(replace(s, range={**s.range, "snapshot": held.snapshot}) for s in self.shards)
            return PostgresqlPlan(session, held, shards, self._again)
        except BaseException:
            session.close()
            raise

    def memento(self) -> dict[str, Any]:
        """What its snapshot saw, and the files that it was cut from."""
        held = self._held
        return {"seen": held.seen, "lsn": held.lsn, "files": sorted(map(list, held.files), key=repr)}

    def take_up(self, mementos: Sequence[Mapping[str, Any]], shards: tuple[Shard, ...]) -> tuple[Plan, ...] | None:
        """Their shards in this plan's snapshot, while the table still is in the same files.

        Transaction identifiers have to be those of one history: not gone back, as after a restore, nor come round.
        """
        files = sorted(map(list, self._held.files), key=repr)
        earlier = tuple(PastPlan(memento["seen"], memento["lsn"], shards) for memento in mementos)
        low, high = self._held.horizon
        if any(memento["files"] != files for memento in mementos):
            return None
        if any(not past.horizon[0] <= low <= high < past.horizon[0] + TRANSACTIONS_MAX for past in earlier):
            return None
        self.shards = tuple(replace(s, range={**s.range, "snapshot": self._held.snapshot}) for s in shards)
        return earlier

    def changed_since(self, earlier: Plan, shard: Shard) -> Shard | None:
        """Of blocks, the rows whose writer the earlier snapshot may not have seen; keys stay in their range.

        All transactions below its xmin were over. Running ones are not told apart above it: a snapshot does not list
        their subtransactions. Rows frozen long ago show old identifiers that may have come round again: such a row is
        read twice, which does no harm.
        """
        if not isinstance(earlier, PostgresqlPlan | PastPlan):
            raise InvariantBroken(f"a plan of PostgreSQL was renewed from {type(earlier).__name__}")
        low, high = earlier.horizon[0], self._held.horizon[1]
        written = {"written_from": low % (1 << 32), "written_width": high - low}
        pieces = [{**piece, **written} for piece in shard.range["pieces"] if "first" in piece]
        return replace(shard, range={**shard.range, "pieces": pieces}) if pieces else None

    def close(self) -> None:
        self._session.close()


@dataclass(frozen=True, slots=True)
class Again:
    """What a plan needs to be renewed. ``point``: whether all that is read is read in its snapshot."""

    open: Callable[[], Session]
    relation: Relation
    point: bool


def plan(
    open_session: Callable[[], Session], projection: Projection, key: Sequence[str], shard_rows: int
) -> PostgresqlPlan:
    """The plan on a session that it keeps and closes. Raises ConfigError or SourceError, then the session is closed."""
    session = open_session()
    try:
        relation = projection.relation
        held = _hold(session, relation)
        pieces, ranged = _pieces(session, projection, held.parts, key, shard_rows)
        shards = tuple(
            Shard(
                number,
                "; ".join([str(group[0][0]), *([f"and {len(group) - 1} more"] if len(group) > 1 else [])]),
                {"snapshot": held.snapshot, "key": ranged, "pieces": [vars_of(piece) for piece, _ in group]},
                sum(rows for _, rows in group),
            )
            for number, group in enumerate(_packed(pieces, shard_rows))
        )
        again = Again(open_session, relation, not reads_foreign(session, relation))
        return PostgresqlPlan(session, held, shards, again)
    except BaseException:
        session.close()
        raise


def vars_of(piece: Piece) -> Mapping[str, Any]:
    """A piece as the mapping that a shard carries."""
    return {name: getattr(piece, name) for name in Piece.__slots__ if getattr(piece, name) is not None}


def _one(session: Session, query: str) -> str:
    row = session.execute(query).fetchone()
    return str(row[0]) if row else ""


def _hold(session: Session, relation: Relation) -> Held:
    """Lock the relation with all its parts, then take and export the snapshot."""
    lsn = _one(session, _LSN)
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
            files = session.execute(_FILES, ([part.oid for part in parts],)).fetchall()
            return Held(row[0], row[1], lsn, tuple(parts), frozenset(files))
        session.execute("ROLLBACK")
    raise SourceError(f"postgresql: the partitions of {relation} keep changing", retryable=True)


def _is_still(session: Session, relation: Relation) -> bool:
    name = relation.identifier.as_string(session.connection)
    query = sql.SQL("SELECT {}::pg_catalog.regclass::pg_catalog.oid = {}").format(name, relation.oid)
    row = session.execute(query).fetchone()
    return bool(row and row[0])


def _pieces(
    session: Session, projection: Projection, parts: Sequence[Relation], key: Sequence[str], shard_rows: int
) -> tuple[list[tuple[Piece, int]], str | None]:
    """(piece, estimated rows) of the whole relation, and the key column where pieces are key ranges."""
    relation = projection.relation
    if (rows := _found_by_index(session, projection)) is not None:
        return [(Piece(relation.oid, relation.schema, relation.name, False), rows)], None
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


def _found_by_index(session: Session, projection: Projection) -> int | None:
    """The estimated rows of a bucket that the planner reads for a small part of what all blocks cost, else None.

    By an index, or because it is in few partitions: then one statement reads less than all ranges of blocks would.
    """
    if projection.narrowed is None:
        return None
    source = projection.relation.identifier
    rows, cost = planned(session, projection.select(source))
    _, whole = planned(session, replace(projection, narrowed=None).select(source))
    return rows if 0 < cost < whole * BUCKET_COST_MAX else None


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
