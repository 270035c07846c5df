"""What Cassandra can be asked for where one bucket is wanted: a single partition, by the token of its key.

Anything else would need ALLOW FILTERING, by which replicas read all the same and, at consistency levels above ONE, may
leave out rows that only some of them have seen change. So all other buckets are sifted out of whole scans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cassandra.metadata import Murmur3Token

from edge_agent.connectors.cassandra.keys import PARTITION, forms
from edge_agent.connectors.cassandra.schema import Table
from edge_agent.connectors.cassandra.shards import TokenRange
from paritree.core.profile import Binding


def token(binding: Binding, table: Table) -> int | None:
    """The token of the one partition that the binding's bucket is in; None where that cannot be said."""
    if binding.bucket is None or len(table.partition) != 1:
        return None
    [name] = table.partition
    column = table.column(name)
    for asked in binding.bucket.conditions():
        same = column.kind.logical is not None and column.kind.logical.name == asked.type.name
        if asked.equals is None or binding.column(asked.column).source != name or not same:
            continue
        known = forms(column.kind, asked.equals, PARTITION)
        if len(known) == 1:
            return int(Murmur3Token.hash_fn(known[0]))
    return None


def at(ranges: Sequence[TokenRange], value: int) -> list[TokenRange]:
    """The range of one token, with the replicas that hold it."""
    return [replace(each, start=value - 1, end=value) for each in ranges if each.start < value <= each.end]
