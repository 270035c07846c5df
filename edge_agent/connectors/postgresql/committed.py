"""When rows were committed, where the server keeps that: ``track_commit_timestamp`` and a table of its own.

A row has the time of the transaction that wrote it as it is now. What logical replication applied has the commit time
of its origin, so a row that was replicated has one version on both sides. Rows older than what the server keeps have
none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pyarrow as pa
from psycopg import sql

from edge_agent.connectors.contract import VERSION, VERSION_TYPE
from edge_agent.connectors.postgresql.projection import Output, Projection, column_of
from edge_agent.connectors.postgresql.session import Session
from edge_agent.connectors.postgresql.types import TypeCatalog
from paritree.core.profile import BoundColumn
from paritree.core.types import parse_type

TABLES: Final = frozenset({"r", "p"})
"""Kinds of relations whose rows say which transaction wrote them."""
INT8_OID: Final = 20
_KEPT: Final = "SELECT current_setting('track_commit_timestamp')::bool"
# Rows of foreign partitions have no transaction of this server.
_AT: Final = """(CASE WHEN ({xmin})::text <> '0' THEN
 (pg_catalog.date_part('epoch', pg_catalog.pg_xact_commit_timestamp({xmin})) * 1000000)::bigint END)"""


def dated(session: Session, types: TypeCatalog, projection: Projection) -> Projection | None:
    """The projection with one output more, the commit time in microseconds; None where the server does not know it."""
    if projection.relation.kind not in TABLES:
        return None
    kept = session.execute(_KEPT, doing="reading the server's settings").fetchone()
    if kept is None or not kept[0]:
        return None
    column = BoundColumn(VERSION, parse_type("int", VERSION), expression="commit time")
    at = sql.SQL(_AT).format(xmin=column_of(projection.relation, "xmin"))
    output = Output(column, at, types.resolve(session, INT8_OID))
    return replace(projection, outputs=(*projection.outputs, output), names=(*projection.names, VERSION))


def with_versions(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with its commit times as versions: a row is written as a whole."""
    place = batch.schema.names.index(VERSION)
    at = batch.column(place)
    whole = pa.repeat(pa.scalar(value=True), batch.num_rows)
    versions = pa.StructArray.from_arrays([at, whole], fields=list(VERSION_TYPE), mask=at.is_null())
    return batch.set_column(place, VERSION, versions)
