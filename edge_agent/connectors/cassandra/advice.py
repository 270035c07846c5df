"""What ``paritree doctor`` says of a Cassandra table, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_agent.connectors.cassandra.keys import DECIMAL_SCALES
from edge_agent.connectors.cassandra.schema import Table
from edge_agent.connectors.cassandra.session import Session


def advice(session: Session, table: Table) -> list[str]:
    """The lines for one table; empty where nothing is to be said."""
    return [*_replication(session, table), *_table(session, table), *_columns(table)]


def _replication(session: Session, table: Table) -> Iterator[str]:
    cql = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
    replication = dict(session.catalogue(cql, [table.keyspace])[0][0])
    local, level = session.datacenter, session.settings.consistency
    factor = local_factor(replication, local)
    if factor == 0:
        yield (
            f"keyspace {table.keyspace} has no replica in datacenter {local}: connect to a datacenter of "
            f"{', '.join(sorted(set(replication) - {'class'}))} with dc=…"
        )
    elif factor > 1 and level in ("ONE", "LOCAL_ONE"):
        yield (
            f"consistency {level} reads one of {factor} replicas: a replica that missed a write looks different; "
            "use consistency=LOCAL_QUORUM, or repair the table before each sweep"
        )
    elif factor > 1 and level == "ALL":
        yield f"consistency ALL fails as soon as one of {factor} replicas is down: use consistency=LOCAL_QUORUM"
    if level == "QUORUM" and "NetworkTopologyStrategy" in replication.get("class", "") and len(replication) > 2:
        yield "consistency QUORUM also reads replicas of other datacenters: use LOCAL_QUORUM to stay in this one"


def local_factor(replication: Mapping[str, Any], local: str) -> int:
    """Replicas of a keyspace in one datacenter; a transient replica (``3/1``) counts."""
    if "replication_factor" in replication and "SimpleStrategy" in replication.get("class", ""):
        return int(str(replication["replication_factor"]).partition("/")[0])
    return int(str(replication.get(local, "0")).partition("/")[0])


def _table(session: Session, table: Table) -> Iterator[str]:
    if table.base:
        yield (
            f"{table.label} is a materialized view, which follows its base table with a delay and may lose rows: "
            f"compare {table.base} instead"
        )
        return
    cql = (
        "SELECT default_time_to_live, gc_grace_seconds, read_repair FROM system_schema.tables "
        "WHERE keyspace_name = %s AND table_name = %s"
    )
    ttl, grace, repair = session.catalogue(cql, [table.keyspace, table.name])[0]
    if ttl:
        yield (
            f"rows expire {ttl} s after they were written, in each region at its own time: expect differences near "
            "that age, and compare a bounded copy or raise lag_max"
        )
    if grace < 3_600:
        yield (
            f"gc_grace_seconds is {grace}: deletes that a replica misses come back after that time; "
            "run repair more often than that, or raise it"
        )
    if repair == "BLOCKING" and session.settings.consistency not in ("ONE", "LOCAL_ONE"):
        yield (
            "reads at this consistency repair replicas that disagree (read_repair = 'BLOCKING'), which writes; "
            "ALTER TABLE … WITH read_repair = 'NONE' where a sweep must not write"
        )


def _columns(table: Table) -> Iterator[str]:
    if table.of_role("static") and table.clustering:
        yield (
            "partitions that hold static columns only have no row: they are counted as dead letters; "
            f"delete them, or compare the static columns ({', '.join(table.of_role('static'))}) in a table of their own"
        )
    for column in table.columns:
        kind = column.kind
        if kind.refusal:
            yield f"column {column.name} ({column.written}) cannot be compared: {kind.refusal}; ignore it"
        elif kind.name == "counter":
            yield f"column {column.name} is a counter: it can be compared, but repaired by adding only, not by writing"
        elif lost := dict.fromkeys(inner.row.lost for inner in kind.walk() if inner.row.lost):
            yield f"column {column.name} ({column.written}) is compared without {'; '.join(lost)}"
        if kind.row.precision:
            yield (
                f"column {column.name} ({column.written}) holds {kind.row.precision}: where another region holds "
                f"another precision, declare the common one (--precision {column.name}=ms)"
            )
        if column.role == "partition_key" and kind.name == "decimal":
            yield (
                f"column {column.name} is a decimal in the partition key, where 1.0 and 1.00 are two keys: values with "
                f"{DECIMAL_SCALES} or more trailing zeros are dead letters; use text or a scaled bigint"
            )
