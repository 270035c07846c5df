"""How large a table is and who holds which tokens, for the cut into shards. A wrong guess costs time only."""

from __future__ import annotations

import itertools
import struct
from typing import Final

from edge_agent.connectors.cassandra.pages import Request
from edge_agent.connectors.cassandra.schema import PARTITIONER, Table
from edge_agent.connectors.cassandra.session import Session
from edge_agent.connectors.cassandra.shards import RING, TOKEN_MAX, TOKEN_MIN, TokenRange, tile
from paritree.core.errors import ConfigError, SourceError

PROBES: Final = 8
PROBE_ROWS: Final = 500
HOSTS_ASKED_MAX: Final = 32
TOKEN: Final = struct.Struct(">q")


def ring(session: Session, table: Table) -> list[TokenRange]:
    """The ring's ranges with the replicas of this region. Raises ConfigError for a partitioner without int64 tokens."""
    metadata = session.cluster.metadata
    if not str(metadata.partitioner).endswith(PARTITIONER):
        raise ConfigError(
            f"the cluster's partitioner is {metadata.partitioner}", next_step=f"only {PARTITIONER} can be scanned"
        )
    session.load_keyspace(table.keyspace)
    token_map, local = metadata.token_map, session.hosts
    if token_map is None:
        return [TokenRange(TOKEN_MIN, TOKEN_MAX)]

    def owners(token: int) -> tuple[str, ...]:
        replicas = token_map.get_replicas(table.keyspace, token_map.token_class(token))
        return tuple(str(host.host_id) for host in replicas if str(host.host_id) in local)

    return tile((token.value for token in token_map.ring), owners)


def rows_recorded(session: Session, table: Table) -> int:
    """Partitions that the nodes' own records count, 0 where they have none yet.

    Each node records its primary ranges every few minutes and counts flushed data only, so this is a lower bound.
    """
    cql = "SELECT partitions_count FROM system.size_estimates WHERE keyspace_name = %s AND table_name = %s"
    total = 0
    for host in itertools.islice(session.hosts.values(), HOSTS_ASKED_MAX):
        try:
            total += sum(row[0] for row in session.catalogue(cql, [table.keyspace, table.name], host))
        except (SourceError, ConfigError):
            continue  # a node that is down, or does not tell this role, only makes the guess smaller
    return total


def rows_probed(session: Session, table: Table) -> int:
    """Rows guessed from how many stand behind a few places of the ring; exact for a table that ends before them."""
    cql = f"SELECT {table.token} FROM {table.cql} WHERE {table.token} > ? AND {table.token} <= ? LIMIT {PROBE_ROWS}"
    doing = f"sampling {table.label}"
    statement = session.prepare(cql, doing)
    edges = [TOKEN_MIN + RING * i // PROBES for i in range(PROBES)] + [TOKEN_MAX]
    rows, width = 0, 0
    for start, end in itertools.pairwise(edges):
        request = Request(statement, (TOKEN.pack(start), TOKEN.pack(end)), doing)
        found = [value[0] for page in session.pages(request) for value in page.values()]
        rows += len(found)
        width += (found[-1] if len(found) >= PROBE_ROWS else end) - start
    return round(rows * RING / max(width, 1))


def rows_estimated(session: Session, table: Table) -> int:
    """The larger guess of the two, since both err to the low side (flushed data only; large partitions)."""
    return max(rows_recorded(session, table), rows_probed(session, table))
