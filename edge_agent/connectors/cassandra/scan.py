"""The rows of a shard: its token ranges, page by page, each page from raw bytes to one record batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from edge_agent.connectors.cassandra.cqltype import CqlType
from edge_agent.connectors.cassandra.decode import Columns, Rows
from edge_agent.connectors.cassandra.pages import PageSize, Request
from edge_agent.connectors.cassandra.ring import TOKEN
from edge_agent.connectors.cassandra.select import Select
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.cassandra.shards import ranges_of
from edge_agent.connectors.contract import Shard


def decode(rows: Rows, kinds: Sequence[CqlType]) -> Columns:
    """The fast decoder. Imported at the first page: numba takes half a second, which no other command should pay."""
    from edge_agent.connectors.cassandra import fast

    return fast.decode(rows, kinds)


def scan(session: Session, select: Select, shard: Shard) -> Iterator[pa.RecordBatch]:
    """The shard's rows; one page in memory while the next one is on its way."""
    token = select.table.token
    statement = select.prepare(session, f"{token} > ? AND {token} <= ?", 2)
    size = PageSize(session.settings.page_rows)
    for each in ranges_of(shard):
        values = (TOKEN.pack(each.start), TOKEN.pack(each.end))
        doing = f"scanning {select.table.label}, tokens ({each.start}, {each.end}]"
        for page in session.pages(Request(statement, values, doing, each.hosts, size)):
            if page.rows.count:
                yield select.batch(page.rows, statement.kinds, decode)
