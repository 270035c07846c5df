"""Ranges of key values for relations that cannot be cut by blocks (views, foreign tables).

A range is only worth it where the server can find its rows by an index: otherwise every shard would read everything.
So the planner is asked first, and where ranges do not pay there is one shard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from psycopg import sql

from edge_agent.connectors.postgresql.projection import Output, Projection, select_list
from edge_agent.connectors.postgresql.schema import planned
from edge_agent.connectors.postgresql.session import Session

ORDERED: Final = frozenset(
    {"int2", "int4", "int8", "numeric", "float8", "text", "bytea", "date", "time", "timestamp", "uuid"}
)
"""Wire forms whose text reads back as the same value and whose order is the type's own in pg_catalog."""
SAMPLES_PER_SHARD: Final = 300
SHARDS_MAX: Final = 1_000
COST_RATIO_MAX: Final = 3.0
"""Ranges may cost this much more than one read of everything, by the planner's estimate."""


def key_ranges(
    session: Session, projection: Projection, key: Sequence[str], shard_rows: int
) -> tuple[str | None, list[str], int]:
    """The key column, the inner bounds of its ranges in ascending order (text), and the estimated rows of all ranges.

    No bounds (one range) where the rows fit one shard, no key column can be ordered, or ranges cost too much.
    """
    relation = projection.relation
    rows, cost = planned(session, projection.select(relation.identifier))
    shards = min(math.ceil(rows / max(1, shard_rows)), SHARDS_MAX)
    outputs = [projection.output(name) for name in key]
    output = next((found for found in outputs if found is not None and _ordered(found)), None)
    if shards < 2 or output is None:
        return None, [], rows
    bounds = _bounds(session, projection, output, rows, shards)
    if len(bounds) > 1:
        middle = len(bounds) // 2
        _, part = planned(
            session, projection.select(relation.identifier, _range(output, bounds[middle - 1 : middle + 1]))
        )
        if part * shards > COST_RATIO_MAX * cost:
            return None, [], rows
    return output.name, bounds, rows


def _ordered(output: Output) -> bool:
    kind = output.type
    return kind.wire in ORDERED and kind.schema == "pg_catalog" and kind.typname not in ("", "bpchar")


def _range(output: Output, bounds: Sequence[str]) -> sql.Composed:
    kind = sql.Identifier(output.type.schema, output.type.typname)
    between = sql.SQL("{} >= {}::{} AND {} < {}::{}")
    low, high = map(sql.Literal, bounds)
    return between.format(output.expression, low, kind, output.expression, high, kind)


def _bounds(session: Session, projection: Projection, output: Output, rows: int, shards: int) -> list[str]:
    """Quantiles of a sample of the key, distinct and ascending. One read of the key column."""
    share = min(1.0, SAMPLES_PER_SHARD * shards / max(1, rows))
    keys = select_list(
        [output.expression + sql.SQL(" AS k")],
        projection.relation,
        projection.relation.identifier,
        sql.SQL("pg_catalog.random() < {}").format(sql.Literal(share)),
        projection.where,
    )
    quantiles = [number / shards for number in range(1, shards)]
    query = sql.SQL(
        "SELECT (pg_catalog.percentile_disc({}::float8[]) WITHIN GROUP (ORDER BY k))::text[] FROM ({}) AS sample"
        " WHERE k IS NOT NULL"
    ).format(sql.Literal(quantiles), keys)
    row = session.execute(query, doing=f"sampling the keys of {projection.relation}").fetchone()
    return list(dict.fromkeys(row[0])) if row and row[0] else []
