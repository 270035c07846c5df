"""The rows of a shard: its token ranges, page by page, each page from raw bytes to one record batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from edge_agent.connectors.cassandra import decode as plain
from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Rows
from edge_agent.connectors.cassandra.pages import PageSize, Request
from edge_agent.connectors.cassandra.ring import TOKEN
from edge_agent.connectors.cassandra.select import Decode, Select
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.cassandra.shards import ranges_of
from edge_agent.connectors.contract import Shard
from paritree.core.fast.warming import are_used
from paritree.core.placed import Placed

FAST_ROWS_MIN: Final = 20_000
"""Below it, loading the compiled decoder, or even compiling it, costs more than it saves."""


def decoder(rows: int) -> Decode:
    """The decoder for about that many rows; both give the same."""
    if rows < FAST_ROWS_MIN and not are_used():
        return plain.decode
    from edge_agent.connectors.cassandra import fast

    return fast.decode


def scan(session: Session, select: Select, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The shard's rows; one page in memory while the next one is on its way."""
    decode = decoder(shard.rows_estimate)
    for rows, kinds in _pages(session, select, shard):
        yield select.batch(rows, kinds, decode)


def scan_placed(session: Session, select: Select, shard: Shard) -> Iterator[pa.RecordBatch | Placed]:
    """As :func:`scan`, in the pages' own bytes where each row can be read by itself."""
    from edge_agent.connectors.cassandra.placing import can_place, placed

    if not can_place(select):
        yield from scan(session, select, shard)
        return
    for rows, kinds in _pages(session, select, shard):
        yield placed(select, rows, kinds)


def _pages(session: Session, select: Select, shard: Shard) -> Iterator[tuple[Rows, Sequence[CqlType]]]:
    token = select.table.token
    statement = select.prepare(session, f"{token} > ? AND {token} <= ?", 2)
    size = PageSize(session.settings.page_rows)
    for each in ranges_of(shard):
        values = (TOKEN.pack(each.start), TOKEN.pack(each.end))
        doing = f"scanning {select.table.label}, tokens ({each.start}, {each.end}]"
        for page in session.pages(Request(statement, values, doing, each.hosts, size)):
            if page.rows.count:
                yield page.rows, statement.kinds
